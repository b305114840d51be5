"""What of a round leaves the machine: the exact files of its commit, as a folder."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..checkpoint import round_folder
from ..reporting.card import model_card
from ..reporting.report import write_pages
from ..reporting.run_info import RunInfo, public_value
from ..reporting.runs import Run, comparable_runs, read_history
from ..types import RoundRecord
from .errors import HubRefusedError
from .layout import STATE
from .names import names_in, numbered, rename_keys, rename_record
from .target import PushTarget


EXPORTED = (".json", ".safetensors")
STATES = ("tensors.safetensors", "server.safetensors")


@dataclass(frozen=True)
class Packer:
    """Makes folders of what is pushed, from what a run left in its `output_dir`.

    A folder follows from the saved round and the records so far, so that packing it at once or after the run is the
    same. Never packed: `client_state/`, generated answers, images of the evaluation, and any path of the machine.

    Args:
        output_dir (`Path`):
            The run's folder.
        target ([`PushTarget`]):
            What is pushed where.
    """

    output_dir: Path
    target: PushTarget

    @cached_property
    def run(self) -> dict[str, Any]:
        """What the run is."""
        return _read_json(self.output_dir / "run.json")

    @cached_property
    def info(self) -> RunInfo:
        """What its card says beside the scores."""
        return RunInfo(**_read_json(self.output_dir / "card.json"))

    @property
    def base_model(self) -> str:
        """The base model's name on the Hub."""
        return self.target.public_base(self.info.base_model)

    def title(self, round_idx: int) -> str:
        """The commit's title."""
        return f"Round {round_idx} of {self.info.config['num_rounds']}"

    def pack_round(self, round_idx: int, folder: Path) -> None:
        """Fill an empty folder with the files of a round's commit."""
        saved = round_folder(self.output_dir, round_idx)
        state = _read_json(saved / STATE / "state.json")
        names = self.names(round_idx)
        history = [rename_record(record, names) for record in self._history(round_idx)]
        self.pack_export(saved, folder)
        (folder / STATE).mkdir()
        for name in STATES:
            link(saved / STATE / name, folder / STATE / name)
        state |= {
            "record": history[-1].to_json(),
            "client_versions": rename_keys(state["client_versions"], names),
        }
        write_json(folder / STATE / "state.json", state)
        write_json(folder / STATE / "run.json", self.public_run(names))
        lines = [json.dumps(record.to_json()) + "\n" for record in history]
        (folder / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
        clients = rename_keys(self.info.clients, names)
        info = replace(self.info, base_model=self.base_model, clients=clients, hub_model_id=self.target.repo_id)
        card = model_card(info, history, self.target.repo_id, is_public=True)
        (folder / "README.md").write_text(f"{card}\n", encoding="utf-8")
        write_pages(folder / "report", Run(self.info.method, history), comparable_runs(self.output_dir))

    def pack_export(self, saved: Path, folder: Path) -> None:
        """Link a round's adapter, which names its base model as others find it."""
        for file in sorted(saved.iterdir()):
            if file.suffix in EXPORTED and file.name != "adapter_config.json":
                link(file, folder / file.name)
        config = _read_json(saved / "adapter_config.json")
        write_json(folder / "adapter_config.json", config | {"base_model_name_or_path": self.base_model})

    def public_run(self, names: Mapping[str, str]) -> dict[str, Any]:
        """`run.json` without paths of the machine, and with the clients' public names."""
        run = {**self.run, "base_model": self.base_model, "clients": rename_keys(self.run["clients"], names)}
        return public_value(run)

    def names(self, round_idx: int) -> dict[str, str]:
        """What clients are called on the Hub, where that is not their name."""
        if self.target.share_client_names:
            return {}
        found = set().union(*map(names_in, self._history(round_idx)))
        return numbered(self.run["clients"], found - {self.run["method"]})  # `central` is one client of that name

    def client_versions(self, round_idx: int) -> dict[str, int]:
        """The round in which each client's state that belongs to a round was written."""
        state = _read_json(round_folder(self.output_dir, round_idx) / STATE / "state.json")
        return state["client_versions"]

    def _history(self, round_idx: int) -> list[RoundRecord]:
        """The records up to a round. Its own is the saved one: a kill may have come before `metrics.jsonl` had it."""
        metrics = self.output_dir / "metrics.jsonl"
        earlier = read_history(metrics) if metrics.exists() else []
        state = _read_json(round_folder(self.output_dir, round_idx) / STATE / "state.json")
        own = RoundRecord.from_json(state["record"])
        return [*(record for record in earlier if record.round_idx < round_idx), own]


def link(source: Path, path: Path) -> None:
    """A second name of a file that is never written to again; a copy on a disk that has no links."""
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """JSON as a person can read it."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise HubRefusedError(
            f"There is no {path.name} in '{path.parent}', so it holds no run, or one of an older version; such a run "
            "writes it when it is started again with `--resume_from_checkpoint true`."
        )
    return json.loads(path.read_text(encoding="utf-8"))
