"""Federated datasets from the user's own data: each file or folder is a client."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from ...data.naming import CLIENT_PREFIX, HELD_OUT
from ..partitions.assemble import assemble, to_example_indices, train_rows
from ..partitions.by_file import by_file
from ..partitions.iid import iid
from ..readers.own.rows import OwnRow
from ..readers.own.rows import Source as OwnSource
from ..readers.own.sources import find_sources
from ..readers.own.text import RowText, as_text, text_value
from ..work import Work
from .base import BUILDERS, Example, Partition, Source, column
from .own import Conversion, OwnDataBuilder, Place, group_images, hold_out_images, read_columns, same_columns


SPLITS = ("train", *HELD_OUT)

_OF_ROWS = {"image", "id", "subset", "split", "client_id", "label"}
"""Columns with a fixed meaning, besides those of the text."""

_TAKEN = {"images", "prompt", "completion", "image_digest", "site"}


@BUILDERS.register("custom")
@dataclass(frozen=True)
class Custom(OwnDataBuilder):
    """A federated dataset from your own data: each file or subfolder is a client."""

    test_share: float = field(
        default=0.2, metadata={"help": "Share of each client's images held out as test, if no test rows are given."}
    )
    validation_share: float = field(
        default=0.1,
        metadata={"help": "Share of each client's images held out as validation, if no validation rows are given."},
    )

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
                   0 to 1. Further columns are kept. Also .tsv, and CSV with semicolons
  site_b.jsonl     the same as JSON Lines, with lists of references and choices. Instead of question and answer, rows
                   may have messages (role, content), prompt and completion, or LLaVA's conversations (from, value);
                   each answer of a conversation becomes a row
  site_c.json      the same as one list of objects; or COCO's annotations, captions or detection
  site_d.parquet   the same, with the images inside or their paths
  site_e.tar       WebDataset: 0001.jpg with 0001.json, 0001.txt or 0001.cls
  site_f.zip       any of these forms in one archive
  site_g/<class>/  images by class
  site_h/          images with metadata.csv, metadata.jsonl or metadata.parquet, whose column file_name is the image
  test.csv         optional held-out rows for all clients, in any of these forms; rows with a client_id belong to that
                   client. Likewise validation.csv
  images/          a folder is not a client if a table uses its images

For example own/north.csv, own/south.csv and own/images/, where north.csv is
  image,question,answer
  images/0001.jpg,Is the heart enlarged?,yes
Its clients are client_north and client_south:
  fedvlm build custom --raw own --out data/fed-own
Columns with other names, and captions instead of questions:
  fedvlm build custom --raw own --image file --answer report --task report --out data/fed-reports"""
    sources: ClassVar[tuple[Source, ...]] = ()
    rules: ClassVar[tuple[str, ...]] = (
        "`noniid`: one client per file or folder, with its name. `iid`: the training rows of all clients, distributed "
        "at random over the same number of clients.",
        "If no test rows are given, a share of each client's images is held out as test in a seeded order; likewise "
        "for validation. Images with equal pixels are the same image. Images of several clients are not held out.",
        "The task of a row without `task` is vqa if it has a question or prompt, and caption otherwise; images by "
        "class have the task classification.",
        "Each answer of a conversation is a row, and all turns before it are its prompt.",
        "A held-out row of a shared file without client_id belongs to no client in `noniid`.",
    )
    limits: ClassVar[tuple[str, ...]] = (
        "Held-out images are distinguished by their pixels: other images of the same patient, scene or object may be "
        "in training.",
    )
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
        found = find_sources(Path(raw), work, self.image, self.images_at)
        conversion = Conversion(self.text_options, work)
        nested: set[str] = set()
        clients: set[str] = set()
        named: list[tuple[str, str]] = []
        for source in found.sources:
            owners = _Clients(source)
            added = conversion.add(source.name, source.rows(), partial(self._place, source, owners, nested))
            sites = dict.fromkeys(column(added, "site"))
            if source.split in HELD_OUT:
                named += [(site, owners.first_of[site]) for site in sites if site is not None]
            else:
                clients |= {site for site in sites if site is not None}
        if found.ignored:
            work.counts.note("ignored files and folders", len(found.ignored), ", ".join(found.ignored))
        if nested:
            work.counts.note(
                "columns left out", len(nested), f"they have lists or objects: {', '.join(sorted(nested))}"
            )
        _check_clients(clients, named, [source.name for source in found.sources])
        examples, names = conversion.examples, ["site", "label", "subset"]
        same_columns(examples, [*names, *sorted({name for own in examples for name in own.columns}.difference(names))])
        self._hold_out(examples, work)
        _check_training(examples)
        return examples

    def _place(
        self, source: OwnSource, clients: "_Clients", nested: set[str], index: int, row: OwnRow, text: RowText
    ) -> Place:
        values = row.values
        split = source.split if source.split in HELD_OUT else text_value(values, "split") or "train"
        if split not in SPLITS:
            raise ValueError(f"`split` {split!r} is not one of {list(SPLITS)}.")
        further = set(values) - _OF_ROWS - read_columns(row, self.text_options)
        taken = sorted(_TAKEN & further)
        if taken:
            raise ValueError(f"the build adds a column `{taken[0]}`; rename the column in your data.")
        left_out = {name for name in further if isinstance(values[name], list | dict)}
        nested |= left_out
        is_class = text.task == "classification"
        columns = {
            "site": clients.of_row(row, split),
            "label": text_value(values, "label") or (text.references[0] if is_class else text.task),
            "subset": text_value(values, "subset"),
            **{name: as_text(values[name]) for name in sorted(further - left_out)},
        }
        return Place(text_value(values, "id") or f"{source.name}-{row.name}", split, columns)

    def _hold_out(self, examples: list[Example], work: Work) -> None:
        """Hold out images for the splits for which no rows are given."""
        given = set(column(examples, "split"))
        wanted = {"test": self.test_share, "validation": self.validation_share}
        shares = {split: share for split, share in wanted.items() if share and split not in given}
        groups = group_images(examples, work, lambda image, facts: image.key)
        work.counts.note("images", groups.num_images, f"in {groups.num_files} files")
        try:
            hold_out_images(examples, groups.names, column(examples, "site"), shares, self.seed)
        except ValueError as error:
            raise ValueError(
                f"{error} Here strata are clients, and groups are their images; the shares are `test_share` and "
                "`validation_share`. Alternatively, provide held-out rows in test.csv and validation.csv."
            ) from error

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


