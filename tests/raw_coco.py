"""A miniature of COCO 2014 in its exact format: annotations/instances_*.json with all their keys, and train2014/."""

import json
from pathlib import Path
from typing import Any

from PIL import Image


WIDTH, HEIGHT = 64, 48
NUM_IMAGES = 30
CROWD_ONLY, WITHOUT_OBJECTS = 29, 30
"""Images without a class."""

CATEGORIES = [
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "animal", "id": 17, "name": "cat"},
    {"supercategory": "animal", "id": 18, "name": "dog"},
    {"supercategory": "indoor", "id": 90, "name": "toothbrush"},
]


def file_name(image_id: int, part: str = "train2014") -> str:
    return f"COCO_{part}_{image_id:012d}.jpg"


def image(image_id: int, part: str = "train2014", width: int = WIDTH, height: int = HEIGHT) -> dict[str, Any]:
    """Return an entry of `images` with the file's keys in the file's order."""
    return {
        "license": 5,
        "file_name": file_name(image_id, part),
        "coco_url": f"http://mscoco.org/images/{image_id}",
        "height": height,
        "width": width,
        "date_captured": "2013-11-14 16:28:13",
        "flickr_url": "http://farm4.staticflickr.com/3153/2970773875_164f0c0b83_z.jpg",
        "id": image_id,
    }


def annotation(
    annotation_id: int, image_id: int, category_id: int, bbox: list[float], area: float, iscrowd: int = 0
) -> dict[str, Any]:
    """Return an entry of `annotations`; objects have polygons, crowds a run-length encoding."""
    x, y, w, h = bbox
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return {
        "segmentation": {"counts": [272, 2, 4, 4], "size": [HEIGHT, WIDTH]} if iscrowd else polygon,
        "area": area,
        "iscrowd": iscrowd,
        "image_id": image_id,
        "bbox": bbox,
        "category_id": category_id,
        "id": annotation_id,
    }


def annotations() -> list[dict[str, Any]]:
    """Return two objects in images 1 to 28, a crowd in 29, nothing in 30.

    In image k the annotation 100 k + 1 is a person of area 150 and 100 k + 2 a cat of area 700. Image 1 has a crowd of
    area 2,000 too; in image 2 a dog, 204, is as large as the cat 202; in image 3 it is larger, though its number, 300,
    is the smallest.
    """
    found = []
    for k in range(1, 29):
        found.append(annotation(100 * k + 1, k, 1, [8.0, 6.0, 16.0, 12.0], 150.0))
        found.append(annotation(100 * k + 2, k, 17, [16.0, 12.0, 32.0, 24.0], 700.0))
    found.append(annotation(103, 1, 1, [0.0, 0.0, 64.0, 48.0], 2000.0, iscrowd=1))
    found.append(annotation(204, 2, 18, [0.0, 0.0, 40.0, 40.0], 700.0))
    found.append(annotation(300, 3, 18, [0.0, 0.0, 40.0, 40.0], 700.5))
    found.append(annotation(2901, CROWD_ONLY, 1, [0.0, 0.0, 64.0, 48.0], 2000.0, iscrowd=1))
    return found


def instances(images: list[dict], annotations: list[dict]) -> dict[str, Any]:
    """Return an annotation file with its keys in order: `categories` come last."""
    return {
        "info": {"description": "This is stable 1.0 version of the 2014 MS COCO dataset.", "year": 2014},
        "images": images,
        "licenses": [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution License"}],
        "annotations": annotations,
        "categories": CATEGORIES,
    }


def draw(path: Path, image_id: int, size: tuple[int, int] = (WIDTH, HEIGHT), **options: Any) -> None:
    """Draw an image of one colour, which differs between ids."""
    colour = (8 * image_id % 256, 80, 255 - 8 * image_id % 256)
    Image.new("RGB", size, colour).save(path, quality=95, **options)


def write_raw(folder: Path, train: list[dict] | None = None) -> Path:
    """Write both annotation files and the training images of 64 x 48 pixels, and return the folder.

    `train` takes the place of the annotations of train2014; val2014 has image 501 with a dog.
    """
    (folder / "annotations").mkdir(parents=True)
    (folder / "train2014").mkdir()
    images = [image(k) for k in range(1, NUM_IMAGES + 1)]
    for k in range(1, NUM_IMAGES + 1):
        draw(folder / "train2014" / file_name(k), k)
    val = [annotation(50101, 501, 18, [1.0, 1.0, 9.0, 9.0], 81.0)]
    for part, content in (
        ("train2014", instances(images, annotations() if train is None else train)),
        ("val2014", instances([image(501, "val2014")], val)),
    ):
        (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder
