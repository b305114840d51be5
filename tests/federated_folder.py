"""A small federated dataset on disk as `fedvlm build` lays it out, but row by row, so that tests can plant defects."""

import hashlib
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from datasets import Features, Value
from PIL import Image

from fedvlm_hf.building.images import image_digest
from fedvlm_hf.data.features import FEATURES


OWN = {name: Value("string") for name in ("client_id", "image_digest", "modality")}
TEXTS = {"vqa": "yes", "grounding": "[0.125, 0.250, 0.500, 1.000]"}


def png(number: int) -> bytes:
    """An image of its own for each number."""
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (number, 10 * number, 255 - number)).save(buffer, format="PNG")
    return buffer.getvalue()


def row(id: str, image: int, task: str = "vqa", modality: str = "CT", client_id: str | None = None) -> dict[str, Any]:
    """A row as it is stored."""
    content = png(image)
    return {
        "id": id,
        "images": [{"bytes": content, "path": None}],
        "prompt": [{"role": "user", "content": "Where is the heart?"}],
        "completion": [{"role": "assistant", "content": TEXTS[task]}],
        "task": task,
        "references": [TEXTS[task]],
        "client_id": client_id,
        "image_digest": image_digest(Image.open(io.BytesIO(content))),
        "modality": modality,
    }


def clean_files() -> dict[str, list[dict[str, Any]]]:
    """Four cells of clients' rows, which two configurations group differently, and held-out rows that they share."""
    cells = {
        "clients/client_00.client_00": [row("a0", 0), row("a1", 1), row("a2", 1, "grounding")],
        "clients/client_00.client_01": [row("b0", 2), row("b1", 3, "grounding")],
        "clients/client_01.client_00": [row("c0", 4, modality="MR"), row("c1", 4, modality="MR")],
        "clients/client_01.client_01": [row("d0", 5, "grounding", "MR")],
    }
    validation = [row("v0", 20, client_id="client_00"), row("v1", 21, "grounding", "MR", client_id="client_01")]
    test = [row(f"t{place}", 30 + place, client_id=f"client_0{place % 2}") for place in range(4)]
    return {
        **cells,
        **{f"{config}/{split}": [dict(own) for own in rows]
           for config in ("noniid", "iid") for split, rows in (("validation", validation), ("test", test))},
    }  # fmt: skip


def clean_configs() -> dict[str, dict[str, list[str]]]:
    """Configuration to split to files, without their folder and suffix."""
    cell = "clients/{}.{}".format
    clients = ("client_00", "client_01")
    return {
        "noniid": {
            **{own: [cell(own, other) for other in clients] for own in clients},
            **{split: [f"noniid/{split}"] for split in ("validation", "test")},
        },
        "iid": {
            **{own: [cell(other, own) for other in clients] for own in clients},
            **{split: [f"iid/{split}"] for split in ("validation", "test")},
        },
    }


def write_folder(
    folder: Path, files: dict[str, list[dict[str, Any]]], configs: dict[str, dict[str, list[str]]]
) -> Path:
    """Writes `data/<file>.parquet`, the card, and a manifest that fits them."""
    for name, rows in files.items():
        path = folder / "data" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        features = {**FEATURES, **OWN, **{extra: Value("string") for extra in rows[0].keys() - {*FEATURES, *OWN}}}
        schema = Features({column: features[column] for column in rows[0]}).arrow_schema
        pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=2)
    entries = [
        {
            "config_name": config,
            **({"default": True} if config == "noniid" else {}),
            "data_files": [
                {"split": split, "path": [f"data/{name}.parquet" for name in names]} for split, names in splits.items()
            ],
        }
        for config, splits in configs.items()
    ]
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': entries}, sort_keys=False)}---\n# Small\n")
    (folder / "manifest.json").write_text(json.dumps(manifest(files, configs)))
    return folder


def manifest(files: dict[str, list[dict[str, Any]]], configs: dict[str, dict[str, list[str]]]) -> dict[str, Any]:
    """The manifest of a build with these rows. Images are counted by the digests that the rows name."""
    entries = {}
    for config, splits in configs.items():
        placed = [(split, own) for split, names in splits.items() for name in names for own in files[name]]
        lines = sorted(f"{own['id']}\t{split}\t{own.get('client_id') or ''}" for split, own in placed)
        entries[config] = {
            "rule": "Modalities are clients.",
            "client_names": {"client_00": "CT", "client_01": "MR"} if config == "noniid" else {},
            "known_leak": None,
            "leaked_images": leaked(placed),
            "counts": {split: sum(own == split for own, _ in placed) for split in splits},
            "images": {split: len({digest(own) for found, own in placed if found == split}) for split in splits},
            "partition": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
            "contents": {split: contents([own for found, own in placed if found == split]) for split in splits},
            "data_files": {split: [f"data/{name}.parquet" for name in names] for split, names in splits.items()},
        }
    first = [own for names in next(iter(configs.values())).values() for name in names for own in files[name]]
    num_rows = {f"data/{name}.parquet": {"num_rows": len(rows)} for name, rows in files.items()}
    images = {digest(own): own["images"][0]["bytes"] for own in first if own.get("images")}
    sizes = [size_of(content) for content in images.values()]
    return {
        "builder": "small", "version": "1", "package_version": "0.1.0", "options": {}, "format": 2, "seed": 0,
        "sources": {}, "inputs": "0" * 64, "restricted_sources": [], "tally": [],
        "num_rows": len(first),
        "tasks": dict(sorted(Counter(own["task"] for own in first).items())),
        "columns": [name for name in first[0] if name not in {*FEATURES, "client_id", "image_digest"}],
        "partition_column": "modality",
        "images": {
            "num_images": len(images), "num_bytes": sum(map(len, images.values())),
            "smallest": list(min(sizes)), "largest": list(max(sizes)),
        },
        "missing_images": 0,
        "shares_clients": True,
        "configs": entries,
        "files": num_rows,
    }  # fmt: skip


def digest(own: dict[str, Any]) -> str | None:
    """The digest that a row names, or that its image has."""
    if "image_digest" in own:
        return own["image_digest"]
    return image_digest(Image.open(io.BytesIO(own["images"][0]["bytes"])))


def size_of(content: bytes) -> tuple[int, int]:
    """Width and height of an image; those of `png` if it is broken."""
    try:
        return Image.open(io.BytesIO(content)).size
    except OSError:
        return (6, 4)


def leaked(placed: list[tuple[str, dict[str, Any]]]) -> int:
    """How many images are in two of the clients, `validation` and `test`."""
    sides = {(digest(own), "client" if split.startswith("client") else split) for split, own in placed}
    return sum(count > 1 for count in Counter(image for image, _ in sides).values())


def contents(rows: list[dict[str, Any]]) -> str:
    """The digest of all values of some rows except images and `client_id`."""
    texts = [{name: value for name, value in own.items() if name not in ("images", "client_id")} for own in rows]
    digests = [hashlib.blake2b(json.dumps(text, sort_keys=True).encode(), digest_size=16).digest() for text in texts]
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
