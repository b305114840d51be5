"""Clients with the same distribution: equal up to chance, or as equal as possible."""

from collections import Counter
from collections.abc import Sequence

from .drawing import check_num_clients, shuffled


def iid(num_rows: int, num_clients: int, seed: int = 0) -> list[list[int]]:
    """Deal shuffled rows to the clients in turn: sizes differ by at most one, contents differ by chance.

    Args:
        num_rows (`int`):
            The rows are 0, 1, ..., `num_rows` - 1, ordered by `sha256("{seed}/{row}")`.
        num_clients (`int`):
            At most `num_rows`. The n-th row of this order goes to client n modulo `num_clients`.
        seed (`int`, *optional*, defaults to `0`):
            Changes the order of the rows.

    Returns:
        `list[list[int]]`: the rows of each client, ascending.

    Raises:
        `ValueError`: if there are more clients than rows, or there is no client.
    """
    check_num_clients(num_clients, num_rows, "rows")
    return _deal(shuffled(range(num_rows), seed), num_clients)


def iid_by_label(labels: Sequence[str], num_clients: int, seed: int = 0) -> list[list[int]]:
    """Spread every label evenly: the clients' counts of each label differ by at most one, and so do their sizes.

    This is our reading of FedVLMBench's IID setting, "every three categories are evenly distributed". Rows are
    sorted by label, shuffled within each label, and dealt to the clients in turn. A new label continues with the next
    client.

    Args:
        labels (`Sequence[str]`):
            The label of each row.
        num_clients (`int`):
            At most the number of rows of the rarest label.
        seed (`int`, *optional*, defaults to `0`):
            Changes the order of the rows within each label.

    Returns:
        `list[list[int]]`: the rows of each client, ascending.

    Raises:
        `ValueError`: if a label has fewer rows than there are clients, or there is no client.
    """
    check_num_clients(num_clients, len(labels), "rows")
    rarest, num_rows = min(Counter(labels).items(), key=lambda item: (item[1], item[0]))
    if num_rows < num_clients:
        raise ValueError(
            f"`labels`: the {num_rows} rows of {rarest!r} cannot be spread over `num_clients={num_clients}`, because "
            "some clients would get none. Use fewer clients, drop or merge rare labels, or use `iid`, which ignores "
            "labels."
        )
    # The sort is stable, so rows stay shuffled within a label
    return _deal(sorted(shuffled(range(len(labels)), seed), key=lambda row: labels[row]), num_clients)


def _deal(rows: Sequence[int], num_clients: int) -> list[list[int]]:
    return [sorted(rows[client::num_clients]) for client in range(num_clients)]
