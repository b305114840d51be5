"""Build a federated dataset from a download, in one call."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from ...files import write_atomic
from ..builders.base import Builder, Example
from ..inputs import Changes, Inputs, changes, option_changes
from ..templates import check_wording
from ..work import Work
from .card import card
from .checks import FIXED_COLUMNS, check_examples, check_partition, select_configs
from .layout import lay_out
from .manifest import as_json, build_plan, make_manifest, row_values
from .options import WriteOptions
from .schema import row_schema
from .shards import write_rows_file, write_shards
from .staging import note_unusual_images, stage_images
from .workspace import CARD, INPUTS, MANIFEST, Workspace


logger = logging.getLogger(__name__)


def build_dataset(
    builder: Builder,
    raw: str | Path,
    out: str | Path,
    options: WriteOptions | None = None,
    rebuild: bool = False,
    notify: Callable[[str], object] = logger.info,
) -> Path:
    """Write a folder in the Hub's layout: Parquet shards, `manifest.json` and a card.

    The build works in a hidden folder next to `out`, which is renamed to `out` at the end. An interrupted build
    continues when the same call is made again. The same call with the same files writes the same bytes.

    If `out` already has a build, everything that it read is compared with what is there now: the contents of files,
    the names in folders, and files that were missing.

    Args:
        builder ([`Builder`]):
            The dataset and its options.
        raw (`str` or `Path`):
            The official download, in the builder's `layout`.
        out (`str` or `Path`):
            The folder to write. If it already has the same build, nothing is done.
        options ([`WriteOptions`], *optional*):
            Options for images, configurations and worker processes.
        rebuild (`bool`, *optional*, defaults to `False`):
            Replace a build in `out` if its inputs or options were others. It stays until the new one is complete.
        notify (`Callable`, *optional*):
            Gets a text that says what has changed since the build in `out`. Logged by default.

    Returns:
        `Path`: the folder.

    Raises:
        `ValueError`: if the download, the rows or the partitions are invalid, if `out` was built from other inputs or
            with other options and `rebuild` is not set, or if `out` has other contents. `out` stays unchanged in all
            of these cases.

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
        message = _update(builder, Path(raw), options, space, rebuild)
    except (ValueError, OSError):
        space.leave_if_empty()
        raise
    space.finish()
    if message:
        notify(message)
    return Path(out)


def _update(builder: Builder, raw: Path, options: WriteOptions, space: Workspace, rebuild: bool) -> str:
    """Build, if there is no build or an outdated one. Return what has changed since the one that is there."""
    if space.existing is None:
        _build(builder, raw, options, space)
        return ""
    different = option_changes(space.existing.manifest, space.plan)
    if space.existing.inputs is None:
        different.append(f"an older version of the package built it, without {INPUTS}")
    if not different:
        found = _changed_inputs(builder, raw, options, space, space.existing.inputs)
        if not found:
            return f"Nothing has changed since {space.out} was built: there is nothing to do."
        different.append(str(found))
    if not rebuild:
        raise ValueError(
            f"`out`: {space.out} exists and is another build: {'; '.join(different)}. Nothing is overwritten: use "
            "`--rebuild` to replace it, or choose another folder."
        )
    before, now = space.existing.inputs, _build(builder, raw, options, space)
    lines = option_changes(space.existing.manifest, space.plan)
    lines += [str(found)] if before and (found := changes(before, now)) else []
    return f"{space.out} was built again. Changes since the last build: {'; '.join(lines) or 'none in the inputs'}."


def _changed_inputs(builder: Builder, raw: Path, options: WriteOptions, space: Workspace, inputs: Inputs) -> Changes:
    found = changes(inputs, inputs.read_again(Work(num_workers=options.processes, raw=raw)))
    if found or not inputs.values:
        return found
    space.prepare()
    _, work = _read(builder, raw, options, space)
    # Images are read when rows are prepared; those that are recorded were compared above
    return changes(replace(inputs, images={}), replace(work.inputs, images={}))


def _build(builder: Builder, raw: Path, options: WriteOptions, space: Workspace) -> Inputs:
    space.prepare()
    examples, work = _read(builder, raw, options, space)
    check_examples(examples)
    partitions = select_configs(builder.partitions(examples), options.configs)
    for partition in partitions:
        check_partition(partition, len(examples))
    staged, missing = stage_images(examples, space.staged, options, work)
    if missing:
        logger.warning(
            f"{len(missing)} of {len(staged)} images are missing, such as {missing[0]}. They are replaced by grey "
            "pictures, so scores on their rows are meaningless."
        )
    note_unusual_images(staged, options, work.counts)
    inputs = work.inputs
    space.accept_images(inputs)
    images = [staged[example.image.key] for example in examples]
    layout = lay_out(partitions, [image.content for image in images], [image.num_bytes for image in images])
    # This finds leaks, so it comes before anything large is written
    manifest = make_manifest(builder, options, work, examples, images, len(missing), partitions, layout)
    schema = row_schema([*FIXED_COLUMNS, *examples[0].columns])
    rows_file = space.folder / "rows.arrow"
    write_rows_file(rows_file, schema, map(row_values, examples, images), images)
    manifest["files"] = write_shards(layout.shards, images, space.result, rows_file, schema, work)
    write_atomic(space.result / INPUTS, inputs.as_json())
    write_atomic(space.result / MANIFEST, as_json(manifest))
    write_atomic(space.result / CARD, card(builder, manifest))
    space.publish()
    return inputs


def _read(builder: Builder, raw: Path, options: WriteOptions, space: Workspace) -> tuple[list[Example], Work]:
    for _ in range(2):
        work = Work(space.read, options.processes, raw, window=options.shown_values)
        examples = builder.read(raw, work)
        _refuse_listed(space, raw, work.inputs)
        if space.accept_annotations(work.inputs):
            break
    return examples, work


def _refuse_listed(space: Workspace, raw: Path, inputs: Inputs) -> None:
    """Refuse to write into a folder whose contents are read, or the next build would find the dataset among them."""
    for listing in inputs.listings:
        folder = (raw / listing.folder).absolute()
        if space.out != folder and space.out.is_relative_to(folder):
            name = space.out.relative_to(folder).parts[0]
            if fnmatch(name, listing.pattern.split("/")[0]):
                shutil.rmtree(space.read)  # journals, or they would stay in the data
                raise ValueError(
                    f"`out`: {space.out} is in {folder}, where everything is read as data to build from. Choose a "
                    "folder outside of it."
                )
