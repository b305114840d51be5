"""The schema of a built dataset, with the metadata from which `datasets` reads the types of columns.

It is the one that `datasets.Features.arrow_schema` returns, made without importing `datasets`, which takes a second.
"""

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa


_STRING = {"dtype": "string", "_type": "Value"}
_TEXT = (_STRING, pa.string())
_MESSAGES = (
    {"feature": {"role": _STRING, "content": _STRING}, "_type": "List"},
    pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
)
_IMAGES = (
    {"feature": {"_type": "Image"}, "_type": "List"},
    pa.list_(pa.struct({"bytes": pa.binary(), "path": pa.string()})),
)
_TYPES: dict[str, tuple[dict[str, Any], pa.DataType]] = {
    "images": _IMAGES,
    "prompt": _MESSAGES,
    "completion": _MESSAGES,
    "references": ({"feature": _STRING, "_type": "List"}, pa.list_(pa.string())),
}
"""The description and the type of each column that is not text."""


def row_schema(columns: Iterable[str]) -> pa.Schema:
    """Return the schema of rows with these columns. Columns that not every dataset has are text."""
    types = {name: _TYPES.get(name, _TEXT) for name in columns}
    described = {"info": {"features": {name: description for name, (description, _) in types.items()}}}
    schema = pa.schema([(name, arrow_type) for name, (_, arrow_type) in types.items()])
    return schema.with_metadata({"huggingface": json.dumps(described)})
