"""Clients that differ by chance only, or not even by that."""

from collections import Counter
from collections.abc import Sequence

from .drawing import check_num_clients, shuffled


def iid(num_rows: int, num_clients: int, seed: int = 0) -> list[list[int]]:
    """Deals shuffled rows to the clients in turn: sizes differ by at most one, contents by chance.

    Args:
        num_rows (`int`):
            Rows are 0, 1, ..., `num_rows` - 1, put in the order of `sha256("{seed}/{row}")`.
        num_clients (`int`):
            At most `num_rows`. The n-th row of that order goes to client n modulo `num_clients`.
        seed (`int`, *optional*, defaults to `0`):
            Another seed, another order.

    Returns:
        `list[list[int]]`: each client's rows, ascending.

    Raises:
        `ValueError`: if there are more clients than rows, or no client.
    """
    check_num_clients(num_clients, num_rows, "rows")
    return _deal(shuffled(range(num_rows), seed), num_clients)


def iid_by_label(labels: Sequence[str], num_clients: int, seed: int = 0) -> list[list[int]]:
    """Spreads every label evenly: clients' counts of any label differ by at most one, and so do their sizes.

    This is our reading of FedVLMBench's IID setting, "every three categories are evenly distributed". Rows are
    sorted by label, shuffled in each label, and dealt to the clients in turn without starting afresh at a new label.

    Args:
        labels (`Sequence[str]`):
            Each row's label.
        num_clients (`int`):
            At most the number of rows of the rarest label.
        seed (`int`, *optional*, defaults to `0`):
            Another seed, another order in each label.

    Returns:
        `list[list[int]]`: each client's rows, ascending.

    Raises:
        `ValueError`: if a label has fewer rows than there are clients, or there is no client.
    """
    check_num_clients(num_clients, len(labels), "rows")
    rarest, num_rows = min(Counter(labels).items(), key=lambda item: (item[1], item[0]))
    if num_rows < num_clients:
        raise ValueError(
            f"`labels`: the {num_rows} rows of {rarest!r} cannot be spread over `num_clients={num_clients}`, some "
            "would have none. Use fewer clients, leave out or merge rare labels, or use `iid`, which ignores labels."
        )
    # A stable sort: within a label the shuffled order stays
    return _deal(sorted(shuffled(range(len(labels)), seed), key=lambda row: labels[row]), num_clients)


def _deal(rows: Sequence[int], num_clients: int) -> list[list[int]]:
    return [sorted(rows[client::num_clients]) for client in range(num_clients)]
