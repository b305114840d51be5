"""Names of splits: a client each, then what is held out."""

from ..builders.base import Partition
from ..partitions.naming import HELD_OUT, is_client


def client_splits(partition: Partition) -> list[str]:
    """The clients of a partition, sorted."""
    return sorted({split for split in partition.splits if is_client(split)})


def splits_of(partition: Partition) -> list[str]:
    """Its clients, then `validation` and `test` where they have rows."""
    return [*client_splits(partition), *(split for split in HELD_OUT if split in set(partition.splits))]
