"""Label skew of adjustable strength."""

from collections.abc import Sequence

from .drawing import check_min_rows, check_num_clients, dirichlet_shares, shuffled, split_by_shares


def dirichlet(
    labels: Sequence[str], num_clients: int, alpha: float, seed: int = 0, min_rows: int = 1
) -> list[list[int]]:
    """Distribute the rows of each label over the clients by shares drawn from a Dirichlet distribution.

    For each label c independently, p_c ~ Dir_K(alpha, ..., alpha) over the K clients. The rows of the label, in the
    order of `sha256("{seed}/{row}")`, are divided at round(n_c * (p_c1 + ... + p_ck)) for k = 1, ..., K - 1. With a
    small alpha most rows of a label go to one client; a large alpha spreads them evenly. The sizes of the clients vary
    as well.

    This is the variant of Yurochkin et al. 2019 (https://huggingface.co/papers/1905.12022) and Li et al. 2021
    (https://huggingface.co/papers/2102.02079), without their balancing of sizes and without redrawing until no client
    is too small, so that seed and alpha determine the result. Hsu et al. 2019
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
    rows_of: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows_of.setdefault(label, []).append(row)
    clients: list[list[int]] = [[] for _ in range(num_clients)]
    for label, rows in rows_of.items():
        pieces = split_by_shares(shuffled(rows, seed), dirichlet_shares(alpha, num_clients, seed, label))
        for client, piece in zip(clients, pieces, strict=True):
            client.extend(piece)
    check_min_rows(clients, alpha, seed, min_rows)
    return [sorted(client) for client in clients]
