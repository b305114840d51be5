"""Turn the image paths of a table into files, without leaving the folder of the data."""

import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ...images import ImageFile


IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Suffixes of image files."""

IMAGE_COLUMNS = ("image", "images", "file_name", "img_name", "image_path", "img_path")
"""Columns that have the image or its path if the user names none, from first to last choice."""

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:(//|.*;base64)")

# The longest name of a file
_NAME_BYTES = 255


class ImagePaths:
    """The folders in which the images of a table are looked for.

    Args:
        folders (`Sequence[Path]`):
            Paths may be relative to each of them; the first one that has the file is used.
        roots (`Sequence[Path]`):
            The files must be inside of one of these folders, also if a symbolic link leads to them.
        prefix (`str`, *optional*, defaults to `""`):
            Start of the images' keys, which are paths relative to their root.
    """

    def __init__(self, folders: Iterable[Path], roots: Sequence[Path], prefix: str = ""):
        self.folders = list(dict.fromkeys(folders))
        self.roots = list(dict.fromkeys(roots))
        self._prefix = prefix
        self._resolved_roots = [root.resolve() for root in self.roots]
        self._inside: dict[Path, bool] = {}

    def find(self, value: Any) -> ImageFile:
        """Return the file of a path. If it does not exist, it is expected in the first folder.

        Raises:
            `ValueError`: if the value is not the path of a file, or the path leads out of the roots.
        """
        candidates = self._candidates(value)
        for path in candidates:
            try:
                status = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not self.contains(path):
                raise ValueError(
                    f"the image {value!r} is a symbolic link to a file outside of {self._roots()}. Copy the file, or "
                    "name its folder with `--image_folder`."
                )
            if stat.S_ISDIR(status.st_mode):
                raise ValueError(f"the image {value!r} is a folder, not a file.")
            return ImageFile(self.key(path), path)
        return ImageFile(self.key(candidates[0]), candidates[0])

    def contains(self, path: Path) -> bool:
        """Return whether a path is inside one of the roots after symbolic links are followed."""
        if path.is_symlink():
            return self._is_inside(path.resolve())
        folder = path.parent
        if folder not in self._inside:  # many images share a folder
            self._inside[folder] = self._is_inside(folder.resolve())
        return self._inside[folder]

    def key(self, path: Path) -> str:
        """Return a name of a file that is the same on every machine."""
        index, root = next((index, root) for index, root in enumerate(self.roots) if path.is_relative_to(root))
        prefix = self._prefix if index == 0 else "image_folder/"
        return prefix + path.relative_to(root).as_posix()

    def _candidates(self, value: Any) -> list[Path]:
        if not isinstance(value, str):
            raise ValueError(f"the image must be the path of a file, got {value!r:.80}.")
        text = value.strip().replace("\\", "/")  # paths of Windows
        if _ADDRESS.match(text):
            raise ValueError(f"the image {text[:80]!r} is an address or the image itself, not the path of a file.")
        path = PurePosixPath(text)
        if not path.parts or "\0" in text or any(len(os.fsencode(part)) > _NAME_BYTES for part in path.parts):
            raise ValueError(f"the image {text[:80]!r} is not the path of a file.")
        if ".." in path.parts:
            raise ValueError(f"the image {value!r} must be a path without `..`, inside of {self._roots()}.")
        if not path.is_absolute() and not re.match(r"[a-zA-Z]:/", text):
            return [folder / text for folder in self.folders]
        for root, resolved in zip(self.roots, self._resolved_roots, strict=True):
            for start in (root.absolute(), resolved):
                if path.is_relative_to(start):
                    return [root / path.relative_to(start)]
        raise ValueError(
            f"the image {value!r} is an absolute path outside of {self._roots()}. Use a relative path, or name the "
            "folder of the images with `--image_folder`."
        )

    def _is_inside(self, resolved: Path) -> bool:
        return any(resolved.is_relative_to(root) for root in self._resolved_roots)

    def _roots(self) -> str:
        return " and ".join(map(str, self.roots))


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
