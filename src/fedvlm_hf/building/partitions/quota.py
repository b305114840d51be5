"""So many rows of each split, where a source has more than a benchmark takes."""

from collections import Counter
from collections.abc import Mapping, Sequence

from .drawing import shuffled


def draw_rows(ids: Sequence[str], splits: Sequence[str], quotas: Mapping[str, int], seed: int = 0) -> list[int]:
    """Draws up to a number of rows of each split, in the order of `sha256("{seed}/{id}")`.

    The order depends on nothing but seed and ids, so that other file orders draw the same rows, and a larger quota
    draws further rows on top of a smaller one's.

    Args:
        ids (`Sequence[str]`):
            Each row's id; no two are equal.
        splits (`Sequence[str]`):
            Each row's split.
        quotas (`Mapping[str, int]`):
            How many rows to draw of a split; where it has fewer, all of them; of a split that is not named, none.
        seed (`int`, *optional*, defaults to `0`):
            Another seed, other rows.

    Returns:
        `list[int]`: the drawn rows' indices, ascending.
    """
    left = Counter(quotas)
    row_of = {row_id: row for row, row_id in enumerate(ids)}
    drawn = []
    for row in (row_of[row_id] for row_id in shuffled(ids, seed)):
        if left[splits[row]] > 0:
            left[splits[row]] -= 1
            drawn.append(row)
    return sorted(drawn)
