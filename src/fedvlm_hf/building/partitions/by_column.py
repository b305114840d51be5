"""One client per value of a column, such as an imaging modality or a manufacturer."""

from collections.abc import Sequence

from .drawing import check_num_clients


def by_column(values: Sequence[str], num_clients: int | None = None) -> tuple[list[list[int]], list[tuple[str, ...]]]:
    """Assign all rows of a value to one client. Several values can share a client.

    FedVLMBench's 30 manufacturers make 30 clients, or 10 and 5 clients with three and six manufacturers each. Merging
    neighbours in sorted order is our rule.

    Args:
        values (`Sequence[str]`):
            The value of each row.
        num_clients (`int`, *optional*):
            By default there is one client per value, in sorted order. Otherwise the sorted values are divided into
            this many consecutive groups. Their numbers of values differ by at most one, and larger groups come first.

    Returns:
        `tuple[list[list[int]], list[tuple[str, ...]]]`: the rows of each client, ascending, and the values of each
            client.

    Raises:
        `ValueError`: if a row has no value, there are more clients than values, or there is no client.
    """
    for row, value in enumerate(values):
        if not value:
            raise ValueError(
                f"`values`: row {row} has the value {value!r}, so it cannot be assigned to a client. Fill in a value, "
                "or leave the row out."
            )
    distinct = sorted(set(values))
    if num_clients is None:
        num_clients = len(distinct)
    check_num_clients(num_clients, len(distinct), "distinct values")
    groups = _groups(distinct, num_clients)
    client_of = {value: client for client, group in enumerate(groups) for value in group}
    clients: list[list[int]] = [[] for _ in groups]
    for row, value in enumerate(values):
        clients[client_of[value]].append(row)
    return clients, groups


def _groups(values: Sequence[str], num_groups: int) -> list[tuple[str, ...]]:
    size, extra = divmod(len(values), num_groups)
    ends = [(group + 1) * size + min(group + 1, extra) for group in range(num_groups)]
    return [tuple(values[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
