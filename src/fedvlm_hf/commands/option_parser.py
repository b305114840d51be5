"""Options from the fields of dataclasses, without importing transformers, which reads 1,600 files to start."""

import dataclasses
from argparse import ArgumentTypeError
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..launch.errors import OneLineParser


_BOOLEANS = {
    **dict.fromkeys(("yes", "true", "t", "y", "1"), True),
    **dict.fromkeys(("no", "false", "f", "n", "0"), False),
}


class OptionParser(OneLineParser):
    """A parser that makes an option of every field of some dataclasses.

    The options are those that `transformers.HfArgumentParser` makes for fields of the types `str`, `int`, `float` and
    `bool`, for lists and `Literal` of them, and for unions with `None`.

    Args:
        *dataclass_types (`type`):
            The dataclasses. The metadata of a field has `help`, and optionally `aliases`.
        **kwargs:
            Passed to `argparse.ArgumentParser`.
    """

    def __init__(self, *dataclass_types: type, **kwargs: Any):
        super().__init__(**kwargs)
        self._dataclass_types = dataclass_types
        for dataclass_type in dataclass_types:
            hints = get_type_hints(dataclass_type)
            for field in dataclasses.fields(dataclass_type):
                self._add_field(field, hints[field.name])

    def parse_into_dataclasses(self, argv: Sequence[str]) -> tuple[Any, ...]:
        """Return one instance of each dataclass.

        Raises:
            `ValueError`: on an unknown option, or if a dataclass refuses a value.
        """
        values = vars(self.parse_args(argv))
        names = [[field.name for field in dataclasses.fields(own)] for own in self._dataclass_types]
        return tuple(
            own(**{name: values[name] for name in fields})
            for own, fields in zip(self._dataclass_types, names, strict=True)
        )

    def _add_field(self, field: dataclasses.Field, hint: Any) -> None:
        settings = _settings(hint)
        settings["help"] = field.metadata.get("help")
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        settings |= {"required": True} if default is dataclasses.MISSING else {"default": default}
        self.add_argument(*_spellings(field.name), *field.metadata.get("aliases", ()), **settings)
        if default is True:
            no = {"action": "store_false", "dest": field.name, "default": False, "help": settings["help"]}
            self.add_argument(*_spellings(f"no_{field.name}"), **no)


def _spellings(name: str) -> dict[str, None]:
    return dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"])


def _settings(hint: Any) -> dict[str, Any]:
    """Return the settings of `add_argument` that follow from the type of a field."""
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint), "type": type(get_args(hint)[0])}
    if get_origin(hint) is list:
        return {"nargs": "+", **_settings(*get_args(hint))}
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    if kinds == [bool]:
        return {"type": _boolean, **({"nargs": "?", "const": True} if hint is bool else {})}
    return {"type": kinds[0]}


def _boolean(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise ArgumentTypeError(f"{text!r} is neither true nor false: use one of {', '.join(_BOOLEANS)}.")
    return _BOOLEANS[text.lower()]
