"""Public names that are imported on first use: transformers and trl take seconds, and many modules need neither."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_attributes(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`.

    Args:
        package (`str`):
            The package's `__name__`.
        homes (`Mapping[str, str]`):
            Public name to the module below the package that has it.

    Returns:
        `Callable[[str], Any]`: from name to object; an unknown name is an `AttributeError`.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{homes[name]}", package), name)

    return get
