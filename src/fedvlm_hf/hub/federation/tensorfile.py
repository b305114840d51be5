"""Safetensors files from strangers: the header is read and compared before any tensor is.

A file holds named groups of fp32 tensors, as [`~fedvlm_hf.state.save_state`] writes them. Nothing but the bytes of the
expected tensors is ever made into anything: no pickle, no class, no size that a file claims.
"""

import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch

from ...tensors import TensorDict
from ...types import State
from .documents import DocumentError, from_json


Layout = Mapping[str, Mapping[str, list[int]]]
"""Group to tensor name to shape, in order."""

_PREFIX = 8  # bytes of the header's length, which is an unsigned little-endian integer


class TensorFileError(ValueError):
    """A file that does not hold the expected tensors; the message is the reason."""


def layout_of(state: State) -> dict[str, dict[str, list[int]]]:
    """Names and shapes of a state."""
    return {group: {name: list(shape) for name, shape in tensors.shapes.items()} for group, tensors in state.items()}


def size_range(layout: Layout) -> tuple[int, int]:
    """The fewest and the most bytes that a file of this layout may have."""
    shapes = {f"{group}:{name}": shape for group, tensors in layout.items() for name, shape in tensors.items()}
    data = 4 * sum(prod(shape) for shape in shapes.values())
    # a name is in the header twice, once in the metadata, perhaps escaped; 200 bytes are room for a tensor's numbers
    header = 4096 + sum(200 + 8 * len(name) for name in shapes)
    return _PREFIX + data, _PREFIX + data + header


def read_state(path: Path, layout: Layout) -> State:
    """Read the tensors of a layout, in its order.

    Args:
        path (`Path`):
            The file.
        layout (`Layout`):
            What it must hold, neither less nor more.

    Raises:
        `TensorFileError`: if the file is cut off, no safetensors file, or holds other tensors.
    """
    header, start = _read_header(path, size_range(layout)[1])
    _check_order(header.pop("__metadata__", None), layout)
    spans = _check_tensors(header, layout)
    _check_spans(list(spans.values()), path.stat().st_size - start)
    content = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)[start:]
    state = {}
    for group, tensors in layout.items():
        shapes = {name: torch.Size(shape) for name, shape in tensors.items()}
        state[group] = TensorDict(shapes)
        for name, view in state[group].items():
            begin, end = spans[f"{group}:{name}"]
            view.reshape(-1).view(torch.uint8).copy_(content[begin:end])
    return state


def _read_header(path: Path, limit: int) -> tuple[dict[str, Any], int]:
    """The header, and where the tensors' bytes start."""
    with path.open("rb") as file:
        prefix = file.read(_PREFIX)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == _PREFIX else 0
        if not 2 <= length <= min(limit, path.stat().st_size - _PREFIX):
            raise TensorFileError("is no whole safetensors file: its header's length makes no sense")
        content = file.read(length)
    try:
        header = from_json(content.rstrip(b" "))
    except DocumentError as error:
        raise TensorFileError(f"is no safetensors file: in its header, {error}") from None
    if not isinstance(header, dict):
        raise TensorFileError("is no safetensors file: its header is not an object")
    return header, _PREFIX + length


def _check_order(metadata: Any, layout: Layout) -> None:
    # The format sorts tensors itself; the order in which they were sent is in the metadata
    expected = "\n".join(f"{group}:{name}" for group, tensors in layout.items() for name in tensors or [""])
    given = metadata.get("layout") if isinstance(metadata, dict) else None
    if not isinstance(given, str):
        raise TensorFileError("does not say the order of its tensors in the metadata `layout`")
    if given != expected and sorted(given.split("\n")) == sorted(expected.split("\n")):
        raise TensorFileError("has its tensors in another order than they were sent in")


def _check_tensors(header: Mapping[str, Any], layout: Layout) -> dict[str, tuple[int, int]]:
    """Where each expected tensor's bytes are."""
    shapes = {f"{group}:{name}": shape for group, tensors in layout.items() for name, shape in tensors.items()}
    if missing := [name for name in shapes if name not in header]:
        raise TensorFileError(f"lacks the tensor {missing[0]!r}{_and_others(missing)}")
    if extra := [name for name in header if name not in shapes]:
        raise TensorFileError(f"has the tensor {extra[0]!r:.100}, which was not asked for{_and_others(extra)}")
    spans = {}
    for name, shape in shapes.items():
        entry = header[name] if isinstance(header[name], dict) else {}
        if entry.get("dtype") != "F32":
            raise TensorFileError(f"has the tensor {name!r} in {entry.get('dtype')!r:.20}; it must be F32")
        if entry.get("shape") != shape:
            raise TensorFileError(f"has the tensor {name!r} of shape {entry.get('shape')!r:.60}; it must be {shape}")
        span = entry.get("data_offsets")
        if not (isinstance(span, list) and len(span) == 2 and all(type(edge) is int for edge in span)):
            raise TensorFileError(f"does not say where the bytes of the tensor {name!r} are")
        if span[1] - span[0] != 4 * prod(shape):
            raise TensorFileError(f"gives the tensor {name!r} {span[1] - span[0]} bytes, not {4 * prod(shape)}")
        spans[name] = (span[0], span[1])
    return spans


def _check_spans(spans: list[tuple[int, int]], size: int) -> None:
    """Tensors lie one after the other, without gaps or overlaps, and fill the file."""
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise TensorFileError(f"has tensors that overlap or leave a gap at byte {position}")
        position = end
    if position != size:
        raise TensorFileError(f"is cut off or too long: {size} bytes of tensors and not {position}")


def _and_others(names: list[str]) -> str:
    return f" (and {len(names) - 1} others)" if len(names) > 1 else ""
