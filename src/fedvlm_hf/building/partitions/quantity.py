"""Clients of unequal size and alike content."""

from .drawing import check_min_rows, check_num_clients, cut, dirichlet_shares, shuffled


def quantity_skew(num_rows: int, num_clients: int, alpha: float, seed: int = 0, min_rows: int = 1) -> list[list[int]]:
    """Cuts shuffled rows into clients whose sizes are drawn from a Dirichlet distribution.

    q ~ Dir_K(alpha, ..., alpha) over the K clients, as in Li et al. 2021 (https://huggingface.co/papers/2102.02079);
    the rows, in the order of `sha256("{seed}/{row}")`, are cut at round(num_rows * (q_1 + ... + q_k)).

    Args:
        num_rows (`int`):
            Rows are 0, 1, ..., `num_rows` - 1.
        num_clients (`int`):
            K.
        alpha (`float`):
            Above 0. Small ones give most rows to few clients.
        seed (`int`, *optional*, defaults to `0`):
            Another seed, other sizes and another order of rows.
        min_rows (`int`, *optional*, defaults to `1`):
            Fewer rows in a client are an error.

    Returns:
        `list[list[int]]`: each client's rows, ascending.

    Raises:
        `ValueError`: if a client has fewer than `min_rows` rows, there are more clients than rows, or `alpha` is not
            positive.
    """
    check_num_clients(num_clients, num_rows, "rows")
    shares = dirichlet_shares(alpha, num_clients, seed, "sizes")
    clients = cut(shuffled(range(num_rows), seed), shares)
    check_min_rows(clients, alpha, seed, min_rows)
    return [sorted(client) for client in clients]
