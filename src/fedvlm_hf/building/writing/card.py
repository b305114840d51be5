"""A dataset's card: front matter that `load_dataset` reads, and what a user must know before using the rows."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData

from ...data.naming import is_client
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
"""The Hub's name for each task."""

_COLUMNS = (
    ("id", "unique in the dataset, stable under re-runs"),
    ("images", "list of one image"),
    ("prompt, completion", "chat messages: what is asked, what is learned"),
    ("task", "one of " + ", ".join(TASKS)),
    ("references", "accepted answers; boxes are `[x1, y1, x2, y2]`, 0-1 of the stored image"),
    ("client_id", "of held-out rows, the client whose distribution the row is of; a client's own rows: null"),
    ("image_digest", "names the image by its pixels"),
)


def card(builder: Builder, manifest: Mapping[str, Any] | None = None, partition_only: bool = False) -> str:
    """The card's text.

    Args:
        builder ([`Builder`]):
            Describes the dataset.
        manifest (`Mapping[str, Any]`, *optional*):
            Of a build: configurations and counts. Without it the card says what a build of the whole download has.
        partition_only (`bool`, *optional*, defaults to `False`):
            The card of what may be passed on where a source is restricted: ids and their places.

    Returns:
        `str`: `README.md`.
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
        _section("Columns", _columns(manifest)) if not partition_only else "",
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
    """The `configs:` that `load_dataset` reads; the first is the default."""
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
            "download. Grey pictures stand in for them: nothing can be learned from them, and no score on them means "
            "anything.**"
        )
    if partition_only:
        names = " and ".join(manifest["restricted_sources"])
        found.append(
            f"> **Rows and images are not here: {names} may not be passed on.** What is here is the partition: each "
            f"row's id, split and client. Get the sources, then `fedvlm build {_command_name(manifest)} --raw PATH "
            "--out DIR` makes the rows; `manifest.json` has the hash that the partition must have."
        )
    for name, config in manifest["configs"].items():
        if config["leaked_images"]:
            found.append(
                f"> **`{name}` has {config['leaked_images']:,} images both held out and in training.** "
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
        table = _table(("split", "what", "rows", "images"), rows)
        parts.append(f"### {name}\n\n{config['rule']}\n\n{table}\n\nPartition hash: `{config['partition']}`")
    return _section("Configurations", "\n\n".join(parts))


def _planned_configurations(builder: Builder) -> str:
    return _section("Configurations", _table(("configuration", "clients"), builder.configs.items()))


def _planned_counts(builder: Builder) -> str:
    text = "The build counts what it reads, leaves out and keeps, and writes it here; the download was not at hand."
    rows = builder.paper_counts.items()
    return _section("Counts", f"{text}\n\n{_table(('task', 'rows in Table 2 of FedVLMBench'), rows)}")


def _counts(builder: Builder, manifest: Mapping[str, Any]) -> str:
    rows = [(line["step"], line["what"], line["count"], line["why"]) for line in manifest["tally"]]
    rows.append(("kept", "rows", manifest["num_rows"], ""))
    text = _table(("step", "what", "count", "why"), rows)
    if builder.paper_counts:
        tasks = {**dict.fromkeys(manifest["tasks"]), **dict.fromkeys(builder.paper_counts)}
        beside = [
            (task, f"{manifest['tasks'].get(task, 0):,}", _number(builder.paper_counts.get(task))) for task in tasks
        ]
        text += "\n\nBeside FedVLMBench's Table 2; no rule is bent to match it.\n\n"
        text += _table(("task", "rows here", "the paper's"), beside)
    return _section("Counts", text)


def _columns(manifest: Mapping[str, Any] | None) -> str:
    rows = [(f"`{name}`", what) for name, what in _COLUMNS]
    own = [] if manifest is None else manifest["columns"]
    return _table(("column", "what"), [*rows, *((f"`{name}`", "the dataset's own") for name in own)])


def _sources(builder: Builder) -> str:
    closed = " Rows and images may not be passed on."
    rows = [
        (f"[{source.name}]({source.url})", source.licence, source.terms + closed * source.is_restricted)
        for source in builder.used_sources
    ]
    table = _table(("source", "licence", "access"), rows)
    expected = f"The download is expected as:\n\n```\n{builder.layout.strip()}\n```"
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


_SIGNS = {"read": "+", "excluded": "-", "note": " "}


def summary(builder: Builder, manifest: Mapping[str, Any], folder: Path) -> str:
    """Counts by rule beside the paper's, rows of each client, and how to load them.

    Args:
        builder ([`Builder`]):
            What made the dataset.
        manifest (`Mapping[str, Any]`):
            Its `manifest.json`.
        folder (`Path`):
            Where it is.

    Returns:
        `str`: lines for the screen.
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
        lines += ["", f"{manifest['missing_images']:,} IMAGES ARE MISSING: grey pictures stand in for them."]
    lines += ["", *_configuration_lines(manifest)]
    first = next(iter(manifest["configs"]))
    return "\n".join([*lines, "", f"It is in {folder}", f'    load_dataset("{folder}", "{first}")'])


def _configuration_lines(manifest: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, config in manifest["configs"].items():
        counts = config["counts"]
        clients = [count for split, count in counts.items() if is_client(split)]
        held_out = [f"{split} {count:,}" for split, count in counts.items() if not is_client(split)]
        lines.append(f"{name}: {len(clients)} clients, " + ", ".join(held_out or ["nothing held out"]))
        lines.append("    rows a client: " + " ".join(map(str, clients)))
        if config["leaked_images"]:
            lines.append(f"    {config['leaked_images']:,} held-out images are in training: {config['known_leak']}")
    return lines
