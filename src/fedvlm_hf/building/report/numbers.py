"""How a partition spreads labels, tasks and modalities over its clients: numbers, from columns alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ...data.naming import is_client
from ..partitions.statistics import (
    earth_movers_distance,
    label_counts,
    pool,
    shared_images,
    total_variation,
)


NO_LABEL = "(none)"
MODALITY = "modality"
"""The column that is counted beside label and task where a dataset has it."""

Columns = Mapping[str, Mapping[str, Sequence[str | None]]]
"""Split to column to values, in row order."""


@dataclass(frozen=True)
class Histogram:
    """One column's values in every split.

    Attributes:
        column (`str`): The column.
        counts (`dict[str, dict[str, int]]`): Split to value to rows.
    """

    column: str
    counts: dict[str, dict[str, int]]

    @cached_property
    def pool(self) -> dict[str, int]:
        """All clients' rows by value, the most frequent first."""
        counts = pool(count for split, count in self.counts.items() if is_client(split))
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    @cached_property
    def labels(self) -> list[str]:
        """All values, the clients' by frequency, then those that only held-out splits have."""
        return list(dict.fromkeys([*self.pool, *pool(self.counts.values())]))

    def total_variation(self, split: str) -> float:
        """From 0 (the clients' pool in small) to 1 (no value of the pool's)."""
        return total_variation(self.counts[split], self.pool)

    def earth_movers_distance(self, split: str) -> float:
        """As in Zhao et al. 2018, from 0 to 2."""
        return earth_movers_distance(self.counts[split], self.pool)


@dataclass(frozen=True)
class PartitionReport:
    """What one configuration looks like.

    Attributes:
        config (`str`): The configuration.
        rule (`str`): How rows came to their clients, in a sentence; may be empty.
        sizes (`dict[str, int]`): Rows of each split, clients first, in order.
        names (`dict[str, str]`): What a client is, where it has a name.
        histograms (`list[Histogram]`): Of the column that clients are compared by, then of task and
            modality where rows differ in them.
        images (`dict[str, int]`, *optional*): Different images of each split, where rows carry `image_digest`.
        shared (`dict[tuple[str, str], int]`): Pairs of splits to the images that both have.
        num_shared (`int`): Images that two clients or more have.
    """

    config: str
    rule: str
    sizes: dict[str, int]
    names: dict[str, str]
    histograms: list[Histogram]
    images: dict[str, int] | None = None
    shared: dict[tuple[str, str], int] = field(default_factory=dict)
    num_shared: int = 0

    @property
    def clients(self) -> list[str]:
        """Splits that are clients."""
        return [split for split in self.sizes if is_client(split)]

    @property
    def held_out(self) -> list[str]:
        """The other splits."""
        return [split for split in self.sizes if not is_client(split)]


def partition_report(
    columns: Columns,
    config: str,
    by: str = "task",
    client_names: Mapping[str, str] | None = None,
    rule: str = "",
) -> PartitionReport:
    """Counts what each client has, from columns alone: no image is read.

    Args:
        columns (`Mapping[str, Mapping[str, Sequence[str]]]`):
            Split to column to values: the columns of [`report_columns`], as far as they are there.
        config (`str`):
            The configuration's name.
        by (`str`, *optional*, defaults to `"task"`):
            The column that clients are compared by.
        client_names (`Mapping[str, str]`, *optional*):
            What a client is, such as `{"client_00": "CT"}`.
        rule (`str`, *optional*):
            How rows came to their clients.

    Returns:
        [`PartitionReport`]: without splits that have no row.

    Raises:
        `ValueError`: if there is no column `by`, or no client.
    """
    known = list(next(iter(columns.values()), {}))
    if by not in known:
        raise ValueError(f"`by={by!r}` is no column of configuration {config!r}; its columns are {known}.")
    sizes = {split: len(values[by]) for split, values in sorted(columns.items(), key=_order) if values[by]}
    if not any(map(is_client, sizes)):
        raise ValueError(f"Configuration {config!r} has no client with rows; its splits are {list(columns)}.")
    splits = [split for split, size in sizes.items() for _ in range(size)]

    def values(column: str) -> list[str]:
        return [NO_LABEL if value is None else str(value) for split in sizes for value in columns[split][column]]

    names = dict.fromkeys((by, "task", MODALITY))
    first, *others = (Histogram(name, label_counts(values(name), splits)) for name in names if name in known)
    histograms = [first, *(own for own in others if len(own.labels) > 1)]
    report = PartitionReport(config, rule, sizes, dict(client_names or {}), histograms)
    return report if "image_digest" not in known else _with_images(report, values("image_digest"), splits)


def report_columns(by: str) -> list[str]:
    """The columns that a report reads."""
    return list(dict.fromkeys((by, "task", MODALITY, "image_digest")))


def _with_images(report: PartitionReport, digests: list[str], splits: list[str]) -> PartitionReport:
    distinct = {(digest, split) for digest, split in zip(digests, splits, strict=True)}
    holders = Counter(digest for digest, split in distinct if is_client(split))
    return PartitionReport(
        report.config,
        report.rule,
        report.sizes,
        report.names,
        report.histograms,
        images={split: sum(own == split for _, own in distinct) for split in report.sizes},
        shared=shared_images(digests, splits),
        num_shared=sum(count > 1 for count in holders.values()),
    )


def _order(item: tuple[str, object]) -> tuple[bool, str]:
    """Clients first, by name; `validation` before `test`."""
    split = item[0]
    return (not is_client(split), {"validation": "a", "test": "b"}.get(split, split))
