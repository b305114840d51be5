"""How a partition spreads labels, tasks and modalities over its clients: numbers, from columns alone."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

from ...data.naming import is_client


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


def label_counts(labels: Sequence[str | None], splits: Sequence[str]) -> dict[str, dict[str | None, int]]:
    """Counts each split's labels.

    Args:
        labels (`Sequence[str | None]`):
            Each row's label. `None` counts as a label of its own.
        splits (`Sequence[str]`):
            Each row's split, such as `Partition.splits`.

    Returns:
        `dict[str, dict[str | None, int]]`: split to label to rows, both sorted; only labels that the split has.
    """
    counters: dict[str, Counter[str | None]] = {}
    for label, split in zip(labels, splits, strict=True):
        counters.setdefault(split, Counter())[label] += 1
    return {split: pool([counters[split]]) for split in sorted(counters)}


def pool(counts: Iterable[Mapping[str | None, int]]) -> dict[str | None, int]:
    """Adds up label counts, such as those of all clients; sorted by label."""
    total: Counter[str | None] = Counter()
    for count in counts:
        total.update(count)
    return {label: total[label] for label in sorted(total, key=str)}


def total_variation(p: Mapping[str | None, float], q: Mapping[str | None, float]) -> float:
    """Total variation distance of two label distributions, (1/2) sum_c |p_c - q_c|.

    It is the share of rows that would have to change their label, and the earth mover's distance when any two labels
    are at distance 1.

    Args:
        p, q (`Mapping[str | None, float]`):
            Label to count or weight; each is divided by its sum. A label that one lacks counts 0 there.

    Returns:
        `float`: from 0 (equal shares) to 1 (no label in common).

    Raises:
        `ValueError`: if a distribution has a negative weight, or its weights do not sum to a positive number.
    """
    p_shares, q_shares = _shares(p, "p"), _shares(q, "q")
    # Sorted, so that the sum is rounded alike whatever the order of the mappings
    labels = sorted({*p_shares, *q_shares}, key=str)
    return 0.5 * sum(abs(p_shares.get(label, 0.0) - q_shares.get(label, 0.0)) for label in labels)


def earth_movers_distance(p: Mapping[str | None, float], q: Mapping[str | None, float]) -> float:
    """What federated learning calls the earth mover's distance of two label distributions, sum_c |p_c - q_c|.

    Zhao et al. 2018 (https://huggingface.co/papers/1806.00582) tie FedAvg's loss of accuracy to this number between a
    client's and the population's labels. Labels have no metric, so it is twice [`total_variation`].

    Args:
        p, q (`Mapping[str | None, float]`):
            As for [`total_variation`].

    Returns:
        `float`: from 0 (equal shares) to 2 (no label in common).

    Raises:
        `ValueError`: as [`total_variation`].
    """
    return 2 * total_variation(p, q)


def shared_images(digests: Sequence[str], splits: Sequence[str]) -> dict[tuple[str, str], int]:
    """Counts the images that two splits both have.

    Args:
        digests (`Sequence[str]`):
            Each row's image, such as `building.images.image_digest` names it.
        splits (`Sequence[str]`):
            Each row's split.

    Returns:
        `dict[tuple[str, str], int]`: pair of splits, each pair and all pairs sorted, to its number of distinct images;
        only pairs that share one.
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
            f"`{name}={dict(weights)}` is not a distribution: counts are at least 0 and not all 0. A split without "
            "rows has no distance from anything; leave it out."
        )
    return {label: weight / total for label, weight in weights.items()}
