"""A client a value of a column, such as an imaging modality or a manufacturer."""

from collections.abc import Sequence

from .drawing import check_num_clients


def by_column(values: Sequence[str], num_clients: int | None = None) -> tuple[list[list[int]], list[tuple[str, ...]]]:
    """Gives each value's rows to one client; several values can share a client.

    FedVLMBench's 30 manufacturers make 30 clients, or 10 and 5 with three and six of them each. That neighbours in
    sorted order are merged is our rule.

    Args:
        values (`Sequence[str]`):
            Each row's value.
        num_clients (`int`, *optional*):
            By default a client a value, in sorted order. Otherwise the sorted values are cut into so many consecutive
            groups whose numbers of values differ by at most one, the larger groups first.

    Returns:
        `tuple[list[list[int]], list[tuple[str, ...]]]`: each client's rows, ascending, and each client's values.

    Raises:
        `ValueError`: if a row has no value, there are more clients than values, or no client.
    """
    for row, value in enumerate(values):
        if not value:
            raise ValueError(
                f"`values`: row {row} has the value {value!r}, which no client can go by. Fill in such rows, or leave "
                "them out."
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
