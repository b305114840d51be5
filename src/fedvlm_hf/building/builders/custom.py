"""Federated datasets from the user's own data: one table or one folder of images per client."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from ...data.naming import CLIENT_PREFIX, HELD_OUT
from ..images import ImageFile
from ..inspection import inspect_images
from ..partitions.assemble import assemble, to_example_indices, train_rows
from ..partitions.by_file import by_file
from ..partitions.holdout import hold_out_groups
from ..partitions.iid import iid
from ..readers.files import RootFolder
from ..readers.own_data import answer_values, choice_values, image_path, read_sources, text_value
from ..readers.tables import TableRow
from ..templates import chat, choices_text
from ..work import Work
from .base import BUILDERS, Builder, Example, Partition, Source, column


SPLITS = ("train", *HELD_OUT)

_TEMPLATE_FIELDS = {
    "vqa": ("question",),
    "classification": ("attribute", "subject"),
    "caption": (),
    "report": ("study",),
    "grounding": ("expression",),
    "detection": ("target", "study"),
}
"""The placeholders of each task's templates. Their values are columns of the row, or options of the builder."""

_OF_ROWS = {
    "image",
    "question",
    "prompt",
    "answer",
    "task",
    "id",
    "references",
    "choices",
    "subset",
    "split",
    "client_id",
    "label",
}
_TAKEN = {"images", "completion", "image_digest", "site"}


