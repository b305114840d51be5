"""Writing files and folders so that a reader, or a kill, never meets half of one."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def round_tag(round_idx: int) -> str:
    """`"round-0003"`: the name of a round's folder, and of its tag on the Hub."""
    return f"round-{round_idx:04d}"


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits; in memory is a small part at a time."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write `content` beside `path`, flush it to disk and move it into place.

    The temporary name depends on `path` alone, so what a killed process left is overwritten by the next write.

    Args:
        path (`str` or `os.PathLike`):
            The file. Missing parent folders are made.
        content (`str` or `bytes`):
            The whole content; text is written as UTF-8.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    _flush(temporary)
    os.replace(temporary, path)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill, flush it to disk and move it to `path`, which must not exist yet.

    The temporary name depends on `path` alone and starts with a dot; what a killed process left is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    yield temporary
    move_folder(temporary, path)


def move_folder(folder: Path, path: Path) -> None:
    """Flush a finished folder to disk and move it to `path` on the same disk, which must not exist yet."""
    for file in sorted(folder.rglob("*")):
        _flush(file)
    _flush(folder)
    os.replace(folder, path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    """Hand a file's or folder's content to the disk, so that a power cut after the rename finds it whole."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
