"""The base class of dataset builders, and the types they produce: examples, partitions, sources.

A builder is one file: a frozen dataclass whose fields are its options, with the methods `read` (official download to
examples) and `partitions` (examples to configurations). `building/writing` does the rest for all builders: it reads
the images and writes the folder.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ...registry import Registry
from ..images import StoredImage
from ..work import Work


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a dataset, before its image is read.

    Attributes:
        id (`str`): Unique in the dataset and the same in every build, such as `"slake-en-11934"`.
        image ([`StoredImage`]): How to get the image. Examples that show the same image share its `key`.
        split (`str`): `"train"`, `"validation"` or `"test"`, as given by the source or by the builder's rule.
        prompt, completion (`list[dict[str, str]]`): Chat messages, from `building.templates.chat`.
        task (`str`): One of `data.spec.TASKS`.
        references (`tuple[str, ...]`): Accepted answers. Boxes are written by `data.boxes.box_text`, as fractions of
            the image that `image.load` returns.
        columns (`Mapping[str, str | None]`): Additional columns of this dataset, with the same keys in every example:
            columns to partition by (`modality`), `subset` if scores are reported per subset, source ids.
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
    """One configuration of a dataset: the split of each example.

    Attributes:
        name (`str`): Name of the configuration, such as `"noniid"` or `"dirichlet-0.1"`.
        rule (`str`): How rows are assigned to clients, in one sentence for the card.
        splits (`tuple[str, ...]`): The split of each example: `"client_00"`, ..., `"validation"` or `"test"`.
        client_ids (`tuple[str | None, ...]`): For each held-out example, the client whose distribution it belongs to;
            `None` for rows of a client, because their split is the client.
        client_names (`Mapping[str, str]`): Readable names of clients, if they have any: `{"client_00": "CT"}`.
        known_leak (`str`, *optional*): Why clients have images of `test`, if the official split already has this leak.
            Without this text, such an image is an error.
        compare_by (`str`, *optional*): The column by which the report compares clients, which is the one that the
            rows were divided by. By default the builder's `partition_column`.
        draw (`Mapping[str, int]`): `seed` and `num_draws` of a random partition that is drawn until no client is too
            small; otherwise empty.
    """

    name: str
    rule: str
    splits: tuple[str, ...]
    client_ids: tuple[str | None, ...]
    client_names: Mapping[str, str] = field(default_factory=dict)
    known_leak: str | None = None
    compare_by: str | None = None
    draw: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A download that a dataset is made from.

    Attributes:
        name (`str`): Name with version, such as `"SLAKE 1.0"`.
        url (`str`): Where to get it.
        licence (`str`): Its licence, and whether we have read it or cite it from memory.
        terms (`str`): What a user must do or sign to get access.
        citation (`str`): Authors, title, venue, year, link.
        is_restricted (`bool`): Rows and images may not be redistributed: `--push` uploads ids and the partition only.
    """

    name: str
    url: str
    licence: str
    terms: str
    citation: str
    is_restricted: bool = False


@dataclass(frozen=True)
class Builder(ABC):
    """Makes a federated dataset from an official download.

    Subclasses are frozen dataclasses registered with `@BUILDERS.register("fed_slake")`. Their fields are options of
    `fedvlm build`, with `metadata={"help": ...}`. Class attributes describe the dataset for `--help` and the card.
    The result depends only on the raw files, the options and the seed.
    """

    seed: int = field(default=0, metadata={"help": "Seed of all random choices: partitions and held-out images."})
    wording: str | None = field(
        default=None,
        metadata={"help": "Wording of the instructions, see fedvlm_hf.building.templates. Default: the first one."},
    )

    title: ClassVar[str]
    """Such as `"Fed-SLAKE"`."""
    summary: ClassVar[str]
    """A description in one or two sentences, shown first in the card."""
    layout: ClassVar[str]
    """The files expected under `--raw`, one per line. Shown in `--help`, in the card and in error messages."""
    sources: ClassVar[tuple[Source, ...]]
    licence: ClassVar[str]
    """The Hub's licence tag for the whole dataset, such as `"cc-by-4.0"` or `"other"`."""
    rules: ClassVar[tuple[str, ...]]
    """Every choice that was made, in one sentence each, marked [paper], [code] or [ours]."""
    limits: ClassVar[tuple[str, ...]]
    """Known limits, in one sentence each."""
    paper_counts: ClassVar[Mapping[str, int]]
    """Rows per task in Table 2 of FedVLMBench, or empty. Printed next to our counts."""
    templates: ClassVar[tuple[str, ...]]
    """Keys of `building.templates.TEMPLATES` that this dataset uses. `wording` must exist for all of them."""
    configs: ClassVar[Mapping[str, int]] = {}
    """Configurations and their numbers of clients for the complete download, for a card without a build."""
    partition_column: ClassVar[str]
    """The column by which the report compares clients, unless a partition has its own in `Partition.compare_by`."""
    public_columns: ClassVar[tuple[str, ...]] = ()
    """Additional columns that `--push` may upload even if a source is restricted, such as study ids; never text."""
    version: ClassVar[str] = "1"
    """Version of the rules: another version gives other rows."""

    @property
    def used_sources(self) -> tuple[Source, ...]:
        """The sources that this build reads: all of them, unless an option excludes some."""
        return self.sources

    @abstractmethod
    def read(self, raw: Path, work: Work) -> list[Example]:
        """Return the examples in a fixed order, and count every exclusion in `work.counts`.

        Raises:
            `ValueError`: naming path and row, if a file is missing, truncated or not in the expected format.
        """

    @abstractmethod
    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """Return the configurations; the first one is the default."""


BUILDERS: Registry[type[Builder]] = Registry("builder", "fedvlm_hf.building.builders")


def column(examples: Sequence[Example], name: str) -> list[Any]:
    """Return one column of all examples: `task`, `split`, `id`, or one of the additional columns."""
    if name in ("task", "split", "id"):
        return [getattr(example, name) for example in examples]
    return [example.columns[name] for example in examples]
