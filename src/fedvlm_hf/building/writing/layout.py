"""Assign rows to files. Pure functions of the partitions and the sizes of the images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product, zip_longest

from ...data.naming import HELD_OUT, client_name, is_client
from ..builders.base import Partition


MAX_CELLS = 32
"""Configurations share the files of their clients if there are at most this many combinations of clients."""

# Readers decode one row group at a time and download one shard at a time. A repeated image is stored once per row
# group, so row groups have two limits: bytes on disk and bytes in memory.
GROUP_ROWS = 1000
GROUP_STORED_BYTES = 16 * 2**20
GROUP_DECODED_BYTES = 64 * 2**20
SHARD_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Shard:
    """One file of a dataset.

    Attributes:
        path (`str`): Path relative to the dataset's folder.
        groups (`tuple[tuple[int, ...], ...]`): Rows of each row group, as indices into all examples.
        num_bytes (`int`): Total size of its distinct images.
        has_repeats (`bool`): Whether some row group has the same image more than once.
        client_ids (`tuple[str | None, ...]`, *optional*): The client id of each row; `None` if no row has one.
    """

    path: str
    groups: tuple[tuple[int, ...], ...]
    num_bytes: int
    has_repeats: bool
    client_ids: tuple[str | None, ...] | None


@dataclass(frozen=True)
class Layout:
    """All files of a dataset.

    Attributes:
        shards (`list[Shard]`): The files.
        data_files (`dict[str, dict[str, str]]`): For each configuration and split the pattern of its files.
        shares_clients (`bool`): Whether rows of clients are stored once for all configurations.
    """

    shards: list[Shard]
    data_files: dict[str, dict[str, str]]
    shares_clients: bool


def lay_out(partitions: Sequence[Partition], images: Sequence[str], num_bytes: Sequence[int]) -> Layout:
    """Choose the files of a dataset.

    If all configurations hold out the same rows and there are at most `MAX_CELLS` combinations of a row's clients,
    each combination is one file, such as `data/clients/client_00.client_02-00000.parquet`, and each client of a
    configuration is a pattern, such as `data/clients/*.client_02-*.parquet`. Split names have no dots, so patterns
    with different numbers of dots match different files. Otherwise each configuration has its own files, in which
    splits keep the order of the rows.

    Args:
        partitions (`Sequence[Partition]`):
            The configurations.
        images (`Sequence[str]`):
            A name for the image of each row.
        num_bytes (`Sequence[int]`):
            The size of each row's encoded image.

    Returns:
        [`Layout`]: the files and the patterns.
    """
    cells = _cells(partitions)
    shares_clients = len(partitions) > 1 and _same_held_out(partitions) and len(cells) <= MAX_CELLS
    shards: list[Shard] = []
    data_files: dict[str, dict[str, str]] = {}
    if shares_clients:
        for splits, rows in cells.items():
            shards += _shards(f"data/clients/{'.'.join(splits)}", rows, None, images, num_bytes)
    for place, partition in enumerate(partitions):
        patterns = data_files[partition.name] = {}
        for split in splits_of(partition):
            if shares_clients and is_client(split):
                cell = ".".join(split if other == place else "*" for other in range(len(partitions)))
                patterns[split] = f"data/clients/{cell}-*.parquet"
                continue
            stem = f"data/{partition.name}/{split}"
            patterns[split] = f"{stem}-*.parquet"
            rows = [row for row, its_split in enumerate(partition.splits) if its_split == split]
            shards += _shards(stem, rows, partition, images, num_bytes)
    return Layout(shards, data_files, shares_clients)


def planned_configs(num_clients: Mapping[str, int]) -> dict[str, dict[str, dict[str, str]]]:
    """Return the patterns that the manifest of a future build will have.

    Args:
        num_clients (`Mapping[str, int]`):
            Number of clients of each configuration. All configurations have the same `validation` and `test` rows.

    Returns:
        `dict`: `{"data_files": {split: pattern}}` for each configuration.
    """
    sizes = num_clients.values()
    # Each client once, and all combinations, or enough of them that each configuration gets its own files
    combinations = islice(product(*map(range, sizes)), MAX_CELLS + 1)
    cells = list(dict.fromkeys([*zip_longest(*map(range, sizes), fillvalue=0), *combinations]))
    partitions = []
    for place, (name, size) in enumerate(num_clients.items()):
        splits = (*(client_name(cell[place], size) for cell in cells), *HELD_OUT)
        partitions.append(Partition(name, "", splits, (None,) * len(splits)))
    rows = range(len(cells) + len(HELD_OUT))
    layout = lay_out(partitions, [str(row) for row in rows], [1 for _ in rows])
    return {name: {"data_files": patterns} for name, patterns in layout.data_files.items()}


def _cells(partitions: Sequence[Partition]) -> dict[tuple[str, ...], list[int]]:
    """Return the rows for each combination of clients in the configurations, sorted."""
    cells: dict[tuple[str, ...], list[int]] = {}
    for row, splits in enumerate(zip(*(partition.splits for partition in partitions), strict=True)):
        if all(map(is_client, splits)):
            cells.setdefault(splits, []).append(row)
    return dict(sorted(cells.items()))


def _same_held_out(partitions: Sequence[Partition]) -> bool:
    held_out = [tuple(split if split in HELD_OUT else None for split in partition.splits) for partition in partitions]
    return len(set(held_out)) == 1


def _shards(
    stem: str, rows: Sequence[int], partition: Partition | None, images: Sequence[str], num_bytes: Sequence[int]
) -> Iterator[Shard]:
    bins: list[tuple[list[tuple[int, ...]], int]] = []
    for group, size in _groups(rows, images, num_bytes):
        if bins and bins[-1][1] + size <= SHARD_BYTES:
            bins[-1] = ([*bins[-1][0], group], bins[-1][1] + size)
        else:
            bins.append(([group], size))
    for number, (groups, size) in enumerate(bins):
        yield Shard(
            f"{stem}-{number:05d}.parquet",
            tuple(groups),
            size,
            any(len({images[row] for row in group}) < len(group) for group in groups),
            _client_ids(groups, partition),
        )


def _client_ids(groups: Sequence[Sequence[int]], partition: Partition | None) -> tuple[str | None, ...] | None:
    ids = () if partition is None else tuple(partition.client_ids[row] for group in groups for row in group)
    return ids if any(ids) else None


def _groups(
    rows: Sequence[int], images: Sequence[str], num_bytes: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield row groups and the bytes of their distinct images. A single row may exceed the limits."""
    group: list[int] = []
    seen: set[str] = set()
    stored = decoded = 0
    for row in rows:
        new = 0 if images[row] in seen else num_bytes[row]
        is_full = stored + new > GROUP_STORED_BYTES or decoded + num_bytes[row] > GROUP_DECODED_BYTES
        if group and (is_full or len(group) == GROUP_ROWS):
            yield tuple(group), stored
            group, seen, stored, decoded, new = [], set(), 0, 0, num_bytes[row]
        group.append(row)
        seen.add(images[row])
        stored += new
        decoded += num_bytes[row]
    yield tuple(group), stored


def client_splits(partition: Partition) -> list[str]:
    """Return the clients of a partition, sorted."""
    return sorted({split for split in partition.splits if is_client(split)})


def splits_of(partition: Partition) -> list[str]:
    """Return the clients of a partition, then `validation` and `test` if they have rows."""
    return [*client_splits(partition), *(split for split in HELD_OUT if split in set(partition.splits))]
