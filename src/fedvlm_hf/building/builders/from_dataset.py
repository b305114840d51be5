"""Federated datasets from any image-text dataset without clients, on the Hub or in a folder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset

from ...data.naming import HELD_OUT
from ..partitions.assemble import assemble, to_example_indices, train_rows
from ..partitions.by_column import by_column
from ..partitions.dirichlet import dirichlet
from ..partitions.holdout import hold_out_groups
from ..partitions.iid import iid
from ..readers.hub import RowImage, image_column, load_splits, pixel_digests, records, text_columns
from ..readers.messages import Asking, row_text, text_columns_of
from ..work import Work
from .base import Builder, Example, Partition, Source, column


_RESERVED = ("id", "images", "prompt", "completion", "task", "references", "client_id", "image_digest")


@dataclass(frozen=True)
class FromDataset(Builder):
    """Makes a federated dataset from a dataset without clients.

    Args:
        dataset (`str`):
            A dataset on the Hub, a folder that `load_dataset` reads, or one that `DatasetDict.save_to_disk` wrote.
    """

    dataset: str = field(
        default="",
        metadata={"aliases": ["--from"], "help": "Dataset on the Hub, or folder that load_dataset reads."},
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the dataset."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the dataset."})
    split: str = field(default="train", metadata={"help": "The split to divide among the clients."})
    test_share: float = field(
        default=0.1, metadata={"help": "Share of the images held out as test, if the dataset has no split test."}
    )
    by: str | None = field(
        default=None, metadata={"help": "Configuration noniid: divide the rows by the values of this column."}
    )
    dirichlet: float | None = field(
        default=None,
        metadata={"help": "Configuration dirichlet-ALPHA: divide each value of --label by random shares."},
    )
    label: str | None = field(default=None, metadata={"help": "The column whose values --dirichlet divides."})
    iid: bool = field(default=False, metadata={"help": "Configuration iid: divide the rows at random."})
    num_clients: int | None = field(
        default=None, metadata={"help": "Number of clients. Optional with only --by: one client per value."}
    )
    image: str | None = field(default=None, metadata={"help": "Column with the images, if there are several."})
    question: str | None = field(default=None, metadata={"help": "Column with the questions; question by default."})
    answer: str | None = field(default=None, metadata={"help": "Column with the answers; answer by default."})
    instruction: str | None = field(
        default=None, metadata={"help": "The prompt of every row, if no column has questions."}
    )
    task: str = field(
        default="vqa", metadata={"help": "Task of the rows, if there is no column 'task'; decides the metrics."}
    )

    title: ClassVar[str] = "Federated dataset"
    summary: ClassVar[str] = "A dataset from the Hub, divided into clients."
    layout: ClassVar[str] = "A dataset that load_dataset reads, with images, questions and answers."
    licence: ClassVar[str] = "unknown"
    rules: ClassVar[tuple[str, ...]] = (
        "[ours] The splits `test` and `validation` of the source are kept. If it has no `test`, a share of the "
        "images, `test_share`, is held out with all rows that have them.",
        "[ours] Training rows whose image is held out are left out. Images are compared by their pixels.",
    )
    limits: ClassVar[tuple[str, ...]] = ("Images that differ in one pixel count as different.",)
    templates: ClassVar[tuple[str, ...]] = ()
    paper_counts: ClassVar[Mapping[str, int]] = {}

    def __post_init__(self) -> None:
        """Check that the options define clients.

        Raises:
            `ValueError`: naming the option.
        """
        if not self.dataset:
            raise ValueError("`dataset` is required: --from org/dataset, or --from FOLDER.")
        if self.by is None and self.dirichlet is None and not self.iid:
            raise ValueError("At least one of --by COLUMN, --dirichlet ALPHA and --iid is required to define clients.")
        if (self.dirichlet is None) != (self.label is None):
            raise ValueError("`dirichlet` and `label` must be used together: --dirichlet ALPHA --label COLUMN.")
        if self.num_clients is None and (self.dirichlet is not None or self.iid):
            raise ValueError("`num_clients` is required with --dirichlet and --iid.")
        if not 0 < self.test_share < 1:
            raise ValueError(f"`test_share={self.test_share}` must be between 0 and 1.")

    @property
    def sources(self) -> tuple[Source, ...]:
        """The original dataset."""
        terms = "See the card of the source."
        if Path(self.dataset).exists():  # paths of this machine must not become public
            return (Source(Path(self.dataset).resolve().name, "a local folder", terms, terms, terms),)
        return (Source(self.dataset, f"https://huggingface.co/datasets/{self.dataset}", terms, terms, terms),)

    @property
    def partition_column(self) -> str:
        """The column by which clients are divided."""
        return _own_name(self.by or self.label or "task")

    def read(self, raw: Path, work: Work) -> list[Example]:
        """Return the rows of the split and of the source's `validation` and `test` in order. `raw` is not used."""
        splits = load_splits(self.dataset, self.dataset_config, self.revision)
        if self.split not in splits:
            raise ValueError(f"`split={self.split!r}` is not a split of {self.dataset}: {list(splits)}.")
        self._check_options(splits[self.split])
        examples = []
        for name, split in {self.split: "train", **{name: name for name in HELD_OUT if name in splits}}.items():
            examples += self._examples(splits[name], name, split, work)
            work.counts.read(f"rows of {name}", splits[name].num_rows)
        if "test" not in splits:
            examples = self._hold_out(examples)
        kept = _without_leaks(examples)
        work.counts.exclude("rows", len(examples) - len(kept), "their image is held out")
        return kept

    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """Return the requested configurations: `noniid`, `dirichlet-ALPHA`, `iid`."""
        train, splits = train_rows(examples), column(examples, "split")
        found = []
        if self.by is not None:
            found.append(self._by_column(examples))
        if self.dirichlet is not None:
            labels = self._values(examples, "label", self.label)
            clients = dirichlet([labels[row] for row in train], self.num_clients, self.dirichlet, self.seed)
            name = f"dirichlet-{self.dirichlet:g}"
            rule = (
                f"[ours] Rows of each `{self.label}` are divided by shares drawn from Dirichlet({self.dirichlet:g})."
            )
            found.append(assemble(name, rule, splits, to_example_indices(clients, train), labels))
        if self.iid:
            clients = to_example_indices(iid(len(train), self.num_clients, self.seed), train)
            labels = column(examples, self.partition_column)
            rule = "[ours] Rows are distributed over the clients at random."
            found.append(assemble("iid", rule, splits, clients, labels))
        return found

    def _by_column(self, examples: Sequence[Example]) -> Partition:
        train, values = train_rows(examples), self._values(examples, "by", self.by)
        clients, groups = by_column([values[row] for row in train], self.num_clients)
        rule = f"[ours] One client per value of `{self.by}`."
        if len(clients) < sum(map(len, groups)):
            rule = f"[ours] The sorted values of `{self.by}` in {len(clients)} groups."
        names = [", ".join(group) for group in groups]
        return assemble("noniid", rule, column(examples, "split"), to_example_indices(clients, train), values, names)

    def _check_options(self, dataset: Dataset) -> None:
        """Check the columns by which clients are divided, before any image is read."""
        known = ["task", *(name for name in text_columns(dataset.features) if name != "task")]
        for option, name in {"by": self.by, "label": self.label}.items():
            if name is not None and name not in known:
                raise ValueError(
                    f"`{option}={name!r}` is not a column of {self.dataset} with one value per row; these are {known}."
                )

    def _values(self, examples: Sequence[Example], option: str, name: str) -> list[str]:
        """Return a column of all examples by its name in the source."""
        values = column(examples, _own_name(name))
        for example, value in zip(examples, values, strict=True):
            if value is None and example.split == "train":
                raise ValueError(f"`{option}={name!r}`: row {example.id!r} has no value, so it has no client.")
        return values

    def _examples(self, dataset: Dataset, name: str, split: str, work: Work) -> list[Example]:
        asking = Asking(self.question, self.answer, self.instruction, self.task, self.wording)
        where = f"{self.dataset}, split {name}"
        image = image_column(dataset.features, self.image)
        texts = text_columns_of(dataset.column_names, asking)
        own = [
            name for name in text_columns(dataset.features)
            if name != "task" and (name not in texts or name in (self.by, self.label))
        ]  # fmt: skip
        digests = pixel_digests(dataset, image, where, work)
        rows = records(dataset, list(dict.fromkeys([*texts, *own])))
        # A hash of the content, since `datasets` hashes times and paths of files, which differ between machines
        content = json.dumps([digests, rows], sort_keys=True, default=str)
        work.sources[f"split {name}"] = hashlib.sha256(content.encode()).hexdigest()
        examples = []
        for row, values in enumerate(rows):
            try:
                text = row_text(values, texts, asking)
            except ValueError as error:
                raise ValueError(f"{where}, row {row}: {error}") from error
            examples.append(
                Example(
                    id=f"{name}-{row:07d}",
                    image=RowImage(digests[row], dataset, image, row),
                    split=split,
                    **vars(text),
                    columns={_own_name(key): _own_value(values[key]) for key in own},
                )
            )
        return examples

    def _hold_out(self, examples: list[Example]) -> list[Example]:
        """Hold out a share of the training images as test."""
        train = train_rows(examples)
        images = [examples[row].image.key for row in train]
        rows = hold_out_groups(images, ["all"] * len(train), {"test": self.test_share}, self.seed)["test"]
        test = {train[position] for position in rows}
        return [replace(own, split="test") if row in test else own for row, own in enumerate(examples)]


def _without_leaks(examples: list[Example]) -> list[Example]:
    """Leave out training rows whose image is held out, and validation rows whose image is in the test split."""
    sides = {split: {own.image.key for own in examples if own.split == split} for split in HELD_OUT}
    later = {"train": sides["validation"] | sides["test"], "validation": sides["test"], "test": set()}
    return [example for example in examples if example.image.key not in later[example.split]]


def _own_name(name: str) -> str:
    """Rename columns of the source that conflict with ours, such as `id`. `task` has the same meaning in both."""
    return f"source_{name}" if name in _RESERVED and name != "task" else name


def _own_value(value: Any) -> str | None:
    return None if value is None else str(value)
