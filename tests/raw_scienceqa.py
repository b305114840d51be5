"""A miniature of ScienceQA in both layouts: the repository's JSON files and images, and the Hub's Parquet files."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


_PROBLEMS = (
    # part, category, red value of the image
    ("train", "Maps\t", 10), ("train", "Maps\t", 20), ("train", "Maps\t", 30), ("train", "Maps\t", 200),
    ("train", "Magnets", 40), ("train", "Magnets", 50), ("train", "Magnets", 60), ("train", "Magnets", 70),
    ("train", "Rocks", 80), ("train", "Spelling", None),
    ("val", "Maps\t", 210), ("val", "Magnets", 220), ("val", "Spelling", None),
    ("test", "Maps\t", 200), ("test", "Magnets", 220), ("test", "Magnets", 230),
)  # fmt: skip
_HUB_PARTS = {"train": "train", "val": "validation", "test": "test"}
WITHOUT_CAPTION = "5"
"""The problem with an image that captions.json does not have: the second of `Magnets`."""


def raw_problems() -> dict[str, dict[str, Any]]:
    """Return problems by id, with the fields in the official order: 16, two of them without an image.

    The last train problem of `Maps` has the image of its test problem, and the validation problem of `Magnets` that
    of a test problem. Problem 0 has no hint, problem 1 no solution.
    """
    return {
        str(index): {
            "question": f"Question {index}?",
            "choices": ["yes", "no"],
            "answer": index % 2,
            "hint": "" if index == 0 else f"A hint\nof two lines, {index}.",
            "image": None if red is None else "image.png",
            "task": "closed choice",
            "grade": "grade2",
            "subject": "social science" if category == "Maps\t" else "natural science",
            "topic": "geography" if category == "Maps\t" else "physics",
            "category": category,
            "skill": "Read it",
            "lecture": "",
            "solution": "" if index == 1 else f"Because of {index}.",
            "split": part,
        }
        for index, (part, category, red) in enumerate(_PROBLEMS)
    }


def raw_splits() -> dict[str, list[str]]:
    """Return ids by split; the official file also has `trainval` and the small splits."""
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for pid, problem in raw_problems().items():
        parts[problem["split"]].append(pid)
    return {**parts, "trainval": parts["train"] + parts["val"], "minitrain": parts["train"][:2]}


def raw_captions() -> dict[str, Any]:
    """Return captions as written by tools/generate_caption.py, with a space at the end."""
    with_image = [pid for pid, problem in raw_problems().items() if problem["image"]]
    captions = {pid: f"a picture of thing {pid} " for pid in with_image if pid != WITHOUT_CAPTION}
    return {"model": "nlpconnect/vit-gpt2-image-captioning", "num_captions": len(captions), "captions": captions}


def png(red: int, compress_level: int = 6) -> bytes:
    """Return a PNG of 18 x 12 pixels. The compression level changes its bytes, but not its pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (18, 12), (red, 100, 50)).save(buffer, format="PNG", compress_level=compress_level)
    return buffer.getvalue()


def write_raw(folder: Path, problems: dict | None = None, splits: dict | None = None) -> Path:
    """Write the repository's data/ with the images of the miniature's problems, and return the folder."""
    data = folder / "data" / "scienceqa"
    data.mkdir(parents=True)
    (data / "problems.json").write_text(json.dumps(problems or raw_problems()))
    (data / "pid_splits.json").write_text(json.dumps(splits or raw_splits()))
    (data.parent / "captions.json").write_text(json.dumps(raw_captions()))
    for pid, (part, _, red) in enumerate(_PROBLEMS):
        if red is not None:
            place = data / "images" / part / str(pid)
            place.mkdir(parents=True)
            (place / "image.png").write_bytes(png(red, compress_level=pid % 9 + 1))
    return folder


def write_hub(folder: Path, problems: dict | None = None, row_group_size: int = 3) -> Path:
    """Write data/{train,validation,test}-00000-of-00001-<hash>.parquet and return the folder."""
    (folder / "data").mkdir(parents=True)
    problems = problems or raw_problems()
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    texts = ("hint", "task", "grade", "subject", "topic", "category", "skill", "lecture", "solution")
    for part, hub_part in _HUB_PARTS.items():
        rows = [(int(pid), problem) for pid, problem in problems.items() if problem["split"] == part]
        images = [
            {"bytes": png(_PROBLEMS[pid][2], pid % 9 + 1), "path": "image.png"} if problem["image"] else None
            for pid, problem in rows
        ]
        columns = {
            "image": pa.array(images, image_type),
            "question": [problem["question"] for _, problem in rows],
            "choices": [problem["choices"] for _, problem in rows],
            "answer": pa.array([problem["answer"] for _, problem in rows], pa.int8()),
            **{name: [problem[name] for _, problem in rows] for name in texts},
        }
        path = folder / "data" / f"{hub_part}-00000-of-00001-f0e719df791966ff.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return folder
