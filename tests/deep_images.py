"""Images with more than 8 bits, as files and in rows."""

import io
import struct
import zlib

import numpy as np
from datasets import Dataset
from PIL import Image

from fedvlm_hf.data.features import FEATURES


MODES = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}
"""Pillow's deep modes, with the types of arrays from which it makes them."""


def radiograph(seed: int = 0, size: int = 16, mode: str = "I;16") -> Image.Image:
    """A picture of 12-bit values: noise between 300 and 4,095."""
    values = np.random.default_rng(seed).integers(300, 4096, (size, size))
    return Image.fromarray(values.astype(MODES[mode]))


def encoded(image: Image.Image, kind: str = "TIFF", **options) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def png_16(values: np.ndarray) -> bytes:
    """A PNG file with 16 bits per channel, which Pillow cannot write; channels are the last of three axes."""
    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    lines = b"".join(b"\0" + line.tobytes() for line in values.astype(">u2"))
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    parts = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_rows(num_rows: int, mode: str = "I;16", size: int = 16) -> Dataset:
    """Rows for training and evaluation, each with its own radiograph, encoded by `datasets`."""
    rows = [
        {
            "id": str(index),
            "images": [radiograph(index, size, mode)],
            "prompt": [{"role": "user", "content": "Which finding?"}],
            "completion": [{"role": "assistant", "content": f"finding {index}"}],
            "task": "vqa",
            "references": [f"finding {index}"],
        }
        for index in range(num_rows)
    ]
    return Dataset.from_list(rows, features=FEATURES)


def in_8_bit_files(rows: Dataset) -> Dataset:
    """The same rows with their radiographs stored as 8-bit files, 300 to 4,095 as 0 to 255, worked out here."""
    stored = []
    for row in rows:
        values = np.asarray(row["images"][0]).astype(np.float64)
        grey = np.rint((values - values.min()) / (values.max() - values.min()) * 255).astype(np.uint8)
        stored.append({**row, "images": [Image.fromarray(grey)]})
    return Dataset.from_list(stored, features=rows.features)
