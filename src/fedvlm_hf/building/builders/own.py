"""What the two builders of own data share: options for text and images, rows to examples, and held-out images."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple, TypeVar

from ..images import StoredImage
from ..inspection import ImageFacts, images_of, inspect_images
from ..partitions.assemble import train_rows
from ..partitions.holdout import hold_out_groups
from ..readers.own.image_paths import IMAGE_SUFFIXES
from ..readers.own.rows import OwnRow
from ..readers.own.text import RowText, TextOptions, row_texts, text_columns
from ..work import Work
from .base import Builder, Example


T = TypeVar("T")

_MAX_SHARED = 20_000


class Place(NamedTuple):
    """Where a row belongs: its id, its given split, and its additional columns."""

    id: str
    split: str
    columns: dict[str, str | None]


@dataclass(frozen=True)
class OwnDataBuilder(Builder):
    """The base of builders that read the user's own data."""

    image: str | None = field(
        default=None, metadata={"help": "Column with the images or their paths. By default it is found by its name."}
    )
    image_folder: str | None = field(
        default=None,
        metadata={"help": "Folder that the image paths of tables are relative to. Default: the table's or the root."},
    )
    question: str | None = field(default=None, metadata={"help": "Column with the questions; question by default."})
    answer: str | None = field(default=None, metadata={"help": "Column with the answers; answer by default."})
    instruction: str | None = field(
        default=None, metadata={"help": "The prompt of every row, if no column has the questions."}
    )
    task: str | None = field(
        default=None,
        metadata={"help": "Task of rows without a column task. Default: vqa, or caption without a question."},
    )
    attribute: str = field(default="class", metadata={"help": "Attribute named in classification instructions."})
    subject: str = field(
        default="main object", metadata={"help": "Subject of the attribute in classification instructions."}
    )
    study: str = field(default="image", metadata={"help": "Word for an image in report and detection instructions."})

    templates: ClassVar[tuple[str, ...]] = ()
    paper_counts: ClassVar[dict[str, int]] = {}
    licence: ClassVar[str] = "unknown"

    @property
    def text_options(self) -> TextOptions:
        """The options of this build for the text of rows."""
        names = ("question", "answer", "instruction", "task", "wording", "attribute", "subject", "study")
        return TextOptions(**{name: getattr(self, name) for name in names})

    @property
    def images_at(self) -> Path | None:
        """The folder with the images of tables, if one was given."""
        return None if self.image_folder is None else Path(self.image_folder)


class Conversion:
    """Converts rows of own data to examples, and collects them.

    Args:
        options ([`TextOptions`]):
            How the text of rows is read.
        work ([`Work`]):
            Counts the rows.

    Attributes:
        examples (`list[Example]`): The examples so far.
    """

    def __init__(self, options: TextOptions, work: Work):
        self.examples: list[Example] = []
        self._options, self._work = options, work
        self._ids: set[str] = set()
        self._images: dict[str, StoredImage] = {}
        self._shared = Shared()

    def add(self, what: str, rows: Iterable[OwnRow], place: Callable[[int, OwnRow, RowText], Place]) -> list[Example]:
        """Convert the rows of a source or split: one example for each answer of a row.

        Args:
            what (`str`):
                Name of the source or split in the counts.
            rows (`Iterable[OwnRow]`):
                The rows.
            place (`Callable[[int, OwnRow, RowText], Place]`):
                Returns where a row belongs, from its index, the row and its text. If a row has several answers, `-1`,
                `-2`, ... are added to its id.

        Returns:
            `list[Example]`: the examples of these rows.

        Raises:
            `ValueError`: naming the row, if it has no or several images, its text cannot be used, or its id is not
                unique.
        """
        start, num_rows = len(self.examples), 0
        for index, row in enumerate(rows):
            num_rows += 1
            try:
                if row.num_images != 1 or row.image is None:
                    raise ValueError(f"a row must have one image, but this one has {row.num_images}.")
                self._convert(index, row, place)
            except ValueError as error:
                raise ValueError(f"{row.where}: {error}") from error
        added = self.examples[start:]
        self._work.counts.read(f"rows of {what}", num_rows)
        if len(added) > num_rows:
            self._work.counts.read(f"further answers in conversations of {what}", len(added) - num_rows)
        return added

    def _convert(self, index: int, row: OwnRow, place: Callable[[int, OwnRow, RowText], Place]) -> None:
        image = self._images.setdefault(row.image.key, row.image)
        texts = row_texts(row.values, self._options)
        for number, text in enumerate(texts, start=1):
            name, split, columns = place(index, row, text)
            name += f"-{number}" if len(texts) > 1 else ""
            if name in self._ids:
                raise ValueError(f"the `id` {name!r} is not unique.")
            self._ids.add(name)
            completion, references = self._shared.chat(text.completion), self._shared.texts(text.references)
            columns = self._shared.columns(columns)
            self.examples.append(Example(name, image, split, text.prompt, completion, text.task, references, columns))


