"""The card of a dataset, with the metadata that `load_dataset` reads, and the summary that a build prints."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData

from ...data.naming import CLIENT_PREFIX, is_client
from ...data.spec import TASKS
from ...markdown import markdown_table
from ..builders.base import Builder
from .layout import planned_configs


_CATEGORIES = {
    "vqa": "visual-question-answering",
    "classification": "image-classification",
    "caption": "image-to-text",
    "report": "image-to-text",
    "grounding": "zero-shot-object-detection",
    "detection": "object-detection",
}
"""The Hub's task category for each task."""

_COLUMNS = (
    ("id", "unique in the dataset, the same in every build"),
    ("images", "list of one image"),
    ("prompt, completion", "chat messages: the question and the answer to learn"),
    ("task", "one of " + ", ".join(TASKS)),
    ("references", "accepted answers; boxes are `[x1, y1, x2, y2]` as fractions of the stored image"),
    ("client_id", "for held-out rows, the client whose distribution the row belongs to; null for rows of a client"),
    ("image_digest", "digest of the image's pixels"),
)


def card(builder: Builder, manifest: Mapping[str, Any] | None = None, partition_only: bool = False) -> str:
    """Return the text of the card.

    Args:
        builder ([`Builder`]):
            The builder, which describes the dataset.
        manifest (`Mapping[str, Any]`, *optional*):
            Configurations and counts of a build. Without it the card describes a build of the complete download.
        partition_only (`bool`, *optional*, defaults to `False`):
            Write the card for a restricted dataset, of which only ids and partitions may be redistributed.

    Returns:
        `str`: the content of `README.md`.
    """
    sections = [f"# {builder.title}\n\n{builder.summary}"]
    if manifest is not None:
        sections += _warnings(builder, manifest, partition_only)
        sections += [_loading(manifest, partition_only), _configurations(manifest), _counts(builder, manifest)]
    elif builder.configs:
        sections += [_planned_configurations(builder), _planned_counts(builder)]
    sections += [
        _section("Choices", _bullets(builder.rules)),
        _section("Limits", _bullets(builder.limits)) if builder.limits else "",
        _section("Columns", _column_table(manifest)) if not partition_only else "",
        _sources(builder),
        _section("Citation", "\n\n".join(s.citation for s in builder.used_sources)) if builder.used_sources else "",
    ]
    body = "\n\n".join(section for section in sections if section)
    return f"---\n{_front_matter(builder, manifest, partition_only)}\n---\n\n{body}\n"


def _front_matter(builder: Builder, manifest: Mapping[str, Any] | None, partition_only: bool) -> str:
    tasks = list(manifest["tasks"]) if manifest else [task for task in builder.paper_counts if task in TASKS]
    planned = {"configs": planned_configs(builder.configs) if builder.configs else {}}
    configs = _configs(manifest or planned, partition_only)
    data = DatasetCardData(
        pretty_name=builder.title,
        license=builder.licence,
        task_categories=sorted({_CATEGORIES[task] for task in tasks}) or None,
        tags=["federated-learning", "vision-language", "fedvlm_hf"],
        **({"configs": configs} if configs else {}),
    )
    return data.to_yaml()


def _configs(manifest: Mapping[str, Any], partition_only: bool) -> list[dict[str, Any]]:
    """Return the `configs:` that `load_dataset` reads; the first one is the default."""
    configs = []
    for name, config in manifest["configs"].items():
        files = {"partition": f"partition/{name}.parquet"} if partition_only else config["data_files"]
        entry = {
            "config_name": name,
            "data_files": [{"split": split, "path": path} for split, path in files.items()],
        }
        configs.append(entry if configs else {**entry, "default": True})
    return configs


def _warnings(builder: Builder, manifest: Mapping[str, Any], partition_only: bool) -> list[str]:
    found = []
    if manifest["missing_images"]:
        found.append(
            f"> **{manifest['missing_images']:,} of {manifest['images']['num_images']:,} images were missing in the "
            "download and are replaced by grey pictures: nothing can be learned from them, and scores on them are "
            "meaningless.**"
        )
    if partition_only:
        names = " and ".join(manifest["restricted_sources"])
        found.append(
            f"> **This repository has no rows and no images, because {names} may not be redistributed.** It has the "
            "partition: the id, split and client of each row. Get the sources and run "
            f"`fedvlm build {_command_name(manifest)} --raw PATH --out DIR` to make the rows; `manifest.json` has the "
            "expected hash of the partition."
        )
    for name, config in manifest["configs"].items():
        if config["leaked_images"]:
            found.append(
                f"> **`{name}` has {config['leaked_images']:,} images that are both held out and in training.** "
                f"{config['known_leak']}"
            )
    return found


def _loading(manifest: Mapping[str, Any], partition_only: bool) -> str:
    first = next(iter(manifest["configs"]))
    lines = ["from datasets import load_dataset", "", f'load_dataset("PATH_OR_REPOSITORY", "{first}")']
    return _section("Use", "```python\n" + "\n".join(lines) + "\n```")


def _configurations(manifest: Mapping[str, Any]) -> str:
    parts = []
    for name, config in manifest["configs"].items():
        names = config["client_names"]
        rows = [
            (split, names.get(split, ""), count, config["images"][split]) for split, count in config["counts"].items()
        ]
        table = _table(("split", "name", "rows", "images"), rows)
        parts.append(f"### {name}\n\n{config['rule']}\n\n{table}\n\nPartition hash: `{config['partition']}`")
    return _section("Configurations", "\n\n".join(parts))


