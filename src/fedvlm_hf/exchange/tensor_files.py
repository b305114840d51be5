"""Safetensors files: our own, and those from somebody else, which are checked before any tensor is read.

A file holds named groups of tensors, as [`save_state`] writes them. safetensors 0.8 itself refuses
(tried by running): a header beyond the file or beyond 100 MB, JSON that is cut off, nested deeply or of other types,
an unknown dtype, a shape whose bytes are not those of its offsets, tensors that overlap or leave a gap, and a file
that is longer or shorter than its tensors. It does not check the size of the file before it maps it, names that are
there twice (the last one wins), the order of tensors, or that values are finite: that is done here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ..tensors import TensorDict
from ..types import Expected, State, TensorSpec
from .documents import DocumentError, from_json


DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The dtypes that travel, by the names that safetensors has for them."""

SHARED = "tensors"
"""Group of the tensors that are shared; the other groups of a task or an update are control groups."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Entry:
    """Dtype and shape of a tensor, as a file's header has them.

    Attributes:
        dtype (`str`): Such as `"F32"`; see `DTYPES`.
        shape (`list[int]`): The shape.
    """

    dtype: str
    shape: list[int]

    def __str__(self) -> str:
        return f"{self.dtype}{self.shape}"

    @property
    def num_bytes(self) -> int:
        """Size of the tensor."""
        return DTYPES[self.dtype].itemsize * prod(self.shape)


Layout = Mapping[str, Mapping[str, Entry]]
"""Group to tensor name to entry, in order."""


class TensorFileError(ValueError):
    """A file that does not hold the expected tensors; the message is the reason."""


def layout_of(state: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, dict[str, Entry]]:
    """Return names, dtypes and shapes of groups of tensors."""
    return {
        group: {name: Entry(_NAMES[tensor.dtype], list(tensor.shape)) for name, tensor in tensors.items()}
        for group, tensors in state.items()
    }


def grouped(
    tensors: Mapping[str, torch.Tensor], control: Mapping[str, Mapping[str, torch.Tensor]]
) -> dict[str, Mapping[str, torch.Tensor]]:
    """Return the tensors of a task or an update as groups of one file: its own as `SHARED`, and its control groups.

    Raises:
        `ValueError`: if a control group has that name.
    """
    if SHARED in control:
        raise ValueError(f"`method` sends a control group {SHARED!r}, a name that files have for the shared tensors.")
    return {SHARED: tensors, **control}


def expected_layout(expected: Expected) -> dict[str, dict[str, Entry]]:
    """Return the layout of a file with an update of this form."""
    groups = {SHARED: expected.tensors, **expected.control}
    return {
        group: {name: Entry(_NAMES[spec.dtype], list(spec.shape)) for name, spec in specs.items()}
        for group, specs in groups.items()
    }


def expected_of(layout: Layout) -> Expected:
    """Return the form of an update whose file has this layout."""
    groups = {
        group: {name: TensorSpec(tuple(entry.shape), DTYPES[entry.dtype]) for name, entry in entries.items()}
        for group, entries in layout.items()
    }
    return Expected(groups.pop(SHARED, {}), groups)


def as_tensor_dict(tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Return fp32 tensors as a `TensorDict`, and others, such as those of a transform that quantizes, as they are."""
    if all(tensor.dtype == torch.float32 for tensor in tensors.values()):
        return TensorDict.from_tensors(tensors)
    return tensors


def size_range(layout: Layout) -> tuple[int, int]:
    """Return the fewest and the most bytes that a file of this layout may have."""
    entries = {f"{group}:{name}": entry for group, tensors in layout.items() for name, entry in tensors.items()}
    data = sum(entry.num_bytes for entry in entries.values())
    # a name is in the header twice, once in the metadata, perhaps escaped; 200 bytes are room for a tensor's numbers
    header = 4096 + sum(200 + 8 * len(name) for name in entries)
    return 8 + data, 8 + data + header


def save_state(path: Path, state: State) -> None:
    """Save named groups of tensors as safetensors, under a temporary name first."""
    from safetensors.torch import save_file

    tensors = {f"{group}:{name}": tensor for group, values in state.items() for name, tensor in values.items()}
    partial = path.with_suffix(".partial")
    # safetensors orders tensors by size and name; the layout is kept beside them, empty groups too
    layout = "\n".join(f"{group}:{name}" for group, values in state.items() for name in values or [""])
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, partial, {"layout": layout})
    partial.replace(path)


