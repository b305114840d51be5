"""Read plain data from a pickle without unpickling it. No opcode that imports, creates or calls objects is executed.

RefCOCO's `refs(unc).p` is a pickle of Python 2, and `pickle.load` executes any code in a pickle. This reader knows the
opcodes of protocols 0 to 2 for lists, dicts, tuples, strings, numbers, booleans and None, and stops at every other
opcode.
"""

import pickletools
from pathlib import Path
from typing import Any

from .files import unreadable
from .plain_opcodes import ACTIONS, Machine


MAX_BYTES = 512 * 2**20
"""Largest file that is read, since objects need several times its size. RefCOCO's 50,000 refs have about 40 MB."""
MAX_DEPTH = 32
"""Largest depth of nested containers; RefCOCO's refs have five levels."""

_NAMES = {opcode.code.encode("latin-1"): opcode.name for opcode in pickletools.opcodes}


def load(path: str | Path) -> Any:
    """Read a pickle of plain data.

    Args:
        path (`str` or `Path`):
            A pickle of protocol 0, 1 or 2, of Python 2 or 3.

    Returns:
        `Any`: lists, dicts, tuples, strings, ints, floats, booleans and None. Python 2's byte strings are decoded as
            UTF-8, or as Latin-1 if they are not UTF-8.

    Raises:
        `ValueError`: naming path and byte, if the pickle has an opcode that plain data do not need, is truncated or
            damaged, has data after its end, or has containers that are nested deeper than `MAX_DEPTH` or contain
            themselves; or if the file is missing or larger than `MAX_BYTES`.

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
            raise ValueError(f"{path} has {size:,} bytes, but pickles of at most {MAX_BYTES:,} bytes are read.")
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error, "a pickle of plain data") from error
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
                f"{path}, byte {offset}: the pickle has the opcode {name}, but only plain data of protocols 0 to 2 "
                "are read. Opcodes that import, create or call objects are refused, since they could execute code. "
                "Nothing was executed. Get the file from its official source, or export it as JSON if you trust it."
            )
        try:
            machine.take(1)
            if name != "STOP":
                ACTIONS[name](machine)
                continue
            (value,) = machine.last(1)
            if machine.stack or machine.below_marks or machine.position < len(machine.content):
                raise ValueError("data are left over at its end")
        except (ValueError, IndexError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{path}, byte {offset}: damaged at {name if code else 'its end'} ({reason}).") from error
        return value


def _check_depth(value: Any, path: Path) -> None:
    level = {id(value): value}
    for _ in range(MAX_DEPTH):
        # by identity, so that a container with several references is visited once per level
        level = {
            id(child): child
            for parent in level.values()
            if isinstance(parent, list | tuple | dict)
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, list | tuple | dict)
        }
        if not level:
            return
    raise ValueError(f"{path} has containers nested deeper than {MAX_DEPTH} levels, or in themselves; refs do not.")