def _planned_configurations(builder: Builder) -> str:
    return _section("Configurations", _table(("configuration", "clients"), builder.configs.items()))


def _planned_counts(builder: Builder) -> str:
    text = "A build lists here how many rows it reads, excludes and keeps. We did not have the download."
    rows = builder.paper_counts.items()
    return _section("Counts", f"{text}\n\n{_table(('task', 'rows in Table 2 of FedVLMBench'), rows)}")


def _counts(builder: Builder, manifest: Mapping[str, Any]) -> str:
    rows = [(line["step"], line["what"], line["count"], line["why"]) for line in manifest["tally"]]
    rows.append(("kept", "rows", manifest["num_rows"], ""))
    text = _table(("step", "item", "count", "reason"), rows)
    if builder.paper_counts:
        tasks = {**dict.fromkeys(manifest["tasks"]), **dict.fromkeys(builder.paper_counts)}
        beside = [
            (task, f"{manifest['tasks'].get(task, 0):,}", _number(builder.paper_counts.get(task))) for task in tasks
        ]
        text += "\n\nCompared with Table 2 of FedVLMBench. No rule was tuned to match it.\n\n"
        text += _table(("task", "rows here", "rows in the paper"), beside)
    return _section("Counts", text)


def _column_table(manifest: Mapping[str, Any] | None) -> str:
    rows = [(f"`{name}`", what) for name, what in _COLUMNS]
    own = [] if manifest is None else manifest["columns"]
    return _table(("column", "content"), [*rows, *((f"`{name}`", "additional column") for name in own)])


def _sources(builder: Builder) -> str:
    closed = " Rows and images may not be redistributed."
    rows = [
        (f"[{source.name}]({source.url})", source.licence, source.terms + closed * source.is_restricted)
        for source in builder.used_sources
    ]
    table = _table(("source", "licence", "access"), rows)
    expected = f"Expected layout of the download:\n\n```\n{builder.layout.strip()}\n```"
    return _section("Sources", f"{table}\n\n{expected}" if rows else expected)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return markdown_table(header, rows, num_labels=None).rstrip()


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _command_name(manifest: Mapping[str, Any]) -> str:
    return manifest["builder"].replace("_", "-")


_LINE = 110
"""Characters in a line of the summary."""

_SIGNS = {"read": "+", "excluded": "-", "note": " "}


def summary(builder: Builder, manifest: Mapping[str, Any], folder: Path) -> str:
    """Return the text that is printed after a build.

    It has the row counts by rule next to the paper's, the rows of each client, and how to load them.

    Args:
        builder ([`Builder`]):
            The builder of the dataset.
        manifest (`Mapping[str, Any]`):
            The content of `manifest.json`.
        folder (`Path`):
            The folder of the dataset.

    Returns:
        `str`: several lines.
    """
    lines = [builder.title, ""]
    for line in manifest["tally"]:
        why = f"  ({line['why']})" if line["why"] else ""
        lines.append(f"{_SIGNS[line['step']]} {line['count']:>9,}  {line['what']}{why}")
    lines.append(f"= {manifest['num_rows']:>9,}  rows kept, {manifest['images']['num_images']:,} different images")
    for task in {**dict.fromkeys(manifest["tasks"]), **dict.fromkeys(builder.paper_counts)}:
        paper = builder.paper_counts.get(task)
        beside = "" if paper is None else f", Table 2 of FedVLMBench has {paper:,}"
        lines.append(f"  {manifest['tasks'].get(task, 0):>9,}  of task {task}{beside}")
    if manifest["missing_images"]:
        lines += ["", f"{manifest['missing_images']:,} IMAGES ARE MISSING: they are replaced by grey pictures."]
    lines += ["", *_configuration_lines(manifest)]
    first = next(iter(manifest["configs"]))
    return "\n".join([*lines, "", f"The dataset is in {folder}", f'    load_dataset("{folder}", "{first}")'])


def _client_label(split: str, names: Mapping[str, str]) -> str:
    """Return the name of a client's split, with its readable name if that says more."""
    name = names.get(split)
    return split if name is None or f"{CLIENT_PREFIX}{name}" == split else f"{split} ({name})"


def _in_lines(title: str, texts: Iterable[str]) -> list[str]:
    """Return texts separated by commas, in indented lines of at most `_LINE` characters, none of them cut."""
    lines = [f"    {title}"]
    for place, text in enumerate(texts):
        if place and len(lines[-1]) + len(text) + 3 > _LINE:
            lines[-1] += ","
            lines.append(f"        {text}")
        else:
            lines[-1] += f", {text}" if place else text
    return lines


def _configuration_lines(manifest: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, config in manifest["configs"].items():
        counts = config["counts"]
        clients = [
            f"{_client_label(split, config['client_names'])} {count:,}"
            for split, count in counts.items()
            if is_client(split)
        ]
        held_out = [f"{split} {count:,}" for split, count in counts.items() if not is_client(split)]
        lines.append(f"{name}: {len(clients)} clients, " + ", ".join(held_out or ["nothing held out"]))
        lines += _in_lines("rows per client: ", clients)
        if config["leaked_images"]:
            lines.append(
                f"    {config['leaked_images']:,} held-out images are also in training: {config['known_leak']}"
            )
    return lines