def load_state(path: Path) -> State:
    """Load what `save_state` saved, in the same order."""
    groups: dict[str, dict] = {}
    with safe_open(path, framework="pt") as file:
        for key in filter(None, file.metadata()["layout"].split("\n")):
            group, name = key.split(":", 1)
            tensors = groups.setdefault(group, {})
            if name:
                tensors[name] = file.get_tensor(key)
    return {group: TensorDict.from_tensors(tensors) for group, tensors in groups.items()}


def read_header(path: Path, max_bytes: int) -> tuple[dict[str, Entry], dict[str, str]]:
    """Read which tensors a file holds, without reading any of them.

    Args:
        path (`Path`):
            The file.
        max_bytes (`int`):
            A larger file is refused before it is opened.

    Returns:
        `tuple`: by name, dtype and shape of each tensor; the file's metadata.

    Raises:
        `TensorFileError`: if it is too large, not a safetensors file, or names a tensor twice.
    """
    if (size := path.stat().st_size) > max_bytes:
        raise TensorFileError(f"has {size:,} bytes; {max_bytes:,} is the most")
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            entries = {name: Entry(part.get_dtype(), part.get_shape()) for name, part in slices.items()}
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise TensorFileError(f"is cut off or not a safetensors file ({error})") from None
    with path.open("rb") as stream:  # safetensors has checked that the header is within the file
        try:
            from_json(stream.read(int.from_bytes(stream.read(8), "little")).rstrip(b" "))
        except DocumentError as error:
            raise TensorFileError(f"is not a proper safetensors file: in its header, {error}") from None
    return entries, metadata


def read_layout(path: Path, max_bytes: int) -> dict[str, dict[str, Entry]]:
    """Read the layout of a file that [`save_state`] wrote, in the order of its tensors.

    Raises:
        `TensorFileError`: as of `read_header`, or if the file does not say the order of its tensors.
    """
    entries, metadata = read_header(path, max_bytes)
    # safetensors sorts tensors itself; the order in which they were saved is in the metadata
    lines = metadata["layout"].split("\n") if metadata.get("layout") else []
    if "layout" not in metadata or not all(":" in line for line in lines):
        raise TensorFileError("does not say the order of its tensors in the metadata `layout`")
    layout: dict[str, dict[str, Entry]] = {}
    for line in lines:
        group, name = line.split(":", 1)
        tensors = layout.setdefault(group, {})
        if name and line not in entries:
            raise TensorFileError(f"lacks the tensor {line!r:.100}, which its metadata `layout` names")
        if name:
            tensors[name] = entries.pop(line)
    if entries:
        raise TensorFileError(f"has the tensor {next(iter(entries))!r:.100}, which its metadata `layout` leaves out")
    return layout


def read_tensors(path: Path, layout: Layout) -> dict[str, dict[str, torch.Tensor]]:
    """Read the tensors of a layout, in its order.

    Args:
        path (`Path`):
            The file.
        layout (`Layout`):
            What it must hold, neither less nor more.

    Raises:
        `TensorFileError`: if the file holds other tensors, or values that are not finite.
    """
    _check_layout(read_layout(path, size_range(layout)[1]), layout)
    with safe_open(path, framework="pt") as file:
        state = {
            group: {name: file.get_tensor(f"{group}:{name}") for name in entries} for group, entries in layout.items()
        }
    for group, tensors in state.items():
        check_finite(group, tensors)
    return state


def check_finite(group: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse tensors with NaN or infinities.

    Raises:
        `TensorFileError`: naming the tensor.
    """
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise TensorFileError(f"has values that are not finite in {group}:{name}")


def _check_layout(found: Layout, expected: Layout) -> None:
    there, wanted = (
        {f"{group}:{name}": entry for group, entries in layout.items() for name, entry in entries.items()}
        for layout in (found, expected)
    )
    if missing := [name for name in wanted if name not in there]:
        raise TensorFileError(f"lacks the tensor {missing[0]!r}{_and_others(missing)}")
    if extra := [name for name in there if name not in wanted]:
        raise TensorFileError(f"has the tensor {extra[0]!r:.100}, which was not asked for{_and_others(extra)}")
    for name, entry in wanted.items():
        if there[name] != entry:
            raise TensorFileError(f"has the tensor {name!r} as {there[name]!s:.80}; it must be {entry}")
    if list(there) != list(wanted) or list(found) != list(expected):
        raise TensorFileError("has its tensors in another order than they were sent in")


def _and_others(names: list[str]) -> str:
    return f" (and {len(names) - 1} others)" if len(names) > 1 else ""
