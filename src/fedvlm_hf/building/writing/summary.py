"""What a user sees when a build is done."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...data.naming import is_client
from ..builders.base import Builder


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
    lines += ["", *_configurations(manifest)]
    first = next(iter(manifest["configs"]))
    return "\n".join([*lines, "", f"It is in {folder}", f'    load_dataset("{folder}", "{first}")'])


def _configurations(manifest: Mapping[str, Any]) -> list[str]:
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
