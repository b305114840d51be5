"""A miniature of FGVC-Aircraft in the official layout: the archive's folder with data/, its lists and its images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image


MANUFACTURERS = ("ATR", "Cirrus Aircraft", "Fokker", "Piper", "Saab", "Yakovlev", "de Havilland")
COUNTS = {"train": 8, "val": 2, "test": 3}
"""Images of each manufacturer in each part."""

WIDTH, HEIGHT, BANNER = 24, 30, 20
"""Of the images in pixels; the height includes the banner."""


def raw_lines(
    manufacturers: Sequence[str] = MANUFACTURERS, counts: Mapping[str, int] = COUNTS
) -> dict[str, list[str]]:
    """Return `<7 digits> <name>` lines by part, by manufacturer as in the official files; ids start with zeros."""
    lines: dict[str, list[str]] = {}
    number = 34_309
    for part, count in counts.items():
        lines[part] = []
        for name in manufacturers:
            for _ in range(count):
                lines[part].append(f"{number:07d} {name}")
                number += 1
    return lines


def write_raw(
    folder: Path, lines: Mapping[str, Sequence[str]] | None = None, names: Sequence[str] = MANUFACTURERS
) -> Path:
    """Write `fgvc-aircraft-2013b` in the folder and return it.

    Each image has its own colour above a white banner.
    """
    archive = folder / "fgvc-aircraft-2013b"
    images = archive / "data" / "images"
    images.mkdir(parents=True)
    (archive / "data" / "manufacturers.txt").write_text("".join(f"{name}\n" for name in names))
    for part, found in (raw_lines() if lines is None else lines).items():
        (archive / "data" / f"images_manufacturer_{part}.txt").write_text("".join(f"{line}\n" for line in found))
        for line in found:
            number = int(line[:7])
            # 16 levels per channel, so that different colours stay different after JPEG
            image = Image.new("RGB", (WIDTH, HEIGHT), tuple(number // step % 16 * 16 for step in (1, 16, 256)))
            image.paste((255, 255, 255), (0, HEIGHT - BANNER, WIDTH, HEIGHT))
            image.save(images / f"{line[:7]}.jpg", quality=95)
    return archive
