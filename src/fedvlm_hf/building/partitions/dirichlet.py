"""Label skew of adjustable strength."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .drawing import check_min_rows, check_num_clients, dirichlet_shares, share_ends, shuffled, split_by_shares


MAX_DRAWS = 1000
"""How many draws [`draw_dirichlet`] makes at most."""

_SEED_STEP = 1_000_003


class DirichletDraw(NamedTuple):
    """The result of [`draw_dirichlet`].

    Attributes:
        clients (`list[list[int]]`): The rows of each client, ascending.
        seed (`int`): The seed of this draw: `dirichlet(..., seed=seed)` gives the same clients.
        num_draws (`int`): How many draws were made, this one included.
    """

    clients: list[list[int]]
    seed: int
    num_draws: int


def draw_dirichlet(
    labels: Sequence[str], num_clients: int, alpha: float, seed: int = 0, min_rows: int = 1
) -> DirichletDraw:
    """Draw as [`dirichlet`] does, again and again until no client has fewer than `min_rows` rows.

    The first draw has the seed `seed`, and each further draw the seed of the one before plus 1,000,003. With small
    alphas, many clients or few labels most draws leave a client without rows, which cannot train. Li et al. 2021 and
    Flower's partitioner redraw as well.

    Args:
        labels (`Sequence[str]`), num_clients (`int`), alpha (`float`), seed (`int`), min_rows (`int`):
            See [`dirichlet`].

    Returns:
        [`DirichletDraw`]: the clients, and the seed and number of the draw.

    Raises:
        `ValueError`: if each of `MAX_DRAWS` draws leaves a client with fewer rows, or see [`dirichlet`].
    """
    check_num_clients(num_clients, len(labels), "rows")
    if min_rows * num_clients > len(labels):
        raise ValueError(
            f"`num_clients={num_clients}` clients with at least {min_rows} rows each need {min_rows * num_clients:,} "
            f"rows, but there are {len(labels):,}. Use fewer clients."
        )
    rows_of = _rows_by_label(labels)
    smallest = 0
    for draw in range(MAX_DRAWS):
        drawn_with = seed + draw * _SEED_STEP
        least = int(min(_sizes(rows_of, num_clients, alpha, drawn_with)))
        if least >= min_rows:
            clients = dirichlet(labels, num_clients, alpha, drawn_with, min_rows)
            return DirichletDraw(clients, drawn_with, draw + 1)
        smallest = max(smallest, least)
    raise ValueError(
        f"`alpha={alpha}`: each of {MAX_DRAWS:,} draws from `seed={seed}` leaves a client with fewer than {min_rows} "
        f"of the {len(labels):,} rows, which have {len(rows_of):,} different labels; the smallest client of the best "
        f"draw has {smallest}. Use a larger alpha, or fewer than {num_clients} clients."
    )


def dirichlet(
    labels: Sequence[str], num_clients: int, alpha: float, seed: int = 0, min_rows: int = 1
) -> list[list[int]]:
    """Distribute the rows of each label over the clients by shares drawn from a Dirichlet distribution.

    For each label c independently, p_c ~ Dir_K(alpha, ..., alpha) over the K clients. The rows of the label, in the
    order of `sha256("{seed}/{row}")`, are divided at round(n_c * (p_c1 + ... + p_ck)) for k = 1, ..., K - 1. With a
    small alpha most rows of a label go to one client; a large alpha spreads them evenly. The sizes of the clients vary
    as well.

    This is the variant of Yurochkin et al. 2019 (https://huggingface.co/papers/1905.12022) and Li et al. 2021
    (https://huggingface.co/papers/2102.02079), without their balancing of sizes. This is a single draw, and
    [`draw_dirichlet`] repeats it until no client is too small. Hsu et al. 2019
    (https://huggingface.co/papers/1909.06335) instead draw each client's shares of the labels, which gives clients of
    equal size; the same alpha gives another skew there.

    Args:
        labels (`Sequence[str]`):
            The label of each row.
        num_clients (`int`):
            Number of clients, K.
        alpha (`float`):
            Concentration, above 0; benchmarks use 0.05 to 1.
        seed (`int`, *optional*, defaults to `0`):
            Changes the shares and the order of the rows. The shares of a label depend only on seed and label.
        min_rows (`int`, *optional*, defaults to `1`):
            Smallest number of rows that a client may have.

    Returns:
        `list[list[int]]`: the rows of each client, ascending.

    Raises:
        `ValueError`: if a client has fewer than `min_rows` rows, there are more clients than rows, or `alpha` is not
            positive.
    """
    check_num_clients(num_clients, len(labels), "rows")
    clients: list[list[int]] = [[] for _ in range(num_clients)]
    for label, rows in _rows_by_label(labels).items():
        pieces = split_by_shares(shuffled(rows, seed), dirichlet_shares(alpha, num_clients, seed, label))
        for client, piece in zip(clients, pieces, strict=True):
            client.extend(piece)
    check_min_rows(clients, alpha, seed, min_rows)
    return [sorted(client) for client in clients]


def _rows_by_label(labels: Sequence[str]) -> dict[str, list[int]]:
    rows_of: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows_of.setdefault(label, []).append(row)
    return rows_of


def _sizes(rows_of: Mapping[str, Sequence[int]], num_clients: int, alpha: float, seed: int) -> np.ndarray:
    """Return the number of rows of each client in a draw, without dividing the rows."""
    sizes = np.zeros(num_clients, dtype=int)
    for label, rows in rows_of.items():
        sizes += np.diff(share_ends(dirichlet_shares(alpha, num_clients, seed, label), len(rows)), prepend=0)
    return sizes
