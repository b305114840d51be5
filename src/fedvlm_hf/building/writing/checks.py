"""What must hold of a builder's rows and partitions before anything is written."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ...data.naming import CLIENT_PREFIX, HELD_OUT, is_client
from ...data.spec import value_problem
from ...registry import unknown_name_message
from ..builders.base import Example, Partition
from .layout import client_splits


FIXED_COLUMNS = ("id", "images", "prompt", "completion", "task", "references", "client_id", "image_digest")
"""Columns of every dataset; a builder's own come after them."""

_SPLITS = ("train", *HELD_OUT)
_SPLIT = re.compile(rf"{CLIENT_PREFIX}\w+")
# Configurations become folders and parts of addresses
_CONFIG = re.compile(r"\w[\w.-]*")
_SHOWN = 5


class Leak(NamedTuple):
    """An image on both sides.

    Attributes:
        digest (`str`): Of its pixels.
        held_out_id (`str`): A held-out row that shows it.
        other_id (`str`): A row of another side that shows it.
    """

    digest: str
    held_out_id: str
    other_id: str


def check_examples(examples: Sequence[Example]) -> None:
    """Checks all rows, without their images.

    Raises:
        `ValueError`: naming the row, if there is none, an id comes twice, a value is not as `data.spec` says or empty,
            or a row has other columns than the first.
    """
    if not examples:
        raise ValueError("No row is left to write. The counts above say where they went.")
    ids: set[str] = set()
    columns = list(examples[0].columns)
    reserved = sorted({*columns} & {*FIXED_COLUMNS})
    if reserved:
        raise ValueError(f"A dataset's own columns cannot be named {reserved}: every dataset has those.")
    for example in examples:
        problem = f"the id {example.id!r} comes twice." if example.id in ids else _problem(example, columns)
        if problem:
            raise ValueError(f"Row {example.id!r}: {problem}")
        ids.add(example.id)


def check_partition(partition: Partition, num_rows: int) -> None:
    """Checks that a partition gives every row one place.

    Raises:
        `ValueError`: naming the configuration, if it is not so, a name is not a configuration's or a split's, there is
            no client, or a client has no row.
    """
    where = f"Configuration {partition.name!r}"
    if not _CONFIG.fullmatch(partition.name):
        raise ValueError(f"{where} cannot be named so: use letters, digits, `_`, `-` and `.`.")
    if not len(partition.splits) == len(partition.client_ids) == num_rows:
        raise ValueError(
            f"{where} places {len(partition.splits)} rows and gives {len(partition.client_ids)} client ids; there are "
            f"{num_rows} rows."
        )
    wrong = sorted({split for split in partition.splits if split not in HELD_OUT and not _SPLIT.fullmatch(split)})
    if wrong:
        raise ValueError(f"{where} has the splits {wrong}; splits are {CLIENT_PREFIX}*, {' and '.join(HELD_OUT)}.")
    clients = client_splits(partition)
    if not clients:
        raise ValueError(f"{where} has no client: every row is held out.")
    empty = sorted({*_expected(clients), *partition.client_names} - {*clients})
    if empty:
        raise ValueError(f"{where}: {empty[0]} has no row. Use fewer clients, or merge classes.")
    for split, client_id in zip(partition.splits, partition.client_ids, strict=True):
        if client_id is not None and (is_client(split) or client_id not in clients):
            raise ValueError(
                f"{where}: a row of {split} has `client_id` {client_id!r}. Held-out rows name one of the clients, "
                "clients' own rows nothing."
            )


def choose(partitions: Sequence[Partition], configs: str | None) -> list[Partition]:
    """The configurations that were asked for, in the order of the request.

    Raises:
        `ValueError`: if one is unknown or comes twice.
    """
    known = {partition.name: partition for partition in partitions}
    if len(known) < len(partitions):
        raise ValueError(f"Configurations must have different names, got {[p.name for p in partitions]}.")
    names = list(known) if configs is None else [name.strip() for name in configs.split(",")]
    for name in names:
        if name not in known:
            raise ValueError(unknown_name_message("configs", name, list(known)))
    if len({*names}) < len(names):
        raise ValueError(f"`configs` names a configuration twice: {names}.")
    return [known[name] for name in names]


def find_leaks(partition: Partition, examples: Sequence[Example], digests: Sequence[str]) -> list[Leak]:
    """Images that are held out and a client's as well, or in both held-out splits; one of each, in row order.

    Args:
        partition ([`Partition`]):
            The configuration.
        examples (`Sequence[Example]`):
            The rows.
        digests (`Sequence[str]`):
            Digest of the pixels of each row's image.

    Raises:
        `ValueError`: naming images and rows, if there are some and the partition does not say why.
    """
    sides: dict[str, dict[str, str]] = {}
    for example, split, digest in zip(examples, partition.splits, digests, strict=True):
        side = split if split in HELD_OUT else "client"
        sides.setdefault(digest, {}).setdefault(side, example.id)
    leaks = []
    for digest, ids in sides.items():
        if len(ids) > 1:
            held_out = next(split for split in reversed(HELD_OUT) if split in ids)
            other = next(split for split in ("client", *HELD_OUT) if split in ids and split != held_out)
            leaks.append(Leak(digest, ids[held_out], ids[other]))
    if leaks and partition.known_leak is None:
        keys = {example.id: example.image.key for example in examples}
        shown = "; ".join(
            f"{keys[leak.held_out_id]} (row {leak.held_out_id!r}) = {keys[leak.other_id]} (row {leak.other_id!r})"
            for leak in leaks[:_SHOWN]
        )
        more = f"; and {len(leaks) - _SHOWN} more" if len(leaks) > _SHOWN else ""
        raise ValueError(
            f"Configuration {partition.name!r}: {len(leaks)} images of `test` or `validation` are in training, or in "
            f"both, with equal pixels: {shown}{more}. Scores would measure memory: the builder must drop rows, or say "
            "in `known_leak` why it is so."
        )
    return leaks


def _problem(example: Example, columns: list[str]) -> str | None:
    if not example.id:
        return "the id is empty."
    if example.split not in _SPLITS:
        return f"the split is {example.split!r}, none of {list(_SPLITS)}."
    if list(example.columns) != columns:
        return f"its columns are {list(example.columns)}, the first row's {columns}."
    wrong = [name for name, value in example.columns.items() if value is not None and not isinstance(value, str)]
    if wrong:
        return f"column `{wrong[0]}` is {example.columns[wrong[0]]!r}, neither a string nor None."
    values = {
        "prompt": example.prompt,
        "completion": example.completion,
        "task": example.task,
        "references": list(example.references),
    }
    for name, value in values.items():
        problem = value_problem(name, value)
        if problem:
            return f"`{name}`: {problem}"
    return None


def _expected(clients: list[str]) -> list[str]:
    """`client_00` to the last number, where clients are numbered."""
    numbers = [client.removeprefix(CLIENT_PREFIX) for client in clients]
    if not all(number.isascii() and number.isdigit() for number in numbers):
        return []
    width = len(numbers[0])
    return [f"{CLIENT_PREFIX}{number:0{width}d}" for number in range(max(map(int, numbers)) + 1)]
