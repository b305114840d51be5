"""Find the user's own data in a folder: for each client, or pooled for a partition."""

from pathlib import Path

from ...work import Work
from .rows import Found


def find_sources(raw: Path, work: Work, image: str | None = None, image_folder: Path | None = None) -> Found:
    """Find the clients of a folder: each table, Parquet file, tar, zip and subfolder is one.

    Files and folders with the name of a split (`train`, `val`, `test` and their other spellings) are not clients but
    rows of all clients. Folders with images that a table uses are no clients either.

    Args:
        raw (`Path`):
            The folder. Hidden files and folders are ignored.
        work ([`Work`]):
            Records every file that is read and every folder that is listed, and counts rows that are left out.
        image (`str`, *optional*):
            The column with the image or its path. By default it is found by its name.
        image_folder (`Path`, *optional*):
            Where the images of tables are. By default next to the table, or in `raw`.

    Returns:
        [`Found`].

    Raises:
        `ValueError`: if there is no source, two clients have the same name, or a file cannot be read.
    """
    raise NotImplementedError


def open_source(path: Path, work: Work, image: str | None = None, image_folder: Path | None = None) -> Found | None:
    """Open a file or folder whose rows are pooled, not divided into clients.

    Args:
        path (`Path`):
            A table, Parquet file, tar or zip; or a folder with one or several of them, with images by class, or with
            one subfolder per split.
        work ([`Work`]):
            Records every file that is read and every folder that is listed, and counts rows that are left out.
        image (`str`, *optional*):
            The column with the image or its path. By default it is found by its name.
        image_folder (`Path`, *optional*):
            Where the images of tables are. By default next to the table, or in `path`.

    Returns:
        [`Found`], *optional*: several sources may have the same split, such as the shards of a dataset. `None` if
            `path` is a folder in the layout of the Hub, for which there is `load_dataset` or `load_from_disk`.

    Raises:
        `ValueError`: if there is no such file or folder, or it has no rows in a known form.
    """
    raise NotImplementedError


def is_hub_layout(path: Path) -> bool:
    """Return whether a folder is a dataset in the layout of the Hub, or was written by `save_to_disk`."""
    raise NotImplementedError
