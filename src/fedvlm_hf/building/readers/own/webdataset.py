"""Read tar files in the layout of WebDataset, without unpacking them."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ...images import StoredImage
from ...work import Work
from ..json_stream import MAX_VALUE_CHARACTERS, parse_json
from .image_paths import IMAGE_SUFFIXES
from .rows import OwnRow
from .tables import without_missing


_TEXT_SUFFIXES = (".json", ".txt", ".cls")

# Values of a sample's JSON that have its answer
_ANSWERS = {"answer", "caption", "completion", "conversations", "messages"}

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True)
class TarImage(StoredImage):
    """An image in a tar file.

    Attributes:
        key (`str`): Name of the image.
        path (`Path`): The tar file.
        offset (`int`), size (`int`): Where the image's bytes are.
    """

    key: str
    path: Path
    offset: int
    size: int

    def load(self) -> bytes:
        """Return the image's bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def tar_rows(path: Path, label: str, key: str, work: Work) -> Iterator[OwnRow]:
    """Read the samples of a tar file.

    The members of a sample follow each other and have the same name up to the first dot of the file name: an image,
    and `.json` with values, `.txt` with the answer or `.cls` with a class.

    Args:
        path (`Path`):
            The file, not compressed.
        label (`str`):
            Its name in error messages.
        key (`str`):
            Start of the keys of its images.
        work ([`Work`]):
            Counts members that are not read.

    Yields:
        [`OwnRow`]: known by the members' name.

    Raises:
        `ValueError`: naming file and member, if the file is truncated or compressed, has links or devices, or a name
            occurs twice.
    """
    known: set[str] = set()
    unread: dict[str, int] = {}
    for sample, members in _samples(path, label):
        if sample in known:
            raise ValueError(
                f"{label}: the sample {sample!r} occurs twice. The members of a sample must follow each other, and "
                "names must be unique."
            )
        known.add(sample)
        for suffix in members.keys() - {*IMAGE_SUFFIXES, *_TEXT_SUFFIXES}:
            unread[suffix] = unread.get(suffix, 0) + 1
        yield _row(sample, members, path, label, key)
    if not known:
        raise ValueError(f"{label} has no samples. Add files or remove the tar.")
    for suffix, count in sorted(unread.items()):
        work.counts.note(f"members {suffix} of {path.name} that are not read", count)


def _row(sample: str, members: dict[str, tarfile.TarInfo], path: Path, label: str, key: str) -> OwnRow:
    where = f"{label}, sample {sample!r}"
    images = [member for suffix, member in members.items() if suffix in IMAGE_SUFFIXES]
    image = None
    if len(images) == 1:
        image = TarImage(f"{key}/{images[0].name}", path, images[0].offset_data, images[0].size)
    texts = {suffix: _text(path, members[suffix], label) for suffix in _TEXT_SUFFIXES if suffix in members}
    values: Any = parse_json(texts[".json"], f"{label}, {members['.json'].name}") if ".json" in texts else {}
    if not isinstance(values, dict):
        raise ValueError(f"{label}, {members['.json'].name}: expected is an object, got a {type(values).__name__}.")
    return OwnRow(sample, where, without_missing(_with_texts(values, texts)), image, len(images))


def _with_texts(values: dict[str, Any], texts: dict[str, str]) -> dict[str, Any]:
    """Add the text and the class of a sample, unless its JSON has an answer."""
    values = dict(values)
    if ".cls" in texts:
        values.setdefault("label", texts[".cls"].strip())
    if _ANSWERS & values.keys():
        return values
    if ".txt" in texts:
        return {**values, "answer": texts[".txt"].strip()}
    if ".cls" in texts:
        return {**values, "answer": texts[".cls"].strip(), "task": values.get("task", "classification")}
    return values


def _text(path: Path, member: tarfile.TarInfo, label: str) -> str:
    where = f"{label}, {member.name}"
    if member.size > MAX_VALUE_CHARACTERS:
        raise ValueError(f"{where}: a text of more than {MAX_VALUE_CHARACTERS:,} bytes.")
    try:
        return TarImage("", path, member.offset_data, member.size).load().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not text in UTF-8 ({error.reason}).") from error


def _samples(path: Path, label: str) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Yield the name of each sample with its members by suffix."""
    name, members = "", {}
    for member in _members(path, label):
        sample, suffix = _split(member.name)
        if sample != name and members:
            yield name, members
            members = {}
        if suffix in members:
            raise ValueError(f"{label}: the member {member.name!r} occurs twice.")
        name = sample
        members[suffix] = member
    if members:
        yield name, members


def _members(path: Path, label: str) -> Iterator[tarfile.TarInfo]:
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(_COMPRESSED):
        raise ValueError(f"{label} is a compressed tar, whose images cannot be read in place. Unpack it first.")
    try:
        with tarfile.open(path, "r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # or all members would stay in memory
                if member.isdir() or PurePosixPath(member.name).name.startswith("."):
                    continue
                if not member.isreg() or member.issparse():
                    kind = "a link" if member.issym() or member.islnk() else "not a plain file"
                    raise ValueError(f"{label}: the member {member.name!r} is {kind}. Add the file itself.")
                yield member
            # A tar ends with blocks of zeros; without them it may have been cut between two members
            if path.stat().st_size < archive.offset + tarfile.BLOCKSIZE:
                raise tarfile.ReadError("unexpected end of data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{label} is not a complete tar file ({error}).") from error


def _split(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    stem, _, suffix = path.name.partition(".")
    return (path.parent / stem).as_posix(), f".{suffix.lower()}"
