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

    def find(self, value: Any) -> ImageFile:
        """Return the file of a path. If it does not exist, it is expected in the first folder.

        Raises:
            `ValueError`: if the value is not the path of a file, or the path leads out of the roots.
        """
        text = _path_text(value)
        places = self._places
        if PurePosixPath(text).is_absolute() or _DRIVE.match(text):
            places, text = self._inside(text), PurePosixPath(text).name
        missing = []
        for root, folder in places:
            path = root.file(text, folder)
            try:
                status = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                missing.append((root, path))
                continue
            if stat.S_ISDIR(status.st_mode):
                raise ValueError(f"{value!r} is a folder, not an image.")
            break
        else:
            (root, path), *missing = missing
        for _, other in missing:
            self._work.missing(other)
        return ImageFile(self._prefixes[root.path] + path.relative_to(root.path).as_posix(), path)

    def _inside(self, text: str) -> list[tuple[RootFolder, Path]]:
        """Return the root that has an absolute path."""
        for root in self._roots.values():
            for start in (root.path.absolute(), root.path.resolve()):
                if PurePosixPath(text).is_relative_to(start):
                    return [(root, root.path / PurePosixPath(text).relative_to(start).parent)]
        raise ValueError(
            f"{text!r} is an absolute path outside of {' and '.join(map(str, self._roots))}. Use a relative path, or "
            "name the folder of the images with `--image_folder`."
        )


def _path_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected is the path of a file, got {value!r:.80}.")
    text = value.strip().replace("\\", "/")  # paths of Windows
    if _ADDRESS.match(text):
        raise ValueError(f"{text[:80]!r} is an address or the image itself, not the path of a file.")
    try:
        is_path = bool(PurePosixPath(text).parts) and "\0" not in text
        is_path = is_path and all(len(os.fsencode(part)) <= _NAME_BYTES for part in text.split("/"))
    except UnicodeEncodeError:
        is_path = False
    if not is_path:
        raise ValueError(f"{text[:80]!r} is not the path of a file.")
    return text


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
