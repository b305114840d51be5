"""The folder that the user named, or that a zip was unpacked to, and how its files are listed and called."""

import os
from dataclasses import dataclass
from pathlib import Path

from ...work import Work
from .image_paths import ImagePaths


@dataclass(frozen=True)
class DataFolder:
    """A folder with the user's own data, and the options of reading it.

    Attributes:
        root (`Path`): The folder. Every file that is read must be inside of it, or of `image_folder`.
        label (`str`): Name of the folder in error messages.
        work ([`Work`]): Records what is read.
        image (`str`, *optional*): The column with the images.
        image_folder (`Path`, *optional*): Where the images of tables are.
        prefix (`str`): Start of the keys of all images.
        in_zip (`bool`): Whether the folder is the content of a zip.
    """

    root: Path
    label: str
    work: Work
    image: str | None = None
    image_folder: Path | None = None
    prefix: str = ""
    in_zip: bool = False

    def label_of(self, path: Path) -> str:
        """Return the name of a file or folder in error messages."""
        return str(Path(self.label) / path.relative_to(self.root))

    def key_of(self, path: Path) -> str:
        """Return a name of a file that is the same on every machine."""
        return self.prefix + path.relative_to(self.root).as_posix()

    def image_paths(self, folder: Path) -> ImagePaths:
        """Return where the images of a table in `folder` are looked for."""
        named = [] if self.image_folder is None else [self.image_folder]
        usual = [place for start in dict.fromkeys((folder, self.root)) for place in (start, start / "images")]
        return ImagePaths([*named, *usual], [self.root, *named], self.prefix)

    def entries(self, folder: Path) -> list[Path]:
        """Return the files and folders in a folder in the order of their names, without hidden ones.

        Raises:
            `ValueError`: if a symbolic link leads out of the data or back to a folder above.
        """
        with os.scandir(folder) as scan:
            found = {entry.name: entry.is_symlink() for entry in scan if not _is_hidden(entry.name)}
        for name in sorted(found):
            if found[name]:
                self._check_link(folder / name)
        _listed(self.work, folder, sorted(found))
        return [folder / name for name in sorted(found)]

    def _check_link(self, path: Path) -> None:
        roots = [self.root.resolve(), *([] if self.image_folder is None else [self.image_folder.resolve()])]
        target = path.resolve()
        if not target.exists():
            raise ValueError(f"{self.label_of(path)} is a symbolic link to a file that does not exist.")
        if not any(target.is_relative_to(root) for root in roots):
            raise ValueError(
                f"{self.label_of(path)} is a symbolic link that leads out of {self.label}. Copy the data, or name the "
                "folder of the images with `--image_folder`."
            )
        if path.parent.resolve().is_relative_to(target):
            raise ValueError(f"{self.label_of(path)} is a symbolic link to a folder above it. Remove it.")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _listed(work: Work, folder: Path, names: list[str]) -> None:
    """Record the names in a folder, so that a build notices added and removed files."""
