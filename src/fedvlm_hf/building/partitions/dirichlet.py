"""Label skew of a chosen strength."""

from collections.abc import Sequence

from .drawing import check_min_rows, check_num_clients, cut, dirichlet_shares, shuffled


def dirichlet(
    labels: Sequence[str], num_clients: int, alpha: float, seed: int = 0, min_rows: int = 1
) -> list[list[int]]:
    """Cuts every label's rows by shares drawn from a Dirichlet distribution.

    For each label c on its own, p_c ~ Dir_K(alpha, ..., alpha) over the K clients; the label's rows, in the order of
    `sha256("{seed}/{row}")`, are cut at round(n_c * (p_c1 + ... + p_ck)) for k = 1, ..., K - 1. A small alpha gives
    most of a label to one client, and a large one spreads it evenly. Sizes of clients vary too.

    This is the variant of Yurochkin et al. 2019 (https://huggingface.co/papers/1905.12022) and Li et al. 2021
    (https://huggingface.co/papers/2102.02079), without their balancing of sizes and without drawing again until no
    client is too small: seed and alpha say it all. Hsu et al. 2019 (https://huggingface.co/papers/1909.06335) draw for
    each client its shares of the labels instead, so that clients are of equal size; one alpha skews otherwise there.

    Args:
        labels (`Sequence[str]`):
            Each row's label.
        num_clients (`int`):
            K.
        alpha (`float`):
            Above 0; benchmarks use 0.05 to 1.
        seed (`int`, *optional*, defaults to `0`):
            Another seed, other shares and another order of rows. A label's shares depend on seed and label only.
        min_rows (`int`, *optional*, defaults to `1`):
            Fewer rows in a client are an error.

    Returns:
        `list[list[int]]`: each client's rows, ascending.

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
        pieces = cut(shuffled(rows, seed), dirichlet_shares(alpha, num_clients, seed, label))
        for client, piece in zip(clients, pieces, strict=True):
            client.extend(piece)
    check_min_rows(clients, alpha, seed, min_rows)
    return [sorted(client) for client in clients]
