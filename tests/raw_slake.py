"""A miniature of SLAKE in the official layout: train.json, validate.json, test.json and imgs/xmlab<N>/source.jpg."""

import json
from pathlib import Path
from typing import Any

from PIL import Image


MODALITIES = ("CT", "MRI", "X-Ray")
PARTS_OF_IMAGES = {
    "en": ("train", "train", "train", "validate", "test", "validate"),
    "zh": ("train", "test", "validate", "train", "train", "test"),
}
"""Where each of a modality's six images is, by language: no image is in two parts of a language."""

_WORDS = {
    "en": (("Modality", "CLOSED", "Is this a CT?", "Yes"), ("Organ", "OPEN", "Which organ is it?", "Liver")),
    "zh": (("Modality", "OPEN", "这是什么成像方式", "断层扫描"),),
}


def row(qid: int, image: int, language: str, content_type: str, question: str, answer: str, **fields: Any) -> dict:
    """Return a row with the files' fields in the files' order, on image xmlab<image>."""
    return {
        "img_id": image,
        "img_name": f"xmlab{image}/source.jpg",
        "question": question,
        "answer": answer,
        "q_lang": language,
        "location": "Abdomen",
        "modality": MODALITIES[image // 6],
        "answer_type": "OPEN",
        "base_type": "vqa",
        "content_type": content_type,
        "triple": ["vhead", "_", "_"],
        "qid": qid,
        **fields,
    }


def raw_rows() -> dict[str, list[dict[str, Any]]]:
    """Return rows by split. Images 0-5 are CT, 6-11 MRI, 12-17 X-ray.

    English: two questions an image, and three more rows in train, of which one has no answer, one has stray spaces
    and one is the only one on shape: 3 x 3 x 2 + 3 = 21 train, 12 validate, 6 test. Chinese: a question an image,
    9 train, 3 validate, 6 test.
    """
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "validate": [], "test": []}
    qid = 0
    for language, parts_of_images in PARTS_OF_IMAGES.items():
        for image in range(18):
            for content_type, answer_type, question, answer in _WORDS[language]:
                rows = parts[parts_of_images[image % 6]]
                rows.append(row(qid, image, language, content_type, question, answer, answer_type=answer_type))
                qid += 1
    parts["train"] += [
        row(900, 0, "en", "Organ", "Does the picture contain liver?", ""),
        row(901, 0, "en", "Plane", "Which  plane is it? ", "Transverse  Plane"),
        row(902, 6, "en", "Shape", "Which shape has the kidney?", "Oval", base_type="kvqa"),
    ]
    return parts


def write_raw(folder: Path, rows: dict[str, list] | None = None, images: bool = True) -> Path:
    """Write the annotation files and different images of 20 x 16 pixels, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, found in (rows or raw_rows()).items():
        (folder / f"{part}.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    for image in range(18 if images else 0):
        place = folder / "imgs" / f"xmlab{image}"
        place.mkdir(parents=True)
        Image.new("RGB", (20, 16), (12 * image, 90, 60)).save(place / "source.jpg")
    return folder
