"""Take rows that are almost in the row format: single images, paths of images, and TRL's `messages`.

Columns are exchanged in the Arrow table, so that no image is copied or decoded and nothing is written to disk.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, Image, LargeList, List, Value
from datasets.fingerprint import Hasher

from .features import FEATURES


Messages = list[dict[str, str]]

_SMALL = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
_TEXT_OR_BYTES = (*_SMALL, *_SMALL.values())


def in_row_format(dataset: Dataset, where: str) -> Dataset:
    """Return a dataset with `images`, `prompt` and `completion` where other columns say the same without doubt.

    A column `image` becomes `images` with one image per row. Paths, encoded bytes and images that are not decoded
    become images. `messages` with one answer, as TRL has it, become `prompt` and `completion`. A column that is there
    already has precedence, and rows in the row format are returned as they are.

    Args:
        dataset (`Dataset`):
            The rows.
        where (`str`):
            How an error names the dataset.

    Raises:
        `ValueError`: if `messages` of a row cannot be one prompt and one answer; it names the row.
    """
    features, added, replaced = dict(dataset.features or {}), {}, set()
    images = "images" if "images" in features else "image"
    if images in features and (column := _image_column(dataset, images)) is not None:
        replaced.add(images)
        added["images"] = column
    if "messages" in features and not {"prompt", "completion", "chosen", "rejected"} & features.keys():
        replaced.add("messages")
        added |= _split_messages(dataset, where)
    if not added:
        return dataset
    table = dataset.data.table.drop_columns(sorted(replaced))
    features = {name: feature for name, feature in features.items() if name not in replaced}
    for name, (feature, values) in added.items():
        features[name] = feature
        table = table.append_column(name, values)
    info = dataset.info.copy()
    info.features = Features(features)
    return Dataset(
        table.replace_schema_metadata(info.features.arrow_schema.metadata),
        info=info,
        split=dataset.split,
        indices_table=dataset._indices,
        fingerprint=Hasher.hash([dataset._fingerprint, "in_row_format"]),
    )


def _image_column(dataset: Dataset, name: str) -> tuple[List, pa.ChunkedArray] | None:
    """Return a column as lists of images; `None` if it is one already, or is something else than images."""
    feature = dataset.features[name]
    is_list = isinstance(feature, LargeList) or (isinstance(feature, List) and feature.length < 0)
    image = feature.feature if is_list else feature
    if not _can_be_image(image) or (is_list and isinstance(image, Image) and image.decode):
        return None
    as_image = Image(mode=image.mode if isinstance(image, Image) else None)
    chunks = []
    for chunk in dataset.data.column(name).chunks:
        offsets = chunk.offsets if is_list else pa.array(np.arange(len(chunk) + 1, dtype=np.int32))
        values = chunk.values if is_list else chunk
        values = as_image.cast_storage(values.cast(_SMALL.get(values.type, values.type)))
        chunks.append(pa.ListArray.from_arrays(offsets.cast(pa.int32()), values))
    return List(as_image), pa.chunked_array(chunks, Features({"images": List(as_image)}).arrow_schema.field(0).type)


def _can_be_image(feature: Any) -> bool:
    if isinstance(feature, dict):  # as in Parquet files that other programs wrote
        return set(feature) == {"bytes", "path"}
    return isinstance(feature, Image) or (isinstance(feature, Value) and feature.pa_type in _TEXT_OR_BYTES)


def _split_messages(dataset: Dataset, where: str) -> dict[str, tuple[Any, pa.ChunkedArray]]:
    """Return the columns `prompt` and `completion` of rows with `messages`."""
    num_stored = dataset.data.num_rows
    columns: dict[str, list[Messages | None]] = {name: [None] * num_stored for name in ("prompt", "completion")}
    # after `filter` or `shuffle`, a dataset is a list of places in a table that stays as it is
    places = range(num_stored) if dataset._indices is None else dataset._indices.column(0).to_pylist()
    for row, (place, messages) in enumerate(zip(places, _values(dataset, "messages"), strict=True)):
        try:
            columns["prompt"][place], columns["completion"][place] = _prompt_and_answer(messages)
        except ValueError as error:
            raise ValueError(f"{where}, row {row}, column `messages`: {error}") from None
    schema = FEATURES.arrow_schema
    return {
        name: (FEATURES[name], pa.chunked_array([pa.array(values, schema.field(name).type)]))
        for name, values in columns.items()
    }


def _values(dataset: Dataset, name: str) -> Iterator[Any]:
    for batch in dataset.select_columns([name]).with_format("arrow").iter(1000):
        yield from batch[name].to_pylist()


def _prompt_and_answer(messages: Any) -> tuple[Messages, Messages]:
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and {"role", "content"} <= set(m) for m in messages
    ):
        raise ValueError(f"expected a list of chat messages, got {str(messages)[:80]!r}.")
    answers = [message["role"] for message in messages].count("assistant")
    if answers != 1 or messages[-1]["role"] != "assistant":
        raise ValueError(
            f"it has {answers} messages of the assistant, and a row trains on one answer, which is the last message. "
            "`fedvlm build custom` makes one row of each answer."
        )
    texts: Messages = [{"role": message["role"], "content": _text(message["content"])} for message in messages]
    return texts[:-1], texts[-1:]


def _text(content: Any) -> str:
    """Return the text of a message. An image may only stand before it, where the images of a row are placed."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [None]
    kinds = [part.get("type") if isinstance(part, dict) else None for part in parts]
    if set(kinds) - {"image", "text"} or kinds != sorted(kinds):
        raise ValueError(
            f"the content {str(content)[:80]!r} is neither text nor a list of images followed by texts. Write it as "
            "text; the images of a row are placed before its first user message."
        )
    return "".join(part["text"] or "" for part in parts if part["type"] == "text")
