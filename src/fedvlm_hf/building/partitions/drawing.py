"""What the rules share: a seeded order, a seeded Dirichlet draw, a cut by shares, and refusals."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from ...data.naming import client_name


MAX_ALPHA = 1e6
T = TypeVar("T", int, str)


def shuffled(rows: Iterable[T], seed: int) -> list[T]:
    """Rows, or names, in the order of `sha256("{seed}/{row}")`, which is the same with every library version."""
    return sorted(rows, key=lambda row: _digest(seed, str(row)))


def dirichlet_shares(alpha: float, num_clients: int, seed: int, key: str) -> np.ndarray:
    """One draw from the symmetric Dirichlet(alpha) over clients, shape `(num_clients,)`, float64, with sum 1.

    NumPy's default generator is seeded with `sha256("{seed}/{key}")`: a key's draw does not depend on which other keys
    there are, nor on their order. NumPy may change its Dirichlet sampler in a later version; a test notices.

    Raises:
        `ValueError`: if `alpha` is not above 0 and at most 1e6.
    """
    if not 0 < alpha <= MAX_ALPHA:
        raise ValueError(
            f"`alpha={alpha}` is not the concentration of a Dirichlet distribution: use a number above 0 and at most "
            f"{MAX_ALPHA:g}. Small ones skew, such as 0.1; for equal shares use `iid`."
        )
    generator = np.random.default_rng(int.from_bytes(_digest(seed, key), "big"))
    return generator.dirichlet(np.full(num_clients, float(alpha)))


def cut(rows: Sequence[int], shares: Sequence[float] | np.ndarray) -> list[list[int]]:
    """Consecutive pieces of `rows`, one for each share, cut at the rounded cumulative shares.

    Every row is in exactly one piece, and a piece's length is within 1 of `share * len(rows)`.
    """
    ends = np.rint(np.cumsum(shares) * len(rows)).astype(int).tolist()
    ends[-1] = len(rows)  # floating point may leave the sum of the shares a bit off 1
    return [list(rows[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def check_num_clients(num_clients: int, limit: int, what: str) -> None:
    """Refuses numbers of clients that are not positive, or that leave a client without one of `limit` things.

    Raises:
        `ValueError`: naming `num_clients`.
    """
    if num_clients < 1:
        raise ValueError(f"`num_clients={num_clients}` clients cannot be made; there is at least one.")
    if num_clients > limit:
        raise ValueError(
            f"`num_clients={num_clients}` is more than the {limit} {what} there are: a client would be "
            f"without rows. Use at most {limit} clients."
        )


def check_min_rows(clients: Sequence[Sequence[int]], alpha: float, seed: int, min_rows: int) -> None:
    """Refuses a draw that leaves a client with too few rows; a client without rows cannot train.

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


def _digest(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}/{key}".encode()).digest()


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
