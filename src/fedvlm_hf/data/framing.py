"""Prepare rows for the model's processor, in training and in evaluation alike: images in 8 bits, boxes in its frame.

Images with more than 8 bits are converted by `fedvlm_hf.data.pixels`, because processors would clip their values.

Rows keep boxes in the frame of the stored image. If the processor shows the model the whole image, boxes stay as they
are. If it pads or crops, box texts in prompts and completions are mapped when rows are collated, and boxes in answers
are mapped back before they are scored and shown. A row's boxes refer to its first image.
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import PIL.Image
from datasets import Dataset, Image

from .boxes import ANY_BOX, BOX_TEXT, format_box, parse_box
from .frames import Frame, FrameRule, frame_rule
from .pixels import row_in_8_bits
from .spec import ANSWER_COLUMNS, text_columns


Messages = Sequence[Mapping[str, str]]
# Rows whose encoded images are in memory together
_BATCH_ROWS = 32
# Exif orientations that turn a picture on its side: `datasets` applies them when it decodes
_ON_ITS_SIDE = (5, 6, 7, 8)


class PreparingCollator:
    """A data collator that first prepares each row for the model, see [`prepare_row`].

    Args:
        collator (`Callable`):
            Takes a list of rows with decoded `images`, `prompt` and `completion`.
        rule ([`~fedvlm_hf.data.frames.FrameRule`], *optional*):
            What the model's processor does to the frame; `None` if it shows the whole image.
    """

    def __init__(self, collator: Callable[[list[dict[str, Any]]], Any], rule: FrameRule | None = None):
        self.collator = collator
        self.rule = rule

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        """Return the collator's batch of the prepared rows."""
        return self.collator([prepare_row(example, self.rule) for example in examples])


def wrap_collator(collator: Callable, processor: Any, clients: Mapping[str, Dataset]) -> Callable:
    """Wrap a trainer's collator so that it prepares rows for the model.

    Args:
        collator (`Callable`):
            The trainer's.
        processor ([`~transformers.ProcessorMixin`]):
            The model's.
        clients (`Mapping[str, Dataset]`):
            The rows to be trained on.

    Returns:
        `Callable`: a [`PreparingCollator`].

    Raises:
        `ValueError`: if a box of a row is wholly cropped away, naming the first such row.
    """
    rule = frame_rule(processor)
    if rule is not None:
        check_visible(clients, rule)
    return PreparingCollator(collator, rule)


def prepare_row(row: Mapping[str, Any], rule: FrameRule | None) -> Mapping[str, Any]:
    """Convert images with more than 8 bits, and map boxes to the model's frame.

    Args:
        row (`Mapping[str, Any]`):
            With decoded `images`, `prompt` and perhaps `completion`.
        rule ([`~fedvlm_hf.data.frames.FrameRule`], *optional*):
            What the model's processor does to the frame; `None` if it shows the whole image.

    Returns:
        `Mapping[str, Any]`: the row itself if nothing changes; else a copy.
    """
    row = row_in_8_bits(row)
    return row if rule is None else in_model_frame(row, rule)


def in_model_frame(row: Mapping[str, Any], rule: FrameRule) -> Mapping[str, Any]:
    """A row with its boxes as the model sees them.

    Args:
        row (`Mapping[str, Any]`):
            With decoded `images`, `prompt` and perhaps `completion`.
        rule ([`~fedvlm_hf.data.frames.FrameRule`]):
            What the model's processor does to the frame.

    Returns:
        `Mapping[str, Any]`: the row itself where its image keeps its frame; else a copy. Boxes are clipped to what is
        seen; of one that is wholly cropped away the nearest thousandth that is seen is left.
    """
    if not row["images"]:
        return row
    frame = rule(*row["images"][0].size)
    if frame.is_identity:
        return row
    columns = [column for column in ("prompt", *ANSWER_COLUMNS) if row.get(column) is not None]
    return {**row, **{column: _mapped_messages(row[column], frame) for column in columns}}


