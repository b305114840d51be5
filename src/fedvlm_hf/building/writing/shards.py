"""Write rows to Parquet. Each shard is written by one thread, one row group at a time, completely or not at all."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..images import StoredImage
from ..work import Work
from .layout import Shard
from .staging import StagedImage, read_unchanged


IMAGE_BYTES = "images.list.element.bytes"

_CONTENT = "_content"
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
# Number of values after which Arrow may close a page. With the default of 1,024, pages would have hundreds of images
_PAGE_ROWS = 16
# One thread writes about 400 MB/s and needs about 200 MiB: more than a few threads only cost memory
_MAX_WRITERS = 6
# The content decides where pages end, as in `Dataset.push_to_hub`, so that the Hub stores equal pages only once
_CHUNKS = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}


@dataclass(frozen=True)
class _Job:
    shard: Shard
    images: dict[str, StoredImage]
    folder: Path
    rows_file: Path
    schema: pa.Schema


def write_rows_file(
    path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]], images: Iterable[StagedImage]
) -> None:
    """Write all rows without their images to a file that every process can map into memory.

    Args:
        path (`Path`):
            The Arrow file to write.
        schema (`pa.Schema`):
            Schema of the shards.
        rows (`Iterable[Mapping[str, Any]]`):
            The values of each row except `images` and `client_id`.
        images (`Iterable[StagedImage]`):
            The image of each row.
    """
    kept = [schema.field(name) for name in schema.names if name not in ("images", "client_id")]
    stored = pa.schema([*kept, (_CONTENT, pa.string())])
    with pa.ipc.new_file(str(path), stored) as writer:
        complete = ({**row, _CONTENT: image.content} for row, image in zip(rows, images, strict=True))
        while batch := list(islice(complete, 1000)):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=stored))


def write_shards(
    shards: Sequence[Shard],
    images: Sequence[StagedImage],
    folder: Path,
    rows_file: Path,
    schema: pa.Schema,
    work: Work,
) -> dict[str, dict[str, int]]:
    """Write all shards that do not exist yet.

    Args:
        shards (`Sequence[Shard]`):
            The shards.
        images (`Sequence[StagedImage]`):
            The image of each row.
        folder (`Path`):
            The folder to write to.
        rows_file (`Path`):
            The file that [`write_rows_file`] wrote.
        schema (`pa.Schema`):
            Schema of the shards, with the metadata from which `datasets` reads the features.
        work ([`Work`]):
            Sets the number of worker processes.

    Returns:
        `dict[str, dict[str, int]]`: `num_rows` and `num_bytes` for each path.

    Raises:
        `ValueError`: if an image has changed since it was staged.
    """
    jobs = {shard.path: _Job(shard, _images_of(shard, images), folder, rows_file, schema) for shard in shards}
    # No journal is needed: a shard that exists is complete
    writers = Work(num_workers=min(work.num_workers, _MAX_WRITERS))
    return writers.map("shards", _write_shard, jobs, "writing shards", is_long=True, in_threads=True)


def _images_of(shard: Shard, images: Sequence[StagedImage]) -> dict[str, StoredImage]:
    """Return the distinct images of a shard by the hash of their bytes."""
    return {images[row].content: images[row].image for group in shard.groups for row in group}


def _write_shard(job: _Job) -> dict[str, int]:
    path = job.folder / job.shard.path
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        with pa.memory_map(str(job.rows_file)) as source:
            _write(temporary, job, pa.ipc.open_file(source).read_all())
        os.replace(temporary, path)
    return {"num_rows": sum(map(len, job.shard.groups)), "num_bytes": path.stat().st_size}


def _write(path: Path, job: _Job, rows: pa.Table) -> None:
    leaves = [leaf for field in job.schema for leaf in _leaves(field)]
    texts = [leaf for leaf in leaves if leaf != IMAGE_BYTES]
    with pq.ParquetWriter(
        path,
        job.schema,
        # Store repeated images of a row group once. Without repeats images stay outside of dictionaries
        use_dictionary=leaves if job.shard.has_repeats else texts,
        dictionary_pagesize_limit=2**30,
        # Encoded images do not compress further. Uncompressed, their bytes are equal in all files: the Hub stores one
        compression={**dict.fromkeys(texts, "snappy"), IMAGE_BYTES: "none"},
        write_statistics=texts,
        use_content_defined_chunking=_CHUNKS,
        write_page_index=True,
        write_batch_size=_PAGE_ROWS,
    ) as writer:
        writer.add_key_value_metadata({"content_defined_chunking": json.dumps(_CHUNKS)})
        start = 0
        for group in job.shard.groups:
            ids = job.shard.client_ids and job.shard.client_ids[start : start + len(group)]
            writer.write_table(_table(rows.take(list(group)), ids, job), row_group_size=len(group))
            start += len(group)


def _table(rows: pa.Table, client_ids: Sequence[str | None] | None, job: _Job) -> pa.Table:
    columns = {
        "images": _images(rows[_CONTENT].to_pylist(), job.images),
        "client_id": pa.array(client_ids or [None] * rows.num_rows, pa.string()),
    }
    names = job.schema.names
    return pa.table([columns[name] if name in columns else rows[name] for name in names], schema=job.schema)


def _images(contents: list[str], stored: Mapping[str, StoredImage]) -> pa.Array:
    read = {content: read_unchanged(stored[content], content) for content in dict.fromkeys(contents)}
    encoded = pa.array([read[content] for content in contents], pa.binary())
    images = pa.StructArray.from_arrays([encoded, pa.nulls(len(contents), pa.string())], fields=list(_IMAGE))
    return pa.ListArray.from_arrays(pa.array(range(len(contents) + 1), pa.int32()), images)


def _leaves(field: pa.Field, prefix: str = "") -> list[str]:
    """Return the paths of a field's values in Parquet's notation."""
    path = f"{prefix}{field.name}"
    if pa.types.is_list(field.type):
        return _leaves(field.type.value_field.with_name("element"), f"{path}.list.")
    if pa.types.is_struct(field.type):
        return [leaf for inner in field.type for leaf in _leaves(inner, f"{path}.")]
    return [path]
