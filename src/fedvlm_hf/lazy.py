"""Import public names on first use, since transformers and trl take seconds and many modules do not need them."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_attributes(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package.

    Args:
        package (`str`):
            The `__name__` of the package.
        homes (`Mapping[str, str]`):
            For each public name, the module of the package that defines it.

    Returns:
        `Callable[[str], Any]`: A function that imports an object by name and raises `AttributeError` for other names.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{homes[name]}", package), name)

    return get
