"""The pickle opcodes for plain data, without those that import, create or call an object.

The opcodes are documented in the standard library's `pickletools`. Nothing of the module `pickle` is used.
"""

import codecs
import struct
from collections.abc import Callable
from typing import Any


class Machine:
    """The state of reading a pickle: its content, the current position, the stack and the memo."""

    def __init__(self, content: bytes):
        self.content, self.position = content, 0
        self.stack: list[Any] = []
        self.below_marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        if not 0 <= size <= len(self.content) - self.position:
            raise ValueError("the file is truncated")
        self.position += size
        return self.content[self.position - size : self.position]

    def line(self) -> bytes:
        """Return the bytes up to the next newline, without the newline."""
        end = self.content.find(b"\n", self.position)
        if end < 0:
            raise ValueError("the file is truncated")
        return self.take(end + 1 - self.position)[:-1]

    def number(self, layout: str) -> Any:
        """Read a number in one of the formats of `struct`."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def mark(self) -> None:
        """Push a mark on the stack."""
        self.below_marks.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        """Pop all values above the last mark, and the mark."""
        items, self.stack = self.stack, self.below_marks.pop()
        return items

    def last(self, count: int) -> tuple[Any, ...]:
        """Pop the last `count` values."""
        if count > len(self.stack):
            raise IndexError("too few values on the stack")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        return items

    def append(self, items: list[Any]) -> None:
        """Extend the list on top of the stack."""
        list.extend(self.stack[-1], items)  # the method of list, so that any other type is a TypeError

    def set_items(self, items: list[Any]) -> None:
        """Add alternating keys and values to the dict on top of the stack."""
        dict.update(self.stack[-1], _pairs(items))


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _protocol(machine: Machine) -> None:
    protocol = machine.number("<B")
    if protocol > 2:
        raise ValueError(f"protocol {protocol}; supported are 0 to 2: save it again with protocol 2, or as JSON")


def _integer(machine: Machine) -> None:
    line = machine.line()
    # Protocol 0 writes booleans as numbers with a leading zero
    machine.stack.append({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line))


def _quoted(machine: Machine) -> None:
    line = machine.line()
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1] != line[0]:
        raise ValueError("a string without its quotes")
    machine.stack.append(_text(codecs.escape_decode(line[1:-1])[0]))


def _push(read: Callable[[Machine], Any]) -> Callable[[Machine], None]:
    def push(machine: Machine) -> None:
        value = read(machine)  # before the stack is accessed, because popping a mark replaces the stack
        machine.stack.append(value)

    return push


def _put(read: Callable[[Machine], int]) -> Callable[[Machine], None]:
    return lambda machine: machine.memo.__setitem__(read(machine), machine.stack[-1])


def _get(read: Callable[[Machine], int]) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(machine.memo[read(machine)])


def _long(content: bytes) -> int:
    return int.from_bytes(content, "little", signed=True)


ACTIONS: dict[str, Callable[[Machine], None]] = {
    "PROTO": _protocol,
    "MARK": Machine.mark,
    "NONE": _push(lambda m: None),
    "NEWTRUE": _push(lambda m: True),
    "NEWFALSE": _push(lambda m: False),
    "INT": _integer,
    "BININT": _push(lambda m: m.number("<i")),
    "BININT1": _push(lambda m: m.number("<B")),
    "BININT2": _push(lambda m: m.number("<H")),
    "LONG": _push(lambda m: int(m.line().removesuffix(b"L"))),
    "LONG1": _push(lambda m: _long(m.take(m.number("<B")))),
    "LONG4": _push(lambda m: _long(m.take(m.number("<i")))),
    "FLOAT": _push(lambda m: float(m.line())),
    "BINFLOAT": _push(lambda m: m.number(">d")),
    "STRING": _quoted,
    "BINSTRING": _push(lambda m: _text(m.take(m.number("<i")))),
    "SHORT_BINSTRING": _push(lambda m: _text(m.take(m.number("<B")))),
    "UNICODE": _push(lambda m: str(m.line(), "raw-unicode-escape")),
    "BINUNICODE": _push(lambda m: str(m.take(m.number("<I")), "utf-8")),
    "EMPTY_LIST": _push(lambda m: []),
    "LIST": _push(lambda m: m.since_mark()),
    "APPEND": lambda m: m.append([*m.last(1)]),
    "APPENDS": lambda m: m.append(m.since_mark()),
    "EMPTY_DICT": _push(lambda m: {}),
    "DICT": _push(lambda m: _pairs(m.since_mark())),
    "SETITEM": lambda m: m.set_items([*m.last(2)]),
    "SETITEMS": lambda m: m.set_items(m.since_mark()),
    "EMPTY_TUPLE": _push(lambda m: ()),
    "TUPLE": _push(lambda m: tuple(m.since_mark())),
    "TUPLE1": _push(lambda m: m.last(1)),
    "TUPLE2": _push(lambda m: m.last(2)),
    "TUPLE3": _push(lambda m: m.last(3)),
    "PUT": _put(lambda m: int(m.line())),
    "BINPUT": _put(lambda m: m.number("<B")),
    "LONG_BINPUT": _put(lambda m: m.number("<I")),
    "GET": _get(lambda m: int(m.line())),
    "BINGET": _get(lambda m: m.number("<B")),
    "LONG_BINGET": _get(lambda m: m.number("<I")),
}
"""The action of each opcode for plain data, by its name in `pickletools`. STOP is handled by the caller."""
