"""Any image-text dataset, of the Hub or of a folder, cut into clients."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset

from ...data.naming import HELD_OUT
from ..partitions.assemble import assemble, lift, train_rows
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
    """A federated dataset out of one that has no clients.

    Args:
        dataset (`str`):
            A dataset on the Hub, a folder that `load_dataset` reads, or one that `DatasetDict.save_to_disk` wrote.
    """

    dataset: str = field(
        default="",
        metadata={"aliases": ["--from"], "help": "Dataset on the Hub, or folder that load_dataset reads."},
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Its configuration."})
    revision: str | None = field(default=None, metadata={"help": "Its branch, tag or commit."})
    split: str = field(default="train", metadata={"help": "The split that clients share out."})
    test_share: float = field(
        default=0.1, metadata={"help": "Share of the images held out as test, where the source has no split test."}
    )
    by: str | None = field(default=None, metadata={"help": "Configuration noniid: clients by this column's values."})
    dirichlet: float | None = field(
        default=None, metadata={"help": "Configuration dirichlet-ALPHA: each value of --label cut by shares drawn."}
    )
    label: str | None = field(default=None, metadata={"help": "The column that --dirichlet goes by."})
    iid: bool = field(default=False, metadata={"help": "Configuration iid: clients by chance."})
    num_clients: int | None = field(
        default=None, metadata={"help": "How many clients. With --by alone it may be left out: a client a value."}
    )
    image: str | None = field(default=None, metadata={"help": "Column with the images, if there are several."})
    question: str | None = field(default=None, metadata={"help": "Column with the questions; question by default."})
    answer: str | None = field(default=None, metadata={"help": "Column with the answers; answer by default."})
    instruction: str | None = field(
        default=None, metadata={"help": "What every row is asked, where no column has a question."}
    )
    task: str = field(default="vqa", metadata={"help": "Task of rows that have no column 'task'; decides the scores."})

    title: ClassVar[str] = "Federated dataset"
    summary: ClassVar[str] = "A dataset of the Hub, cut into clients."
    layout: ClassVar[str] = "A dataset that load_dataset reads, with images, questions and answers."
    licence: ClassVar[str] = "unknown"
    rules: ClassVar[tuple[str, ...]] = (
        "[ours] The source's `test` and `validation` are kept. Where it has no `test`, `test_share` of the images are "
        "held out, with all rows that show them.",
        "[ours] Training rows whose image is held out are left out: images are told apart by their pixels.",
    )
    limits: ClassVar[tuple[str, ...]] = ("Images that differ in one pixel count as different.",)
    templates: ClassVar[tuple[str, ...]] = ()
    paper_counts: ClassVar[Mapping[str, int]] = {}

    def __post_init__(self) -> None:
        """Checks that the options say how clients come about.

        Raises:
            `ValueError`: naming the option.
        """
        if not self.dataset:
            raise ValueError("`dataset` is needed: --from org/dataset, or --from FOLDER.")
        if self.by is None and self.dirichlet is None and not self.iid:
            raise ValueError("Clients come from --by COLUMN, --dirichlet ALPHA or --iid; give at least one of them.")
        if (self.dirichlet is None) != (self.label is None):
            raise ValueError("`dirichlet` and `label` go together: --dirichlet ALPHA --label COLUMN.")
        if self.num_clients is None and (self.dirichlet is not None or self.iid):
            raise ValueError("`num_clients` is needed: --dirichlet and --iid share rows out over so many.")
        if not 0 < self.test_share < 1:
            raise ValueError(f"`test_share={self.test_share}` must be between 0 and 1.")

    @property
    def sources(self) -> tuple[Source, ...]:
        """The dataset that it is made from."""
        terms = "See the source's card."
        if Path(self.dataset).exists():  # a path of this machine is nobody's business
            return (Source(Path(self.dataset).resolve().name, "a local folder", terms, terms, terms),)
        return (Source(self.dataset, f"https://huggingface.co/datasets/{self.dataset}", terms, terms, terms),)

    @property
    def partition_column(self) -> str:
        """The column that clients go by."""
        return _own_name(self.by or self.label or "task")

    def read(self, raw: Path, work: Work) -> list[Example]:
        """The rows of the split and of the source's `validation` and `test`, in their order; `raw` is not used."""
        splits = load_splits(self.dataset, self.dataset_config, self.revision)
        if self.split not in splits:
            raise ValueError(f"`split={self.split!r}` is none of {self.dataset}'s: {list(splits)}.")
        self._check_options(splits[self.split])
        examples = []
        for name, split in {self.split: "train", **{name: name for name in HELD_OUT if name in splits}}.items():
            examples += self._examples(splits[name], name, split, work)
            work.tally.read(f"rows of {name}", splits[name].num_rows)
        if "test" not in splits:
            examples = self._hold_out(examples)
        kept = _without_leaks(examples)
        work.tally.exclude("rows", len(examples) - len(kept), "their image is held out")
        return kept

    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """Those that the options ask for: `noniid`, `dirichlet-ALPHA`, `iid`."""
        train, splits = train_rows(examples), column(examples, "split")
        found = []
        if self.by is not None:
            found.append(self._by_column(examples))
        if self.dirichlet is not None:
            labels = self._values(examples, "label", self.label)
            clients = dirichlet([labels[row] for row in train], self.num_clients, self.dirichlet, self.seed)
            name = f"dirichlet-{self.dirichlet:g}"
            rule = f"[ours] Each `{self.label}`'s rows are cut by shares drawn from Dirichlet({self.dirichlet:g})."
            found.append(assemble(name, rule, splits, lift(clients, train), labels))
        if self.iid:
            clients = lift(iid(len(train), self.num_clients, self.seed), train)
            labels = column(examples, self.partition_column)
            found.append(assemble("iid", "[ours] Rows are dealt to the clients by chance.", splits, clients, labels))
        return found

    def _by_column(self, examples: Sequence[Example]) -> Partition:
        train, values = train_rows(examples), self._values(examples, "by", self.by)
        clients, groups = by_column([values[row] for row in train], self.num_clients)
        rule = f"[ours] A client a value of `{self.by}`."
        if len(clients) < sum(map(len, groups)):
            rule = f"[ours] The values of `{self.by}`, in sorted order, in {len(clients)} groups."
        names = [", ".join(group) for group in groups]
        return assemble("noniid", rule, column(examples, "split"), lift(clients, train), values, names)

    def _check_options(self, dataset: Dataset) -> None:
        """Columns that clients go by, before any image is read."""
        known = ["task", *(name for name in text_columns(dataset.features) if name != "task")]
        for option, name in {"by": self.by, "label": self.label}.items():
            if name is not None and name not in known:
                raise ValueError(
                    f"`{option}={name!r}` is no column of {self.dataset} with one value a row; those are {known}."
                )

    def _values(self, examples: Sequence[Example], option: str, name: str) -> list[str]:
        """A column of all examples, by its name in the source."""
        values = column(examples, _own_name(name))
        for example, value in zip(examples, values, strict=True):
            if value is None and example.split == "train":
                raise ValueError(f"`{option}={name!r}`: row {example.id!r} has no value, and so no client.")
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
        # Of the content: `datasets` hashes times and paths of files, which differ from machine to machine
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
        """A share of the images of what would be training rows as test."""
        train = train_rows(examples)
        images = [examples[row].image.key for row in train]
        rows = hold_out_groups(images, ["all"] * len(train), {"test": self.test_share}, self.seed)["test"]
        test = {train[position] for position in rows}
        return [replace(own, split="test") if row in test else own for row, own in enumerate(examples)]


def _without_leaks(examples: list[Example]) -> list[Example]:
    """Leaves out training rows whose image is held out, and validation rows whose image is in the test."""
    sides = {split: {own.image.key for own in examples if own.split == split} for split in HELD_OUT}
    later = {"train": sides["validation"] | sides["test"], "validation": sides["test"], "test": set()}
    return [example for example in examples if example.image.key not in later[example.split]]


def _own_name(name: str) -> str:
    """The source's own `id`, say, under a name that no column of ours has; `task` is ours too."""
    return f"source_{name}" if name in _RESERVED and name != "task" else name


def _own_value(value: Any) -> str | None:
    return None if value is None else str(value)
