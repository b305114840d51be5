"""Reports on partitions as files: a figure and a page per configuration, and a section for the dataset's card."""

from pathlib import Path

from ...files import write_atomic
from ...markdown import MISSING, markdown_table, number
from ..dataset import FederatedDataset, read_folder
from .figure import MAX_LABELS, POOL, draw_partition
from .numbers import Histogram, PartitionReport, partition_report, report_columns


_BEGIN = "<!-- written by fedvlm partition -->"

# Columns that are not counted in histograms
_NO_LABELS = ("images", "prompt", "completion", "references")


def add_partition_reports(folder: str | Path) -> None:
    """Write the reports of a built folder, and add their section to its card.

    The section is added last, so a folder whose card has it has all reports, and nothing is done.

    Args:
        folder (`str` or `Path`):
            A federated dataset with a `README.md`.

    Raises:
        `ValueError`: see [`partition_report`].
    """
    card = Path(folder) / "README.md"
    text = card.read_text(encoding="utf-8")
    if _BEGIN in text:
        return
    section = write_partition_reports(folder)
    write_atomic(card, f"{text.rstrip()}\n\n{_BEGIN}\n{section}")


def write_partition_reports(folder: str | Path) -> str:
    """Write `report/partition-<config>.png` and `.md` for every configuration of a built folder.

    Args:
        folder (`str` or `Path`):
            A federated dataset, see `read_folder`.

    Returns:
        `str`: the section `## Partitions` of the card, with one line per configuration and the default's figure.

    Raises:
        `ValueError`: see [`partition_report`].
    """
    federation = read_folder(folder)
    reports = [read_report(federation, config) for config in federation.configs]
    for report in reports:
        write_report(report, Path(folder) / "report")
    return card_section(reports)


def read_report(federation: FederatedDataset, config: str, by: str | None = None) -> PartitionReport:
    """Read the columns of a configuration, without its images, and make its report.

    Args:
        federation ([`FederatedDataset`]):
            The dataset.
        config (`str`):
            The configuration.
        by (`str`, *optional*):
            The column that clients are compared by. By default the one that the manifest gives for this
            configuration, or `task`.

    Raises:
        `ValueError`: if there is no such configuration or column, or a file of the dataset is missing or damaged.
    """
    if federation.problems:
        raise ValueError("{} {}. `fedvlm check` lists all such files.".format(*federation.problems[0]))
    if config not in federation.configs:
        raise ValueError(
            f"`config={config!r}` is not a configuration of {federation.name}: {', '.join(federation.configs)}."
        )
    entry = federation.entry(config)
    by = by or entry.get("compare_by") or (federation.manifest or {}).get("partition_column", "task")
    known = [name for name in federation.column_names(config) if name not in _NO_LABELS]
    if by not in known:
        raise ValueError(f"`by={by!r}` is not a column of {federation.name}; its columns are {', '.join(known)}.")
    columns = federation.columns(config, report_columns(by))
    return partition_report(columns, config, by, entry.get("client_names"), entry.get("rule", ""))


def write_report(report: PartitionReport, folder: Path) -> Path:
    """Write `partition-<config>.png` and `.md` to a folder, and return the path of the page."""
    stem = f"partition-{report.config}"
    draw_partition(report, folder / f"{stem}.png")
    page = folder / f"{stem}.md"
    write_atomic(page, report_text(report, f"{stem}.png"))
    return page


def report_text(report: PartitionReport, figure: str | None = None) -> str:
    """Return the page of a configuration: its clients, shared images, a table per column, and the figure if given."""
    parts = [f"# Partition {report.config}\n"]
    parts += [f"{report.rule}\n"] if report.rule else []
    parts += [f"![Contents of each client]({figure})\n"] if figure else []
    parts += [clients_table(report)]
    parts += ["## Shared images\n", shared_text(report)] if report.images is not None else []
    for histogram in report.histograms:
        parts += [f"## By {histogram.column}\n", histogram_table(histogram, report)]
    return "\n".join(parts)


