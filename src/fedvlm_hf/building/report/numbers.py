"""How a partition distributes labels, tasks and modalities over its clients, computed without reading images."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

from ...data.naming import is_client


NO_LABEL = "(none)"
MODALITY = "modality"
"""A column that is counted in addition to label and task, if the dataset has it."""

Columns = Mapping[str, Mapping[str, Sequence[str | None]]]
"""For each split and column the values in row order."""


@dataclass(frozen=True)
class Histogram:
    """The values of one column in every split.

    Attributes:
        column (`str`): The column.
        counts (`dict[str, dict[str, int]]`): Number of rows for each split and value.
    """

    column: str
    counts: dict[str, dict[str, int]]

    @cached_property
    def pool(self) -> dict[str, int]:
        """Rows of all clients by value, the most frequent value first."""
        counts = pool(count for split, count in self.counts.items() if is_client(split))
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    @cached_property
    def labels(self) -> list[str]:
        """All values: those of the clients by frequency, then those that only held-out splits have."""
        return list(dict.fromkeys([*self.pool, *pool(self.counts.values())]))

    def total_variation(self, split: str) -> float:
        """Return the distance of a split from all clients together, from 0 (equal shares) to 1 (no common value)."""
        return total_variation(self.counts[split], self.pool)

    def earth_movers_distance(self, split: str) -> float:
        """Return the earth mover's distance as in Zhao et al. 2018, from 0 to 2."""
        return earth_movers_distance(self.counts[split], self.pool)


@dataclass(frozen=True)
class PartitionReport:
    """The numbers of one configuration.

    Attributes:
        config (`str`): Name of the configuration.
        rule (`str`): How rows are assigned to clients, in one sentence; may be empty.
        sizes (`dict[str, int]`): Number of rows of each split, clients first, in order.
        names (`dict[str, str]`): Readable names of clients, if they have any.
        histograms (`list[Histogram]`): The column that clients are compared by, then task and modality if they have
            more than one value.
        images (`dict[str, int]`, *optional*): Number of distinct images of each split, if rows have `image_digest`.
        shared (`dict[tuple[str, str], int]`): For pairs of splits the number of images that both have.
        num_shared (`int`): Number of images that two or more clients have.
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
        """Names of the splits that are clients."""
        return [split for split in self.sizes if is_client(split)]

    @property
    def held_out(self) -> list[str]:
        """Names of the other splits."""
        return [split for split in self.sizes if not is_client(split)]


def partition_report(
    columns: Columns,
    config: str,
    by: str = "task",
    client_names: Mapping[str, str] | None = None,
    rule: str = "",
) -> PartitionReport:
    """Count the contents of each client from columns, without reading images.

    Args:
        columns (`Mapping[str, Mapping[str, Sequence[str]]]`):
            For each split and column the values: those columns of [`report_columns`] that exist.
        config (`str`):
            Name of the configuration.
        by (`str`, *optional*, defaults to `"task"`):
            The column that clients are compared by.
        client_names (`Mapping[str, str]`, *optional*):
            Readable names of clients, such as `{"client_00": "CT"}`.
        rule (`str`, *optional*):
            How rows are assigned to clients.

    Returns:
        [`PartitionReport`]: without empty splits.

    Raises:
        `ValueError`: if there is no column `by`, or no client.
    """
    known = list(next(iter(columns.values()), {}))
    if by not in known:
        raise ValueError(f"`by={by!r}` is not a column of configuration {config!r}; its columns are {known}.")
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
    """Return the columns that a report reads."""
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
    """Sort key of splits: clients first, by name, then `validation` and `test`."""
    split = item[0]
    return (not is_client(split), {"validation": "a", "test": "b"}.get(split, split))


def label_counts(labels: Sequence[str | None], splits: Sequence[str]) -> dict[str, dict[str | None, int]]:
    """Count the labels in each split.

    Args:
        labels (`Sequence[str | None]`):
            The label of each row. `None` counts as a separate label.
        splits (`Sequence[str]`):
            The split of each row, such as `Partition.splits`.

    Returns:
        `dict[str, dict[str | None, int]]`: the number of rows for each split and label, both sorted. Labels that a
            split does not have are left out.
    """
    counters: dict[str, Counter[str | None]] = {}
    for label, split in zip(labels, splits, strict=True):
        counters.setdefault(split, Counter())[label] += 1
    return {split: pool([counters[split]]) for split in sorted(counters)}


def pool(counts: Iterable[Mapping[str | None, int]]) -> dict[str | None, int]:
    """Add up label counts, such as those of all clients, and sort them by label."""
    total: Counter[str | None] = Counter()
    for count in counts:
        total.update(count)
    return {label: total[label] for label in sorted(total, key=str)}


def total_variation(p: Mapping[str | None, float], q: Mapping[str | None, float]) -> float:
    """Return the total variation distance of two label distributions, (1/2) sum_c |p_c - q_c|.

    This is the share of rows that would have to change their label, and the earth mover's distance if any two labels
    have distance 1.

    Args:
        p, q (`Mapping[str | None, float]`):
            Count or weight of each label; both are divided by their sum. A missing label counts as 0.

    Returns:
        `float`: from 0 (equal shares) to 1 (no common label).

    Raises:
        `ValueError`: if a distribution has a negative weight, or its weights do not sum to a positive number.
    """
    p_shares, q_shares = _shares(p, "p"), _shares(q, "q")
    # Sorted, so that rounding does not depend on the order of the mappings
    labels = sorted({*p_shares, *q_shares}, key=str)
    return 0.5 * sum(abs(p_shares.get(label, 0.0) - q_shares.get(label, 0.0)) for label in labels)


def earth_movers_distance(p: Mapping[str | None, float], q: Mapping[str | None, float]) -> float:
    """Return what federated learning calls the earth mover's distance of two label distributions, sum_c |p_c - q_c|.

    Zhao et al. 2018 (https://huggingface.co/papers/1806.00582) relate FedAvg's loss of accuracy to this distance
    between the labels of a client and of the population. Labels have no metric, so it is twice [`total_variation`].

    Args:
        p, q (`Mapping[str | None, float]`):
            See [`total_variation`].

    Returns:
        `float`: from 0 (equal shares) to 2 (no common label).

    Raises:
        `ValueError`: see [`total_variation`].
    """
    return 2 * total_variation(p, q)


def shared_images(digests: Sequence[str], splits: Sequence[str]) -> dict[tuple[str, str], int]:
    """Count the images that two splits both have.

    Args:
        digests (`Sequence[str]`):
            The image of each row, such as its `building.images.image_digest`.
        splits (`Sequence[str]`):
            The split of each row.

    Returns:
        `dict[tuple[str, str], int]`: the number of distinct common images for each pair of splits that has any, with
            sorted pairs.
    """
    splits_of: dict[str, set[str]] = {}
    for digest, split in zip(digests, splits, strict=True):
        splits_of.setdefault(digest, set()).add(split)
    pairs = Counter(pair for found in splits_of.values() for pair in combinations(sorted(found), 2))
    return dict(sorted(pairs.items()))


def _shares(weights: Mapping[str | None, float], name: str) -> dict[str | None, float]:
    total = sum(weights.values())
    if not total > 0 or any(weight < 0 for weight in weights.values()):
        raise ValueError(
            f"`{name}={dict(weights)}` is not a distribution: counts must be at least 0 and not all 0. Leave out "
            "splits without rows."
        )
    return {label: weight / total for label, weight in weights.items()}
