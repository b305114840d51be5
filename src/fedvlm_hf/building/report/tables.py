"""A partition's numbers as Markdown tables."""

from ...markdown import MISSING, markdown_table, number
from .figure import MAX_LABELS, POOL
from .numbers import Histogram, PartitionReport


MAX_PAIRS = 12
"""Pairs of splits that are listed with the images they share."""


def clients_table(report: PartitionReport) -> str:
    """A line a split: its most frequent labels, rows, different images, and distances from the pool."""
    histogram = report.histograms[0]
    has_names, has_images = bool(report.names), report.images is not None
    header = ["split", *(["client"] if has_names else []), f"most of its {histogram.column}", "rows"]
    header += [*(["images"] if has_images else []), *(f"TV {own.column}" for own in report.histograms)]
    header += [f"EMD {histogram.column}"]
    rows = []
    for split, size in report.sizes.items():
        cells = [split, *([report.names.get(split, MISSING)] if has_names else []), _largest(histogram, split)]
        cells += [f"{size:,}", *([f"{report.images[split]:,}"] if has_images else [])]
        cells += [number(own.total_variation(split)) for own in report.histograms]
        rows.append([*cells, number(histogram.earth_movers_distance(split))])
    text = markdown_table(header, rows, num_labels=2 + has_names)
    return text + (
        "\nTV: total variation distance of the shares of labels from those of all clients together, 0 (alike) to 1 "
        "(nothing in common). EMD: the earth mover's distance of Zhao et al. 2018, which is twice as much.\n"
    )


def shared_text(report: PartitionReport) -> str:
    """How many images two clients or more have, how many a held-out split shares with clients, and which pairs."""
    held_out = [pair for pair in report.shared if not (pair[0] in report.clients and pair[1] in report.clients)]
    text = f"Images that several clients have: {report.num_shared:,}."
    if not held_out:
        text += " No image of one side is on another: clients, validation and test share none."
    if not report.shared:
        return f"{text}\n"
    pairs = sorted(report.shared.items(), key=lambda item: (item[0] not in held_out, -item[1]))
    rows = [[first, second, f"{count:,}"] for (first, second), count in pairs[:MAX_PAIRS]]
    more = f"\nand {len(pairs) - MAX_PAIRS:,} more pairs.\n" if len(pairs) > MAX_PAIRS else ""
    return f"{text}\n\n{markdown_table(['split', 'split', 'images in both'], rows, num_labels=2)}{more}"


def histogram_table(histogram: Histogram, report: PartitionReport) -> str:
    """Rows of each split by label; labels beyond the first `MAX_LABELS` are counted together."""
    labels = histogram.labels[:MAX_LABELS]
    rest = histogram.labels[MAX_LABELS:]
    rows = []
    for name, counts in [(POOL, histogram.pool), *((split, histogram.counts[split]) for split in report.sizes)]:
        cells = [f"{counts.get(label, 0):,}" for label in labels]
        cells += [f"{sum(counts.get(label, 0) for label in rest):,}"] if rest else []
        rows.append([name, *cells])
    return markdown_table(["split", *labels, *([f"{len(rest):,} others"] if rest else [])], rows)


def _largest(histogram: Histogram, split: str) -> str:
    """The three most frequent labels with their shares."""
    counts = histogram.counts[split]
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:3]
    return ", ".join(f"{label} {100 * count / sum(counts.values()):.0f}%" for label, count in top)