def card_section(reports: list[PartitionReport]) -> str:
    """Return the section `## Partitions`: one line per configuration, and the figure of the first configuration."""
    rows = []
    for report in reports:
        sizes = [report.sizes[client] for client in report.clients]
        distances = [report.histograms[0].total_variation(client) for client in report.clients]
        held_out = ", ".join(f"{split} {report.sizes[split]:,}" for split in report.held_out)
        rows.append([
            f"[{report.config}](report/partition-{report.config}.md)", held_out or MISSING,
            f"`{report.histograms[0].column}`", f"{len(sizes)}", f"{sum(sizes):,}",
            f"{min(sizes):,} to {max(sizes):,}", number(sum(distances) / len(distances)),
            number(max(distances)), MISSING if report.images is None else f"{report.num_shared:,}",
        ])  # fmt: skip
    header = [
        "configuration", "held out", "compared by", "clients", "training rows", "rows per client", "mean TV",
        "largest TV", "shared images",
    ]  # fmt: skip
    first = reports[0]
    return (
        f"## Partitions\n\n{markdown_table(header, rows, num_labels=3)}\n"
        "TV is the total variation distance between a client's shares of the values of the column in `compared by` "
        "and those of all clients together, from 0 (equal) to 1. Shared images are those that several clients "
        "have.\n\n"
        f"![Contents of each client of {first.config}](report/partition-{first.config}.png)\n"
    )


MAX_PAIRS = 12
"""How many pairs of splits with shared images are listed."""


def clients_table(report: PartitionReport) -> str:
    """Return one line per split: its most frequent labels, rows, distinct images, and distances from the pool."""
    histogram = report.histograms[0]
    has_names, has_images = bool(report.names), report.images is not None
    header = ["split", *(["client"] if has_names else []), f"most frequent {histogram.column}", "rows"]
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
        "\nTV: total variation distance between the shares of labels and those of all clients together, from 0 "
        "(equal) to 1 (nothing in common). EMD: the earth mover's distance of Zhao et al. 2018, which is twice TV.\n"
    )


def shared_text(report: PartitionReport) -> str:
    """Describe shared images: how many several clients have, and which pairs of splits share images."""
    held_out = [pair for pair in report.shared if not (pair[0] in report.clients and pair[1] in report.clients)]
    text = f"Images that several clients have: {report.num_shared:,}."
    if not held_out:
        text += " Clients, validation and test share no images."
    if not report.shared:
        return f"{text}\n"
    pairs = sorted(report.shared.items(), key=lambda item: (item[0] not in held_out, -item[1]))
    rows = [[first, second, f"{count:,}"] for (first, second), count in pairs[:MAX_PAIRS]]
    more = f"\nand {len(pairs) - MAX_PAIRS:,} more pairs.\n" if len(pairs) > MAX_PAIRS else ""
    return f"{text}\n\n{markdown_table(['split', 'split', 'images in both'], rows, num_labels=2)}{more}"


def histogram_table(histogram: Histogram, report: PartitionReport) -> str:
    """Return the rows of each split by label. Labels after the first `MAX_LABELS` are counted together."""
    labels = histogram.labels[:MAX_LABELS]
    rest = histogram.labels[MAX_LABELS:]
    rows = []
    for name, counts in [(POOL, histogram.pool), *((split, histogram.counts[split]) for split in report.sizes)]:
        cells = [f"{counts.get(label, 0):,}" for label in labels]
        cells += [f"{sum(counts.get(label, 0) for label in rest):,}"] if rest else []
        rows.append([name, *cells])
    return markdown_table(["split", *labels, *([f"{len(rest):,} others"] if rest else [])], rows)


def _largest(histogram: Histogram, split: str) -> str:
    """Return the three most frequent labels with their shares."""
    counts = histogram.counts[split]
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:3]
    return ", ".join(f"{label} {100 * count / sum(counts.values()):.0f}%" for label, count in top)
