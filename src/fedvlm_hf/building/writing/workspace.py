"""The hidden folder in which a build works, so that it can continue after a kill and leaves only complete results."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ...files import move_folder, write_atomic


logger = logging.getLogger(__name__)

_LOCK, _PLAN = "lock", "plan.json"


class Workspace:
    """The folder in which a build of `out` works. Its name depends only on `out`, so the same command finds it again.

    Args:
        out (`Path`):
            Where the result goes. Must not exist, be an empty folder, or be a complete build with the same plan.
        plan (`dict[str, Any]`):
            What the result depends on, as far as it is known before the download is read, as JSON types. Files of an
            interrupted build are used if its plan is equal, and removed otherwise.

    Raises:
        `ValueError`: if `out` has other contents, or another process is building there.
    """

    def __init__(self, out: Path, plan: dict[str, Any]):
        self.out, self.plan = out, plan
        self.existing = _existing(out, plan)
        self.folder = out.with_name(f".{out.name}.build")
        self.result = self.folder / "result"
        self.staged = self.folder / "staged"
        self.read = self.folder / "read"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / _LOCK)
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise ValueError(f"Another process is building into {out}. Wait for it or stop it.") from error
        self._resume()

    def accept_sources(self, sources: dict[str, str]) -> bool:
        """Compare the files that rows were read from with those that an interrupted build read.

        Returns:
            `bool`: `False` if the files differ. In this case the files of the interrupted build are removed, and the
                download must be read again, because journals may have results of the old files.

        Raises:
            `ValueError`: if `out` was built from other files.
        """
        if self.existing is not None:
            _refuse_difference(self.out, "of the source files", self.existing["sources"], sources)
        known = self._plan_file()
        if known["sources"] is not None and known["sources"] != sources:
            self._start_over("the files under `--raw` have changed")
            self._write_plan(sources)
            return False
        self._write_plan(sources)
        return True

    def finish(self) -> None:
        """Rename the result to `out` and remove everything else."""
        if self.existing is None:
            if self.out.exists():
                self.out.rmdir()
            move_folder(self.result, self.out)
        self._lock.release()
        shutil.rmtree(self.folder)

    def leave_if_empty(self) -> None:
        """Remove the folder if it has nothing that another build could continue from."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name not in (_LOCK, _PLAN)]
        if not files:
            self._lock.release()
            shutil.rmtree(self.folder)

    def _resume(self) -> None:
        if (self.folder / _PLAN).exists():
            if self._plan_file()["plan"] == self.plan:
                self._make_folders()
                return
            self._start_over("it used other options or another version of the package")
        self._make_folders()
        self._write_plan(None)

    def _make_folders(self) -> None:
        for folder in (self.result, self.staged, self.read):
            folder.mkdir(exist_ok=True)

    def _start_over(self, why: str) -> None:
        logger.warning(f"An interrupted build was found in {self.folder}. Starting over: {why}.")
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()
        self._make_folders()

    def _plan_file(self) -> dict[str, Any]:
        return json.loads((self.folder / _PLAN).read_text(encoding="utf-8"))

    def _write_plan(self, sources: dict[str, str] | None) -> None:
        write_atomic(self.folder / _PLAN, json.dumps({"plan": self.plan, "sources": sources}, indent=2))


def _existing(out: Path, plan: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of the complete build in `out`, or `None` if `out` is missing or empty."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    path = out / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found = {key: manifest[key] for key in plan}
        manifest["sources"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"`out`: {out} exists and is not a build of this kind (it has no manifest.json with its plan). Nothing is "
            "overwritten: choose another folder, or remove this one."
        ) from error
    for key, value in plan.items():
        _refuse_difference(out, f"with `{key}`", found[key], value)
    return manifest


def _refuse_difference(out: Path, what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise ValueError(
            f"`out`: {out} exists and is another build: {what} {_differing(found, wanted)}. Nothing is "
            "overwritten: choose another folder, or remove this one."
        )


def _differing(found: Any, wanted: Any) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
        found, wanted = ({key: values.get(key) for key in keys} for values in (found, wanted))
    return f"{found} instead of {wanted}"
