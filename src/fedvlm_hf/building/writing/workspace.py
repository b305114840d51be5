"""The hidden folder in which a build works, so that it can continue after a kill and leaves only complete results."""

import json
import logging
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ...files import move_folder, write_atomic
from ..inputs import Inputs


logger = logging.getLogger(__name__)

MANIFEST, CARD, INPUTS = "manifest.json", "README.md", "inputs.json"
_LOCK, _PLAN = "lock", "plan.json"
_OURS = {MANIFEST, CARD, INPUTS, "data", "report"}


@dataclass(frozen=True)
class Existing:
    """A complete build.

    Attributes:
        manifest (`dict[str, Any]`): Its manifest.
        inputs ([`Inputs`], *optional*): What it read; `None` if an older version of the package built it.
    """

    manifest: dict[str, Any]
    inputs: Inputs | None


class Workspace:
    """The folder in which a build of `out` works. Its name depends only on `out`, so the same command finds it again.

    Args:
        out (`Path`):
            Where the result goes. Must not exist, be an empty folder, or be a complete build.
        plan (`dict[str, Any]`):
            What the result depends on, as far as it is known before the download is read, as JSON types. Files of an
            interrupted build are used if its plan is equal, and removed otherwise.

    Raises:
        `ValueError`: if `out` has other contents, or another process is building there.
    """

    def __init__(self, out: Path, plan: dict[str, Any]):
        self.out, self.plan = out, plan
        _existing(out, plan)  # before anything is written
        self.folder = out.with_name(f".{out.name}.build")
        self.result = self.folder / "result"
        self.staged = self.folder / "staged"
        self.read = self.folder / "read"
        self._complete, self._old = self.folder / "complete", self.folder / "old"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / _LOCK)
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise ValueError(f"Another process is building into {out}. Wait for it or stop it.") from error
        if self._complete.exists():  # the process was killed between the last two steps
            self._publish()
        self.existing = _existing(out, plan)

    def prepare(self) -> None:
        """Make the folders, with the files of an interrupted build if its plan was the same."""
        if (self.folder / _PLAN).exists() and self._state()["plan"] != self.plan:
            self._start_over("it used other options or another version of the package")
        for folder in (self.result, self.staged, self.read):
            folder.mkdir(exist_ok=True)
        if not (self.folder / _PLAN).exists():
            self._write_state(annotations=None, inputs=None)

    def accept_annotations(self, inputs: Inputs) -> bool:
        """Compare the files and folders that rows were read from with those that an interrupted build read.

        Returns:
            `bool`: `False` if they differ. In this case the files of the interrupted build are removed, and the
                download must be read again, because journals may have results of the old files.
        """
        digest = replace(inputs, images={}).digest
        known = self._state()["annotations"]
        is_accepted = known in (None, digest)
        if not is_accepted:
            self._start_over("the files under `--raw` have changed")
            self.prepare()
        self._write_state(annotations=digest)
        return is_accepted

    def accept_images(self, inputs: Inputs) -> None:
        """Compare everything that was read with what an interrupted build read, and remove its rows if it differs."""
        known = self._state()["inputs"]
        if known not in (None, inputs.digest):
            logger.warning(
                f"An interrupted build was found in {self.folder}. Its rows are written again: images differ."
            )
            shutil.rmtree(self.result)
            self.result.mkdir()
        self._write_state(inputs=inputs.digest)

    def publish(self) -> None:
        """Rename the result to `out`. A complete build that is there stays until the result is on disk."""
        move_folder(self.result, self._complete)
        self._publish()

    def finish(self) -> None:
        """Remove everything except `out`."""
        self._lock.release()
        shutil.rmtree(self.folder)

    def leave_if_empty(self) -> None:
        """Remove the folder if it has nothing that another build could continue from."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name not in (_LOCK, _PLAN)]
        if not files:
            self.finish()

    def _publish(self) -> None:
        if self.out.exists() and any(self.out.iterdir()):
            shutil.rmtree(self._old, ignore_errors=True)
            _move(self.out, self._old)
        elif self.out.exists():
            self.out.rmdir()
        _move(self._complete, self.out)

    def _start_over(self, why: str) -> None:
        logger.warning(f"An interrupted build was found in {self.folder}. Starting over: {why}.")
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()

    def _state(self) -> dict[str, Any]:
        return json.loads((self.folder / _PLAN).read_text(encoding="utf-8"))

    def _write_state(self, **digests: str | None) -> None:
        state = self._state() if (self.folder / _PLAN).exists() else {"plan": self.plan}
        write_atomic(self.folder / _PLAN, json.dumps({**state, **digests}, indent=2))


def _move(folder: Path, path: Path) -> None:
    os.replace(folder, path)


def _existing(out: Path, plan: dict[str, Any]) -> Existing | None:
    """Return the complete build in `out`, or `None` if `out` is missing or empty."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    remedy = "Nothing is overwritten: choose another folder, or remove this one."
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        lacking = [key for key in (*plan, "sources") if key not in manifest]
        if lacking:
            raise ValueError(f"there is no `{lacking[0]}`")
        inputs = out / INPUTS
        found = Inputs.from_json(inputs.read_text(encoding="utf-8")) if inputs.exists() else None
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"`out`: {out} exists and is not a build of this kind (it has no manifest.json with its plan: {error}). "
            f"{remedy}"
        ) from error
    foreign = sorted(path.name for path in out.iterdir() if path.name not in _OURS)
    if foreign:
        raise ValueError(f"`out`: {out} has files that no build wrote, such as {foreign[0]}. {remedy}")
    return Existing(manifest, found)
