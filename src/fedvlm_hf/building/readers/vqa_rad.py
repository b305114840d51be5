"""VQA-RAD's three layouts: the official download, MEVF's re-export of it, and the Hub's Parquet files.

Lau et al., "A dataset of clinically generated visual questions and answers about radiology images", Scientific Data
2018 (https://doi.org/10.1038/sdata.2018.251): 3,515 questions on 314 radiographs, CT and MR images.

The re-export (by Nguyen et al., 2019) has all 3,515 rows and was used to write this code. 1,267 of its training rows
repeat another question in a fixed form ("frame"). The official file has the other 2,248 rows, with the fixed form in a
separate field, which is not read. We did not have that file: its fields, and the rule that the phrase types
`test_freeform` and `test_para` form the test split, are taken from public code. The Hub copy has 2,244 rows, without 4
duplicates, and the columns that its card names.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..images import ImageBytes
from .files import advice, check_shards, excerpt, neighbours, no_folder, read_json
from .vqa_rad_rows import Question, cleaned, hub_question, repaired


RE_EXPORT = (
    "the folder data_RAD/ of the public repository github.com/longle0702/med-v2qa at commit "
    "4ae21bc19dd20cb5e76fa89f3e77c07230b526c3"
)
LAYOUT = f"""\
One of three layouts, recognized by the files:
  trainset.json, testset.json, images/   MEVF's re-export: {RE_EXPORT}
  VQA_RAD Dataset Public.json, VQA_RAD Image Folder/   the official download, https://osf.io/89kps/
  data/train-*.parquet, data/test-*.parquet   the Hub copy flaviagiammarino/vqa-rad, which has no organs"""

_DOWNLOAD = LAYOUT[0].lower() + LAYOUT[1:]

_HUB_COLUMNS = ("image", "question", "answer")
_RE_EXPORT_FILES = {"trainset.json": "train", "testset.json": "test"}
_OFFICIAL_FILE = "VQA_RAD Dataset Public.json"


Reader = Callable[[list[Path]], Iterator[tuple[str, Question]]]
"""A function that yields the location and the content of each row of some files."""


def annotation_files(raw: str | Path) -> list[Path]:
    """Return the files with the questions.

    Raises:
        `ValueError`: see [`find_layout`].
    """
    return find_layout(raw)[0]


def read(raw: str | Path) -> list[Question]:
    """Read a folder in any of the three layouts.

    Args:
        raw (`str` or `Path`):
            The folder, in one of the layouts of `LAYOUT`. The image files need not exist.

    Returns:
        `list[Question]`: in the order of the files.

    Raises:
        `ValueError`: if an id is not unique, or see [`find_layout`] and the function of the layout.
    """
    files, reader = find_layout(raw)
    questions: dict[str, Question] = {}
    for where, found in reader(files):
        if found.qid in questions:
            raise ValueError(
                f"{where}: `qid` {excerpt(found.qid)} already occurred in {questions[found.qid].given_split}."
            )
        questions[found.qid] = found
    return list(questions.values())


def find_layout(raw: str | Path) -> tuple[list[Path], Reader]:
    """Recognize the layout by its files.

    Args:
        raw (`str` or `Path`):
            The folder.

    Returns:
        `tuple[list[Path], Callable]`: the files with the questions, and the function that reads them.

    Raises:
        `ValueError`: if some or all files of a layout are missing. If a folder one level up or down is right, the
            message names it.
    """
    raw = Path(raw)
    found = _search(raw)
    if found is None:
        near = next((folder for folder in neighbours(raw) if _search(folder)), None)
        if raw.is_dir():
            hint = f"has no file of VQA-RAD. It is one level off: use {near}." if near else "has no file of VQA-RAD."
        else:
            hint = no_folder(raw, near)
        raise ValueError(f"`raw={str(raw)!r}` {hint} Expected is {_DOWNLOAD}")
    shards, reader = found
    for pattern, files in shards.items():
        if not files:
            raise ValueError(f"`raw`: there is no {raw / pattern}. Expected is {_DOWNLOAD}")
        check_shards(files)
    return [path for files in shards.values() for path in files], reader


def read_re_export(files: list[Path]) -> Iterator[tuple[str, Question]]:
    """Read trainset.json and testset.json, with the images in `images/` next to them.

    Args:
        files (`list[Path]`):
            Both files.

    Returns:
        `Iterator[tuple[str, Question]]`: location and content of the training file's rows, then of the test file's.

    Raises:
        `ValueError`: naming path and row, if a file is missing or not a JSON list, or a row lacks a field or has an
            unknown organ or answer type.
    """
    for path in files:
        for index, row in enumerate(read_json(path, list, _DOWNLOAD)):
            where = f"{path}, row {index}"
            yield where, cleaned(row, where, _RE_EXPORT_FILES[path.name], path.parent / "images")


def read_official(files: list[Path]) -> Iterator[tuple[str, Question]]:
    """Read `VQA_RAD Dataset Public.json`, in which phrase types mark the test split.

    Args:
        files (`list[Path]`):
            A list of this file.

    Returns:
        `Iterator[tuple[str, Question]]`: location and content of the rows in the order of the file.

    Raises:
        `ValueError`: see [`read_re_export`].
    """
    (path,) = files
    for index, row in enumerate(read_json(path, list, _DOWNLOAD)):
        where = f"{path}, row {index}"
        yield where, cleaned(row, where, None, path.parent / "VQA_RAD Image Folder")


def read_hub(files: list[Path]) -> Iterator[tuple[str, Question]]:
    """Read the Hub's Parquet files, which only have image, question and answer.

    Rows with equal image bytes share one image.

    Args:
        files (`list[Path]`):
            The shards of `train` and of `test`.

    Returns:
        `Iterator[tuple[str, Question]]`: location and content of the rows in the order of the files.

    Raises:
        `ValueError`: if a file is incomplete or has other columns, or a row lacks a value.
    """
    images: dict[str, ImageBytes] = {}
    places = {"train": 0, "test": 0}
    for path in files:
        split = path.name.split("-")[0]
        for index, row in enumerate(_parquet_rows(path)):
            content = (row["image"] or {}).get("bytes")
            texts = {name: repaired(row[name] or "") for name in ("question", "answer")}
            missing = [name for name, value in {"image": content, **texts}.items() if not value]
            if missing:
                raise ValueError(f"{path}, row {index}: no value for {missing}.")
            digest = hashlib.blake2b(content, digest_size=16).hexdigest()
            image = images.setdefault(digest, ImageBytes(digest, content))
            yield f"{path}, row {index}", hub_question(f"{split}-{places[split]}", image, row, split, **texts)
            places[split] += 1


def _search(raw: Path) -> tuple[dict[str, list[Path]], Reader] | None:
    for patterns, reader in _LAYOUTS.items():
        shards = {pattern: sorted(raw.glob(pattern)) for pattern in patterns}
        if any(shards.values()):
            return shards, reader
    return None


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            schema = file.schema_arrow
            if not set(_HUB_COLUMNS) <= set(schema.names) or not pa.types.is_struct(schema.field("image").type):
                raise ValueError(
                    f"{path} has the columns {schema.names}; expected are image (with bytes), question and answer."
                )
            for batch in file.iter_batches(64, columns=list(_HUB_COLUMNS)):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a complete Parquet file ({error}). {advice(path)}") from error


_LAYOUTS: dict[tuple[str, ...], Reader] = {
    tuple(_RE_EXPORT_FILES): read_re_export,
    (_OFFICIAL_FILE,): read_official,
    ("data/train-*.parquet", "data/test-*.parquet"): read_hub,
}
"""Names of the files with the questions, and the function that reads them."""

LOOKED_UP = tuple(name for names in _LAYOUTS for name in names)
"""The names by which [`annotation_files`] finds the files."""
