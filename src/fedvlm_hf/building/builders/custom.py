"""Own data: a table or a folder of images a client."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from ...data.naming import CLIENT_PREFIX, HELD_OUT
from ..images import ImageFile
from ..partitions.assemble import assemble, lift, train_rows
from ..partitions.by_file import by_file
from ..partitions.holdout import hold_out_groups
from ..partitions.iid import iid
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
"""What each task's templates ask for: columns of the row, or the builder's options of these names."""

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
    """A federated dataset of your own: each file or sub-folder is a client."""

    test_share: float = field(
        default=0.2, metadata={"help": "Share of each client's images held out for the test, where none is given."}
    )
    validation_share: float = field(
        default=0.1, metadata={"help": "Share of each client's images held out for validation, where none is given."}
    )
    attribute: str = field(default="class", metadata={"help": "What classification asks for, in its instruction."})
    subject: str = field(default="main object", metadata={"help": "Of what classification asks it."})
    study: str = field(default="image", metadata={"help": "What reports and detection call an image."})

    title: ClassVar[str] = "Own data"
    summary: ClassVar[str] = "A federated dataset of one's own data, a file or folder a client."
    layout: ClassVar[str] = """\
A file or sub-folder a client, in any mixture:
  site_a.csv       columns: image (path relative to the file or to the folder), answer, and question (asked in the
                   task's wording) or prompt (asked as it is). Optional: task, id, references (further accepted
                   answers, divided by |), choices (of a multiple-choice question, divided by |; the letter of the
                   answer is learned), subset (scored apart), label (what the report counts), split (train,
                   validation or test), client_id (where one file has several clients). Grounding needs expression,
                   detection target, and boxes [x1, y1, x2, y2] in 0-1 as answers. Further columns are kept.
  site_b.jsonl     the same as JSON lines, where references is a list
  site_c.json      the same as one list of objects
  site_d/<class>/  images by class
  site_e/          images with metadata.csv or metadata.jsonl, whose column file_name is the image
  test.csv         optional, as is validation.csv, in any of these forms: held-out rows for all clients; those with a
                   client_id are of that client
  images/          a folder whose images a table names is no client

For example own/north.csv, own/south.csv and own/images/, where north.csv is
  image,question,answer
  images/0001.jpg,Is the heart enlarged?,yes
