"""Federated datasets from any image-text dataset without clients, on the Hub or in a folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from ...data.naming import HELD_OUT
from ..partitions.assemble import assemble, to_example_indices, train_rows
from ..partitions.by_column import by_column
from ..partitions.dirichlet import draw_dirichlet
from ..partitions.iid import iid
from ..readers.own.rows import OwnRow
from ..readers.own.splits import open_splits
from ..readers.own.text import RowText, as_text
from ..work import Work
from .base import Example, Partition, Source, column
from .own import Conversion, OwnDataBuilder, Place, group_images, hold_out_images, read_columns, same_columns


_RESERVED = ("id", "images", "prompt", "completion", "task", "references", "client_id", "image_digest")


@dataclass(frozen=True)
class FromDataset(OwnDataBuilder):
    """Makes a federated dataset from a dataset without clients.

    Args:
        dataset (`str`):
            A dataset on the Hub; a folder that `DatasetDict.save_to_disk` wrote; or a file or folder in one of the
            forms that `fedvlm build custom` reads.
    """

    dataset: str = field(
        default="",
        metadata={"aliases": ["--from"], "help": "Dataset on the Hub, or a file or folder of your own."},
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
    task: str | None = field(
        default="vqa", metadata={"help": "Task of the rows, if there is no column 'task'; decides the metrics."}
    )

    title: ClassVar[str] = "Federated dataset"
    summary: ClassVar[str] = "A dataset from the Hub, divided into clients."
    layout: ClassVar[str] = "A dataset on the Hub, or a file or folder with images, questions and answers."
    rules: ClassVar[tuple[str, ...]] = (
        "[ours] The splits `test` and `validation` of the source are kept. If it has no `test`, a share of the "
        "images, `test_share`, is held out with all rows that have them.",
        "[ours] Training rows whose image is held out are left out. Images are compared by their pixels.",
        "[ours] Each answer of a conversation is a row, and all turns before it are its prompt.",
    )
    limits: ClassVar[tuple[str, ...]] = ("Images that differ in one pixel count as different.",)

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
        return own_name(self.by or self.label or "task")

    def read(self, raw: Path, work: Work) -> list[Example]:
        """Return the rows of the split and of the source's `validation` and `test` in order. `raw` is not used."""
        opened = open_splits(
            self.dataset, self.split, self.dataset_config, self.revision, self.image, self.images_at, work
        )
        if self.split not in opened.rows:
            raise ValueError(f"`split={self.split!r}` is not a split of {self.dataset}: {list(opened.rows)}.")
        conversion, columns = Conversion(self.text_options, work), _Columns(self)
        held_out = [name for name in HELD_OUT if name in opened.rows and name != self.split]
        num_examples = {}
        for name in (self.split, *held_out):
            place = partial(_place, name, "train" if name == self.split else name, columns)
            num_examples[name] = len(conversion.add(name, opened.rows[name](), place))
            if name == self.split:
                columns.check_options()
        examples = conversion.examples
        for name in sorted(opened.rows.keys() - {self.split, *held_out}):
            why = "they are not used; --split chooses the split that is divided among the clients"
            work.counts.note(f"rows of the split {name}", opened.num_rows(name), why)
        if opened.ignored:
            work.counts.note("ignored files and folders", len(opened.ignored), ", ".join(opened.ignored))
        if columns.nested:
            names = ", ".join(columns.nested)
            work.counts.note("columns left out", len(columns.nested), f"they have lists or objects: {names}")
        same_columns(examples, list(columns.own))
        groups = group_images(examples, work, lambda image, facts: image.key if facts is None else facts.digest)
        start = 0
        for name, count in num_examples.items():
            opened.record(name, groups.names[start : start + count], work)
            start += count
        return self._without_leaks(examples, groups.names, work)

    def _without_leaks(self, examples: list[Example], images: Sequence[str], work: Work) -> list[Example]:
        """Hold out images if the source has no split `test`, and leave out rows whose image is held out."""
        before = self._clients(examples)
        if not any(example.split == "test" for example in examples):
            strata = ["all"] * len(examples)
            hold_out_images(examples, images, strata, {"test": self.test_share}, self.seed)
        sides: dict[str, set[str]] = {split: set() for split in ("train", *HELD_OUT)}
        for example, image in zip(examples, images, strict=True):
            sides[example.split].add(image)
        later = {"train": sides["validation"] | sides["test"], "validation": sides["test"], "test": set()}
        kept = [own for own, image in zip(examples, images, strict=True) if image not in later[own.split]]
        work.counts.exclude("rows", len(examples) - len(kept), "their image is held out")
        lost = sorted(before - self._clients(kept))
        if lost:
            raise ValueError(
                f"`by={self.by!r}`: all rows of the value {lost[0]!r} are held out, because other rows of `test` or "
                "`validation` show their images, or because it has few images. Use another `seed` or a smaller "
                "`test_share`, or leave the value out of the source."
            )
        return kept

    def _clients(self, examples: Sequence[Example]) -> set[str]:
        """Return the values of the column `by` among the training rows."""
        if self.by is None:
            return set()
        values = column(examples, own_name(self.by))
        return {values[row] for row in train_rows(examples) if values[row] is not None}

    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """Return the requested configurations: `noniid`, `dirichlet-ALPHA`, `iid`."""
        train, splits = train_rows(examples), column(examples, "split")
        found = []
        if self.by is not None:
            found.append(self._by_column(examples))
        if self.dirichlet is not None:
            labels = self._values(examples, "label", self.label)
            draw = draw_dirichlet([labels[row] for row in train], self.num_clients, self.dirichlet, self.seed)
            rule = (
                f"[ours] Rows of each `{self.label}` are divided by shares drawn from Dirichlet({self.dirichlet:g}): "
                f"draw {draw.num_draws}, with seed {draw.seed}, is the first one that leaves no client without rows."
            )
            clients = to_example_indices(draw.clients, train)
            partition = assemble(f"dirichlet-{self.dirichlet:g}".replace("+", ""), rule, splits, clients, labels)
            chosen = {"seed": draw.seed, "num_draws": draw.num_draws}
            found.append(replace(partition, compare_by=own_name(self.label), draw=chosen))
        if self.iid:
            clients = to_example_indices(iid(len(train), self.num_clients, self.seed), train)
            labels = column(examples, self.partition_column)
            rule = "[ours] Rows are distributed over the clients at random."
            compare_by = own_name(self.label) if self.label else self.partition_column
            found.append(replace(assemble("iid", rule, splits, clients, labels), compare_by=compare_by))
        return found

    def _by_column(self, examples: Sequence[Example]) -> Partition:
        train, values = train_rows(examples), self._values(examples, "by", self.by)
        clients, groups = by_column([values[row] for row in train], self.num_clients)
        rule = f"[ours] One client per value of `{self.by}`."
        if len(clients) < sum(map(len, groups)):
            rule = f"[ours] The sorted values of `{self.by}` in {len(clients)} groups."
        names = [", ".join(group) for group in groups]
        owned = to_example_indices(clients, train)
        partition = assemble("noniid", rule, column(examples, "split"), owned, values, names)
        return replace(partition, compare_by=own_name(self.by))

    def _values(self, examples: Sequence[Example], option: str, name: str) -> list[str]:
        """Return a column of all examples by its name in the source."""
        values = column(examples, own_name(name))
        for example, value in zip(examples, values, strict=True):
            if value is None and example.split == "train":
                raise ValueError(
                    f"`{option}={name!r}`: row {example.id!r} has no value, so it has no client. Fill in a value, or "
                    "leave the row out."
                )
        return values


class _Columns:
    """The columns of a dataset, as far as its rows have shown them.

    Attributes:
        own (`dict[str, None]`): The additional columns of the examples, in the order of the source.
        nested (`dict[str, None]`): Columns with lists or objects, which are left out.
    """

    def __init__(self, builder: FromDataset):
        self.own: dict[str, None] = {}
        self.nested: dict[str, None] = {}
        self._builder = builder
        self._options = builder.text_options
        self._seen: dict[str, None] = {"task": None}

    def of_row(self, row: OwnRow) -> dict[str, str | None]:
        """Return the additional columns of a row."""
        read = read_columns(row, self._options) - {self._builder.by, self._builder.label} | {"task"}
        own: dict[str, str | None] = {}
        for name, value in row.values.items():
            if isinstance(value, dict | list | bytes):
                if name not in read:
                    self.nested[name] = None
                continue
            self._seen[name] = None
            if name not in read:
                own[own_name(name)] = as_text(value)
                self.own[own_name(name)] = None
        return own

    def check_options(self) -> None:
        """Check the columns by which clients are divided, before any image is read."""
        for option, name in {"by": self._builder.by, "label": self._builder.label}.items():
            if name is not None and name not in self._seen:
                raise ValueError(
                    f"`{option}={name!r}` is not a column of {self._builder.dataset} with one value per row; these "
                    f"are {list(self._seen)}."
                )


def _place(name: str, split: str, columns: _Columns, index: int, row: OwnRow, text: RowText) -> Place:
    return Place(f"{name}-{index:07d}", split, columns.of_row(row))


def own_name(name: str) -> str:
    """Rename columns of the source that conflict with ours, such as `id`. `task` has the same meaning in both."""
    return f"source_{name}" if name in _RESERVED and name != "task" else name