@BUILDERS.register("custom")
@dataclass(frozen=True)
class Custom(Builder):
    """A federated dataset from your own data: each file or subfolder is a client."""

    test_share: float = field(
        default=0.2, metadata={"help": "Share of each client's images held out as test, if no test rows are given."}
    )
    validation_share: float = field(
        default=0.1,
        metadata={"help": "Share of each client's images held out as validation, if no validation rows are given."},
    )
    attribute: str = field(default="class", metadata={"help": "Attribute named in classification instructions."})
    subject: str = field(
        default="main object", metadata={"help": "Subject of the attribute in classification instructions."}
    )
    study: str = field(default="image", metadata={"help": "Word for an image in report and detection instructions."})

    title: ClassVar[str] = "Own data"
    summary: ClassVar[str] = "A federated dataset from your own data, one file or folder per client."
    layout: ClassVar[str] = """\
One file or subfolder per client, in any of these forms:
  site_a.csv       columns: image (path relative to the file or to the folder), answer, and either question (used in
                   the wording of the task) or prompt (used unchanged). Optional: task, id, references (further
                   accepted answers, separated by |), choices (options of a multiple-choice question, separated by |;
                   the answer becomes a letter), subset (scored separately), label (counted in the report), split
                   (train, validation or test), client_id (if one file has several clients). Grounding needs
                   expression, detection needs target, and their answers are boxes [x1, y1, x2, y2] with values from
                   0 to 1. Further columns are kept.
  site_b.jsonl     the same as JSON Lines, with a list of references
  site_c.json      the same as one list of objects
  site_d/<class>/  images by class
  site_e/          images with metadata.csv or metadata.jsonl, whose column file_name is the image
  test.csv         optional held-out rows for all clients, in any of these forms; rows with a client_id belong to that
                   client. Likewise validation.csv
  images/          a folder is not a client if a table uses its images

For example own/north.csv, own/south.csv and own/images/, where north.csv is
  image,question,answer
  images/0001.jpg,Is the heart enlarged?,yes
Its clients are client_north and client_south:
  fedvlm build custom --raw own --out data/fed-own"""
    sources: ClassVar[tuple[Source, ...]] = ()
    licence: ClassVar[str] = "unknown"
    rules: ClassVar[tuple[str, ...]] = (
        "`noniid`: one client per file or folder, with its name. `iid`: the training rows of all clients, distributed "
        "at random over the same number of clients.",
        "If no test rows are given, a share of each client's images is held out as test in a seeded order; likewise "
        "for validation. Files with equal bytes are the same image. Images of several clients are not held out.",
        "The task of a row without `task` is vqa if it has a question or prompt, and caption otherwise; images by "
        "class have the task classification.",
        "A held-out row of a shared file without client_id belongs to no client in `noniid`.",
    )
    limits: ClassVar[tuple[str, ...]] = (
        "Held-out images are distinguished by file content: other images of the same patient, scene or object may be "
        "in training.",
    )
    templates: ClassVar[tuple[str, ...]] = ()
    paper_counts: ClassVar[dict[str, int]] = {}
    partition_column: ClassVar[str] = "label"

    def __post_init__(self) -> None:
        """Check the shares."""
        if min(self.test_share, self.validation_share) < 0 or self.test_share + self.validation_share >= 1:
            raise ValueError(
                f"`test_share={self.test_share}` and `validation_share={self.validation_share}` must be 0 or more, "
                "and their sum must be less than 1, so that each client has images to train on."
            )

    def read(self, raw: Path, work: Work) -> list[Example]:
        """Return the rows by source in the order of their names, and within a source in the order of the file."""
        raw = Path(raw)
        sources = read_sources(raw, self.layout, work)
        for path in sources.tables:
            work.source(path)
        for name, rows in sources.rows.items():
            work.counts.read(f"rows of {name}", len(rows))
        if sources.ignored:
            work.counts.note("ignored files", len(sources.ignored), ", ".join(sources.ignored))
        rows = [(name, row) for name, found in sources.rows.items() for row in found]
        images = _images(raw, [row for _, row in rows], work)
        own_columns = _own_columns(row for _, row in rows)
        examples: dict[str, Example] = {}
        for name, row in rows:
            try:
                example = self._example(name, row, images[row.where], own_columns)
                if example.id in examples:
                    raise ValueError(f"the `id` {example.id!r} is not unique.")
            except ValueError as error:
                raise ValueError(f"{row.where}: {error}") from error
            examples[example.id] = example
        _check_clients(rows, list(examples.values()))
        return self._held_out(list(examples.values()))

    def _example(self, source: str, row: TableRow, image: ImageFile, own_columns: Sequence[str]) -> Example:
        task = text_value(row, "task") or ("vqa" if {"question", "prompt"} & set(row.values) else "caption")
        if task not in _TEMPLATE_FIELDS:
            raise ValueError(f"`task` {task!r} is unknown; tasks are {list(_TEMPLATE_FIELDS)}.")
        split = source if source in HELD_OUT else text_value(row, "split") or "train"
        if split not in SPLITS:
            raise ValueError(f"`split` {split!r} is not one of {list(SPLITS)}.")
        answers = answer_values(row, task)
        return Example(
            id=text_value(row, "id") or f"{source}-{row.name}",
            image=image,
            split=split,
            **self._messages(row, task, answers[0]),
            task=task,
            references=answers,
            columns={
                "site": _client(source, row),
                "label": text_value(row, "label") or (answers[0] if task == "classification" else task),
                "subset": text_value(row, "subset"),
                **{name: text_value(row, name) for name in own_columns},
            },
        )

    def _messages(self, row: TableRow, task: str, answer: str) -> dict[str, list[dict[str, str]]]:
        prompt = text_value(row, "prompt")
        if prompt and "question" in row.values:
            raise ValueError("there is a `question` and a `prompt`; a row must have only one of them.")
        if prompt:
            return {
                "prompt": [{"role": "user", "content": prompt}],
                "completion": [{"role": "assistant", "content": answer}],
            }
        fields = {name: text_value(row, name) or getattr(self, name, None) for name in _TEMPLATE_FIELDS[task]}
        missing = [name for name, value in fields.items() if not value]
        if missing:
            raise ValueError(f"{task!r} needs the column `{missing[0]}`, or a `prompt`; it has {list(row.values)}.")
        if choices := choice_values(row):
            return chat("choice", answer, self.wording, **fields, choices=choices_text(choices))
        return chat(task, answer, self.wording, **fields)

    def _held_out(self, examples: list[Example]) -> list[Example]:
        """Hold out images for the splits for which no rows are given."""
        given = set(column(examples, "split"))
        wanted = {"test": self.test_share, "validation": self.validation_share}
        shares = {split: share for split, share in wanted.items() if share and split not in given}
        owners: dict[str, set[tuple[str | None, str]]] = {}
        for example in examples:
            owners.setdefault(example.image.key, set()).add((example.columns["site"], example.split))
        rows = [row for row in train_rows(examples) if len(owners[examples[row].image.key]) == 1]
        keys, sites = [examples[row].image.key for row in rows], [examples[row].columns["site"] for row in rows]
        try:
            parts = hold_out_groups(keys, sites, shares, self.seed)
        except ValueError as error:
            raise ValueError(
                f"{error} Here strata are clients, and groups are their images; the shares are `test_share` and "
                "`validation_share`. Alternatively, provide held-out rows in test.csv and validation.csv."
            ) from error
        split_of = {rows[position]: split for split, positions in parts.items() for position in positions}
        return [replace(example, split=split_of.get(row, example.split)) for row, example in enumerate(examples)]

    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """Return `noniid`, with one client per file or folder, and `iid`, with the same number of clients."""
        train, splits, sites = train_rows(examples), column(examples, "split"), column(examples, "site")
        owned, client_ids = by_file([sites[row] for row in train])
        owned = to_example_indices(owned, train)
        names = [sites[rows[0]] for rows in owned]
        rule = "One client per file or folder."
        natural = assemble("noniid", rule, splits, owned, sites, names, client_ids=client_ids)
        known = [client_id if site else None for client_id, site in zip(natural.client_ids, sites, strict=True)]
        rule = f"All training rows are distributed at random over {len(client_ids)} clients."
        dealt = to_example_indices(iid(len(train), len(client_ids), self.seed), train)
        return [
            replace(natural, client_ids=tuple(known)),
            assemble("iid", rule, splits, dealt, column(examples, "label")),
        ]


