"""Write files and folders atomically: readers never see a partial one, even if the process is killed."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def round_tag(round_idx: int) -> str:
    """Return the name of a round's folder, which is also its tag on the Hub, such as `"round-0003"`."""
    return f"round-{round_idx:04d}"


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, without reading the whole file into memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def path_from_here(path: str | os.PathLike[str]) -> str:
    """Return the path of a folder from the current directory, such as `"./out/run"` or `"../models/base"`.

    It starts with a dot, so that nothing takes it for the id of a repository on the Hub.
    """
    try:
        relative = Path(os.path.relpath(path)).as_posix()
    except ValueError:  # on another drive of Windows there is no relative path
        return str(path)
    return relative if relative.startswith("..") else f"./{relative}"


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file under a temporary name, flush it to disk and rename it to `path`.

    The temporary name depends only on `path`, so the next write overwrites a file that a killed process left.

    Args:
        path (`str` or `os.PathLike`):
            The file. Missing parent folders are created.
        content (`str` or `bytes`):
            The whole content. Text is written as UTF-8.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    _flush(temporary)
    os.replace(temporary, path)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill, then flush it to disk and rename it to `path`, which must not exist yet.

    The temporary name depends only on `path` and starts with a dot. A folder that a killed process left is removed
    first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    yield temporary
    move_folder(temporary, path)


def move_folder(folder: Path, path: Path) -> None:
    """Flush a finished folder to disk and rename it to `path`, which is on the same disk and must not exist yet.

    Its files get the permissions that the umask gives to new files: safetensors writes files that only their owner can
    read. The permissions of the folder show the umask, which a process cannot read without changing it.
    """
    permissions = folder.stat().st_mode & 0o666
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            file.chmod(permissions)
        _flush(file)
    _flush(folder)
    os.replace(folder, path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    """Flush a file or folder to disk, so that it is complete even if the power fails after the rename."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
