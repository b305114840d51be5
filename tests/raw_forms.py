"""Own data in every common form, a few rows each: what docs/datasets.md lists, written into the current folder.

Each function is called like its form in that table. All have at least two clients' worth of images, all different.
"""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from raw_custom import write_csv, write_image


NUM_ROWS = 8
"""Rows of each client, or of one half of a pooled dataset."""


def png(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 8), (grey, grey, grey)).save(buffer, format="PNG")
    return buffer.getvalue()


def _numbers(site: int) -> range:
    return range(site * NUM_ROWS, (site + 1) * NUM_ROWS)


def _rows(site: int, image: str = "image", folder: str = "images", **own: Any) -> list[dict[str, Any]]:
    rows = []
    for number in _numbers(site):
        write_image(Path("own", folder, f"{number}.png"), number)
        values = {"question": f"Which is {number}?", "answer": f"it is {number}"}
        rows.append({image: f"{folder}/{number}.png", **values, **own})
    return rows


def _write_json(path: str, content: Any) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content), encoding="utf-8")


def _conversations(site: int, folder: str) -> list[dict[str, Any]]:
    rows = []
    for number in _numbers(site):
        write_image(Path(folder, f"{number}.png"), number)
        turns = [{"from": "human", "value": f"<image>\nWhich is {number}?"}, {"from": "gpt", "value": f"{number}"}]
        rows.append({"id": f"row-{number}", "image": f"{number}.png", "conversations": turns})
    return rows


def csv_per_client() -> None:
    for site, name in enumerate(("north", "south")):
        write_csv(Path("own", f"{name}.csv"), _rows(site))


def semicolon_csv_per_client() -> None:
    for site, name in enumerate(("north", "south")):
        lines = [";".join(row.values()) for row in _rows(site)]
        text = "\ufeff" + "\r\n".join(["image;question;answer", *lines]) + "\r\n"
        Path("own", f"{name}.csv").write_text(text, encoding="utf-8")


def messages_per_client() -> None:
    for site, name in enumerate(("north", "south")):
        lines = []
        for row in _rows(site):
            asked = [{"type": "image"}, {"type": "text", "text": row["question"]}]
            answered = [{"type": "text", "text": row["answer"]}]
            messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
            lines.append(json.dumps({"image": row["image"], "messages": messages}))
        Path("own", f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def llava_per_client() -> None:
    for site in range(2):
        _write_json(f"own/client_{site}.json", _conversations(site, "photos"))


def class_folders_per_client() -> None:
    for site, name in enumerate(("north", "south")):
        for number in _numbers(site):
            write_image(Path("own", name, ("cat", "dog")[number % 2], f"{number}.png"), number)


def metadata_per_client() -> None:
    for site, name in enumerate(("north", "south")):
        for number in _numbers(site):
            write_image(Path("own", name, f"{number}.png"), number)
        rows = [{"scan": f"{n}.png", "frage": f"Was ist {n}?", "antwort": f"{n}"} for n in _numbers(site)]
        write_csv(Path("own", name, "metadata.csv"), rows)


def parquet_per_client() -> None:
    Path("own").mkdir()
    for site, name in enumerate(("north", "south")):
        rows = [
            {"image": {"bytes": png(n), "path": None}, "question": f"Which is {n}?", "answer": f"{n}"}
            for n in _numbers(site)
        ]
        pq.write_table(pa.Table.from_pylist(rows), Path("own", f"{name}.parquet"), row_group_size=3)


def _write_tar(path: Path, site: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for number in _numbers(site):
            values = json.dumps({"question": f"Which is {number}?", "answer": f"it is {number}"}).encode()
            for suffix, content in (("png", png(number)), ("json", values)):
                member = tarfile.TarInfo(f"{number:04d}.{suffix}")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))


def webdataset_per_client() -> None:
    for site, name in enumerate(("north", "south")):
        _write_tar(Path("own", f"{name}.tar"), site)


