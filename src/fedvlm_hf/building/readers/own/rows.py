"""The rows of the user's own data, which are the same for all forms of files and folders."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...images import StoredImage


@dataclass(frozen=True, slots=True)
class OwnRow:
    """One row of a source, before its text is interpreted.

    Attributes:
        name (`str`): A fixed name of the row in its source: its line, its index, or the path of its image. It is
            unique for each client, or for each split of pooled data.
        where (`str`): The row's name in error messages, such as `"site_a.csv, line 3"`.
        values (`dict[str, Any]`): The values by column, without empty, null and NaN values: text, numbers, lists and
            objects. The column of the image is left out.
        image (`StoredImage`, *optional*): The row's image. The file may be missing; staging notices this.
        num_images (`int`): How many images the row has. Only rows with exactly one image can be used.
    """

    name: str
    where: str
    values: dict[str, Any]
    image: StoredImage | None = None
    num_images: int = 1


@dataclass(frozen=True)
class Source:
    """A file or folder of rows.

    Attributes:
        name (`str`): The client's name, which is the stem of a file or the name of a folder. For rows of all clients,
            the name of the file or folder without its number, such as `"test"`.
        path (`Path`): The file or folder.
        form (`str`): What it is, for the summary of a build: `"CSV table"`, `"COCO detection"`, `"images by class"`.
        split (`str`, *optional*): `"train"`, `"validation"` or `"test"`, if the name of a file or folder says so.
        rows (`Callable[[], Iterator[OwnRow]]`): Reads the rows one by one, in the order of the file. Call it once:
            it counts the rows that it leaves out.
        client (`str`, *optional*): The client that has the rows: `name`, or `None` if `name` is the name of a split,
            and for pooled data. A folder with `train.csv` and `test.csv` is two sources of one client.
    """

    name: str
    path: Path
    form: str
    split: str | None
    rows: Callable[[], Iterator[OwnRow]] = field(compare=False, repr=False)
    client: str | None = None


@dataclass(frozen=True)
class Found:
    """What was found in a folder.

    Attributes:
        sources (`list[Source]`): At least one, in the order of their names.
        ignored (`list[str]`): Names of files and folders that are not read, relative to the folder.
    """

    sources: list[Source]
    ignored: list[str]
