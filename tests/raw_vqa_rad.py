"""A miniature of VQA-RAD in the exact format of its three releases, including dirty values."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


ORGANS = ("HEAD", "CHEST", "ABD")
IMAGES_PER_ORGAN = 4
OFFICIAL_FILE = "VQA_RAD Dataset Public.json"
OFFICIAL_IMAGES = "VQA_RAD Image Folder"


def row(qid: int, image_name: str, organ: str, question: str, answer: Any, **fields: Any) -> dict[str, Any]:
    """Return a row with the re-export's keys in its order; by default a closed question about presence."""
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
    """Return the rows of the training file and of the test file.

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
    """Write the re-export: trainset.json, testset.json and images/ of 24 x 16 pixels; return the folder."""
    default_train, default_test = raw_rows()
    write_images(folder / "images")
    for name, rows in (("trainset.json", train or default_train), ("testset.json", test or default_test)):
        (folder / name).write_text(json.dumps(rows), encoding="utf-8")
    return folder


def write_official(folder: Path) -> Path:
    """Write the official download: one list, whose phrase types mark the test split, and the folder of images."""
    train, test = raw_rows()
    rows = [official_row(own, own["phrase_type"]) for own in train]
    # The test rows are among the others, as in the official file
    rows[5:5] = [official_row(own, f"test_{own['phrase_type']}") for own in test]
    write_images(folder / OFFICIAL_IMAGES)
    (folder / OFFICIAL_FILE).write_text(json.dumps(rows), encoding="utf-8")
    return folder


def official_row(own: dict[str, Any], phrase_type: str) -> dict[str, Any]:
    """Return the same row with the keys of the official file."""
    return {
        "qid": str(own["qid"]),
        "phrase_type": phrase_type,
        "qid_linked_id": f"03f451ca-de62-4617-9679-e836026a7642-{own['qid']}",
        "image_case_url": "https://medpix.nlm.nih.gov/case?id=48e1dd0e-8552-46ad-a354-5eb55be86de6",
        "image_name": own["image_name"],
        "image_organ": own["image_organ"],
        "evaluation": "not evaluated",
        "question": own["question"],
        "question_rephrase": "NULL",
        "question_relation": "NULL",
        "question_frame": "NULL",
        "question_type": own["question_type"],
        "answer": own["answer"],
        "answer_type": own["answer_type"],
    }


def write_hub(folder: Path) -> Path:
    """Write the Hub copy: Parquet shards of image, question and answer in lower case, without paths and organs."""
    write_images(folder / "jpg")
    (folder / "data").mkdir()
    train, test = raw_rows()
    for shard, rows in (("train-00000-of-00002", train[:20]), ("train-00001-of-00002", train[20:])):
        write_shard(folder / "data" / f"{shard}.parquet", rows, folder / "jpg")
    write_shard(folder / "data" / "test-00000-of-00001.parquet", test, folder / "jpg")
    for path in (folder / "jpg").iterdir():
        path.unlink()
    (folder / "jpg").rmdir()
    return folder


def write_shard(path: Path, rows: list[dict[str, Any]], images: Path) -> None:
    table = {
        "image": [{"bytes": (images / own["image_name"]).read_bytes(), "path": None} for own in rows],
        "question": [own["question"].lower() for own in rows],
        "answer": [str(own["answer"]).lower() for own in rows],
    }
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema({"image": image, "question": pa.string(), "answer": pa.string()})
    pq.write_table(pa.table(table, schema=schema), path)


def write_images(folder: Path) -> None:
    """Write a different grey image for each name."""
    folder.mkdir(parents=True)
    for number, organ in enumerate(ORGANS):
        for index in range(IMAGES_PER_ORGAN):
            grey = 60 + 40 * number + 10 * index
            Image.new("RGB", (24, 16), (grey, grey, grey)).save(folder / f"synpic{organ}{index}.jpg")
