"""Registries of classes by name, from the modules of a package and from plugins of other packages."""

import difflib
import functools
import importlib
import logging
import pkgutil
import re
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar


logger = logging.getLogger(__name__)

T = TypeVar("T", bound=type)

_PAPER = re.compile(r"https://huggingface\.co/papers/[\w.]+")


class Registry(Generic[T]):
    """Classes by name.

    A module of `package` registers its classes when it is imported. All modules of that package are imported on first
    use, so adding a file is enough. Other packages register classes with the same decorator, and name the module that
    does so in an entry point of the group `package`. An entry point that fails is left out with a warning.

    Args:
        kind (`str`):
            What the classes are called in messages.
        package (`str`):
            Package with the built-in classes, which is also the name of the entry point group.
        other_half (`Registry`, *optional*):
            Registry of the same package whose classes are combined with these by name. A name that is in both belongs
            to one module.

    Attributes:
        halves (`list[tuple[str, dict[str, type]]]`): Kind and classes by name of this registry and of those that are
            combined with it, which share this list.

    Example:

    ```python
    >>> from fedvlm_hf.methods import STRATEGIES

    >>> STRATEGIES.get("fedavg").__name__
    'FedAvg'
    ```
    """

    def __init__(self, kind: str, package: str, other_half: "Registry[Any] | None" = None):
        self.kind, self.package = kind, package
        self._classes: dict[str, T] = {}
        self._is_discovered = False
        self.halves: list[tuple[str, dict[str, Any]]] = [] if other_half is None else other_half.halves
        self.halves.append((kind, self._classes))

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers a class under a name.

        Raises:
            `ValueError`: If the name is not a lower-case identifier, if it belongs to another class, or if it belongs
                to the other half of a method in another module.
        """
        if not name.isidentifier() or name != name.lower():
            raise ValueError(f"`name` of a {self.kind} must be a lower-case identifier, got {name!r}.")

        def decorate(cls: T) -> T:
            for kind, classes in self.halves:
                other = classes.get(name)
                if classes is not self._classes and other is not None and other.__module__ != cls.__module__:
                    raise ValueError(
                        f"{self.kind} {name!r} of {cls.__module__} has the name of a {kind} of "
                        f"{other.__module__}: `method` {name!r} would combine the two. Rename one of them, or define "
                        "both in one module if they are the two halves of one method."
                    )
            known = self._classes.setdefault(name, cls)
            if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(f"{self.kind} {name!r} is already registered by {known.__module__}.")
            return cls

        return decorate

    def names(self) -> list[str]:
        """Return all registered names, sorted."""
        self._discover()
        return sorted(self._classes)

    def get(self, name: str) -> T | None:
        """Return the class with this name, or `None`.

        A class in the module of its name is found without importing all other modules, some of which are slow.
        """
        if name not in self._classes and self._has_module(name):
            importlib.import_module(f"{self.package}.{name}")
        if name not in self._classes:
            self._discover()
        return self._classes.get(name)

    def name_of(self, cls: type) -> str | None:
        """Return the name of a class that is registered, or `None`."""
        return next((name for name, known in self._classes.items() if known is cls), None)

    def _has_module(self, name: str) -> bool:
        return any(
            module.name == name for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__)
        )

    def _discover(self) -> None:
        if self._is_discovered:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        # Set before plugins are imported, so that a plugin may ask for the names
        self._is_discovered = True
        load_plugins(self.package, self._forget_failed_imports)

    def _forget_failed_imports(self) -> None:
        """Remove classes that a module registered before it failed, since half of a method may be missing."""
        for _, classes in self.halves:
            for name in [name for name, cls in classes.items() if cls.__module__ not in sys.modules]:
                del classes[name]


def load_plugins(group: str, on_failure: Callable[[], None] = lambda: None) -> None:
    """Import what other packages name in entry points of a group. One that fails is left out with a warning.

    Args:
        group (`str`):
            The group, which is the name of the package that the plugins add to.
        on_failure (`Callable[[], None]`, *optional*):
            Called after a plugin has failed.
    """
    for entry_point in sorted(entry_points(group=group), key=lambda plugin: plugin.name):
        try:
            entry_point.load()
        except Exception as error:
            on_failure()
            _warn_once(
                f"The plugin {entry_point.name!r} of the package {entry_point.dist.name!r} is disabled, because "
                f"{entry_point.module} cannot be imported ({type(error).__name__}: {error}). Repair or uninstall "
                f"that package. Its entry point is in the group {group!r}."
            )


@functools.cache
def _warn_once(message: str) -> None:
    """Log a warning. Two registries of one package meet the same broken plugin."""
    logger.warning(message)


def paper_link(cls: type) -> str | None:
    """Return the first link to a paper in the docstring of the module that defines a class, or `None`."""
    found = _PAPER.search(sys.modules[cls.__module__].__doc__ or "")
    return found.group() if found else None


def did_you_mean(name: str, known: Sequence[str], quote: str = "'", most: int = 3) -> str:
    """Return a sentence with the closest known names, or an empty text if none is close.

    Args:
        name (`str`):
            The name that is not known.
        known (`Sequence[str]`):
            The valid names.
        quote (`str`, *optional*):
            Stands before and after each name: an apostrophe for values, a backtick for options.
        most (`int`, *optional*, defaults to 3):
            How many names are suggested at most.
    """
    near = difflib.get_close_matches(name, known, n=most)
    return f" Did you mean {' or '.join(f'{quote}{other}{quote}' for other in near)}?" if near else ""


def unknown_name_message(argument: str, name: str, names: list[str]) -> str:
    """Return a message for an unknown name, with the closest valid names first and then all of them."""
    return f"`{argument}` {name!r} is unknown.{did_you_mean(name, names)} Valid are: {', '.join(names)}."
