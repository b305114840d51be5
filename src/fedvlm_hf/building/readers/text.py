"""Open text files in the encodings that programs write, and name what cannot be read."""

import codecs
from pathlib import Path
from typing import TextIO


def open_text(path: Path) -> TextIO:
    """Open a text file in UTF-8, or in UTF-16 with a byte order mark. Line endings are kept."""
    with path.open("rb") as file:
        start = file.read(2)
    is_utf16 = start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return path.open(encoding="utf-16" if is_utf16 else "utf-8-sig", newline="")


def encoding_error(path: Path, error: UnicodeDecodeError, label: str | None = None) -> ValueError:
    """Return an error that names the first line of a file, called `label`, which is not in the expected encoding."""
    label = label or str(path)
    if error.encoding != "utf-8":
        return ValueError(f"{label} is not text in UTF-16, as its byte order mark says ({error.reason}).")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as found:
                return ValueError(
                    f"{label}, line {number}: not text in UTF-8 (byte 0x{line[found.start]:02x} after "
                    f"{line[: found.start].decode()[-20:]!r}). Convert the file, for example from Latin-1: "
                    f"iconv -f LATIN1 -t UTF-8 {path.name} > utf8/{path.name}"
                )
    return ValueError(f"{label} is not text in UTF-8 ({error.reason}).")
