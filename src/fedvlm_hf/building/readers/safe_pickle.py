"""Plain data out of a pickle, without unpickling it: no opcode that names, builds or calls anything is carried out.

RefCOCO's `refs(unc).p` is a pickle of Python 2, and `pickle.load` runs whatever a pickle says. This reader knows the
opcodes of protocols 0 to 2 that lists, dicts, tuples, strings, numbers, booleans and None are made of, and refuses
every other before reading on.
"""

import pickletools
from pathlib import Path
from typing import Any

from .plain_opcodes import ACTIONS, Machine


MAX_BYTES = 512 * 2**20
"""A larger file is refused, since objects take several times its size; 50,000 refs, as RefCOCO has, are some 40 MB."""
MAX_DEPTH = 32
"""Containers in containers; RefCOCO's refs have five."""

_NAMES = {opcode.code.encode("latin-1"): opcode.name for opcode in pickletools.opcodes}


def load(path: str | Path) -> Any:
    """Reads a pickle of plain data.

    Args:
        path (`str` or `Path`):
            A pickle of protocol 0, 1 or 2, of Python 2 or 3.

    Returns:
        `Any`: lists, dicts, tuples, strings, ints, floats, booleans and None. Python 2's byte strings are read as
        UTF-8, or as Latin-1 where they are not.

    Raises:
        `ValueError`: naming path and byte, if the pickle holds an opcode that plain data do not need, is cut off or
            broken, goes on after its end, or holds containers deeper than `MAX_DEPTH` or in themselves; if the file
            is missing or larger than `MAX_BYTES`.

    Example:

    ```python
    >>> from fedvlm_hf.building.readers.safe_pickle import load

    >>> load("refcoco/refs(unc).p")[0]["split"]  # doctest: +SKIP
    'train'
    ```
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"{path} has {size:,} bytes, more than the {MAX_BYTES:,} that are read as a pickle.")
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise ValueError(f"There is no file {path}.") from error
    value = _run(Machine(content), path)
    _check_depth(value, path)
    return value


def _run(machine: Machine, path: Path) -> Any:
    while True:
        offset = machine.position
        code = machine.content[offset : offset + 1]
        name = _NAMES.get(code, f"byte {code!r}")
        if code and name != "STOP" and name not in ACTIONS:
            raise ValueError(
                f"{path}, byte {offset}: the pickle holds {name}, and only plain data of protocols 0 to 2 are read; "
                "what names, builds or calls an object is refused, since it could run code. Nothing was run. Get the "
                "file from its official source, or export it as JSON where you trust it."
            )
        try:
            machine.take(1)
            if name != "STOP":
                ACTIONS[name](machine)
                continue
            (value,) = machine.last(1)
            if machine.stack or machine.below_marks or machine.position < len(machine.content):
                raise ValueError("something is left over at its end")
        except (ValueError, IndexError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{path}, byte {offset}: broken at {name if code else 'its end'} ({reason}).") from error
        return value


def _check_depth(value: Any, path: Path) -> None:
    level = {id(value): value}
    for _ in range(MAX_DEPTH):
        # by identity: a container that is referred to often is looked at once a level
        level = {
            id(child): child
            for parent in level.values()
            if isinstance(parent, list | tuple | dict)
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, list | tuple | dict)
        }
        if not level:
            return
    raise ValueError(f"{path} holds containers deeper than {MAX_DEPTH} levels, or in themselves; refs are not so.")