Its clients are client_north and client_south:
  fedvlm build custom --raw own --out data/fed-own"""
    sources: ClassVar[tuple[Source, ...]] = ()
    licence: ClassVar[str] = "unknown"
    rules: ClassVar[tuple[str, ...]] = (
        "`noniid`: a client a file or folder, by its name. `iid`: all clients' training rows, spread over as many by "
        "chance.",
        "Where no row is given for the test, a share of each client's images is held out for it in a seeded order; "
        "likewise for validation. Files of equal bytes are one image; images of several clients are not held out.",
        "A row that does not say its task is of vqa if it has a question or prompt, else of caption; images by class "
        "are of classification.",
        "A held-out row of a shared file without client_id is of no client in `noniid`.",
    )
    limits: ClassVar[tuple[str, ...]] = (
        "Images that the build holds out are told apart by file content: others of the same patient, scene or object "
        "may be in training.",
    )
    templates: ClassVar[tuple[str, ...]] = ()
    paper_counts: ClassVar[dict[str, int]] = {}
    partition_column: ClassVar[str] = "label"

    def __post_init__(self) -> None:
        """Checks the shares."""
        if min(self.test_share, self.validation_share) < 0 or self.test_share + self.validation_share >= 1:
            raise ValueError(
                f"`test_share={self.test_share}` and `validation_share={self.validation_share}` are shares of a "
                "client's images, from 0, and must leave some to train on."
            )

    def read(self, raw: Path, work: Work) -> list[Example]:
        """The rows by source in the order of their names, in the files' order."""
        raw = Path(raw)
        sources = read_sources(raw, self.layout)
        for path in sources.tables:
            work.source(path)
        for name, rows in sources.rows.items():
            work.tally.read(f"rows of {name}", len(rows))
        if sources.passed_over:
            work.tally.note("files passed over", len(sources.passed_over), ", ".join(sources.passed_over))
        rows = [(name, row) for name, found in sources.rows.items() for row in found]
        images = _images(raw, [row for _, row in rows], work)
        own_columns = _own_columns(row for _, row in rows)
        examples: dict[str, Example] = {}
        for name, row in rows:
            try:
                example = self._example(name, row, images[row.where], own_columns)
                if example.id in examples:
                    raise ValueError(f"the `id` {example.id!r} came before; ids name rows.")
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
            raise ValueError(f"`split` {split!r} is none of {list(SPLITS)}.")
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
            raise ValueError("there is a `question` and a `prompt`; a row has one of them.")
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
        """Holds images out for the splits that no row is given for."""
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
                f"{error} Here strata are clients and groups their images; the shares are `test_share` and "
                "`validation_share`. Or give the rows in test.csv and validation.csv."
            ) from error
        split_of = {rows[position]: split for split, positions in parts.items() for position in positions}
        return [replace(example, split=split_of.get(row, example.split)) for row, example in enumerate(examples)]

    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """`noniid`, a client a file or folder, and `iid` over as many."""
        train, splits, sites = train_rows(examples), column(examples, "split"), column(examples, "site")
        owned, client_ids = by_file([sites[row] for row in train])
        owned = lift(owned, train)
        names = [sites[rows[0]] for rows in owned]
        rule = "A client a file or folder."
        natural = assemble("noniid", rule, splits, owned, sites, names, client_ids=client_ids)
        known = [client_id if site else None for client_id, site in zip(natural.client_ids, sites, strict=True)]
        rule = f"All training rows over {len(client_ids)} clients by chance."
        dealt = lift(iid(len(train), len(client_ids), self.seed), train)
        return [
            replace(natural, client_ids=tuple(known)),
            assemble("iid", rule, splits, dealt, column(examples, "label")),
        ]


def _images(raw: Path, rows: Sequence[TableRow], work: Work) -> dict[str, ImageFile]:
    """Each row's image, by where the row stands; of files with equal bytes the first."""
    paths = {row.where: image_path(row, raw) for row in rows}
    # The journal outlives a stopped build, and the file may be another when it goes on
    files = {f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}": path for path in paths.values()}
    digests = work.map("own-images", _digest, files)
    first: dict[str, ImageFile] = {}
    image_of = {
        path: first.setdefault(digests[key], ImageFile(path.relative_to(raw).as_posix(), path))
        for key, path in files.items()
    }
    work.tally.note("images", len(first), f"in {len(files)} files")
    return {where: image_of[path] for where, path in paths.items()}


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _own_columns(rows: Iterable[TableRow]) -> list[str]:
    names: set[str] = set()
    for row in rows:
        taken = sorted(_TAKEN & set(row.values))
        if taken:
            raise ValueError(f"{row.where}: the column `{taken[0]}` is made by the build; give yours another name.")
        names |= set(row.values)
    return sorted(names - _OF_ROWS)


def _client(source: str, row: TableRow) -> str | None:
    """Whose row it is; `client_north` and `north` are one."""
    name = text_value(row, "client_id") or (None if source in HELD_OUT else source)
    return name and name.removeprefix(CLIENT_PREFIX)


def _check_clients(rows: Sequence[tuple[str, TableRow]], examples: Sequence[Example]) -> None:
    """Shared held-out rows are of clients that there are."""
    sites = column(examples, "site")
    clients = {site for (name, _), site in zip(rows, sites, strict=True) if name not in HELD_OUT}
    if not clients:
        raise ValueError(
            f"`raw` has no client, only {sorted({name for name, _ in rows})}. Expected is:\n{Custom.layout}"
        )
    for (_, row), site in zip(rows, sites, strict=True):
        if site not in {*clients, None}:
            raise ValueError(f"{row.where}: `client_id` {site!r} is none of {sorted(clients)}.")
