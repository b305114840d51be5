"""A miniature of VQA-RAD in the files' exact format, dirt included: trainset.json, testset.json and images/."""

import json
from pathlib import Path
from typing import Any

from PIL import Image


ORGANS = ("HEAD", "CHEST", "ABD")
IMAGES_PER_ORGAN = 4


def row(qid: int, image_name: str, organ: str, question: str, answer: Any, **fields: Any) -> dict[str, Any]:
    """A row with the files' keys in the files' order; by default a closed question about presence."""
    values = {"answer_type": "CLOSED", "question_type": "PRES", "phrase_type": "freeform", **fields}
    return {
        "qid": qid,
        "image_name": image_name,
        "image_organ": organ,
        "answer": answer,
        "answer_type": values["answer_type"],
        "question_type": values["question_type"],
        "question": question,
        "phrase_type": values["phrase_type"],
    }


def raw_rows() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the training and of the test file.

    Training: each of the 3 x 4 images has a closed and an open question, and four more rows are dirty: 28 in all, 11
    of the head, 9 of the chest, 8 of the abdomen. Test: a closed and an open question on each organ's first image: 6.
    """
    train, test = [], []
    for organ in ORGANS:
        for index in range(IMAGES_PER_ORGAN):
            image = f"synpic{organ}{index}.jpg"
            train.append(row(len(train), image, organ, "Is it normal?", "Yes" if index else "no"))
            train.append(
                row(len(train), image, organ, "Which plane?", "axial", answer_type="OPEN", question_type="PLANE")
            )
        first = f"synpic{organ}0.jpg"
        test.append(row(100 + len(test), first, organ, "Is this normal?", "no"))
        test.append(
            row(100 + len(test), first, organ, "What plane?", "axial", answer_type="OPEN", question_type="PLANE")
        )
    train += [
        row(24, "synpicHEAD0.jpg", "HEAD", " Is the liver \tsplee n\tstomac h\tand  spleen visible? ", "No "),
        row(25, "synpicHEAD1.jpg", "HEAD", "How many?", 4, answer_type="OPEN", question_type="COUNT"),
        row(26, "synpicHEAD2.jpg", "HEAD", "Is it\ufffds edge old?", "maybe", question_type="PRSE, ATRIB"),
        row(27, "synpicCHEST0.jpg", "CHEST", "Any air?", "yes", answer_type="CLOSED ", question_type="Other"),
    ]  # fmt: skip
    return train, test


def write_raw(folder: Path, train: list | None = None, test: list | None = None) -> Path:
    """Writes the files, images of 24 x 16 pixels, and returns the folder."""
    default_train, default_test = raw_rows()
    (folder / "images").mkdir(parents=True)
    for number, organ in enumerate(ORGANS):
        for index in range(IMAGES_PER_ORGAN):
            grey = 60 + 40 * number + 10 * index
            Image.new("RGB", (24, 16), (grey, grey, grey)).save(folder / "images" / f"synpic{organ}{index}.jpg")
    for name, rows in (("trainset.json", train or default_train), ("testset.json", test or default_test)):
        (folder / name).write_text(json.dumps(rows), encoding="utf-8")
    return folder
