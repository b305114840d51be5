"""How far clients are from the pool and from each other."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations


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
