"""Functions that several partitions use: a seeded order, Dirichlet shares, splitting by shares, and checks."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from ...data.naming import client_name


MAX_ALPHA = 1e6
T = TypeVar("T", int, str)


def shuffled(rows: Iterable[T], seed: int) -> list[T]:
    """Sort rows or names by `sha256("{seed}/{row}")`. This order is the same with every library version."""
    return sorted(rows, key=lambda row: _digest(seed, str(row)))


def dirichlet_shares(alpha: float, num_clients: int, seed: int, key: str) -> np.ndarray:
    """Draw the shares of the clients from the symmetric Dirichlet(alpha): float64 of shape `(num_clients,)`, sum 1.

    NumPy's default generator is seeded with `sha256("{seed}/{key}")`, so the draw for a key does not depend on other
    keys or their order. A later version of NumPy may change its Dirichlet sampler; a test would notice.

    Raises:
        `ValueError`: if `alpha` is not above 0 and at most 1e6.
    """
    if not 0 < alpha <= MAX_ALPHA:
        raise ValueError(
            f"`alpha={alpha}` is not a valid concentration of a Dirichlet distribution: use a number above 0 and at "
            f"most {MAX_ALPHA:g}. Small values such as 0.1 give strong skew; for equal shares use `iid`."
        )
    generator = np.random.default_rng(int.from_bytes(_digest(seed, key), "big"))
    return generator.dirichlet(np.full(num_clients, float(alpha)))


def split_by_shares(rows: Sequence[int], shares: Sequence[float] | np.ndarray) -> list[list[int]]:
    """Divide `rows` into consecutive pieces, one per share, at the rounded cumulative shares.

    Every row is in exactly one piece, and the length of a piece differs from `share * len(rows)` by at most 1.
    """
    ends = share_ends(shares, len(rows)).tolist()
    return [list(rows[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def share_ends(shares: Sequence[float] | np.ndarray, num_rows: int) -> np.ndarray:
    """Return where the pieces of [`split_by_shares`] end: int64 of shape `(len(shares),)`, the last one `num_rows`."""
    ends = np.rint(np.cumsum(shares) * num_rows).astype(int)
    ends[-1] = num_rows  # the sum of the shares may differ from 1 by rounding errors
    return ends


def check_num_clients(num_clients: int, limit: int, what: str) -> None:
    """Check that the number of clients is positive and at most `limit`.

    Raises:
        `ValueError`: naming `num_clients`.
    """
    if num_clients < 1:
        raise ValueError(f"`num_clients={num_clients}` must be 1 or more.")
    if num_clients > limit:
        raise ValueError(
            f"`num_clients={num_clients}` is more than the {limit} {what} of the dataset, so some clients would have "
            f"no rows. Use at most {limit} clients."
        )


def check_min_rows(clients: Sequence[Sequence[int]], alpha: float, seed: int, min_rows: int) -> None:
    """Check that no client has too few rows; a client without rows cannot train.

    Raises:
        `ValueError`: naming `alpha`, `seed` and the smallest client, or `min_rows` if that is below 1.
    """
    if min_rows < 1:
        raise ValueError(f"`min_rows={min_rows}` would allow clients without rows, which cannot train. Use 1 or more.")
    smallest = min(range(len(clients)), key=lambda client: len(clients[client]))
    if len(clients[smallest]) < min_rows:
        raise ValueError(
            f"`alpha={alpha}` with `seed={seed}` leaves {client_name(smallest, len(clients))} with "
            f"{len(clients[smallest])} of {sum(map(len, clients))} rows, fewer than `min_rows={min_rows}`. Use "
            f"another `seed`, a larger `alpha`, or fewer than {len(clients)} clients."
        )


def draw_rows(ids: Sequence[str], splits: Sequence[str], quotas: Mapping[str, int], seed: int = 0) -> list[int]:
    """Draw up to a given number of rows from each split, in the order of `sha256("{seed}/{id}")`.

    The order depends only on seed and ids. Rows in another order give the same draw, and a larger quota adds rows to
    those of a smaller one.

    Args:
        ids (`Sequence[str]`):
            The id of each row; all ids are different.
        splits (`Sequence[str]`):
            The split of each row.
        quotas (`Mapping[str, int]`):
            How many rows to draw from each split; all of them if it has fewer, none if the split is not given.
        seed (`int`, *optional*, defaults to `0`):
            Changes which rows are drawn.

    Returns:
        `list[int]`: the indices of the drawn rows, ascending.
    """
    left = Counter(quotas)
    row_of = {row_id: row for row, row_id in enumerate(ids)}
    drawn = []
    for row in (row_of[row_id] for row_id in shuffled(ids, seed)):
        if left[splits[row]] > 0:
            left[splits[row]] -= 1
            drawn.append(row)
    return sorted(drawn)


def _digest(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}/{key}".encode()).digest()
