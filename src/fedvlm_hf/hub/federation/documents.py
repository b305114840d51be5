"""JSON documents of a protocol: frozen dataclasses that are read strictly."""

import hashlib
import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self, get_args, get_origin, get_type_hints


class DocumentError(ValueError):
    """A document that is not what the protocol says."""


def sha256_of(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def to_json(value: Any) -> bytes:
    """JSON in the value's own order, which says how tensors follow each other. NaN and infinities are errors."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def from_json(content: bytes) -> Any:
    """Parse JSON from a stranger.

    Raises:
        `DocumentError`: if it is no UTF-8 JSON, names a key twice, or holds a number that is not finite.
    """
    try:
        return json.loads(content.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, DocumentError) else "it is cut off or not UTF-8 JSON"
        raise DocumentError(reason) from None


@dataclass(frozen=True)
class Document:
    """A frozen dataclass as a JSON file; every field is checked against its annotation when it is read."""

    def to_bytes(self) -> bytes:
        """The file."""
        return to_json(asdict(self))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read a file.

        Raises:
            `DocumentError`: naming the field that is missing, unknown or of another type.
        """
        value = from_json(content)
        hints = get_type_hints(cls)
        names = [field.name for field in fields(cls)]
        if not isinstance(value, dict):
            raise DocumentError(f"it is a {type(value).__name__} and not an object")
        if value.get("protocol") != cls.protocol:
            raise DocumentError(
                f"its `protocol` is {value.get('protocol')!r:.40} and not {cls.protocol}: the two sides need the same "
                "version of fedvlm_hf"
            )
        if missing := [name for name in names if name not in value]:
            raise DocumentError(f"it lacks {', '.join(missing)}")
        if unknown := sorted(value.keys() - set(names)):
            raise DocumentError(f"it has the unknown field {unknown[0]!r:.40}")
        for name in names:
            if not _matches(value[name], hints[name]):
                raise DocumentError(f"its `{name}` is {value[name]!r:.60}, which is no {_in_words(hints[name])}")
        return cls(**value)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise DocumentError("it has a key twice")
    return value


def _refuse_constant(name: str) -> None:
    raise DocumentError(f"it has the number {name}, which is not finite")


def _matches(value: Any, hint: Any) -> bool:
    """Whether a JSON value is of an annotated type; a bool is no number."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return any(_matches(value, argument) for argument in arguments)
    if origin is dict:
        return isinstance(value, Mapping) and all(_matches(entry, arguments[1]) for entry in value.values())
    if origin is list:
        return isinstance(value, list) and all(_matches(entry, arguments[0]) for entry in value)
    if hint is Any:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float if hint is float else hint):
        return False
    return not isinstance(value, int | float) or abs(value) < 2**63  # neither infinite, nor an int beyond any float


def _in_words(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
