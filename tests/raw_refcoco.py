"""A miniature of RefCOCO's folder in its exact format: instances.json as COCO's, and refs(unc).p as of Python 2."""

import json
import struct
from pathlib import Path
from typing import Any

import raw_coco


WITHOUT_PHRASE = 25
"""The image whose ref has empty phrases only."""


def sentence(sent_id: int, raw: str, sent: str) -> dict[str, Any]:
    return {"tokens": sent.split(), "raw": raw, "sent_id": sent_id, "sent": sent}


def ref(ref_id: int, annotation_id: int, image_id: int, phrases: list[str], split: str = "train") -> dict[str, Any]:
    """Return a ref with the keys of the pickle. Its file name is that of the image with the object's number."""
    sent_ids = [10 * ref_id + number for number in range(len(phrases))]
    return {
        "sent_ids": sent_ids,
        "file_name": f"COCO_train2014_{image_id:012d}_{ref_id}.jpg",
        "ann_id": annotation_id,
        "ref_id": ref_id,
        "image_id": image_id,
        "split": split,
        "sentences": [
            sentence(number, phrase.title() + "!", phrase) for number, phrase in zip(sent_ids, phrases, strict=True)
        ],
        "category_id": 17,
    }


def refs() -> list[dict[str, Any]]:
    """Return a cat with two phrases in each of the images 1 to 24, with the ref_id k; 31 is the person in image 1.

    The cat of image 24 sticks out to the right by half a pixel; the ref of image 25 has no words.
    """
    splits = {21: "val", 22: "testA", 23: "testB"}
    found = [
        ref(k, 100 * k + 2, k, [f"cat {k} on the right", f"the {k}th cat"], splits.get(k, "train"))
        for k in range(1, 25)
    ]
    found.append(ref(31, 101, 1, ["person on left"]))
    found.append(ref(WITHOUT_PHRASE, 100 * WITHOUT_PHRASE + 2, WITHOUT_PHRASE, ["", " "]))
    return found


def python2_pickle(value: Any) -> bytes:
    """Write protocol 2 like Python 2: texts are byte strings, which Python 3 never writes."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: Any) -> bytes:
    if isinstance(value, str):
        content = value.encode("utf-8")
        short = (
            b"U" + struct.pack("<B", len(content)) if len(content) < 256 else b"T" + struct.pack("<i", len(content))
        )
        return short + content
    if isinstance(value, int):
        return b"K" + struct.pack("<B", value) if 0 <= value < 256 else b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_opcodes, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_opcodes(key) + _opcodes(item) for key, item in value.items()) + b"u"
    raise TypeError(type(value))


def write_raw(folder: Path, rows: list[dict] | None = None, as_json: bool = False) -> Path:
    """Write refcoco/ into a folder and return the folder; `rows` replace the refs."""
    (folder / "refcoco").mkdir(parents=True)
    annotations = raw_coco.annotations()
    next(row for row in annotations if row["id"] == 2402)["bbox"] = [32.5, 12.0, 32.0, 24.0]
    content = raw_coco.instances([raw_coco.image(k) for k in range(1, raw_coco.NUM_IMAGES + 1)], annotations)
    (folder / "refcoco" / "instances.json").write_text(json.dumps(content), encoding="utf-8")
    rows = refs() if rows is None else rows
    if as_json:
        (folder / "refcoco" / "refs.json").write_text(json.dumps(rows), encoding="utf-8")
    else:
        (folder / "refcoco" / "refs(unc).p").write_bytes(python2_pickle(rows))
    return folder
