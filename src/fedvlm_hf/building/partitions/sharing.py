"""Whose distribution a held-out row is of, where no client holds it."""

from collections.abc import Sequence


def share_out(rows: Sequence[int], labels: Sequence[str | None], clients: Sequence[Sequence[int]]) -> dict[int, int]:
    """Shares held-out rows among clients, so that each client's are distributed as its training rows.

    The rows of a label go to the clients in proportion to the clients' own rows of that label, in row order, the first
    ones to the first client. Proportions are rounded down or up by largest remainder, ties to the first client; what
    rounding takes from a client is added to its remainder at the next label, or many small labels would all end at the
    first clients. A label that no client has is shared out by the clients' sizes. Labels come in row order.

    Args:
        rows (`Sequence[int]`):
            The rows to share out, such as those of `test`.
        labels (`Sequence[str | None]`):
            Each label of all rows, the clients' ones too.
        clients (`Sequence[Sequence[int]]`):
            Each client's own rows.

    Returns:
        `dict[int, int]`: row to number of the client.
    """
    sizes = [len(client) for client in clients]
    counts = _counts(labels, clients)
    rows_of: dict[str | None, list[int]] = {}
    for row in rows:
        rows_of.setdefault(labels[row], []).append(row)
    owed = [0.0] * len(clients)
    client_of: dict[int, int] = {}
    for label, members in rows_of.items():
        seats = _apportion(len(members), counts.get(label, sizes), owed)
        owners = [client for client, num in enumerate(seats) for _ in range(num)]
        client_of.update(zip(members, owners, strict=True))
    return client_of


def _counts(labels: Sequence[str | None], clients: Sequence[Sequence[int]]) -> dict[str | None, list[int]]:
    counts: dict[str | None, list[int]] = {}
    for client, rows in enumerate(clients):
        for row in rows:
            counts.setdefault(labels[row], [0] * len(clients))[client] += 1
    return counts


def _apportion(num_rows: int, weights: Sequence[int], owed: list[float]) -> list[int]:
    """Rows of each client; `owed`, what rounding took from each client so far, is brought up to date."""
    total = sum(weights)
    seats = [num_rows * weight // total for weight in weights]
    remainders = [num_rows * weight % total for weight in weights]
    for client, remainder in enumerate(remainders):
        owed[client] += remainder / total
    # Only clients that the label's own proportions round: no client gets rows of a label that it has not
    rounded = [client for client, remainder in enumerate(remainders) if remainder]
    rounded.sort(key=lambda client: -round(owed[client], 9))  # floating point noise does not break ties
    for client in rounded[: num_rows - sum(seats)]:
        seats[client] += 1
        owed[client] -= 1
    return seats
