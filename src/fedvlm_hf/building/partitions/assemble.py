"""From clients to a builder's configuration."""

from collections.abc import Sequence

from ...data.naming import HELD_OUT, client_name
from ..builders.base import Example, Partition


def train_rows(examples: Sequence[Example]) -> list[int]:
    """Indices of the examples that clients share out, ascending: those of split `train`."""
    return [row for row, example in enumerate(examples) if example.split == "train"]


def lift(clients_over_train: Sequence[Sequence[int]], train_rows: Sequence[int]) -> list[list[int]]:
    """Turns clients' positions among the train rows into indices of all examples.

    Args:
        clients_over_train (`Sequence[Sequence[int]]`):
            What a rule made of the train rows' labels.
        train_rows (`Sequence[int]`):
            From [`train_rows`].

    Returns:
        `list[list[int]]`: each client's indices into all examples.
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
    """Makes a configuration of clients and the given splits.

    Held-out rows are of a client's distribution too, so that scores can be reported per client: see [`share_out`].

    Args:
        name (`str`):
            The configuration, such as `"noniid"`.
        rule (`str`):
            How rows came to their clients, in a sentence.
        given_splits (`Sequence[str]`):
            Each example's `"train"`, `"validation"` or `"test"`.
        clients (`Sequence[Sequence[int]]`):
            Each client's indices into all examples; together exactly the train rows.
        labels (`Sequence[str | None]`):
            Each example's label, by which held-out rows are shared out.
        client_names (`Sequence[str]`, *optional*):
            What each client is, such as `"CT"`.
        known_leak (`str`, *optional*):
            See [`Partition`].
        client_ids (`Sequence[str]`, *optional*):
            Each client's split, such as [`by_file`] gives; by default [`client_name`] of its number.

    Returns:
        [`Partition`]: its `client_names` are by split.

    Raises:
        `ValueError`: if a train row is in no client or in two, a client has no row or one that is held out, a split is
            none of the three, or lengths differ.
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
        held_out.update(share_out(rows, labels, clients))
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
            raise ValueError(f"`clients`: {client_id} has no rows and cannot train. Leave it out.")
        for row in rows:
            if splits[row] != "train":
                raise ValueError(
                    f"`clients`: row {row} of {client_id} is in {splits[row]!r} already; clients share out the train "
                    "rows, each to one client."
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
        raise ValueError(f"`{argument}` has {len(values)} entries for {expected} {what}; there is one for each.")


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
