"""`fedvlm build`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import HelpFormatter, dedented
from .option_parser import OptionParser


if TYPE_CHECKING:
    from ..building.builders.base import Builder


@dataclass
class FolderArguments:
    """
    The source and the destination of a dataset.

    Parameters:
        raw (`str`):
            Folder with the official download.
        out (`str`):
            Folder to write.
        rebuild (`bool`, *optional*, defaults to `False`):
            Replace a build in `out` that was made from other files or with other options.
        push (`str`, *optional*):
            Repository on the Hub to push to.
    """

    raw: str = field(metadata={"help": "Folder with the official download."})
    out: str = field(
        metadata={"help": "Folder to write. To continue an interrupted build, run the same command again."}
    )
    rebuild: bool = field(
        default=False,
        metadata={
            "help": "Replace a build in --out that was made from other files or with other options. It stays until "
            "the new one is complete."
        },
    )
    push: str | None = field(
        default=None,
        metadata={
            "help": "Repository on the Hub to push to, such as my-group/fed-slake; a new one is private. If a source "
            "may not be redistributed, only ids and the partition are uploaded."
        },
    )


def run(argv: Sequence[str]) -> None:
    """Make a federated dataset from an official download.

    fedvlm build NAME --raw PATH --out DIR [OPTIONS]

    Writes a folder that `load_dataset` reads: Parquet shards with client splits,
    a card, and manifest.json with checksums and counts. `fedvlm build NAME --help`
    shows where to get the download, under which terms, and all options.
    """
    from ..building.builders.base import BUILDERS
    from ..registry import unknown_name_message

    argv = list(argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return
    name = argv[0].replace("-", "_")
    builder_class = BUILDERS.get(name)
    if builder_class is None:
        names = [known.replace("_", "-") for known in BUILDERS.names()]
        raise ValueError(unknown_name_message("NAME", argv[0], names))
    _build(argv[0], builder_class, argv[1:])


def _build(name: str, builder_class: "type[Builder]", argv: Sequence[str]) -> None:
    # Slow imports are in the functions, so that `fedvlm --help` does not wait for them
    from ..building.writing.build import build_dataset
    from ..building.writing.card import summary
    from ..building.writing.options import WriteOptions

    parser = OptionParser(
        FolderArguments,
        builder_class,
        WriteOptions,
        prog=f"fedvlm build {name}",
        description=_description(builder_class),
        formatter_class=HelpFormatter,
    )
    folders, builder, options = parser.parse_into_dataclasses(argv)
    out = build_dataset(builder, folders.raw, folders.out, options, folders.rebuild, notify=print)
    # Imported after the build, so that the build does not keep the memory of the plotting libraries
    from ..building.report.pages import add_partition_reports

    add_partition_reports(out)
    print(summary(builder, json.loads((out / "manifest.json").read_text(encoding="utf-8")), out))
    if folders.push is None:
        return
    from ..building.writing.push import files_to_push, push_dataset

    pushed = files_to_push(out, builder)
    url = push_dataset(pushed, folders.push)
    restricted = [source.name for source in builder.used_sources if source.is_restricted]
    if restricted:
        sent = ", ".join(path.relative_to(pushed).as_posix() for path in sorted(pushed.rglob("*")) if path.is_file())
        print(f"Rows and images were NOT uploaded: {' and '.join(restricted)} may not be redistributed.")
        print(f"The contents of {pushed} were uploaded: {sent}.")
    print(f"Pushed to {url}")


def _overview() -> str:
    from ..building.builders.base import BUILDERS

    lines = [dedented(run.__doc__), "", "datasets:"]
    for name in BUILDERS.names():
        builder_class = BUILDERS.get(name)
        lines.append(f"  {name.replace('_', '-'):<16} {builder_class.summary}")
    return "\n".join(lines)


def _description(builder_class: "type[Builder]") -> str:
    """Describe the dataset, its download and the expected layout."""
    lines = [f"{builder_class.title}: {builder_class.summary}", "", "expected under --raw:"]
    lines += [f"  {line}" for line in builder_class.layout.strip().splitlines()]
    lines += ["", "where to get it:"] if builder_class.sources else []
    for source in builder_class.sources:
        lines += [f"  {source.name}: {source.url}", f"    licence: {source.licence}", f"    access: {source.terms}"]
        if source.is_restricted:
            lines.append("    Rows and images may not be redistributed; --push uploads only ids and the partition.")
    return "\n".join(lines)
