"""The content of an object as text by path, so that it can be compared at two moments."""

import hashlib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from types import FunctionType, ModuleType
from typing import Any

import torch

from ..tensors import TensorDict


_PLAIN = (str, bytes, int, float, complex, bool, type(None), type, ModuleType)


def fingerprint(value: Any) -> dict[str, str]:
    """List everything that an object holds: attributes, items and tensors at any depth, and attributes of its class.

    The closure and the default values of a function count too, since a list can hide in either.

    Args:
        value (`Any`):
            The object.

    Returns:
        `dict[str, str]`: The content by path.

    Example:

    ```python
    >>> from fedvlm_hf.testing.fingerprint import fingerprint

    >>> fingerprint({"a": [1, "x"]})
    {"['a'][0]": '1', "['a'][1]": "'x'", "['a']": 'list of 2', '': 'dict of 1'}
    ```
    """
    return dict(_walk(value, "", set()))


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the paths whose content has changed, in sorted order."""
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))


def _walk(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, str]]:
    if isinstance(value, _PLAIN):
        yield path, repr(value)
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    for place, part in _parts(value):
        yield from _walk(part, path + place, seen)
    yield path, _content(value)


def _content(value: Any) -> str:
    """Describe an object itself, without its parts."""
    if isinstance(value, TensorDict):
        return value.digest()
    if isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(flat.numpy().tobytes()).hexdigest()}"
    if isinstance(value, Mapping | AbstractSet | list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__qualname__ if _has_parts(value) else repr(value)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, TensorDict | torch.Tensor):
        return
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, AbstractSet):
        yield from ((f"{{{part!r}}}", part) for part in value)
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, FunctionType):
        yield from _parts_of_function(value)
    elif _has_parts(value):
        yield from ((f".{name}", part) for name, part in vars(value).items())
        yield from _parts_of_class(type(value))


def _has_parts(value: Any) -> bool:
    return hasattr(value, "__dict__") and not isinstance(value, FunctionType)


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name != "__class__":  # what `super()` closes over
            yield f".{name}", cell.cell_contents
    for index, default in enumerate(function.__defaults__ or ()):
        yield f".default{index}", default


def _parts_of_class(cls: type) -> Iterator[tuple[str, Any]]:
    for base in cls.__mro__[:-1]:
        for name, part in vars(base).items():
            if not name.startswith("__") and not isinstance(part, property | classmethod | staticmethod):
                yield f".{base.__qualname__}.{name}", part
