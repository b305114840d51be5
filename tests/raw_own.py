"""Small folders of own data with one thing wrong, or odd. Each function returns a function that writes to a folder.

Every folder has a good client `north` of five images, and `bad` returns the path of what a case adds beside it.
"""

import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


Write = Callable[[Path], None]
HEADER = "image,question,answer"


def picture(number: int, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> Image.Image:
    """Draw an image that differs from those of other numbers."""
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)


def encoded(image: Image.Image | int, image_format: str = "PNG", **options: Any) -> bytes:
    """Encode an image, or the picture of a number."""
    buffer = io.BytesIO()
    (picture(image) if isinstance(image, int) else image).save(buffer, format=image_format, **options)
    return buffer.getvalue()


def row(number: int, **values: Any) -> dict[str, Any]:
    """Return a good row. A value of `...` leaves its key out."""
    found = {"image": f"images/{number}.png", "question": f"Is it {number}?", "answer": f"it is {number}", **values}
    return {name: value for name, value in found.items() if value is not ...}


def line(number: int) -> str:
    return f"images/{number}.png,Is it {number}?,it is {number}"


def north(raw: Path, name: str = "north.csv", first: int = 0) -> None:
    """Write a good client of five images, and five more images that a case may use: 10 to 14."""
    (raw / "images").mkdir(parents=True, exist_ok=True)
    for number in [*range(first, first + 5), *range(10, 15)]:
        (raw / "images" / f"{number}.png").write_bytes(encoded(number))
    (raw / name).write_text("\n".join([HEADER, *map(line, range(first, first + 5))]) + "\n", encoding="utf-8")


def both(*writes: Write) -> Write:
    def write(raw: Path) -> None:
        for own in writes:
            own(raw)

    return write


def file(name: str, content: str | bytes) -> Write:
    """Add a file to the good client."""

    def write(raw: Path) -> None:
        north(raw)
        path = raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)

    return write


def files(contents: Mapping[str, str | bytes]) -> Write:
    """Write files and nothing else."""

    def write(raw: Path) -> None:
        for name, content in contents.items():
            (raw / name).parent.mkdir(parents=True, exist_ok=True)
            (raw / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def csv_text(*lines: str, header: str = HEADER, end: str = "\n") -> str:
    """Return a table: by default five good lines, and after them those given."""
    return end.join([header, *lines]) + end


def csv_line(text: str) -> Write:
    """A client `south` of five good lines and this one, which is line 7."""
    return file("south.csv", csv_text(*map(line, range(10, 15)), text))


def json_row(**values: Any) -> Write:
    """A client `south.json` of two good rows and row 2 with these values."""
    return file("south.json", json.dumps([row(10), row(11), row(12, **values)]))


def all_rows(**values: Any) -> Write:
    """A client `south.json` of five rows with these values."""
    return file("south.json", json.dumps([row(number, **values) for number in range(10, 15)]))


def json_lines(*lines: str) -> Write:
    """A client `south.jsonl` of two good lines and these, from line 3 on."""
    return file("south.jsonl", "\n".join([json.dumps(row(10)), json.dumps(row(11)), *lines]) + "\n")


def image(content: bytes, name: str = "images/10.png") -> Write:
    """A client `south` of five images, the first of which is this."""
    table = csv_text(line(10).replace("images/10.png", name), *map(line, range(11, 15)))

    def write(raw: Path) -> None:
        file("south.csv", table)(raw)
        file(name, content)(raw)
        north(raw)
        (raw / name).write_bytes(content)

    return write


def classes(contents: Mapping[str, bytes] | None = None, client: str = "south") -> Write:
    """A client that is a folder with images by class, and further files."""

    def write(raw: Path) -> None:
        north(raw)
        good = {f"{client}/{'cat' if number % 2 else 'dog'}/{number}.png": encoded(number) for number in range(10, 15)}
        files({**good, **{f"{client}/{name}": content for name, content in (contents or {}).items()}})(raw)

    return write


def metadata(*lines: str, header: str = "file_name,question,answer", name: str = "metadata.csv") -> Write:
    """A client that is a folder with images and a metadata file."""

    def write(raw: Path) -> None:
        north(raw)
        files({f"south/{number}.png": encoded(number) for number in range(10, 15)})(raw)
        (raw / "south" / name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")

    return write


def conversations(turns: Any, **values: Any) -> Write:
    """A client `south.json` in LLaVA's form; row 2 has these turns."""
    good = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "a thing"}]
    rows = [
        {"id": f"s{number}", "image": f"images/{number}.png", "conversations": turns if number == 12 else good}
        for number in range(10, 15)
    ]
    rows[2] = {name: value for name, value in {**rows[2], **values}.items() if value is not ...}
    return file("south.json", json.dumps(rows))


def turns(*texts: str) -> list[dict[str, str]]:
    """Return turns from texts such as `"human: What is it?"`."""
    return [dict(zip(("from", "value"), text.split(": ", 1), strict=True)) for text in texts]


