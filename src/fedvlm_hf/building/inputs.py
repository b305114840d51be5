"""What a build read from a download, and how this differs from what is there now."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import file_sha256
from .images import file_hash
from .readers.files import RootFolder


if TYPE_CHECKING:
    from .work import Work

_SHOWN = 5
# A listed file whose content is not recorded, such as an image that no row uses
_LISTED = "listed"


@dataclass(frozen=True)
class Listing:
    """The names in a folder that matter for a build.

    Attributes:
        folder (`str`): The folder relative to the download.
        pattern (`str`): A pattern such as `"*"`, `"*/*"` or `"**/*"`, see [`RootFolder.names`].
        suffixes (`tuple[str, ...]`): Only files with these suffixes matter; all names if it is empty.
        allow_links (`bool`): Whether links may lead out of the download.
    """

    folder: str
    pattern: str
    suffixes: tuple[str, ...] = ()
    allow_links: bool = False

    def read(self, raw: Path) -> list[str]:
        """Return the names relative to the folder, sorted. The name of a folder ends with a slash.

        Args:
            raw (`Path`):
                The folder of the download.
        """
        root = RootFolder(raw, self.allow_links)
        found = root.names(root.path / self.folder, self.pattern)
        return [name for name in found if not self.suffixes or name.lower().endswith(self.suffixes)]


@dataclass
class Inputs:
    """Everything that a build read. Names are relative to the download, so that it may be moved.

    Attributes:
        files (`dict[str, str]`): SHA-256 of each file that [`Work.source`] recorded.
        images (`dict[str, str | None]`): Hash of each image file; `None` for a file that does not exist.
        listings (`dict[Listing, list[str]]`): The names in each folder that was listed.
        values (`dict[str, str]`): Digests of what a builder read by its own means, so that only reading it again can
            tell whether it has changed.
    """

    files: dict[str, str] = field(default_factory=dict)
    images: dict[str, str | None] = field(default_factory=dict)
    listings: dict[Listing, list[str]] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, for the manifest."""
        return hashlib.sha256(self.as_json().encode()).hexdigest()

    def as_json(self) -> str:
        """Return a text that is the same for equal inputs, in whatever order they were read."""
        order = sorted(self.listings, key=astuple)
        content = {
            "files": dict(sorted(self.files.items())),
            "images": dict(sorted(self.images.items())),
            "listings": [[*astuple(listing), self.listings[listing]] for listing in order],
            "values": dict(sorted(self.values.items())),
        }
        return json.dumps(content, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Inputs":
        """Return the inputs of which [`Inputs.as_json`] wrote the text.

        Raises:
            `ValueError`: if the text is damaged.
        """
        try:
            content = json.loads(text)
            listings = {
                Listing(folder, pattern, tuple(suffixes), allow_links): names
                for folder, pattern, suffixes, allow_links, names in content["listings"]
            }
            return cls(content["files"], content["images"], listings, content["values"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"it is not a record of inputs ({type(error).__name__}: {error})") from error

    def read_again(self, work: "Work") -> "Inputs":
        """Return what the recorded files and folders are now. The values are taken over unchanged.

        Contents are compared, not sizes and times, so all recorded files are read.

        Args:
            work ([`Work`]):
                Its `raw` is the download. Its worker processes read the files.
        """
        raw = work.raw or Path()
        items = {
            **{f"file {name}": (raw / name, file_sha256) for name in self.files},
            **{f"image {name}": (raw / name, file_hash) for name in self.images},
        }
        found = work.map("inputs", _hash, items, "comparing with the last build", in_threads=True)
        return Inputs(
            files={name: found[f"file {name}"] for name in self.files},
            images={name: found[f"image {name}"] for name in self.images},
            listings={listing: listing.read(raw) for listing in self.listings},
            values=self.values,
        )

    def state(self) -> dict[str, str | None]:
        """Return the hash of each file by name, `None` for a file that does not exist, and a mark for mere names."""
        listed = {
            f"{listing.folder}/{name}".removeprefix("./"): _LISTED
            for listing, names in self.listings.items()
            for name in names
        }
        return {**listed, **self.values, **self.images, **self.files}


@dataclass(frozen=True)
class Changes:
    """The names of inputs that differ between two builds, each sorted."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def __str__(self) -> str:
        kinds = {"added": self.added, "changed": self.changed, "removed": self.removed}
        return "; ".join(f"{len(names):,} {kind} ({_first(names)})" for kind, names in kinds.items() if names)


def changes(before: Inputs, now: Inputs) -> Changes:
    """Return which inputs were added, changed or removed.

    Args:
        before ([`Inputs`]):
            The inputs of a build.
        now ([`Inputs`]):
            The inputs of another build, or of [`Inputs.read_again`].
    """
    old, new = before.state(), now.state()
    there = [{name for name, content in state.items() if content is not None} for state in (old, new)]
    both = there[0] & there[1]
    changed = (name for name in both if old[name] != new[name] and _LISTED not in (old[name], new[name]))
    return Changes(tuple(sorted(there[1] - there[0])), tuple(sorted(changed)), tuple(sorted(there[0] - there[1])))


def option_changes(manifest: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """Return a text for each entry of a plan that is another one in a manifest, such as `"seed: 0 before, 1 now"`."""
    old, new = ({name: entry[name] for name in plan} for entry in (manifest, plan))
    old, new = ({**entry.pop("options"), **entry} for entry in (old, new))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [f"{name}: {old.get(name)!r} before, {new.get(name)!r} now" for name in names]


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _hash(item: tuple[Path, Any]) -> str | None:
    path, function = item
    try:
        return function(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
