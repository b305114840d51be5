"""The folder that the user named, or that a zip was unpacked to, and how its files are listed and called."""

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
        places = [(self.root, place) for start in (folder, self.root) for place in (start, start / "images")]
        if self.image_folder is not None:
            places.insert(0, (self.image_folder, self.image_folder))
        return ImagePaths(places, self.prefix, self.work)

    def entries(self, folder: Path) -> list[Path]:
        """Return the files and folders in a folder in the order of their names, without hidden ones.

        Raises:
            `ValueError`: if a symbolic link leads out of the data or back to a folder above.
        """
        if self.in_zip:  # its checksum is recorded, and it has no links
            return sorted(folder.iterdir())
        return [path for path in self.work.listing(folder) if path.name != "__MACOSX"]