def chat(messages: Any, **values: Any) -> Write:
    """A client `south.jsonl` in the form of chat messages; line 3 has these."""
    good = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "a thing"}]
    rows = [
        {"image": f"images/{number}.png", "messages": messages if number == 12 else good} for number in range(10, 15)
    ]
    rows[2].update(values)
    return file("south.jsonl", "\n".join(map(json.dumps, rows)) + "\n")


def roles(*texts: str) -> list[dict[str, str]]:
    return [dict(zip(("role", "content"), text.split(": ", 1), strict=True)) for text in texts]


def coco(annotations: Sequence[Mapping[str, Any]] = (), drop: str = "", **values: Any) -> Write:
    """A client `south` in COCO's form with five images of 8 x 6 pixels and one box each, and these annotations."""
    content: dict[str, Any] = {
        "images": [
            {"id": number, "file_name": f"images/{number}.png", "width": 8, "height": 6} for number in range(10, 15)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [box(number) for number in range(10, 15)],
    }
    content["annotations"] += [{"id": 100 + place, **own} for place, own in enumerate(annotations)]
    content.update(values)
    content.pop(drop, None)
    return file("south.json", json.dumps(content))


def box(number: int, **values: Any) -> dict[str, Any]:
    """Return a good annotation of an image."""
    return {"id": number, "image_id": number, "category_id": 1, "bbox": [1, 1, 4, 3], "iscrowd": 0, **values}


def parquet(columns: Mapping[str, Any], name: str = "south.parquet") -> Write:
    """A client that is a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), buffer)
    return file(name, buffer.getvalue())


def stored(*numbers: int | None) -> list[dict[str, Any] | None]:
    """Return images as `datasets` stores them."""
    return [None if number is None else {"bytes": encoded(number), "path": None} for number in numbers]


def texts(count: int = 5) -> dict[str, list[str]]:
    return {"question": ["What is it?"] * count, "answer": [f"thing {number}" for number in range(count)]}


def tar(members: Sequence[tuple[str, bytes | str]], name: str = "south.tar", keep: float = 1.0) -> Write:
    """A client that is a WebDataset tar. A member whose content is text of the form `-> TARGET` is a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if name.endswith("gz") else "w") as archive:
        for member, content in members:
            info = tarfile.TarInfo(member)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content.removeprefix("-> ")
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    found = buffer.getvalue()
    return file(name, found[: int(keep * len(found))])


def samples(*numbers: int) -> list[tuple[str, bytes | str]]:
    """Return the members of good samples of a tar."""
    found: list[tuple[str, bytes | str]] = []
    for number in numbers:
        text = json.dumps({"question": "What is it?", "answer": f"thing {number}"})
        found += [(f"{number:04d}.png", encoded(number)), (f"{number:04d}.json", text.encode())]
    return found


def zipped(members: Mapping[str, bytes | str], name: str = "south.zip", damage: bool = False) -> Write:
    """A client that is a zip. `damage` changes bytes in the middle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    found = bytearray(buffer.getvalue())
    if damage:
        found[60:90] = bytes(30)
    return file(name, bytes(found))


def good_zip(more: Mapping[str, bytes | str] | None = None) -> dict[str, bytes | str]:
    """Return the members of a zip with a table and its images."""
    members: dict[str, bytes | str] = {f"images/{number}.png": encoded(number) for number in range(10, 15)}
    return {**members, "table.csv": csv_text(*map(line, range(10, 15))), **(more or {})}


def encrypted_zip() -> bytes:
    """Return a zip whose members are marked as encrypted."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, content in good_zip().items():
            archive.writestr(member, content)
    content = bytearray(buffer.getvalue())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(mark)
        while start >= 0:
            content[start + place] |= 1
            start = content.find(mark, start + 4)
    return bytes(content)


def huge_zip() -> bytes:
    """Return a zip of a few bytes whose directory promises a petabyte."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("table.csv", csv_text(line(10)))
        archive.infolist()[0].file_size = 10**15
    return buffer.getvalue()


def huge_png(width: int = 60_000, height: int = 60_000) -> bytes:
    """Return a PNG of a few bytes whose header promises billions of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def deep(mode: str, image_format: str = "PNG", scale: float = 1.0) -> bytes:
    """Return an image with more than 8 bits."""
    values = np.arange(48, dtype=np.float64).reshape(6, 8) * 80 * scale
    kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    return encoded(Image.fromarray(values.astype(kinds[mode])), image_format)


def animated() -> bytes:
    """Return a GIF of three frames."""
    frames = [picture(number, mode="P") for number in (10, 20, 30)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def rotated() -> bytes:
    """Return a JPEG whose EXIF data says that it is shown upright after a quarter turn."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(10, (40, 16)), "JPEG", exif=exif)


def link(name: str, target: str, more: Write = north) -> Write:
    """Add a symbolic link."""

    def write(raw: Path) -> None:
        more(raw)
        (raw.parent / "outside").mkdir()
        (raw.parent / "outside" / "99.png").write_bytes(encoded(99))
        path = raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    return write
