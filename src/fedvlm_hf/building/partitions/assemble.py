"""Make the configuration of a builder from a list of clients, and assign held-out rows to clients."""

from collections.abc import Sequence

from ...data.naming import HELD_OUT, client_name
from ..builders.base import Example, Partition


def train_rows(examples: Sequence[Example]) -> list[int]:
    """Return the indices of the examples in split `train`, ascending."""
    return [row for row, example in enumerate(examples) if example.split == "train"]


def to_example_indices(clients_over_train: Sequence[Sequence[int]], train_rows: Sequence[int]) -> list[list[int]]:
    """Convert positions among the train rows into indices of all examples.

    Args:
        clients_over_train (`Sequence[Sequence[int]]`):
            The positions of each client, from a partition of the train rows.
        train_rows (`Sequence[int]`):
            The result of [`train_rows`].

    Returns:
        `list[list[int]]`: the indices of each client into all examples.
    """
    return [[train_rows[position] for position in positions] for positions in clients_over_train]


def assemble(
    name: str,
    rule: str,
    given_splits: Sequence[str],
    clients: Sequence[Sequence[int]],
    labels: Sequence[str | None],
    client_names: Sequence[str] | None = None,
    known_leak: str | None = None,
    client_ids: Sequence[str] | None = None,
) -> Partition:
    """Make a configuration from clients and the given splits.

    Held-out rows are assigned to clients as well, by [`assign_to_clients`], so that scores can be reported per client.

    Args:
        name (`str`):
            Name of the configuration, such as `"noniid"`.
        rule (`str`):
            How rows are assigned to clients, in one sentence.
        given_splits (`Sequence[str]`):
            `"train"`, `"validation"` or `"test"` for each example.
        clients (`Sequence[Sequence[int]]`):
            The indices of each client into all examples. Every train row belongs to exactly one client.
        labels (`Sequence[str | None]`):
            The label of each example, by which held-out rows are assigned to clients.
        client_names (`Sequence[str]`, *optional*):
            Readable name of each client, such as `"CT"`.
        known_leak (`str`, *optional*):
            See [`Partition`].
        client_ids (`Sequence[str]`, *optional*):
            The split name of each client, as returned by [`by_file`]; by default [`client_name`] of its number.

    Returns:
        [`Partition`]: with `client_names` by split.

    Raises:
        `ValueError`: if a train row is in no client or in two, a client has no row or a held-out row, a split is not
            one of the three, or lengths differ.
    """
    ids = [client_name(k, len(clients)) for k in range(len(clients))] if client_ids is None else list(client_ids)
    _check_length("labels", labels, len(given_splits), "examples")
    _check_length("client_ids", ids, len(clients), "clients")
    if client_names is not None:
        _check_length("client_names", client_names, len(clients), "clients")
    splits = _splits(given_splits, clients, ids)
    held_out: dict[int, int] = {}
    for split in HELD_OUT:
        rows = [row for row, given in enumerate(given_splits) if given == split]
        held_out.update(assign_to_clients(rows, labels, clients))
    return Partition(
        name=name,
        rule=rule,
        splits=tuple(splits),
        client_ids=tuple(ids[held_out[row]] if row in held_out else None for row in range(len(splits))),
        client_names={} if client_names is None else dict(zip(ids, client_names, strict=True)),
        known_leak=known_leak,
    )


def _splits(given_splits: Sequence[str], clients: Sequence[Sequence[int]], ids: Sequence[str]) -> list[str]:
    splits = list(given_splits)
    for client_id, rows in zip(ids, clients, strict=True):
        if not rows:
            raise ValueError(f"`clients`: {client_id} has no rows, so it cannot train. Leave it out.")
        for row in rows:
            if splits[row] != "train":
                raise ValueError(
                    f"`clients`: row {row} of {client_id} is already in {splits[row]!r}; each train row belongs to "
                    "exactly one client."
                )
            splits[row] = client_id
    for row, (given, split) in enumerate(zip(given_splits, splits, strict=True)):
        if given not in ("train", *HELD_OUT):
            raise ValueError(f"`given_splits`: row {row} is in {given!r}, not in train, validation or test.")
        if split == "train":
            raise ValueError(f"`clients`: the train row {row} is in no client; leave it out of the examples instead.")
    return splits


def _check_length(argument: str, values: Sequence[str | None], expected: int, what: str) -> None:
    if len(values) != expected:
        raise ValueError(f"`{argument}` has {len(values)} entries for {expected} {what}; it needs one for each.")


def assign_to_clients(
    rows: Sequence[int], labels: Sequence[str | None], clients: Sequence[Sequence[int]]
) -> dict[int, int]:
    """Assign held-out rows to clients so that they follow the distribution of each client's training rows.

    The held-out rows of a label go to the clients in proportion to the clients' training rows of that label, in row
    order, the first rows to the first client. Proportions are rounded down or up by the largest remainder method, and
    ties go to the first client. What rounding takes from a client is added to its remainder for the next label;
    otherwise many small labels would all go to the first clients. A label that no client has is distributed by the
    sizes of the clients. Labels are processed in row order.

    Args:
        rows (`Sequence[int]`):
            The rows to assign, such as those of `test`.
        labels (`Sequence[str | None]`):
            The label of every row, including those of the clients.
        clients (`Sequence[Sequence[int]]`):
            The training rows of each client.

    Returns:
        `dict[int, int]`: the number of the client for each row.
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
    """Return the number of rows for each client, and update `owed`, what rounding took from each client so far."""
    total = sum(weights)
    seats = [num_rows * weight // total for weight in weights]
    remainders = [num_rows * weight % total for weight in weights]
    for client, remainder in enumerate(remainders):
        owed[client] += remainder / total
    # Only clients whose proportion was rounded, so that no client gets rows of a label that it does not have
    rounded = [client for client, remainder in enumerate(remainders) if remainder]
    rounded.sort(key=lambda client: -round(owed[client], 9))  # rounding errors must not break ties
    for client in rounded[: num_rows - sum(seats)]:
        seats[client] += 1
        owed[client] -= 1
    return seats