def _images(raw: Path, rows: Sequence[TableRow], work: Work) -> dict[str, ImageFile]:
    """Return the image of each row by the row's location. Of files with equal bytes, the first one is used."""
    root = RootFolder(raw)
    paths = {row.where: image_path(row, root, work) for row in rows}
    files = {path: ImageFile(path.relative_to(raw).as_posix(), path) for path in paths.values()}
    facts = inspect_images(((files[path], where) for where, path in paths.items()), work)
    first: dict[str, ImageFile] = {}
    image_of = {path: first.setdefault(facts[image.key].content, image) for path, image in files.items()}
    work.counts.note("images", len(first), f"in {len(files)} files")
    return {where: image_of[path] for where, path in paths.items()}


def _own_columns(rows: Iterable[TableRow]) -> list[str]:
    names: set[str] = set()
    for row in rows:
        taken = sorted(_TAKEN & set(row.values))
        if taken:
            raise ValueError(f"{row.where}: the build adds a column `{taken[0]}`; rename the column in your data.")
        names |= set(row.values)
    return sorted(names - _OF_ROWS)


def _client(source: str, row: TableRow) -> str | None:
    """Return the client of a row; `client_north` and `north` are the same client."""
    name = text_value(row, "client_id") or (None if source in HELD_OUT else source)
    return name and name.removeprefix(CLIENT_PREFIX)


def _check_clients(rows: Sequence[tuple[str, TableRow]], examples: Sequence[Example]) -> None:
    """Check that the clients of shared held-out rows exist."""
    sites = column(examples, "site")
    clients = {site for (name, _), site in zip(rows, sites, strict=True) if name not in HELD_OUT}
    if not clients:
        raise ValueError(
            f"`raw` has no client, only {sorted({name for name, _ in rows})}. Expected is:\n{Custom.layout}"
        )
    for (_, row), site in zip(rows, sites, strict=True):
        if site not in {*clients, None}:
            raise ValueError(f"{row.where}: `client_id` {site!r} is not one of {sorted(clients)}.")
