"""`manifest.json`: what a dataset was made from and by which rules, what is in it, and who has which row."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ... import __version__
from ..builders.base import BUILDERS, Builder, Example, Partition
from ..work import Work
from .checks import find_leaks
from .layout import Layout, splits_of
from .options import WriteOptions
from .staging import StagedImage


def build_plan(builder: Builder, options: WriteOptions) -> dict[str, Any]:
    """What a build depends on before its download is read: builder, version of its rules, options, our version."""
    chosen = {**asdict(builder), **options.of_rows()}
    plan = {
        "builder": builder_name(builder),
        "version": builder.version,
        "package_version": __version__,
        "options": {name: _without_path(value) for name, value in chosen.items()},
    }
    return json.loads(json.dumps(plan, default=str))


def builder_name(builder: Builder) -> str:
    """The name that it is registered under; of one that is not registered, its class's."""
    names = (name for name in BUILDERS.names() if BUILDERS.get(name) is type(builder))
    return next(names, type(builder).__name__)


def make_manifest(
    builder: Builder,
    options: WriteOptions,
    work: Work,
    examples: Sequence[Example],
    images: Sequence[StagedImage],
    num_missing: int,
    partitions: Sequence[Partition],
    layout: Layout,
) -> dict[str, Any]:
    """The manifest of a build but for its `files`: no dates, no paths of this machine, so equal builds are equal.

    Args:
        builder ([`Builder`]):
            What made the rows.
        options ([`WriteOptions`]):
            How they are written.
        work ([`Work`]):
            Its `sources` and `tally` are written down.
        examples (`Sequence[Example]`), images (`Sequence[StagedImage]`):
            The rows, and the image of each.
        num_missing (`int`):
            Images that something stands in for.
        partitions (`Sequence[Partition]`):
            The configurations.
        layout ([`Layout`]):
            Their files.

    Returns:
        `dict[str, Any]`: of JSON's types.

    Raises:
        `ValueError`: if a held-out image is a client's too, see `find_leaks`.
    """
    distinct = {image.digest: image for image in images}
    return {
        **build_plan(builder, options),
        "seed": builder.seed,
        "sources": dict(sorted(work.sources.items())),
        "restricted_sources": [source.name for source in builder.used_sources if source.is_restricted],
        "tally": work.tally.lines,
        "num_rows": len(examples),
        "tasks": dict(sorted(Counter(example.task for example in examples).items())),
        "columns": list(examples[0].columns),
        "partition_column": builder.partition_column,
        "images": {
            "num_images": len(distinct),
            "num_bytes": sum(image.num_bytes for image in distinct.values()),
            "smallest": min((image.width, image.height) for image in distinct.values()),
            "largest": max((image.width, image.height) for image in distinct.values()),
        },
        "missing_images": num_missing,
        "shares_clients": layout.shares_clients,
        "configs": {
            partition.name: _config(partition, examples, images, layout.data_files[partition.name])
            for partition in partitions
        },
    }


def _without_path(value: Any) -> Any:
    """An option as others may see it: of an absolute path the last part."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def partition_hash(rows: Iterable[tuple[str, str, str | None]]) -> str:
    """SHA-256 of a partition, whatever the order of its rows and the files that they are in.

    Args:
        rows (`Iterable[tuple[str, str, str | None]]`):
            `(id, split, client_id)`; `client_id` is `None` for clients' own rows.

    Returns:
        `str`: of the sorted lines `id<tab>split<tab>client_id`, joined by line feeds.
    """
    lines = sorted(f"{id}\t{split}\t{client_id or ''}" for id, split, client_id in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def as_json(manifest: Mapping[str, Any]) -> str:
    """The text of `manifest.json`."""
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def _config(
    partition: Partition, examples: Sequence[Example], images: Sequence[StagedImage], data_files: Mapping[str, str]
) -> dict[str, Any]:
    leaks = find_leaks(partition, examples, [image.digest for image in images])
    shown: dict[str, set[str]] = {}
    for split, image in zip(partition.splits, images, strict=True):
        shown.setdefault(split, set()).add(image.digest)
    ids = [example.id for example in examples]
    counts = Counter(partition.splits)
    return {
        "rule": partition.rule,
        "client_names": dict(partition.client_names),
        "known_leak": partition.known_leak,
        "leaked_images": len(leaks),
        "counts": {split: counts[split] for split in splits_of(partition)},
        "images": {split: len(shown[split]) for split in splits_of(partition)},
        "partition": partition_hash(zip(ids, partition.splits, partition.client_ids, strict=True)),
        "data_files": dict(data_files),
    }
