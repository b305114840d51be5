"""ScienceQA: school problems with images, from the official files or from the Hub's Parquet files.

Lu et al., "Learn to Explain: Multimodal Reasoning via Thought Chains for Science Question Answering", NeurIPS 2022
(https://huggingface.co/papers/2209.09513).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..images import ImageFile, StoredImage
from .files import advice, check_shards, excerpt, find_folder, kind_of, neighbours, read_json


SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""The official splits and our names for them; in the Parquet `val` is called `validation`."""

_DOWNLOAD = (
    "a copy of github.com/lupantech/ScienceQA with data/scienceqa/problems.json, data/scienceqa/pid_splits.json, "
    "data/captions.json and data/scienceqa/images/, or of the Hub's derek-thomas/ScienceQA with data/train-*.parquet"
)
_TEXTS = ("category", "topic", "subject", "hint", "solution")
_MAY_BE_EMPTY = {"hint", "solution"}


@dataclass(frozen=True)
class ParquetImage(StoredImage):
    """An image in a Parquet file. It is read on request, because the whole column would need too much memory."""

    key: str
    path: Path
    row_group: int
    row: int

    def load(self) -> bytes:
        """Return the image's bytes as stored in the file.

        Raises:
            `ValueError`: if the row has only the path of the image.
        """
        content = _image_column(self.path, self.row_group)[self.row]["bytes"].as_py()
        if content is None:
            raise ValueError(
                f"{self.path}, row group {self.row_group}, row {self.row} has no image bytes, only a path."
            )
        return content


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        id (`str`): The official id. The Parquet files have no ids, so split and row are used: `"validation-17"`.
        pid (`str`, *optional*): The official id, if the source has it.
        given_split (`str`): `"train"`, `"validation"` or `"test"`.
        image ([`StoredImage`], *optional*): The image; most problems have none.
        category (`str`), topic (`str`), subject (`str`): From specific to general: `"Maps"`, `"geography"`,
            `"social science"`.
        hint (`str`), solution (`str`): Texts, which may be empty.
    """

    id: str
    pid: str | None
    given_split: str
    image: StoredImage | None
    category: str
    topic: str
    subject: str
    hint: str
    solution: str


def annotation_files(raw: str | Path) -> list[Path]:
    """Return the files that [`read`] reads: two JSON files, or the Parquet files in the order of the splits.

    Raises:
        `ValueError`: if `raw` has neither layout, or a split is missing.
    """
    if (folder := _hub_folder(raw)) is None:
        folder = _official_folder(raw)
        return [folder / "problems.json", folder / "pid_splits.json"]
    files = {part: sorted(folder.glob(f"{part}-*.parquet")) for part in SPLITS.values()}
    missing = [f"{part}-*.parquet" for part, paths in files.items() if not paths]
    if missing:
        raise ValueError(f"{folder} has no {' and no '.join(missing)}. Expected is {_DOWNLOAD}.")
    for paths in files.values():
        check_shards(paths)
    return [path for paths in files.values() for path in paths]


def read(raw: str | Path) -> list[Problem]:
    """Read all problems, with and without image, in the order training, validation, test.

    White space in texts, including line breaks, becomes single spaces, because copies of the files differ in it.

    Args:
        raw (`str` or `Path`):
            A copy of the official repository or its `data/`, or of the Hub repository or its `data/`. The image files
            need not exist.

    Returns:
        `list[Problem]`: in the order of `pid_splits.json` or of the rows in the Parquet files.

    Raises:
        `ValueError`: if a file is missing or truncated, a problem lacks a field, or is not in exactly one split.
    """
    if _hub_folder(raw) is None:
        return _read_official(*annotation_files(raw))
    return _read_hub(annotation_files(raw))


def captions_file(raw: str | Path) -> Path:
    """Return the official `captions.json`, which is in `data/` or next to `problems.json`.

    Raises:
        `ValueError`: if `raw` has the Parquet files, whose rows have no ids to look up captions by.
    """
    if (hub := _hub_folder(raw)) is not None:
        raise ValueError(
            f"{hub} has the Hub's Parquet files, which have no problem ids (pid), so captions.json cannot be joined. "
            f"Use `--caption_from hint` or `--caption_from solution`, or the official files: {_DOWNLOAD}."
        )
    folder = _official_folder(raw)
    places = [folder.parent / "captions.json", folder / "captions.json"]
    return next((path for path in places if path.is_file()), places[0])


def read_captions(path: Path) -> dict[str, str]:
    """Read the captions by problem id. They were generated by a model (nlpconnect/vit-gpt2-image-captioning).

    Raises:
        `ValueError`: if the file is missing or truncated, or has no `captions`.
    """
    captions = read_json(path, dict, _DOWNLOAD).get("captions")
    if not isinstance(captions, dict):
        raise ValueError(f"{path} has no `captions`, an object from problem id to text. Expected is {_DOWNLOAD}.")
    for pid, text in captions.items():
        if not isinstance(text, str):
            raise ValueError(f"{path}: the caption of problem {pid} must be text, not {excerpt(text)}.")
    return {pid: " ".join(text.split()) for pid, text in captions.items()}


def _official_folder(raw: str | Path) -> Path:
    try:
        return find_folder(raw, "problems.json", ("data/scienceqa", "scienceqa", ""), _DOWNLOAD)
    except ValueError as error:
        near = next((folder for folder in neighbours(Path(raw)) if _hub_folder(folder)), None)
        if near is None:
            raise
        raise ValueError(f"`raw={str(raw)!r}` is not the expected folder. It is one level off: use {near}.") from error


def _hub_folder(raw: str | Path) -> Path | None:
    places = (Path(raw) / "data", Path(raw))
    return next((place for place in places if any(place.glob("*-*.parquet"))), None)


def _read_official(problems_file: Path, splits_file: Path) -> list[Problem]:
    rows = read_json(problems_file, dict, _DOWNLOAD)
    problems: dict[str, Problem] = {}
    for part, pid in _placed(splits_file):
        where = f"{problems_file}, problem {pid}"
        if pid not in rows:
            raise ValueError(f"{where} is missing, but {splits_file} has it in {part!r}. Download both files again.")
        if pid in problems:
            raise ValueError(f"{splits_file} has problem {pid} twice; a problem must be in one of {list(SPLITS)}.")
        image = _official_image(rows[pid], f"images/{part}/{pid}", problems_file, where)
        problems[pid] = _problem(pid, pid, SPLITS[part], image, rows[pid], where)
    if unplaced := [pid for pid in rows if pid not in problems]:
        raise ValueError(
            f"{splits_file} does not assign {len(unplaced)} of the problems in {problems_file} to one of "
            f"{list(SPLITS)}, such as {unplaced[0]}. Download both files again."
        )
    return list(problems.values())


def _placed(path: Path) -> Iterable[tuple[str, str]]:
    splits = read_json(path, dict, _DOWNLOAD)
    for part in SPLITS:
        if not isinstance(splits.get(part), list):
            raise ValueError(f"{path} has no list `{part}`. Expected is {_DOWNLOAD}.")
        for index, pid in enumerate(splits[part]):
            if type(pid) not in (int, str):
                raise ValueError(f"{path}, `{part}`, entry {index} is {excerpt(pid)}, not the id of a problem.")
            yield part, str(pid)


def _official_image(row: Any, folder: str, problems_file: Path, where: str) -> ImageFile | None:
    name = row.get("image") if isinstance(row, dict) else None
    if not name:
        return None
    path = PurePosixPath(folder, str(name))
    if path.parent != PurePosixPath(folder) or ".." in path.parts:
        raise ValueError(f"{where}: `image` {excerpt(name)} is not the name of a file in {folder}.")
    return ImageFile(str(path), problems_file.parent / path)


def _read_hub(paths: Iterable[Path]) -> list[Problem]:
    problems = []
    numbers: Counter[str] = Counter()
    for path in paths:
        part = path.name.split("-")[0]
        for index, (row, image) in enumerate(_parquet_rows(path)):
            name = f"{part}-{numbers[part]}"
            problems.append(_problem(name, None, part, image, row, f"{path}, row {index}"))
            numbers[part] += 1
    return problems


def _parquet_rows(path: Path) -> Iterator[tuple[dict[str, Any], ParquetImage | None]]:
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in ("image", *_TEXTS) if name not in file.schema_arrow.names]
            if missing:
                raise ValueError(f"{path} has no columns {missing}. Expected is {_DOWNLOAD}.")
            for group in range(file.num_row_groups):
                # `image.path` shows which rows have an image, without reading the bytes of all images
                rows = file.read_row_group(group, columns=[*_TEXTS, "image.path"]).to_pylist()
                for index, row in enumerate(rows):
                    image = ParquetImage(f"{path.name}/{group}/{index}", path, group, index)
                    yield row, image if row["image"] is not None else None
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path} cannot be read as Parquet ({error}). {advice(path)}") from error


def _problem(name: str, pid: str | None, split: str, image: StoredImage | None, row: Any, where: str) -> Problem:
    if not isinstance(row, dict):
        raise ValueError(f"{where} is {kind_of(row)}, not an object.")
    wrong = [field for field in _TEXTS if not isinstance(row.get(field), str | None)]
    if wrong:
        raise ValueError(f"{where}: {wrong} must be text. The problem is {excerpt(row)}.")
    texts = {field: " ".join((row.get(field) or "").split()) for field in _TEXTS}
    missing = [field for field in _TEXTS if field not in row or not (texts[field] or field in _MAY_BE_EMPTY)]
    if missing:
        raise ValueError(f"{where} has no {missing}. Expected is {_DOWNLOAD}.")
    return Problem(name, pid, split, image, **texts)


# Rows are requested in order, so caching the last row group is enough
@lru_cache(maxsize=1)
def _image_column(path: Path, row_group: int) -> pa.ChunkedArray:
    with pq.ParquetFile(path) as file:
        return file.read_row_group(row_group, columns=["image"]).column("image")
