"""Turn the image paths of a table into files, without leaving the folder of the data."""

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ...images import ImageFile
from ...work import Work
from ..files import RootFolder


IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Suffixes of image files."""

IMAGE_COLUMNS = ("image", "images", "file_name", "img_name", "image_path", "img_path")
"""Columns that have the image or its path if the user names none, from first to last choice."""

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:(//|.*;base64)")

_DRIVE = re.compile(r"[a-zA-Z]:/")

# The longest name of a file
_NAME_BYTES = 255


class ImagePaths:
    """The folders in which the images of a table are looked for.

    Args:
        places (`Sequence[tuple[Path, Path]]`):
            Folders that paths may be relative to, from first to last choice, each with the folder that no path and no
            symbolic link may leave.
        prefix (`str`):
            Start of the keys of images in the root of the last place. Keys are paths relative to the root.
        work ([`Work`]):
            Records places that do not have an image.
    """

    def __init__(self, places: Sequence[tuple[Path, Path]], prefix: str, work: Work):
        self._roots = {root: RootFolder(root) for root, _ in places}
        self._places = [(self._roots[root], folder) for root, folder in dict.fromkeys(places)]
        self._prefixes = {root: prefix if root == places[-1][0] else "image_folder/" for root in self._roots}
        self._work = work
        self._folders: dict[str, list[_Folder]] = {}

    def find(self, value: Any) -> ImageFile:
        """Return the file of a path. If it does not exist, it is expected in the first folder.

        Raises:
            `ValueError`: if the value is not the path of a file, or the path leads out of the roots.
        """
        text = _path_text(value)
        head, slash, name = text.rpartition("/")
        head = head or slash  # of a file at the top
        if head not in self._folders:  # many images share a folder, and checking a path takes time
            self._folders[head] = self._existing(head, name)
        folders = self._folders[head]
        found = next((index for index, folder in enumerate(folders) if folder.has(name)), None)
        for folder in folders[1:] if found is None else folders[:found]:
            self._work.missing(folder.path / name)
        return folders[found or 0].image(name)

    def _existing(self, head: str, name: str) -> list["_Folder"]:
        """Return the folders in which the images of a path are looked for, or the first one if none exists."""
        if head.startswith("/") or _DRIVE.match(head):
            places = [self._place(PurePosixPath(head), name)]
        else:
            places = [(root, folder / head) for root, folder in self._places]
        folders = []
        for root, path in places:
            inside = path.relative_to(root.path)
            root.file(inside.as_posix())
            key = self._prefixes[root.path] + (f"{inside.as_posix()}/" if inside.parts else "")
            folders.append(_Folder(root, path, key))
            if not path.is_dir():
                self._work.listing(path)  # records that it does not exist
        return [folder for folder in folders if folder.path.is_dir()] or folders[:1]

    def _place(self, head: PurePosixPath, name: str) -> tuple[RootFolder, Path]:
        for root in self._roots.values():
            for start in (root.path.absolute(), root.path.resolve()):
                if head.is_relative_to(start):
                    return root, root.path / head.relative_to(start)
        roots = " and ".join(map(str, self._roots))
        raise ValueError(
            f"{str(head / name)!r} is an absolute path outside of {roots}. Use relative paths, or name the folder of "
            "the images with `--image_folder`."
        )


class _Folder:
    """A folder with images.

    Args:
        root ([`RootFolder`]):
            The folder that links may not leave.
        path (`Path`):
            The folder.
        key (`str`):
            Start of the images' keys.
    """

    def __init__(self, root: RootFolder, path: Path, key: str):
        self.path = path
        self._root, self._key, self._start = root, key, f"{path}/"

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name.

        Raises:
            `ValueError`: if it is a folder, or a link that leads out of the root.
        """
        try:
            status = os.lstat(self._start + name)
            if stat.S_ISLNK(status.st_mode):
                self._root.check(self.path / name)
                status = os.stat(self._start + name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if stat.S_ISDIR(status.st_mode):
            raise ValueError(f"{name!r} is a folder, not an image.")
        return True

    def image(self, name: str) -> ImageFile:
        """Return a file, which need not exist."""
        return ImageFile(self._key + name, self.path / name)


def _path_text(value: Any) -> str:
    """Return a path with slashes, without `.` and `..`."""
    if not isinstance(value, str):
        raise ValueError(f"expected is the path of a file, got {value!r:.80}.")
    text = value.strip().replace("\\", "/")  # paths of Windows
    if _ADDRESS.match(text):
        raise ValueError(f"{text[:80]!r} is an address or the image itself, not the path of a file.")
    path = PurePosixPath(text)
    try:
        is_path = bool(path.name) and "\0" not in text and max(map(len, map(os.fsencode, path.parts))) <= _NAME_BYTES
    except UnicodeEncodeError:
        is_path = False
    if not is_path:
        raise ValueError(f"{text[:80]!r} is not the path of a file.")
    if ".." in path.parts:
        raise ValueError(f"{text!r} must be a path without `..`, inside of the folder of the data.")
    return str(path)


def image_column(rows: Sequence[dict[str, Any]], wanted: str | None, name: str) -> str:
    """Return the column that has the images of a table.

    Args:
        rows (`Sequence[dict[str, Any]]`):
            The first rows.
        wanted (`str`, *optional*):
            The column that the user named.
        name (`str`):
            Name of the table in error messages.

    Raises:
        `ValueError`: listing the columns, if the wanted column does not exist or none has a known name.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    found = [column for column in ([wanted] if wanted else IMAGE_COLUMNS) if column in columns]
    if found:
        return found[0]
    alike = [column for column in columns if any(_is_image_path(row.get(column)) for row in rows)]
    hint = f" {alike[0]!r} looks like it: --image {alike[0]}." if alike else ""
    option = f"`image={wanted!r}` is not a column" if wanted else "`image` must name the column with the images"
    raise ValueError(f"{name}: {option}; the columns are {columns}.{hint}")


def _is_image_path(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower().endswith(IMAGE_SUFFIXES)
