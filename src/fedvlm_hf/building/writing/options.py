"""What may be chosen about a build, whatever the dataset."""

from dataclasses import dataclass, field
from typing import Any

from ..work import default_workers


@dataclass(frozen=True)
class WriteOptions:
    """
    How a dataset is written.

    Args:
        max_side (`int`, *optional*):
            Images with a longer side are reduced to it. By default every image keeps its bytes.
        pad_to_square (`bool`, *optional*, defaults to `False`):
            Center images on a black square, for processors that crop. Boxes are moved with them.
        allow_missing_images (`bool`, *optional*, defaults to `False`):
            Put a grey picture in the place of an image that is not there, and say so in the card.
        configs (`str`, *optional*):
            Only these configurations, separated by commas; the first is the default one. All by default.
        num_workers (`int`, *optional*):
            Processes; by default one a core.

    Raises:
        `ValueError`: if a number is below 1.
    """

    max_side: int | None = field(
        default=None,
        metadata={"help": "Reduce images to this many pixels on the long side. By default images keep their bytes."},
    )
    pad_to_square: bool = field(
        default=False,
        metadata={"help": "Center images on a black square, for processors that crop. Boxes are moved with them."},
    )
    allow_missing_images: bool = field(
        default=False,
        metadata={"help": "Put a grey picture in the place of a missing image. The card will say so."},
    )
    configs: str | None = field(
        default=None, metadata={"help": "Only these configurations, separated by commas. All by default."}
    )
    num_workers: int | None = field(default=None, metadata={"help": "Processes; by default one a core."})

    def __post_init__(self) -> None:
        for name in ("max_side", "num_workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be 1 or more, got {value}.")

    @property
    def processes(self) -> int:
        """Processes to work with."""
        return self.num_workers or default_workers()

    def of_rows(self) -> dict[str, Any]:
        """The options that rows depend on: all but the number of processes."""
        return {
            "max_side": self.max_side,
            "pad_to_square": self.pad_to_square,
            "allow_missing_images": self.allow_missing_images,
            "configs": self.configs,
        }