def in_stored_frame(answer: str, frame: Frame) -> str:
    """A model's answer with its boxes in the stored image; what is no box stays as it is."""

    def mapped(match: Any) -> str:
        box = parse_box(match.group())
        return match.group() if box is None else format_box(frame.to_stored(box))

    return ANY_BOX.sub(mapped, answer)


def row_frames(dataset: Dataset, rule: FrameRule, rows: Iterable[int]) -> dict[int, Frame]:
    """The frames of those rows whose first image does not keep its own. Only the heads of image files are read.

    Args:
        dataset (`Dataset`):
            With a column `images`.
        rule ([`~fedvlm_hf.data.frames.FrameRule`]):
            What the model's processor does to the frame.
        rows (`Iterable[int]`):
            Which rows to look at.

    Returns:
        `dict[int, Frame]`: by row.
    """
    rows = [*rows]
    feature = dataset.features["images"].feature
    encoded = dataset.select(rows).select_columns("images").with_format("arrow")
    frames = {}
    for start, batch in zip(range(0, len(rows), _BATCH_ROWS), encoded.iter(_BATCH_ROWS), strict=True):
        for row, images in zip(rows[start : start + _BATCH_ROWS], batch["images"].to_pylist(), strict=True):
            frame = rule(*_size(images[0], feature)) if images else Frame()
            if not frame.is_identity:
                frames[row] = frame
    return frames


def check_visible(clients: Mapping[str, Dataset], rule: FrameRule) -> None:
    """Refuses training rows that ask for, or about, what the model does not get to see.

    Rows for evaluation may hold such boxes: they count 0 unless the model finds the object anyway.

    Args:
        clients (`Mapping[str, Dataset]`):
            The rows to be trained on.
        rule ([`~fedvlm_hf.data.frames.FrameRule`]):
            What the model's processor does to the frame.

    Raises:
        `ValueError`: with the number of such rows and the first of them.
    """
    count, example = 0, ""
    for client_id, dataset in clients.items():
        boxes = _boxes(dataset)
        for row, frame in row_frames(dataset, rule, boxes).items():
            cropped = [text for text in boxes[row] if frame.to_model(parse_box(text)) is None]
            count += bool(cropped)
            if cropped and not example:
                example = f"client {client_id!r} row {row}, {cropped[0]}"
    if count:
        raise ValueError(
            f"`train_dataset`: {count} rows have a box that the image processor, a {rule.name}, crops away: the model "
            f"would learn to guess what it cannot see. The first is {example}. Use a processor that pads "
            "(`fedvlm build-llava` makes a model with one) or that stretches (`do_center_crop=False` and a `size` of "
            "height and width), or build the dataset with `--pad_to_square`."
        )


def _boxes(dataset: Dataset) -> dict[int, list[str]]:
    """The box texts of those rows that have any."""
    found = {}
    columns = text_columns(dataset)
    row = 0
    for batch in dataset.select_columns(columns).with_format("arrow").iter(1000):
        for messages in zip(*(batch[column].to_pylist() for column in columns), strict=True):
            texts = [text for part in messages for message in part for text in BOX_TEXT.findall(message["content"])]
            if texts:
                found[row] = texts
            row += 1
    return found


def _mapped_messages(messages: Messages, frame: Frame) -> list[dict[str, str]]:
    replace = partial(_mapped_box, frame=frame)
    return [{**message, "content": BOX_TEXT.sub(replace, message["content"])} for message in messages]


def _mapped_box(match: Any, frame: Frame) -> str:
    box = parse_box(match.group())
    if box is None:  # four numbers of the right form that are no box
        return match.group()
    return format_box(frame.nearest(box))


def _size(image: Mapping[str, Any], feature: Image) -> tuple[int, int]:
    """Width and height as the image decodes, from the head of its file."""
    if image["bytes"] is None:
        return feature.decode_example(image).size
    with PIL.Image.open(io.BytesIO(image["bytes"])) as picture:
        width, height = picture.size
        turned = picture.getexif().get(PIL.Image.ExifTags.Base.Orientation) in _ON_ITS_SIDE
    return (height, width) if turned else (width, height)
