"""Names of clients that stay at home: on the Hub each client is its number, in the order of the names."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..data.naming import client_name
from ..types import RoundRecord


def numbered(client_ids: Iterable[str], others: Iterable[str] = ()) -> dict[str, str]:
    """Client to number, such as `{"hospital_a": "client_00"}`.

    Args:
        client_ids (`Iterable[str]`):
            The run's clients. Who has their names can undo it; nobody else can.
        others (`Iterable[str]`, *optional*):
            Names in evaluation sets; those that are no client's become `other_00` and so on.
    """
    clients = sorted(client_ids)
    names = {name: client_name(place, len(clients)) for place, name in enumerate(clients)}
    strangers = sorted({*others} - {*names})
    return names | {name: f"other_{place:02d}" for place, name in enumerate(strangers)}


def names_in(record: RoundRecord) -> set[str]:
    """Every client that a record names."""
    return set(record.clients).union(*(result.clients for result in record.evaluations.values()))


def rename_record(record: RoundRecord, names: Mapping[str, str]) -> RoundRecord:
    """A record with other names of its clients."""
    evaluations = {
        name: replace(result, clients=rename_keys(result.clients, names))
        for name, result in record.evaluations.items()
    }
    return replace(record, clients=rename_keys(record.clients, names), evaluations=evaluations)


def rename_keys(by_client: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A mapping by client, under the clients' other names."""
    return {names.get(client_id, client_id): value for client_id, value in by_client.items()}
