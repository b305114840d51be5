"""Checks of a builder's rows and partitions before anything is written."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ...data.naming import CLIENT_PREFIX, HELD_OUT, is_client
from ...data.spec import value_problem
from ...registry import unknown_name_message
from ..builders.base import Example, Partition
from .layout import client_splits


FIXED_COLUMNS = ("id", "images", "prompt", "completion", "task", "references", "client_id", "image_digest")
"""Columns of every dataset. The builder's additional columns come after them."""

_SPLITS = ("train", *HELD_OUT)
_SPLIT = re.compile(rf"{CLIENT_PREFIX}\w+")
# Configurations become names of folders and parts of URLs
_CONFIG = re.compile(r"\w[\w.-]*")
_SHOWN = 5


class Leak(NamedTuple):
    """An image that is both held out and in another split.

    Attributes:
        digest (`str`): Digest of its pixels.
        held_out_id (`str`): Id of a held-out row with this image.
        other_id (`str`): Id of a row with this image in another split.
    """

    digest: str
    held_out_id: str
    other_id: str


def check_examples(examples: Sequence[Example]) -> None:
    """Check all rows, without their images.

    Raises:
        `ValueError`: if there is no row; or naming the row, if an id is not unique, a value is empty or violates
            `data.spec`, or the columns differ from those of the first row.
    """
    if not examples:
        raise ValueError("No row is left to write. The counts above say which rules excluded the rows.")
    ids: set[str] = set()
    columns = list(examples[0].columns)
    reserved = sorted({*columns} & {*FIXED_COLUMNS})
    if reserved:
        raise ValueError(f"Additional columns cannot be named {reserved}: every dataset has columns of these names.")
    for example in examples:
        problem = f"the id {example.id!r} is not unique." if example.id in ids else _problem(example, columns)
        if problem:
            raise ValueError(f"Row {example.id!r}: {problem}")
        ids.add(example.id)


def check_partition(partition: Partition, num_rows: int) -> None:
    """Check that a partition assigns every row to one split.

    Raises:
        `ValueError`: naming the configuration, if some row has no split, the name of a configuration or split is
            invalid, there is no client, or a client has no row.
    """
    where = f"Configuration {partition.name!r}"
    if not _CONFIG.fullmatch(partition.name):
        raise ValueError(f"{where} is not a valid name: use letters, digits, `_`, `-` and `.`.")
    if not len(partition.splits) == len(partition.client_ids) == num_rows:
        raise ValueError(
            f"{where} has {len(partition.splits)} splits and {len(partition.client_ids)} client ids, but there are "
            f"{num_rows} rows. Each row needs one of each."
        )
    wrong = sorted({split for split in partition.splits if split not in HELD_OUT and not _SPLIT.fullmatch(split)})
    if wrong:
        raise ValueError(
            f"{where} has the splits {wrong}; valid splits are {CLIENT_PREFIX}*, {' and '.join(HELD_OUT)}."
        )
    clients = client_splits(partition)
    if not clients:
        raise ValueError(f"{where} has no client: every row is held out.")
    empty = sorted({*_expected(clients), *partition.client_names} - {*clients})
    if empty:
        raise ValueError(f"{where}: {empty[0]} has no row. Use fewer clients, or merge classes.")
    for split, client_id in zip(partition.splits, partition.client_ids, strict=True):
        if client_id is not None and (is_client(split) or client_id not in clients):
            raise ValueError(
                f"{where}: a row of {split} has `client_id` {client_id!r}. It must be one of the clients or None for "
                "a held-out row, and None for a row of a client."
            )


def select_configs(partitions: Sequence[Partition], configs: str | None) -> list[Partition]:
    """Return the requested configurations, in the order of the request.

    Raises:
        `ValueError`: if one of them is unknown or requested twice.
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
    """Find images that are both held out and in a client, or in both held-out splits: one leak per image.

    Args:
        partition ([`Partition`]):
            The configuration.
        examples (`Sequence[Example]`):
            The rows.
        digests (`Sequence[str]`):
            Digest of the pixels of each row's image.

    Returns:
        `list[Leak]`: in row order.

    Raises:
        `ValueError`: naming images and rows, if there are leaks and the partition does not explain them.
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
            f"Configuration {partition.name!r}: {len(leaks)} images of `test` or `validation` are also in training, "
            f"or in both splits, with equal pixels: {shown}{more}. Scores would measure memorization: remove "
            "these rows from one side. Builders of known datasets may explain them in `known_leak` instead."
        )
    return leaks


def _problem(example: Example, columns: list[str]) -> str | None:
    if not example.id:
        return "the id is empty."
    if example.split not in _SPLITS:
        return f"the split is {example.split!r}, not one of {list(_SPLITS)}."
    if list(example.columns) != columns:
        return f"its columns are {list(example.columns)}, those of the first row {columns}."
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
    """Return all names from `client_00` to the highest number, if clients are numbered."""
    numbers = [client.removeprefix(CLIENT_PREFIX) for client in clients]
    if not all(number.isascii() and number.isdigit() for number in numbers):
        return []
    width = len(numbers[0])
    return [f"{CLIENT_PREFIX}{number:0{width}d}" for number in range(max(map(int, numbers)) + 1)]
