"""Names of splits: a client each, then what is held out."""

from ...data.naming import HELD_OUT, is_client
from ..builders.base import Partition


def client_splits(partition: Partition) -> list[str]:
    """The clients of a partition, sorted."""
    return sorted({split for split in partition.splits if is_client(split)})


def splits_of(partition: Partition) -> list[str]:
    """Its clients, then `validation` and `test` where they have rows."""
    return [*client_splits(partition), *(split for split in HELD_OUT if split in set(partition.splits))]
