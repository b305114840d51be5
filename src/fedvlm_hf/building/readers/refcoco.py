"""RefCOCO: phrases that refer to one object in a COCO photograph, with its box.

Kazemzadeh et al., "ReferItGame: Referring to Objects in Photographs of Natural Scenes", EMNLP 2014; Yu et al.,
"Modeling Context in Referring Expressions", ECCV 2016 (https://huggingface.co/papers/1608.00272).

Reads from the folder `refcoco/` of github.com/lichengunc/refer: `instances.json` in COCO's format, and `refs(unc).p`,
a pickle of Python 2, which is not executed; or the same list as JSON, in `refs(unc).json` or `refs.json`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.boxes import Box, from_xywh
from . import coco, safe_pickle
from .coco import value
from .files import excerpt, find_folder, kind_of, read_json


SPLITS = ("train", "val", "testA", "testB")
"""UNC's splits; `testA` has people, `testB` has other objects."""

_DOWNLOAD = "RefCOCO's folder refcoco/ with instances.json and refs(unc).p, or refs.json"
_REFS = ("refs(unc).p", "refs(unc).json", "refs.json")

LOOKED_UP = tuple(f"{below}{name}" for below in ("refcoco/", "") for name in ("instances.json", *_REFS))
"""The names by which [`annotation_files`] finds the files."""


@dataclass(frozen=True)
class Sentence:
    """A phrase of a ref.

    Attributes:
        text (`str`): The phrase in lower case without punctuation (`sent` in the file); may be empty.
        raw (`str`): The phrase as it was typed.
    """

    text: str
    raw: str


@dataclass(frozen=True)
class Ref:
    """An object that phrases refer to.

    Attributes:
        ref_id (`int`), image_id (`int`), annotation_id (`int`): Ids. The image and annotation ids are COCO's.
        category (`str`): The object's class.
        box ([`~fedvlm_hf.data.boxes.Box`]): The object's box, as fractions of the image.
        sentences (`tuple[Sentence, ...]`): About three phrases, in the order of the file.
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
    """Return `instances.json` and the file with the refs, which is a pickle or, if there is none, JSON.

    Raises:
        `ValueError`: if `raw` is neither the folder `refcoco/` nor its parent, or there are no refs.
    """
    folder = find_folder(raw, "instances.json", ("refcoco", ""), _DOWNLOAD)
    refs = [folder / name for name in _REFS if (folder / name).is_file()]
    if not refs:
        raise ValueError(f"{folder} has an instances.json, but none of {list(_REFS)}. Expected is {_DOWNLOAD}.")
    return [folder / "instances.json", refs[0]]


def read(raw: str | Path) -> list[Ref]:
    """Read the refs and the boxes of their objects.

    Args:
        raw (`str` or `Path`):
            The folder `refcoco/`, or its parent. The images need not exist.

    Returns:
        `list[Ref]`: in the order of the file.

    Raises:
        `ValueError`: naming path and row, if a file is missing, truncated or has code, a field is missing or has
            another type, a ref is not unique, its annotation is unknown or belongs to another image, or its box is
            more than one pixel outside of the image.
    """
    instances_path, path = annotation_files(raw)
    instances = coco.read(instances_path)
    rows = safe_pickle.load(path) if path.suffix == ".p" else read_json(path, list, _DOWNLOAD)
    if not isinstance(rows, list) or not rows:
        found = kind_of(rows) if rows else f"{kind_of(rows)} without content"
        raise ValueError(f"{path} contains {found}, not a list of refs. Expected is {_DOWNLOAD}.")
    refs: dict[int, Ref] = {}
    for index, row in enumerate(rows):
        where = f"{path}, row {index}"
        ref = _ref(row, instances, where)
        if refs.setdefault(ref.ref_id, ref) is not ref:
            raise ValueError(f"{where}: the ref_id {ref.ref_id} already occurred. Get the file again.")
    return list(refs.values())


def _ref(row: Any, instances: coco.Instances, where: str) -> Ref:
    ref_id, annotation_id, image_id = (value(row, name, (int,), where) for name in ("ref_id", "ann_id", "image_id"))
    where = f"{where} (ref_id {ref_id})"
    annotation = instances.annotations.get(annotation_id)
    if annotation is None:
        raise ValueError(
            f"{where}: annotation {annotation_id} is not in {instances.path}. The two files do not belong together."
        )
    if annotation.image_id != image_id:
        raise ValueError(
            f"{where} has image {image_id}, but its annotation {annotation_id} has image {annotation.image_id} in "
            f"{instances.path}. The two files do not belong together."
        )
    split = value(row, "split", (str,), where)
    if split not in SPLITS:
        raise ValueError(f"{where}: `split` is {excerpt(split)}, not one of {list(SPLITS)}: is it UNC's file?")
    image = instances.images[image_id]
    try:
        box = from_xywh(*annotation.bbox, image.width, image.height)
    except ValueError as error:
        raise ValueError(f"{where}, annotation {annotation_id} of {instances.path}: {error}") from error
    sentences = tuple(_sentence(sentence, where) for sentence in value(row, "sentences", (list, tuple), where))
    return Ref(ref_id, image_id, annotation_id, instances.categories[annotation.category_id], box, sentences, split)


def _sentence(sentence: Any, where: str) -> Sentence:
    text = value(sentence, "sent", (str,), f"{where}, a sentence")
    # The README of the refer repository calls the field `arw`
    raw_name = "arw" if "arw" in sentence else "raw"
    return Sentence(" ".join(text.split()), value(sentence, raw_name, (str,), f"{where}, a sentence"))
