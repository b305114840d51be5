"""The user's own data in every form: CSV, JSON Lines, a JSON list, images by class, and a metadata file."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def write_image(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), (grey, grey, grey)).save(path)


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for own in rows for name in own)))
        writer.writeheader()
        writer.writerows(rows)


def question(index: int, **values: Any) -> dict[str, Any]:
    return {"image": f"images/{index}.png", "question": f"Which is {index}?", "answer": f"it is {index}", **values}


def write_raw(folder: Path) -> Path:
    """Write five clients with ten different grey images each: 50 rows, no held-out rows."""
    for index in range(30):
        write_image(folder / "images" / f"{index}.png", index)
    write_csv(folder / "site_a.csv", [question(index) for index in range(10)])
    lines = [json.dumps(question(index, references=["it", f"{index}"])) for index in range(10, 20)]
    (folder / "site_b.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    listed = [{"image": f"images/{index}.png", "answer": f"a photo of {index}"} for index in range(20, 30)]
    (folder / "site-c.json").write_text(json.dumps(listed), encoding="utf-8")
    for index in range(10):
        write_image(folder / "site_d" / ("cat" if index < 5 else "dog") / f"{index}.png", 100 + index)
        write_image(folder / "site_e" / f"{index}.png", 200 + index)
    write_csv(
        folder / "site_e" / "metadata.csv",
        [{"file_name": f"{index}.png", "question": "Who?", "answer": "me"} for index in range(10)],
    )
    return folder