def read_columns(row: OwnRow, options: TextOptions) -> set[str]:
    """Return the columns of a row that are used in its prompt and answers."""
    return set(text_columns(row.values, options))


def same_columns(examples: list[Example], names: list[str]) -> None:
    """Give all examples the same columns, in place."""
    shared = Shared()
    for place, example in enumerate(examples):
        if list(example.columns) != names:
            columns = shared.columns({name: example.columns.get(name) for name in names})
            examples[place] = replace(example, columns=columns)


class Shared:
    """Replaces equal values of examples by the same object: most answers are repeated, and rows are many."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def chat(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        """Return equal chat messages."""
        return self._first(("chat", *(part for message in messages for part in message.values())), messages)

    def texts(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        """Return equal texts."""
        return self._first(texts, texts)

    def columns(self, columns: dict[str, str | None]) -> dict[str, str | None]:
        """Return equal columns, in the same order."""
        return self._first(("columns", *columns.items()), columns)

    def _first(self, key: Hashable, value: T) -> T:
        if len(self._known) > _MAX_SHARED:  # most values differ, and remembering them would take memory
            self._known.clear()
        return self._known.setdefault(key, value)


class ImageGroups(NamedTuple):
    """The images of examples, compared by their pixels.

    Attributes:
        names (`list[str]`): For each example the name of its image, which all images with equal pixels have.
        num_files (`int`): Number of images before those with equal bytes are counted once.
        num_images (`int`): Number of images after that.
    """

    names: list[str]
    num_files: int
    num_images: int


def group_images(
    examples: list[Example], work: Work, name_of: Callable[[StoredImage, ImageFacts | None], str]
) -> ImageGroups:
    """Inspect the images of examples, and name each group of images with equal pixels.

    Of images with equal bytes only the first one is kept: the examples are changed in place.

    Args:
        examples (`list[Example]`):
            The rows. A missing image is represented by its key.
        work ([`Work`]):
            Worker processes and journal.
        name_of (`Callable`):
            Returns the name of a group from its first image and the facts about it.
    """
    facts = inspect_images(images_of(examples), work)
    _record_outside(examples, facts, work)
    _note_unused(work)
    first: dict[str, StoredImage] = {}
    group: dict[str, str] = {}
    names = []
    for place, example in enumerate(examples):
        image, known = example.image, facts[example.image.key]
        kept = first.setdefault(image.key if known is None else f"bytes {known.content}", image)
        if kept is not image:
            examples[place] = replace(example, image=kept)
        names.append(group.setdefault(image.key if known is None else f"pixels {known.digest}", name_of(image, known)))
    return ImageGroups(names, len(facts), len(first))


def _note_unused(work: Work) -> None:
    """Count the images in the folders that were listed which no row has."""
    listed = [
        (PurePosixPath(listing.folder) / name).as_posix()
        for listing, names in work.inputs.listings.items()
        for name in names
        if name.lower().endswith(IMAGE_SUFFIXES)
    ]
    unused = [name for name in dict.fromkeys(listed) if name not in work.inputs.images]
    if unused:
        shown = ", ".join(unused[:3]) + (", ..." if len(unused) > 3 else "")
        work.counts.note("images without a row", len(unused), shown)


def _record_outside(examples: Sequence[Example], facts: Mapping[str, ImageFacts | None], work: Work) -> None:
    """Record a checksum of the images that are not under `raw`, which [`Work`] does not compare by itself."""
    outside = {
        example.image.key: facts[example.image.key]
        for example in examples
        if example.image.file is not None and work.raw is not None
        if not example.image.file.is_relative_to(work.raw)
    }
    if outside:
        lines = [f"{key} {known and known.file_content}" for key, known in sorted(outside.items())]
        work.sources["image_folder"] = hashlib.sha256("\n".join(lines).encode()).hexdigest()


def hold_out_images(
    examples: list[Example], groups: Sequence[str], strata: Sequence[str], shares: dict[str, float], seed: int
) -> None:
    """Hold out shares of the images of the train rows in place, except for images that several strata or splits have.

    Args:
        examples (`list[Example]`):
            The rows.
        groups (`Sequence[str]`):
            The name of each row's image.
        strata (`Sequence[str]`):
            The stratum of each row, such as its client.
        shares (`dict[str, float]`):
            The share for each held-out split.
        seed (`int`):
            Changes the order in which images are held out.

    Raises:
        `ValueError`: see [`hold_out_groups`].
    """
    owners: dict[str, set[tuple[str, str]]] = {}
    for example, group, stratum in zip(examples, groups, strata, strict=True):
        owners.setdefault(group, set()).add((stratum, example.split))
    rows = [row for row in train_rows(examples) if len(owners[groups[row]]) == 1]
    parts = hold_out_groups([groups[row] for row in rows], [strata[row] for row in rows], shares, seed)
    for split in shares:
        for position in parts[split]:
            examples[rows[position]] = replace(examples[rows[position]], split=split)
