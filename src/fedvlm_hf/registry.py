"""A name resolves to a file: registries that find a package's own modules and those that other packages register."""

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Generic, TypeVar


T = TypeVar("T", bound=type)


class Registry(Generic[T]):
    """Classes by name.

    A module of `package` registers its classes when it is imported, and every module of that package is imported on
    first use, so a new file is enough. Another package registers with the same decorator and names the module that
    does so under the entry point group `group`.

    Args:
        kind (`str`):
            What is registered, for messages.
        package (`str`):
            Package whose modules hold the built-in classes; also the entry point group.

    Example:

    ```python
    >>> from fedvlm_hf.methods import STRATEGIES

    >>> STRATEGIES.get("fedavg").__name__
    'FedAvg'
    ```
    """

    def __init__(self, kind: str, package: str):
        self.kind, self.package = kind, package
        self._classes: dict[str, T] = {}
        self._is_discovered = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorate a class to register it under a name.

        Raises:
            `ValueError`: if the name is not a lower-case identifier or another class has it.
        """
        if not name.isidentifier() or name != name.lower():
            raise ValueError(f"`name` of a {self.kind} must be a lower-case identifier, got {name!r}.")

        def decorate(cls: T) -> T:
            known = self._classes.setdefault(name, cls)
            if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(f"{self.kind} {name!r} is registered already, by {known.__module__}.")
            return cls

        return decorate

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        self._discover()
        return sorted(self._classes)

    def get(self, name: str) -> T | None:
        """The class of a name, or `None`."""
        self._discover()
        return self._classes.get(name)

    def _discover(self) -> None:
        if self._is_discovered:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        for entry_point in entry_points(group=self.package):
            try:
                entry_point.load()
            except Exception as error:
                error.add_note(
                    f"This came from the entry point {entry_point.name!r} of the package {entry_point.dist.name!r}, "
                    f"in the group {self.package!r}. Repair or uninstall that package."
                )
                raise
        # Only now: after a failure the next call must fail too, and not work with half of the classes
        self._is_discovered = True


def unknown_name_message(argument: str, name: str, names: list[str]) -> str:
    """Text for an unknown name: the nearest valid ones first, then all of them."""
    near = difflib.get_close_matches(name, names, n=3)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"`{argument}` {name!r} is unknown.{hint} Valid are: {', '.join(names)}."
