"""JSON documents of a protocol: frozen dataclasses that are read strictly."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError


T = TypeVar("T")

PROTOCOL = 2
"""Version of everything that server and clients exchange."""


class DocumentError(ValueError):
    """A document that does not follow the protocol."""


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def to_json(value: Any) -> bytes:
    """Write JSON and keep the order of keys, which is the order of tensors. NaN and infinities are errors."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def from_json(content: bytes) -> Any:
    """Parse JSON from somebody else.

    Python's parser alone accepts repeated keys, `NaN`, `1e999` and integers of any length; pydantic's does too, except
    for `NaN`.

    Raises:
        `DocumentError`: if it is not UTF-8 JSON, repeats a key, or holds a number that is not finite or an integer
            beyond 64 bits.
    """
    try:
        return json.loads(
            content.decode(),
            object_pairs_hook=_object,
            parse_constant=_finite,
            parse_float=_finite,
            parse_int=_integer,
        )
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, DocumentError) else "it is cut off or not UTF-8 JSON"
        raise DocumentError(reason) from None


def read_as(kind: type[T], content: bytes, extra: Literal["ignore", "forbid"] | None = None) -> T:
    """Read JSON from somebody else as a dataclass, and check every field against its annotation.

    A `bool` is not accepted as a number, and a number is not accepted as text or the other way round.

    Args:
        kind (`type`):
            The dataclass.
        content (`bytes`):
            The JSON.
        extra (`str`, *optional*):
            What to do about fields that the dataclass does not have, by default what its configuration says.

    Raises:
        `DocumentError`: naming the field that is missing, unknown or of another type, and as [`from_json`].
    """
    from_json(content)
    try:
        return _adapter(kind).validate_json(content, strict=True, extra=extra)
    except ValidationError as error:
        raise DocumentError(_reason(error)) from None


@dataclass(frozen=True)
class Document:
    """A frozen dataclass that is a JSON file, read by [`read_as`]; fields that it does not know are errors."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        return to_json(asdict(self))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read a file.

        Raises:
            `DocumentError`: naming the field that is missing, unknown or of another type.
        """
        value = from_json(content)
        if not isinstance(value, dict):
            raise DocumentError(f"it is a {type(value).__name__} and not an object")
        if value.get("protocol") != cls.protocol:
            raise DocumentError(
                f"its `protocol` is {value.get('protocol')!r:.40} and not {cls.protocol}: both sides need the same "
                "version of fedvlm_hf"
            )
        return read_as(cls, content)


@cache
def _adapter(cls: type) -> TypeAdapter:
    return TypeAdapter(cls)


def _reason(error: ValidationError) -> str:
    """Put the first thing that is wrong into words."""
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"it lacks the field `{field}`"
    if first["type"] == "unexpected_keyword_argument":
        return f"it has the unknown field {field!r:.40}"
    return f"its `{field:.60}` is {first['input']!r:.60}: {first['msg']}"


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise DocumentError("it has a key twice")
    return value


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise DocumentError(f"it has the number {text:.40}, which is not finite")
    return value


def _integer(text: str) -> int:
    if abs(value := int(text)) >= 2**63:
        raise DocumentError(f"it has the integer {text:.40}, which is beyond 64 bits")
    return value
