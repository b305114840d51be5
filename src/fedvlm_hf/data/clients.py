"""Turn what a user passes into `{client_id: Dataset}`, checked before any training."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import PIL
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, IterableDataset
from tqdm.auto import tqdm
from transformers.utils import logging

from ..files import write_atomic
from .naming import CLIENT_PREFIX, HELD_OUT, is_client
from .rows import in_row_format
from .spec import EVALUATION, PROMPT_COMPLETION, RowFormat, check_rows


logger = logging.get_logger(__name__)

_DIGESTED = ("id", "prompt", "completion", "chosen", "rejected", "task", "references")
# Ids become file, branch and metric names; git refuses branches with ".." or a dot at the end.
_CLIENT_ID = re.compile(r"\w[\w-]*(\.[\w-]+)*")


def client_datasets(
    train_dataset: Mapping[str, Dataset],
    client_ids: Sequence[str] | None = None,
    row_format: RowFormat = PROMPT_COMPLETION,
) -> dict[str, Dataset]:
    """The clients of a federated dataset, in the order of their ids, checked without reading an image.

    Args:
        train_dataset (`DatasetDict` or `Mapping[str, Dataset]`):
            In a `DatasetDict` the splits `client_*` are the clients; in a plain mapping every key is. `validation` and
            `test` are held out in both.
        client_ids (`Sequence[str]`, *optional*):
            Every client of the federation, where some are on other hosts: then only some, or none, need be here.
        row_format ([`RowFormat`], *optional*):
            What the trainer needs in each row.

    Returns:
        `dict[str, Dataset]`: the clients by id. The order of the mapping does not matter to a run.

    Raises:
        `ValueError`: if there is no client, a split is neither client nor held out, an id cannot be a file name, a
            client is empty, streamed or not a `Dataset`, or its columns are not those of the row format or of the
            other clients.
    """
    if not isinstance(train_dataset, Mapping):
        raise ValueError(
            f"`train_dataset` is a {type(train_dataset).__name__}; federated training needs one dataset per client. "
            "Pass a DatasetDict with splits client_00, client_01, ... or a mapping {client_id: Dataset}."
        )
    names = [name for name in train_dataset if name not in HELD_OUT]
    if isinstance(train_dataset, DatasetDict):
        leftovers = [name for name in names if not is_client(name)]
        if leftovers:
            raise ValueError(
                f"`train_dataset` has the splits {leftovers}, which are neither clients (`{CLIENT_PREFIX}*`) nor "
                f"{' or '.join(HELD_OUT)}: rename or drop them, so that no rows are left out unnoticed."
            )
    if client_ids is not None:
        _check_ids(names, client_ids)
    if not names and not client_ids:
        raise ValueError(
            f"`train_dataset` has no client; its keys are {list(train_dataset)}. In a DatasetDict the splits "
            f"`{CLIENT_PREFIX}*` are clients, in a plain mapping every key but {' and '.join(HELD_OUT)}."
        )
    clients = {name: train_dataset[name] for name in sorted(names)}
    clients = _checked(clients, "train_dataset", "client", row_format)
    if clients:
        _check_same_columns(clients)
    return clients


def _check_ids(names: Sequence[str], client_ids: Sequence[str]) -> None:
    if unusable := [name for name in client_ids if not isinstance(name, str) or not _CLIENT_ID.fullmatch(name)]:
        raise ValueError(
            f"`client_ids` has {unusable[0]!r}, but ids become file and branch names. Use letters, digits, `_`, `-` "
            "and single dots."
        )
    if len(set(client_ids)) < len(client_ids) or not client_ids:
        raise ValueError(f"`client_ids` must name each client once, got {list(client_ids)}.")
    if strangers := sorted(set(names) - set(client_ids)):
        raise ValueError(
            f"`train_dataset` has the client {strangers[0]!r}, which is not one of the federation's: "
            f"{', '.join(sorted(client_ids))}."
        )


def evaluation_datasets(
    train_dataset: Mapping[str, Dataset], eval_dataset: Dataset | Mapping[str, Dataset] | None = None
) -> dict[str, Dataset]:
    """The evaluation sets of a run by name, checked without reading an image.

    Args:
        train_dataset (`DatasetDict` or `Mapping[str, Dataset]`):
            Where the split `test` is looked for if `eval_dataset` is `None`.
        eval_dataset (`Dataset` or `Mapping[str, Dataset]`, *optional*):
            A dataset is evaluated under the name `test`; a mapping gives one evaluation each.

    Returns:
        `dict[str, Dataset]`: empty if there is nothing to evaluate on.

    Raises:
        `ValueError`: as [`client_datasets`], naming the evaluation set.
    """
    if eval_dataset is None:
        evaluations = {name: train_dataset[name] for name in train_dataset if name == "test"}
        if not evaluations:
            logger.warning(
                f"Nothing will be evaluated: `train_dataset` has no split `test`; its splits are "
                f"{', '.join(train_dataset)}. Name one of them `test`, or pass `eval_dataset`."
            )
    elif isinstance(eval_dataset, Mapping):
        evaluations = dict(eval_dataset)
    else:
        evaluations = {"test": eval_dataset}
    return _checked(evaluations, "eval_dataset", "evaluation set", EVALUATION)


def check_content(
    clients: Mapping[str, Dataset], evaluations: Mapping[str, Dataset], row_format: RowFormat = PROMPT_COMPLETION
) -> None:
    """Read every row once: texts, tasks, references, and each distinct image, which is decoded once.

    What passed is remembered in the cache of `datasets`, by the dataset's fingerprint, so that the same rows are not
    decoded again by the next run or on resume. Rows whose images are only paths are checked each time, since the files
    may change. Long checks show a progress bar. Memory does not grow with the number of rows.

    Args:
        clients (`Mapping[str, Dataset]`):
            What [`client_datasets`] returned.
        evaluations (`Mapping[str, Dataset]`):
            What [`evaluation_datasets`] returned.
        row_format ([`RowFormat`], *optional*):
            What the trainer needs in each row of a client.

    Raises:
        `ValueError`: naming the client or evaluation set, the row, the column, and what is wrong.
    """
    work = [(_where("train_dataset", "client", name), data, row_format) for name, data in clients.items()]
    work += [(_where("eval_dataset", "evaluation set", name), data, EVALUATION) for name, data in evaluations.items()]
    work = [(where, data, rows) for where, data, rows in work if not _remembered(data, rows).exists()]
    seen: set[bytes] = set()
    with _progress(sum(dataset.num_rows for _, dataset, _ in work), "Checking rows") as bar:
        for where, dataset, rows in work:
            for num_rows in check_rows(dataset, where, rows.columns, seen):
                bar.update(num_rows)
            _remember(dataset, rows)


def _remembered(dataset: Dataset, row_format: RowFormat) -> Path:
    """The file that says that these rows passed these checks."""
    # the fingerprint changes with every change of the rows; another Pillow may decode other files
    parts = [dataset._fingerprint, row_format.columns, dataset.column_names, str(dataset.features), PIL.__version__]
    key = hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
    return Path(datasets.config.HF_DATASETS_CACHE) / "fedvlm_hf_checked" / key


def _remember(dataset: Dataset, row_format: RowFormat) -> None:
    images = dataset.select_columns("images").with_format("arrow")
    if any(None in _image_sizes(batch["images"]) for batch in images.iter(1000)):
        return
    path = _remembered(dataset, row_format)
    try:
        write_atomic(path, "")
    except OSError:  # a cache that cannot be written only costs the time of another check
        return


def check_max_length(
    clients: Mapping[str, Dataset],
    collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]],
    max_length: int | None,
    batch_size: int = 8,
) -> None:
    """Refuse a `max_length` that would cut an answer.

    TRL's vision collators truncate rows from the right without a warning: a row whose answer is cut off has no label
    left, a loss of 0, and counts as trained. The rows are collated as in training, so lengths include image tokens.

    Args:
        clients (`Mapping[str, Dataset]`):
            What [`client_datasets`] returned.
        collator (`Callable`):
            The trainer's collator without a limit.
        max_length (`int`, *optional*):
            The limit in tokens. `None` cuts nothing, and nothing is checked.
        batch_size (`int`, *optional*, defaults to `8`):
            Rows collated together.

    Raises:
        `ValueError`: naming the client and row of the longest sequence, and the length it needs.
    """
    if max_length is None:
        return
    longest, longest_id, longest_row, num_cut = 0, "", 0, 0
    with _progress(sum(dataset.num_rows for dataset in clients.values()), "Checking lengths") as bar:
        for client_id, dataset in clients.items():
            for row, length in enumerate(_sequence_lengths(dataset, collator, batch_size)):
                num_cut += length > max_length
                if length > longest:
                    longest, longest_id, longest_row = length, client_id, row
                bar.update()
    if num_cut:
        raise ValueError(
            f"`max_length={max_length}` would cut the answer of {num_cut} rows, so that they train on nothing. The "
            f"longest, client {longest_id!r} row {longest_row}, needs {longest} tokens. Use `max_length=None`, or "
            f"{longest} and more."
        )


def dataset_digest(dataset: Dataset) -> str:
    """A fingerprint of a client's or evaluation set's rows that is the same in every process.

    Covers the number of rows, the column names, ids and texts in order, and the size in bytes of each image; not the
    pixels, whose reading would cost as much as a round.

    Args:
        dataset (`Dataset`):
            The rows.

    Returns:
        `str`: 32 hexadecimal digits.
    """
    digest = hashlib.blake2b(json.dumps([dataset.num_rows, sorted(dataset.column_names)]).encode(), digest_size=16)
    texts = [column for column in _DIGESTED if column in dataset.column_names]
    for batch in dataset.select_columns([*texts, "images"]).with_format("arrow").iter(1000):
        content = [batch[column].to_pylist() for column in texts]
        content.append(_image_sizes(batch["images"]))
        digest.update(json.dumps(content, sort_keys=True).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Roster:
    """The clients of a federation.

    Args:
        datasets (`Mapping[str, Dataset]`):
            The rows of those that are here, by id.
        client_ids (`Sequence[str]`, *optional*):
            Every client, where some are on other hosts. By default those that are here.
        pooled (`Mapping[str, Dataset]`, *optional*):
            The rows as a baseline pools them, where it does.
    """

    datasets: Mapping[str, Dataset]
    client_ids: Sequence[str] | None = None
    pooled: Mapping[str, Dataset] | None = None

    @property
    def names(self) -> list[str]:
        """Every client, in sorted order."""
        return sorted(self.client_ids or self.datasets)

    def sizes(self) -> dict[str, int]:
        """The number of rows of each client; 0 for those on other hosts, which is not known."""
        return {name: len(self.datasets.get(name, ())) for name in self.names}

    def digests(self) -> dict[str, str]:
        """A digest of the rows of each client that is here."""
        return {
            name: dataset_digest(self.datasets[name]) if name in self.datasets else "elsewhere" for name in self.names
        }


def _sequence_lengths(dataset: Dataset, collator: Callable, batch_size: int) -> Iterator[int]:
    for start in range(0, dataset.num_rows, batch_size):
        stop = min(start + batch_size, dataset.num_rows)
        lengths = collator([dataset[row] for row in range(start, stop)])["attention_mask"].sum(dim=1)
        # a batch of preferences has all chosen answers first, then all rejected ones
        yield from lengths.reshape(-1, stop - start).amax(dim=0).tolist()


def _image_sizes(images: pa.ChunkedArray) -> list[int | None]:
    """Encoded bytes of each image in row order; `None` where only a path is stored. Reads offsets, not the bytes."""
    sizes = pc.binary_length(pc.struct_field(pc.list_flatten(images), "bytes"))
    return sizes.to_pylist()


def _where(argument: str, kind: str, name: str) -> str:
    return f"`{argument}`: {kind} {name!r}"


def _progress(total: int, description: str) -> tqdm:
    # shown only where the work takes longer than two seconds, and removed when it is done
    return tqdm(total=total, desc=description, unit="row", delay=2, leave=False)


def _checked(given: Mapping[str, Any], argument: str, kind: str, row_format: RowFormat) -> dict[str, Dataset]:
    """Return the datasets by name, in the row format."""
    checked = {}
    for name, dataset in given.items():
        where = _where(argument, kind, name)
        if not isinstance(name, str) or not _CLIENT_ID.fullmatch(name):
            raise ValueError(
                f"{where} cannot be named so: ids become file and branch names. Use letters, digits, `_`, `-` and "
                "single dots."
            )
        if isinstance(dataset, IterableDataset):
            raise ValueError(
                f"{where} is an IterableDataset. Its number of rows is unknown, and clients weigh by it: load it "
                "without `streaming=True`, or use `Dataset.from_generator`."
            )
        if not isinstance(dataset, Dataset):
            raise ValueError(
                f"{where} is a {type(dataset).__name__}, not a datasets.Dataset. Use `Dataset.from_list(rows)`."
            )
        checked[name] = in_row_format(dataset, where)
        row_format.check_columns(checked[name], where)
    return checked


def _check_same_columns(clients: Mapping[str, Dataset]) -> None:
    (first_id, first), *others = clients.items()
    expected = set(first.column_names)
    for client_id, dataset in others:
        columns = set(dataset.column_names)
        if columns != expected:
            raise ValueError(
                f"{_where('train_dataset', 'client', client_id)} has other columns than client {first_id!r}: "
                f"missing {sorted(expected - columns)}, extra {sorted(columns - expected)}. Clients must have the "
                "same columns, or rows cannot be pooled and compared: use `remove_columns` or `add_column`."
            )
