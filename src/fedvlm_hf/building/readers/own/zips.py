"""Unpack zip files without letting them write outside of their folder."""

import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ....files import file_sha256
from ...work import Work


_CHUNK_BYTES = 2**20

# Folders of zips that are unpacked while no build is running. They are removed when the process ends.
_temporary: list[tempfile.TemporaryDirectory] = []


def unpack(path: Path, label: str, work: Work) -> Path:
    """Unpack a zip file into the folder of the build, where an interrupted build finds it again.

    Args:
        path (`Path`):
            The file.
        label (`str`):
            Its name in error messages.
        work ([`Work`]):
            The build.

    Returns:
        `Path`: the folder; if the zip has only one folder at the top, this folder.

    Raises:
        `ValueError`: naming file and member, if the zip is damaged, encrypted or larger than the free disk space, or a
            member would be written outside of the folder, is a link, or has the name of another one.
    """
    target = _folder(work) / file_sha256(path)[:16]
    if not target.exists():
        temporary = target.with_name(f".{target.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            with zipfile.ZipFile(path) as archive:
                members = _checked(archive, label)
                _check_space(members, temporary, label)
                for name, member in members.items():
                    _write(archive, member, temporary / name)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            raise ValueError(f"{label} is not a complete zip file ({error}).") from error
        os.replace(temporary, target)
    inside = list(target.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else target


def _folder(work: Work) -> Path:
    if work.folder is not None:
        return work.folder / "unpacked"
    _temporary.append(tempfile.TemporaryDirectory(prefix="fedvlm-"))
    return Path(_temporary[-1].name)


def _checked(archive: zipfile.ZipFile, label: str) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Return the files of an archive by their paths, without hidden ones and those that macOS adds."""
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    known: dict[str, str] = {}
    for member in archive.infolist():
        where = f"{label}: the member {member.filename!r}"
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or (path.parts[:1] and ":" in path.parts[0]) or "\0" in str(path):
            raise ValueError(f"{where} would be written outside of the folder. Make the zip again.")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"{where} is a link or a device. Add the file itself.")
        if member.flag_bits & 1:
            raise ValueError(f"{where} is encrypted. Unpack the zip with its password first.")
        if member.is_dir() or any(part == "__MACOSX" or part.startswith(".") for part in path.parts):
            continue
        lower = str(path).lower()
        if lower in known:
            raise ValueError(f"{where} has the same name as {known[lower]!r}. Rename one of them.")
        known[lower] = member.filename
        folders |= {str(parent).lower() for parent in path.parents}
        members[path] = member
    if clash := folders & known.keys():
        raise ValueError(f"{label}: {known[min(clash)]!r} is a file and a folder. Make the zip again.")
    if not members:
        raise ValueError(f"{label} has no files.")
    return members


def _check_space(members: dict[PurePosixPath, zipfile.ZipInfo], folder: Path, label: str) -> None:
    needed, free = sum(member.file_size for member in members.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{label} needs {needed / 1e9:.1f} GB when it is unpacked, but {folder.anchor} has only {free / 1e9:.1f} "
            "GB left."
        )


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, _CHUNK_BYTES)