class _Clients:
    """The clients of the rows of a source.

    Attributes:
        first_of (`dict[str, str]`): For each client the first of its rows, as error messages name it.
    """

    def __init__(self, source: OwnSource):
        self.first_of: dict[str, str] = {}
        self._source = source
        self._has_clients: bool | None = None

    def of_row(self, row: OwnRow, split: str) -> str | None:
        """Return the client of a row; `client_north` and `north` are the same client."""
        named = text_value(row.values, "client_id")
        if split == "train":
            self._check_named(named is not None)
        name = named or self._source.client
        if name is None:
            return None
        name = name.removeprefix(CLIENT_PREFIX)
        self.first_of.setdefault(name, row.where)
        return name

    def _check_named(self, is_named: bool) -> None:
        if not is_named and self._source.client is None:
            raise ValueError(
                f"training rows need a client, but {self._source.path.name} is named like a split of a dataset, and "
                "there is no `client_id`. Add a column `client_id`, rename the file or folder if it is a client, or "
                "divide the rows with `fedvlm partition --from`."
            )
        if self._has_clients is None:
            self._has_clients = is_named
        if self._has_clients != is_named:
            raise ValueError(
                f"only some training rows of {self._source.path.name} have a `client_id`, so that it is unclear which "
                "client the others belong to. Fill in all of them."
            )


def _check_clients(clients: set[str], named: Sequence[tuple[str, str]], sources: Sequence[str]) -> None:
    """Check that there are clients, and that the clients of shared held-out rows exist."""
    if not clients:
        raise ValueError(f"`raw` has no client, only {sorted(set(sources))}. Expected is:\n{Custom.layout}")
    for site, where in named:
        if site not in clients:
            raise ValueError(f"{where}: `client_id` {site!r} is not one of {sorted(clients)}.")


def _check_training(examples: Sequence[Example]) -> None:
    """Check that every client has rows to train on."""
    held_out = Counter(site for site in column(examples, "site") if site is not None)
    for row in train_rows(examples):
        held_out.pop(examples[row].columns["site"], None)
    for site, count in held_out.items():
        raise ValueError(
            f"All {count} rows of the client {site!r} are held out, so it has nothing to train on. Give it rows whose "
            "`split` is train, or move its rows to test.csv without a `client_id`."
        )
