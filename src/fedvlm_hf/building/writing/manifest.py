"""`manifest.json`: the sources and rules of a dataset, its contents, and a hash of each partition."""

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
from .staging import StagedImage, move_boxes


FORMAT = 2
"""Number of the format of manifests, their entry `format`. Those of versions up to 0.1.0 may have none."""

KEYS = frozenset({
    "builder", "version", "package_version", "options", "format", "seed", "sources", "inputs", "restricted_sources",
    "tally", "num_rows", "tasks", "columns", "partition_column", "images", "missing_images", "shares_clients",
    "configs", "files",
})  # fmt: skip
"""The entries of every manifest."""

CONFIG_KEYS = frozenset({
    "rule", "client_names", "known_leak", "leaked_images", "counts", "images", "partition", "contents", "data_files",
})  # fmt: skip
"""The entries of each configuration in a manifest."""

NEW_KEYS = frozenset({"format", "inputs", "contents"})
"""Those that manifests of older versions lack."""


def is_older(manifest: Mapping[str, Any]) -> bool:
    """Return whether a version of the package wrote a manifest that did not know `NEW_KEYS`."""
    return "format" not in manifest and manifest.get("package_version") == "0.1.0"


def build_plan(builder: Builder, options: WriteOptions) -> dict[str, Any]:
    """Return what a build depends on besides the download: builder, version of its rules, options, package version."""
    chosen = {**asdict(builder), **options.affecting_rows()}
    plan = {
        "builder": builder_name(builder),
        "version": builder.version,
        "package_version": __version__,
        "options": {name: _without_path(value) for name, value in chosen.items()},
    }
    return json.loads(json.dumps(plan, default=str))


def builder_name(builder: Builder) -> str:
    """Return the name under which a builder is registered, or the name of its class if it is not registered."""
    return BUILDERS.name_of(type(builder)) or type(builder).__name__


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
    """Return the manifest of a build without its `files`.

    It has no dates and no paths of this machine, so equal builds have equal manifests.

    Args:
        builder ([`Builder`]):
            The builder of the dataset.
        options ([`WriteOptions`]):
            How the rows are written.
        work ([`Work`]):
            Its `sources` and `counts` become part of the manifest.
        examples (`Sequence[Example]`), images (`Sequence[StagedImage]`):
            The rows, and the image of each row.
        num_missing (`int`):
            Number of images that were missing and replaced.
        partitions (`Sequence[Partition]`):
            The configurations.
        layout ([`Layout`]):
            The files of the configurations.

    Returns:
        `dict[str, Any]`: the manifest, made of JSON types.

    Raises:
        `ValueError`: if a client has a held-out image, see `find_leaks`.
    """
    distinct = {image.digest: image for image in images}
    digests = [row_digest(row_values(example, image)) for example, image in zip(examples, images, strict=True)]
    return {
        **build_plan(builder, options),
        "format": FORMAT,
        "seed": builder.seed,
        "sources": dict(sorted(work.sources.items())),
        "inputs": work.inputs.digest,
        "restricted_sources": [source.name for source in builder.used_sources if source.is_restricted],
        "tally": work.counts.lines,
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
            partition.name: {
                **_config(partition, examples, images, builder.partition_column),
                "contents": contents_digests(zip(partition.splits, digests, strict=True)),
                "data_files": dict(layout.data_files[partition.name]),
            }
            for partition in partitions
        },
    }


def _without_path(value: Any) -> Any:
    """Reduce an absolute path to its last part, since manifests are public."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def partition_hash(rows: Iterable[tuple[str, str, str | None]]) -> str:
    """Return a SHA-256 of a partition that does not depend on the order of its rows or on their files.

    Args:
        rows (`Iterable[tuple[str, str, str | None]]`):
            `(id, split, client_id)`; `client_id` is `None` for rows of clients.

    Returns:
        `str`: the hash of the sorted lines `id<tab>split<tab>client_id`, joined by line feeds.
    """
    lines = sorted(f"{id}\t{split}\t{client_id or ''}" for id, split, client_id in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def row_values(example: Example, image: StagedImage) -> dict[str, Any]:
    """Return the values of a row as they are stored, except `images` and `client_id`."""
    return {
        "id": example.id,
        **move_boxes(example, image),
        "task": example.task,
        "image_digest": image.digest,
        **example.columns,
    }


def row_digest(values: Mapping[str, Any]) -> bytes:
    """Return 16 bytes that identify the values of a row, in whatever order its columns are."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True, default=str).encode(), digest_size=16).digest()


def contents_digests(rows: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """Return a digest of the contents of each split, which does not depend on the order of its rows or on their files.

    Args:
        rows (`Iterable[tuple[str, bytes]]`):
            The split of each row and its [`row_digest`].

    Returns:
        `dict[str, str]`: by split, the SHA-256 of the sorted digests of its rows, one after the other.
    """
    of_split: dict[str, list[bytes]] = {}
    for split, digest in rows:
        of_split.setdefault(split, []).append(digest)
    return {split: hashlib.sha256(b"".join(sorted(of_split[split]))).hexdigest() for split in sorted(of_split)}


def as_json(manifest: Mapping[str, Any]) -> str:
    """Return the text of `manifest.json`."""
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def _config(
    partition: Partition, examples: Sequence[Example], images: Sequence[StagedImage], partition_column: str
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
        "compare_by": partition.compare_by or partition_column,
        **({"draw": dict(partition.draw)} if partition.draw else {}),
        "leaked_images": len(leaks),
        "counts": {split: counts[split] for split in splits_of(partition)},
        "images": {split: len(shown[split]) for split in splits_of(partition)},
        "partition": partition_hash(zip(ids, partition.splits, partition.client_ids, strict=True)),
    }
