"""RefCOCO: phrases that tell one object of a COCO photograph from the others, with its box.

Kazemzadeh et al., "ReferItGame: Referring to Objects in Photographs of Natural Scenes", EMNLP 2014; Yu et al.,
"Modeling Context in Referring Expressions", ECCV 2016 (https://huggingface.co/papers/1608.00272).

Of the folder `refcoco/` of github.com/lichengunc/refer: `instances.json` in COCO's format, and `refs(unc).p`, a pickle
of Python 2, which is read without being run; or the same list as JSON, in `refs(unc).json` or `refs.json`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.boxes import Box, from_xywh
from . import coco, safe_pickle
from .coco import value
from .files import locate, read_text


SPLITS = ("train", "val", "testA", "testB")
"""UNC's parts; `testA` shows people, `testB` other objects."""

_DOWNLOAD = "RefCOCO's folder refcoco/ with instances.json and refs(unc).p, or refs.json"
_REFS = ("refs(unc).p", "refs(unc).json", "refs.json")


@dataclass(frozen=True)
class Sentence:
    """A phrase of a ref.

    Attributes:
        text (`str`): In lower case and without punctuation (`sent` in the file); may be empty.
        raw (`str`): As it was typed.
    """

    text: str
    raw: str


@dataclass(frozen=True)
class Ref:
    """An object that phrases refer to.

    Attributes:
        ref_id (`int`), image_id (`int`), annotation_id (`int`): The image and annotation ids are COCO's.
        category (`str`): The object's class.
        box ([`~fedvlm_hf.data.boxes.Box`]): The object's, in 0-1 of the image.
        sentences (`tuple[Sentence, ...]`): About three, in the file's order.
        given_split (`str`): One of `SPLITS`.
    """

    ref_id: int
    image_id: int
    annotation_id: int
    category: str
    box: Box
    sentences: tuple[Sentence, ...]
    given_split: str


def annotation_files(raw: str | Path) -> list[Path]:
    """`instances.json`, and the refs as pickle or, where there is none, as JSON.

    Raises:
        `ValueError`: if `raw` is neither the folder `refcoco/` nor the one that holds it, or there are no refs.
    """
    folder = locate(raw, "instances.json", ("refcoco", ""), _DOWNLOAD)
    refs = [folder / name for name in _REFS if (folder / name).is_file()]
    if not refs:
        raise ValueError(f"{folder} has an instances.json and none of {list(_REFS)}. Expected is {_DOWNLOAD}.")
    return [folder / "instances.json", refs[0]]


def read(raw: str | Path) -> list[Ref]:
    """Reads the refs and their objects' boxes.

    Args:
        raw (`str` or `Path`):
            The folder `refcoco/`, or the one that holds it. The images need not be there.

    Returns:
        `list[Ref]`: in the file's order.

    Raises:
        `ValueError`: naming path and row, if a file is missing, cut off or runs code, a field is missing or of another
            type, a ref comes twice or is of an unknown annotation or of another image than its annotation, or its box
            is more than a pixel outside the image.
    """
    instances_path, path = annotation_files(raw)
    instances = coco.read(instances_path)
    rows = safe_pickle.load(path) if path.suffix == ".p" else _load_json(path)
    if not isinstance(rows, list):
        raise ValueError(f"{path} holds a {type(rows).__name__}, not a list of refs. Expected is {_DOWNLOAD}.")
    refs: dict[int, Ref] = {}
    for index, row in enumerate(rows):
        where = f"{path}, row {index}"
        ref = _ref(row, instances, where)
        if refs.setdefault(ref.ref_id, ref) is not ref:
            raise ValueError(f"{where}: the ref_id {ref.ref_id} came before. Get the file again.")
    return list(refs.values())


def _load_json(path: Path) -> Any:
    try:
        return json.loads(read_text(path, _DOWNLOAD))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not whole JSON ({error}). Get it again.") from error


def _ref(row: Any, instances: coco.Instances, where: str) -> Ref:
    ref_id, annotation_id, image_id = (value(row, name, (int,), where) for name in ("ref_id", "ann_id", "image_id"))
    where = f"{where} (ref_id {ref_id})"
    annotation = instances.annotations.get(annotation_id)
    if annotation is None:
        raise ValueError(
            f"{where}: annotation {annotation_id} is not in {instances.path}: they do not belong together."
        )
    if annotation.image_id != image_id:
        raise ValueError(
            f"{where} is of image {image_id}, its annotation {annotation_id} of image {annotation.image_id} in "
            f"{instances.path}: they do not belong together."
        )
    split = value(row, "split", (str,), where)
    if split not in SPLITS:
        raise ValueError(f"{where}: `split` is {split!r}, none of {list(SPLITS)}: is it UNC's file?")
    image = instances.images[image_id]
    try:
        box = from_xywh(*annotation.bbox, image.width, image.height)
    except ValueError as error:
        raise ValueError(f"{where}, annotation {annotation_id} of {instances.path}: {error}") from error
    sentences = tuple(_sentence(sentence, where) for sentence in value(row, "sentences", (list, tuple), where))
    return Ref(ref_id, image_id, annotation_id, instances.categories[annotation.category_id], box, sentences, split)


def _sentence(sentence: Any, where: str) -> Sentence:
    text = value(sentence, "sent", (str,), f"{where}, a sentence")
    # The field list of the refer repository's README writes `arw`
    raw_name = "arw" if "arw" in sentence else "raw"
    return Sentence(" ".join(text.split()), value(sentence, raw_name, (str,), f"{where}, a sentence"))
