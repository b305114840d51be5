"""What a dataset builder is: rows before their images are read, where they go, and what a card says about them.

A builder is one file: a frozen dataclass whose fields are its options, with `read` (official download to examples) and
`partitions` (examples to configurations). The rest is shared: `building/writing` stages images and writes the folder.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ...registry import Registry
from ..images import StoredImage
from ..work import Work


@dataclass(frozen=True)
class Example:
    """One row before its image is read.

    Attributes:
        id (`str`): Unique in the dataset and stable under re-runs, such as `"slake-en-11934"`.
        image ([`StoredImage`]): How to get the image. Examples that show one image share its `key`.
        split (`str`): `"train"`, `"validation"` or `"test"`, where the source or the builder's rule puts it.
        prompt, completion (`list[dict[str, str]]`): Chat messages, from `building.templates.chat`.
        task (`str`): One of `data.spec.TASKS`.
        references (`tuple[str, ...]`): Accepted answers; boxes as `data.boxes.box_text` writes them, 0-1 of the image
            that `image.load` gives.
        columns (`Mapping[str, str | None]`): The dataset's own columns, the same keys in every example: what
            partitions go by (`modality`), `subset` where scores are reported by it, source ids.
    """

    id: str
    image: StoredImage
    split: str
    prompt: list[dict[str, str]]
    completion: list[dict[str, str]]
    task: str
    references: tuple[str, ...]
    columns: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Partition:
    """One configuration of a dataset: where each example goes.

    Attributes:
        name (`str`): The configuration, such as `"noniid"` or `"dirichlet-0.1"`.
        rule (`str`): How rows came to their clients, in a sentence; in the card.
        splits (`tuple[str, ...]`): Each example's split: `"client_00"`, ..., `"validation"` or `"test"`.
        client_ids (`tuple[str | None, ...]`): Each held-out example's client, the one whose distribution it is of;
            `None` for clients' own rows, whose split says it.
        client_names (`Mapping[str, str]`): What a client is, where it has a name: `{"client_00": "CT"}`.
        known_leak (`str`, *optional*): Why images of `test` are clients' images too, where the source's own split has
            it so. Without this text such an image is an error.
    """

    name: str
    rule: str
    splits: tuple[str, ...]
    client_ids: tuple[str | None, ...]
    client_names: Mapping[str, str] = field(default_factory=dict)
    known_leak: str | None = None


@dataclass(frozen=True)
class Source:
    """A download that a dataset is made from.

    Attributes:
        name (`str`): Such as `"SLAKE 1.0"`.
        url (`str`): Where to get it.
        licence (`str`): Its licence, and whether we read it or recall it.
        terms (`str`): What a user must do or sign for access.
        citation (`str`): Authors, title, venue, year, link.
        is_restricted (`bool`): Rows and images may not be passed on: `--push` sends ids and the partition instead.
    """

    name: str
    url: str
    licence: str
    terms: str
    citation: str
    is_restricted: bool = False


@dataclass(frozen=True)
class Builder(ABC):
    """A federated dataset, from the official download.

    Subclasses are frozen dataclasses registered with `@BUILDERS.register("fed_slake")`; their fields are options of
    `fedvlm build`, with `metadata={"help": ...}`. Class attributes describe the dataset for `--help` and the card.
    Everything is a function of the raw files, the options and the seed.
    """

    seed: int = field(default=0, metadata={"help": "Chooses what is drawn at random: partitions, held-out images."})
    wording: str | None = field(
        default=None,
        metadata={"help": "Which instruction template, see fedvlm_hf.building.templates; the first by default."},
    )

    title: ClassVar[str]
    """Such as `"Fed-SLAKE"`."""
    summary: ClassVar[str]
    """What it is in one or two sentences; first in the card."""
    layout: ClassVar[str]
    """The files expected under `--raw`, one a line; in `--help`, in the card, and in errors."""
    sources: ClassVar[tuple[Source, ...]]
    licence: ClassVar[str]
    """The Hub's licence tag of the whole, such as `"cc-by-4.0"` or `"other"`."""
    rules: ClassVar[tuple[str, ...]]
    """Every choice, one sentence each, with [paper], [code] or [ours]."""
    limits: ClassVar[tuple[str, ...]]
    """Known limits, one sentence each."""
    paper_counts: ClassVar[Mapping[str, int]]
    """FedVLMBench's Table 2 by task, or empty; printed beside our counts."""
    templates: ClassVar[tuple[str, ...]]
    """Keys of `building.templates.TEMPLATES` that rows are worded by; a `wording` is one of each."""
    configs: ClassVar[Mapping[str, int]] = {}
    """Configurations and their numbers of clients on the whole download, for a card before any build."""
    partition_column: ClassVar[str]
    """The column that the report's histograms, total variation and earth mover's distance are over."""
    public_columns: ClassVar[tuple[str, ...]] = ()
    """Own columns that `--push` may send where a source is restricted, such as study ids; never text."""
    version: ClassVar[str] = "1"
    """Of the rules: rows of another version are other rows."""

    @property
    def used_sources(self) -> tuple[Source, ...]:
        """The sources that this build reads: all, unless options leave some out."""
        return self.sources

    @abstractmethod
    def read(self, raw: Path, work: Work) -> list[Example]:
        """The examples in a stable order, each exclusion counted in `work.tally`.

        Raises:
            `ValueError`: naming path and row, where a file is missing, truncated or not as it should be.
        """

    @abstractmethod
    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """The configurations; the first is the default."""


BUILDERS: Registry[type[Builder]] = Registry("builder", "fedvlm_hf.building.builders")


def column(examples: Sequence[Example], name: str) -> list[Any]:
    """One column of all examples: an own column, or `task`, `split` and `id`."""
    if name in ("task", "split", "id"):
        return [getattr(example, name) for example in examples]
    return [example.columns[name] for example in examples]
