"""The options that the builds of all datasets have."""

from dataclasses import dataclass, field
from typing import Any

from ...data.pixels import Window
from ..work import default_workers


@dataclass(frozen=True)
class WriteOptions:
    """
    How a dataset is written.

    Args:
        max_side (`int`, *optional*):
            Larger images are reduced to this many pixels on the long side. By default the bytes of every image are
            kept.
        pad_to_square (`bool`, *optional*, defaults to `False`):
            Center images on a black square, for processors that crop. Boxes are moved accordingly.
        window (`str`, *optional*):
            `"CENTER,WIDTH"`: the range of values that is stored of images with more than 8 bits, by DICOM's linear
            function, see [`~fedvlm_hf.data.pixels.Window`]. By default each image's own range.
        allow_missing_images (`bool`, *optional*, defaults to `False`):
            Replace missing images by a grey picture, and say so in the card.
        configs (`str`, *optional*):
            The configurations to write, separated by commas; the first one is the default. All by default.
        num_workers (`int`, *optional*):
            Number of threads or worker processes; one per CPU core by default.

    Raises:
        `ValueError`: if a number is below 1, or `window` is not two numbers with a width of 1 or more.
    """

    max_side: int | None = field(
        default=None,
        metadata={"help": "Reduce images to this many pixels on the long side. By default their bytes are kept."},
    )
    pad_to_square: bool = field(
        default=False,
        metadata={"help": "Center images on a black square, for processors that crop. Boxes are moved accordingly."},
    )
    window: str | None = field(
        default=None,
        metadata={
            "help": "CENTER,WIDTH, such as --window=-600,1500: the range of values to show of images with more than 8 "
            "bits, as stored in the files. Values outside are clipped. By default the range of each image."
        },
    )
    allow_missing_images: bool = field(
        default=False,
        metadata={"help": "Replace missing images by a grey picture. The card will say so."},
    )
    configs: str | None = field(
        default=None, metadata={"help": "Configurations to write, separated by commas. All by default."}
    )
    num_workers: int | None = field(
        default=None, metadata={"help": "Number of threads or worker processes; one per CPU core by default."}
    )

    def __post_init__(self) -> None:
        for name in ("max_side", "num_workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be 1 or more, got {value}.")
        if self.window is not None:
            Window.parse(self.window)

    @property
    def processes(self) -> int:
        """Number of threads or worker processes to use."""
        return self.num_workers or default_workers()

    @property
    def shown_values(self) -> Window | None:
        """The window for images with more than 8 bits; `None` if each is shown in its own range of values."""
        return None if self.window is None else Window.parse(self.window)

    def affecting_rows(self) -> dict[str, Any]:
        """Return the options that change the written rows: all except the number of processes."""
        return {
            "max_side": self.max_side,
            "pad_to_square": self.pad_to_square,
            "window": self.window,
            "allow_missing_images": self.allow_missing_images,
            "configs": self.configs,
        }
