"""The rows of the user's own data, which are the same for all forms of files and folders."""

from dataclasses import dataclass
from typing import Any

from ...images import StoredImage


@dataclass(frozen=True, slots=True)
class OwnRow:
    """One row of a source, before its text is interpreted.

    Attributes:
        name (`str`): A fixed name of the row in its source: its line, its index, or the path of its image.
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
