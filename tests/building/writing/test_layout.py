"""Which rows go into which file."""

from collections import Counter
from fnmatch import fnmatch
from itertools import product

import pytest

from fedvlm_hf.building.builders.base import Partition
from fedvlm_hf.building.writing import layout
from fedvlm_hf.building.writing.layout import MAX_CELLS, lay_out


def partition(name: str, splits: list[str]) -> Partition:
    client = next(split for split in splits if split.startswith("client_"))
    ids = tuple(None if split.startswith("client_") else client for split in splits)
    return Partition(name, "", tuple(splits), ids)


def simple(*partitions: Partition, images: str | None = None, size: int = 1):
    num_rows = len(partitions[0].splits)
    names = list(images) if images else [str(row) for row in range(num_rows)]
    return lay_out(partitions, names, [size] * num_rows)


def rows_of(found, config: str, split: str) -> list[int]:
    """Rows that the pattern of a split finds, files in the order of their names."""
    pattern = found.data_files[config][split]
    shards = sorted((shard for shard in found.shards if fnmatch(shard.path, pattern)), key=lambda shard: shard.path)
    return [row for shard in shards for group in shard.groups for row in group]


def test_configurations_share_the_cells_of_their_clients():
    """Six rows, the last held out: cells 00.00: row 0; 00.01: 1, 4; 01.00: 2; 01.01: 3."""
    a = partition("a", ["client_00", "client_00", "client_01", "client_01", "client_00", "test"])
    b = partition("b", ["client_00", "client_01", "client_00", "client_01", "client_01", "test"])
    found = simple(a, b)
    assert found.shares_clients
    assert {shard.path: shard.groups for shard in found.shards} == {
        "data/clients/client_00.client_00-00000.parquet": ((0,),),
        "data/clients/client_00.client_01-00000.parquet": ((1, 4),),
        "data/clients/client_01.client_00-00000.parquet": ((2,),),
        "data/clients/client_01.client_01-00000.parquet": ((3,),),
        "data/a/test-00000.parquet": ((5,),),
        "data/b/test-00000.parquet": ((5,),),
    }
    assert found.data_files == {
        "a": {
            "client_00": "data/clients/client_00.*-*.parquet",
            "client_01": "data/clients/client_01.*-*.parquet",
            "test": "data/a/test-*.parquet",
        },
        "b": {
            "client_00": "data/clients/*.client_00-*.parquet",
            "client_01": "data/clients/*.client_01-*.parquet",
            "test": "data/b/test-*.parquet",
        },
    }
    assert [shard.client_ids for shard in found.shards] == [None] * 4 + [("client_00",)] * 2


def test_patterns_of_three_configurations_find_their_rows_and_no_others():
    """Every combination of clients whose names begin alike; each split is found whole, in any configuration."""
    names = ["client_1", "client_11", "client_1_1"]
    cells = list(product(names, repeat=3))
    partitions = [partition(config, [cell[place] for cell in cells]) for place, config in enumerate("abc")]
    found = simple(*partitions)
    assert len(cells) == 27 <= MAX_CELLS
    assert found.shares_clients
    for its_partition in partitions:
        for client in names:
            expected = [row for row, split in enumerate(its_partition.splits) if split == client]
            assert sorted(rows_of(found, its_partition.name, client)) == expected


@pytest.mark.parametrize(
    "others",
    [
        [],
        [partition("b", ["client_00", "client_00", "client_01", "test"] * 17)],
        [partition("b", [f"client_{row:02d}" for row in range(68)])],
    ],
    ids=["one configuration", "another test set", "too many cells"],
)
def test_otherwise_configurations_have_their_own_files_in_row_order(others):
    a = partition("a", ["client_01", "client_00", "test", "client_01"] * 17)
    found = simple(a, *others)
    assert not found.shares_clients
    for its_partition in [a, *others]:
        for split in set(its_partition.splits):
            expected = [row for row, its_split in enumerate(its_partition.splits) if its_split == split]
            assert rows_of(found, its_partition.name, split) == expected
    total = Counter(row for shard in found.shards for group in shard.groups for row in group)
    assert set(total.values()) == {1 + len(others)}


def test_row_groups_and_shards_are_bounded(monkeypatch):
    """Groups of 3 distinct bytes and shards of 6: eight one-byte images are groups of 3, 3 | 2."""
    monkeypatch.setattr(layout, "GROUP_STORED_BYTES", 3)
    monkeypatch.setattr(layout, "SHARD_BYTES", 6)
    found = simple(partition("a", ["client_00"] * 8))
    assert [shard.groups for shard in found.shards] == [((0, 1, 2), (3, 4, 5)), ((6, 7),)]
    assert [shard.path for shard in found.shards] == [f"data/a/client_00-0000{number}.parquet" for number in (0, 1)]
    assert [(shard.num_bytes, shard.has_repeats) for shard in found.shards] == [(6, False), (2, False)]


def test_repeated_images_count_once_on_disk_and_each_time_in_memory(monkeypatch):
    """At most 3 bytes stored, 4 decoded: AAAA | AB.. would be 2 stored, 4 decoded."""
    monkeypatch.setattr(layout, "GROUP_STORED_BYTES", 3)
    monkeypatch.setattr(layout, "GROUP_DECODED_BYTES", 4)
    found = simple(partition("a", ["client_00"] * 9), images="AAAAABBBC")
    assert found.shards[0].groups == ((0, 1, 2, 3), (4, 5, 6, 7), (8,))
    assert (found.shards[0].num_bytes, found.shards[0].has_repeats) == (1 + 2 + 1, True)


def test_an_image_larger_than_a_group_is_a_group(monkeypatch):
    monkeypatch.setattr(layout, "GROUP_STORED_BYTES", 3)
    monkeypatch.setattr(layout, "SHARD_BYTES", 6)
    found = simple(partition("a", ["client_00"] * 2), size=10)
    assert [shard.groups for shard in found.shards] == [((0,),), ((1,),)]


def test_groups_have_a_maximum_number_of_rows(monkeypatch):
    monkeypatch.setattr(layout, "GROUP_ROWS", 2)
    assert simple(partition("a", ["client_00"] * 3)).shards[0].groups == ((0, 1), (2,))
