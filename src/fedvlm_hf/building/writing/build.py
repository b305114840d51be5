"""Build a federated dataset from a download, in one call."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Features, Value

from ...data.spec import FEATURES
from ...files import write_atomic
from ..builders.base import Builder, Example
from ..templates import check_wording
from ..work import Work
from .card import card
from .checks import FIXED_COLUMNS, check_examples, check_partition, select_configs
from .layout import lay_out
from .manifest import as_json, build_plan, make_manifest
from .options import WriteOptions
from .shards import write_rows_file, write_shards
from .staging import StagedImage, move_boxes, note_deep_images, stage_images
from .workspace import Workspace


logger = logging.getLogger(__name__)


def build_dataset(builder: Builder, raw: str | Path, out: str | Path, options: WriteOptions | None = None) -> Path:
    """Write a folder in the Hub's layout: Parquet shards, `manifest.json` and a card.

    The build works in a hidden folder next to `out`, which is renamed to `out` at the end. An interrupted build
    continues when the same call is made again. The same call with the same files writes the same bytes.

    Args:
        builder ([`Builder`]):
            The dataset and its options.
        raw (`str` or `Path`):
            The official download, in the builder's `layout`.
        out (`str` or `Path`):
            The folder to write. If it already has the same build, nothing is done.
        options ([`WriteOptions`], *optional*):
            Options for images, configurations and worker processes.

    Returns:
        `Path`: the folder.

    Raises:
        `ValueError`: if the download, the rows or the partitions are invalid, or if `out` has other contents. Nothing
            is written to `out` in this case.

    Example:

    ```python
    from fedvlm_hf.building.builders.fed_slake import FedSlake
    from fedvlm_hf.building.writing.build import build_dataset

    build_dataset(FedSlake(), raw="Slake1.0", out="fed-slake")
    ```
    """
    options = options or WriteOptions()
    check_wording(builder.wording, builder.templates)
    space = Workspace(Path(out).absolute(), build_plan(builder, options))
    try:
        _build(builder, Path(raw), options, space)
    except ValueError:
        space.leave_if_empty()
        raise
    space.finish()
    return Path(out)


def _build(builder: Builder, raw: Path, options: WriteOptions, space: Workspace) -> None:
    if space.existing is not None and _is_unchanged(raw, space.existing["sources"]):
        return
    examples, work = _read(builder, raw, options, space)
    if space.existing is not None:
        return
    check_examples(examples)
    partitions = select_configs(builder.partitions(examples), options.configs)
    for partition in partitions:
        check_partition(partition, len(examples))
    staging = Work(space.folder, options.processes)
    staged, missing = stage_images(examples, space.staged, options, staging)
    if missing:
        logger.warning(
            f"{len(missing)} of {len(staged)} images are missing, such as {missing[0]}. They are replaced by grey "
            "pictures, so scores on their rows are meaningless."
        )
    note_deep_images(staged, options, work.counts)
    images = [staged[example.image.key] for example in examples]
    layout = lay_out(partitions, [image.content for image in images], [image.num_bytes for image in images])
    # This finds leaks, so it comes before anything large is written
    manifest = make_manifest(builder, options, work, examples, images, len(missing), partitions, layout)
    schema = _schema(examples)
    rows_file = space.folder / "rows.arrow"
    write_rows_file(rows_file, schema, map(_row, examples, images), images)
    manifest["files"] = write_shards(layout.shards, space.result, rows_file, schema, staging)
    write_atomic(space.result / "manifest.json", as_json(manifest))
    write_atomic(space.result / "README.md", card(builder, manifest))


def _is_unchanged(raw: Path, sources: Mapping[str, str]) -> bool:
    """Return whether the source files of a complete build exist under their names and are unchanged."""
    work = Work(raw=raw)
    try:
        for name in sources:
            work.source(raw / name)
    except ValueError:
        return False
    return bool(sources) and work.sources == sources


def _read(builder: Builder, raw: Path, options: WriteOptions, space: Workspace) -> tuple[list[Example], Work]:
    for _ in range(2):
        work = Work(space.read, options.processes, raw, window=options.shown_values)
        examples = builder.read(raw, work)
        if space.accept_sources(work.sources):
            break
    return examples, work


def _schema(examples: Sequence[Example]) -> pa.Schema:
    """Return all columns in order, with the features that `load_dataset` will give them."""
    own = {name: Value("string") for name in examples[0].columns}
    types = {**FEATURES, "client_id": Value("string"), "image_digest": Value("string")}
    return Features({**{name: types[name] for name in FIXED_COLUMNS}, **own}).arrow_schema


def _row(example: Example, image: StagedImage) -> dict[str, Any]:
    return {
        "id": example.id,
        **move_boxes(example, image),
        "task": example.task,
        "image_digest": image.digest,
        **example.columns,
    }
