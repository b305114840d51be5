"""`fedvlm methods`."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence

from ..launch.errors import OneLineParser
from . import HelpFormatter, dedented


def run(argv: Sequence[str]) -> None:
    """List the methods and transforms that are installed, with papers and knobs.

    A method has a client half, a server half, or both. Two halves of different
    methods combine as client+server. Knobs of methods go into --method_kwargs of
    a recipe, knobs of transforms into --transform_kwargs.

    examples:
      Everything that is installed:
        fedvlm methods
      One method, or one transform:
        fedvlm methods fedadam
    """
    parser = OneLineParser("fedvlm methods", description=dedented(run.__doc__), formatter_class=HelpFormatter)
    parser.add_argument("names", nargs="*", help="Names of methods and transforms to show; all by default.")
    print(methods_text(parser.parse_args(argv).names), end="")


def methods_text(names: Sequence[str] = ()) -> str:
    """Return tables of methods, of transforms and of their knobs.

    Args:
        names (`Sequence[str]`, *optional*):
            Names to show. All by default.

    Raises:
        `ValueError`: If a name is unknown.
    """
    # Imports that take seconds are here, so that `fedvlm --help` does not wait for them
    from ..markdown import MISSING, markdown_table
    from ..methods import method_halves
    from ..registry import paper_link, unknown_name_message
    from ..transforms import TRANSFORMS

    methods = method_halves()
    transforms = {name: {"transform": TRANSFORMS.get(name)} for name in TRANSFORMS.names()}
    for name in names:
        if name not in methods and name not in transforms:
            raise ValueError(unknown_name_message("names", name, [*methods, *transforms]))
    parts = []
    for title, found in (("method", methods), ("transform", transforms)):
        shown: Mapping[str, Mapping[str, type]] = {n: found[n] for n in found if not names or n in names}
        if not shown:
            continue
        rows = [
            [name, " and ".join(halves), paper_link(cls) or MISSING, _summary(cls)]
            for name, halves in shown.items()
            for cls in [next(iter(halves.values()))]
        ]
        if title == "transform":
            rows = [[name, *row] for name, _, *row in rows]
        header = [title, *(["halves"] if title == "method" else []), "paper", "description"]
        parts.append(markdown_table(header, rows, num_labels=len(header)))
        knobs = {(name, *knob): None for name, halves in shown.items() for c in halves.values() for knob in _knobs(c)}
        if knobs:  # a knob of both halves is one
            parts.append(markdown_table([title, "knob", "type", "default", "help"], knobs, num_labels=5))
    return "\n".join(parts)


def _summary(cls: type) -> str:
    """Return the first line of a docstring, without the brackets of links."""
    return dedented(cls.__doc__).splitlines()[0].replace("[`", "").replace("`]", "")


def _knobs(cls: type) -> list[list[str]]:
    """Return name, type, default and help of each knob of a class."""
    return [
        [
            field.name,
            _type(field),
            _default(field),
            field.metadata.get("help", ""),
        ]
        for field in dataclasses.fields(cls)
        if field.init
    ]


def _type(field: dataclasses.Field) -> str:
    return inspect.formatannotation(field.type).replace("collections.abc.", "").replace(" | ", " or ")


def _default(field: dataclasses.Field) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return repr(field.default_factory())
    return "required" if field.default is dataclasses.MISSING else repr(field.default)