def zip_per_client() -> None:
    """PNGs derived from DICOM with a table, one zip per hospital; pixels have 12 bits."""
    Path("own").mkdir()
    for site, name in enumerate(("north", "south")):
        with zipfile.ZipFile(Path("own", f"{name}.zip"), "w") as file:
            lines = ["image,question,answer"]
            for number in _numbers(site):
                buffer = io.BytesIO()
                pixels = bytes(byte for x in range(96) for byte in (40 * x + number).to_bytes(2, "little"))
                Image.frombytes("I;16", (12, 8), pixels).save(buffer, format="PNG")
                file.writestr(f"{name}/png/{number}.png", buffer.getvalue())
                lines.append(f"png/{number}.png,Is there an effusion?,{('no', 'yes')[number % 2]}")
            file.writestr(f"{name}/reports.csv", "\n".join(lines) + "\n")


def _coco(num_images: int, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    for number in range(num_images):
        write_image(Path("photos", f"{number}.png"), number)
    images = [{"id": n, "file_name": f"{n}.png", "width": 12, "height": 8} for n in range(num_images)]
    return {"images": images, "annotations": annotations}


def coco_captions() -> None:
    annotations = [{"id": n, "image_id": n, "caption": f"a photo of {n}"} for n in range(2 * NUM_ROWS)]
    _write_json("captions.json", _coco(2 * NUM_ROWS, annotations))


def coco_detection() -> None:
    annotations = [
        {"id": n, "image_id": n, "category_id": n % 2, "bbox": [1, 2, 5, 4], "iscrowd": 0} for n in range(2 * NUM_ROWS)
    ]
    categories = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    _write_json("instances.json", {**_coco(2 * NUM_ROWS, annotations), "categories": categories})


def table_by_column() -> None:
    rows = [row for site, name in enumerate(("north", "south")) for row in _rows(site, hospital=name)]
    write_csv(Path("own", "rows.csv"), rows)


def table_by_dirichlet() -> None:
    rows = [row for site in range(2) for row in _rows(site, image="file", diagnosis=f"d{site}")]
    write_csv(Path("own", "rows.tsv"), rows)
    table = Path("own", "rows.tsv")
    table.write_text(table.read_text(encoding="utf-8").replace(",", "\t"), encoding="utf-8")


def llava_pooled() -> None:
    rows = [row for site in range(2) for row in _conversations(site, "photos")]
    _write_json("data/llava.json", rows)


def class_folders_pooled() -> None:
    for number in range(2 * NUM_ROWS):
        write_image(Path("photos", ("cat", "dog")[number % 2], f"{number}.png"), number)


def lone_parquet() -> None:
    parquet_per_client()
    tables = [pq.read_table(path) for path in sorted(Path("own").glob("*.parquet"))]
    Path("data").mkdir()
    pq.write_table(pa.concat_tables(tables), Path("data", "rows.parquet"))


def webdataset_pooled() -> None:
    for site in range(2):
        _write_tar(Path("shards", f"train-{site:05d}-of-00002.tar"), site)


def saved_dataset() -> None:
    features = Features({"picture": ImageFeature(), "q": Value("string"), "a": Value("string")})
    rows = [
        {"picture": {"bytes": png(n), "path": None}, "q": f"Which is {n}?", "a": f"{n}"} for n in range(2 * NUM_ROWS)
    ]
    DatasetDict(train=Dataset.from_list(rows, features=features)).save_to_disk("saved")


FORMS: dict[str, Callable[[], None]] = {
    "One CSV per client": csv_per_client,
    "CSV with semicolons or tabs": semicolon_csv_per_client,
    "JSON Lines with `messages`": messages_per_client,
    "LLaVA `conversations`, one JSON per client": llava_per_client,
    "Images in class folders, one folder per client": class_folders_per_client,
    "Images with a `metadata.csv` and your own column names": metadata_per_client,
    "One Parquet file per client": parquet_per_client,
    "One WebDataset tar per client": webdataset_per_client,
    "One zip per client: 16-bit PNGs with a CSV": zip_per_client,
    "A table, cut by a column": table_by_column,
    "A table, cut by Dirichlet shares": table_by_dirichlet,
    "LLaVA `conversations`, pooled": llava_pooled,
    "COCO captions": coco_captions,
    "COCO detection": coco_detection,
    "Class folders, pooled": class_folders_pooled,
    "A Parquet file": lone_parquet,
    "WebDataset shards": webdataset_pooled,
    "`save_to_disk` or a Hub dataset": saved_dataset,
}
"""The writer of each form, by its name in the table of docs/datasets.md."""
