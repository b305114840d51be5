"""Packing: a folder with exactly the files that leave the machine for a round, a client or a base model."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from safetensors.torch import load_file, save_file

from ..checkpoint import round_folder
from ..client.model import PERSONAL, PRIVATE
from ..client.store import ClientStore
from ..exchange.tensor_files import load_state
from ..reporting.card import model_card
from ..reporting.report import write_pages
from ..reporting.round_card import loading_snippet
from ..reporting.run_info import RunInfo, public_value
from ..reporting.runs import Run, comparable_runs, read_history
from ..repository.repository import Content, open_content
from ..repository.requests import HubRefusedError
from ..types import RoundRecord
from .layout import (
    CLIENT_STATE,
    CLIENT_VERSION,
    EXPORT,
    METRICS,
    ROUND_STATE,
    RUN,
    STATE,
    STATES,
    PushTarget,
    client_branch,
    names_in,
    number_clients,
    rename_keys,
    rename_record,
)


_EXPORTED = (".json", ".safetensors")
_BASE_FILES = (
    "*.safetensors", "*.safetensors.index.json", "*config.json", "tokenizer*.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "*.tiktoken", "*.model", "*.jinja",
    "chat_template.json", "README.md", "LICENSE*", "NOTICE*",
)  # fmt: skip
"""Files of a base model that are needed to load it, or that state its licence. No pickle and no code is among them."""


@dataclass(frozen=True)
class Packer:
    """Makes folders of what is pushed from what a run left in its `output_dir`.

    A folder depends only on the saved round and the records so far, so packing gives the same files at once or after
    the run. Never packed: `client_state/`, generated answers, images of the evaluation, and any path of this machine.

    Args:
        output_dir (`Path`):
            The run's folder.
        target ([`PushTarget`]):
            Where the run is pushed, and which parts of it.
    """

    output_dir: Path
    target: PushTarget

    @cached_property
    def run(self) -> dict[str, Any]:
        """Content of `run.json`."""
        return _read_json(self.output_dir / "run.json")

    @cached_property
    def info(self) -> RunInfo:
        """What the card says besides the scores."""
        return RunInfo(**_read_json(self.output_dir / "card.json"))

    @property
    def base_model(self) -> str:
        """The base model's name on the Hub."""
        return self.target.public_base(self.info.base_model)

    def title(self, round_idx: int) -> str:
        """Return the title of a round's commit."""
        return f"Round {round_idx} of {self.info.config['num_rounds']}"

    def pack_round(self, round_idx: int, folder: Path) -> None:
        """Fill an empty folder with the files of a round's commit."""
        saved = round_folder(self.output_dir, round_idx)
        state = _read_json(saved / ROUND_STATE)
        names = self.names(round_idx)
        history = [rename_record(record, names) for record in self._history(round_idx)]
        self._pack_export(saved, folder)
        (folder / STATE).mkdir()
        for path in STATES:
            _link(saved / path, folder / path)
        state |= {
            "record": history[-1].to_json(),
            "client_versions": rename_keys(state["client_versions"], names),
        }
        _write_json(folder / ROUND_STATE, state)
        _write_json(folder / RUN, self._public_run(names))
        lines = [json.dumps(record.to_json()) + "\n" for record in history]
        (folder / METRICS).write_text("".join(lines), encoding="utf-8")
        clients = rename_keys(self.info.clients, names)
        info = replace(self.info, base_model=self.base_model, clients=clients, hub_model_id=self.target.repo_id)
        card = model_card(info, history, self.target.repo_id, is_public=True)
        (folder / "README.md").write_text(f"{card}\n", encoding="utf-8")
        write_pages(folder / "report", Run(self.info.method, history), comparable_runs(self.output_dir))

    def pack_clients(self, round_idx: int, folder: Path) -> None:
        """Fill an empty folder with one folder for each client that wrote a state in this round.

        Args:
            round_idx (`int`):
                The round.
            folder (`Path`):
                Gets `client_00/` and so on: the files of the commits to the branches `clients/client_00`.
        """
        store, names = ClientStore(self.output_dir / "client_state"), self.names(round_idx)
        for client_id, version in self._client_versions(round_idx).items():
            if version == round_idx:
                state = store.folder(client_id, version) / "state.safetensors"
                self._pack_client(round_idx, state, folder / names.get(client_id, client_id))

    def names(self, round_idx: int) -> dict[str, str]:
        """Return the clients' names on the Hub, where they differ from their names here."""
        if self.target.share_client_names:
            return {}
        found = set().union(*map(names_in, self._history(round_idx)))
        # `central` is one client of that name
        return number_clients(self.run["clients"], found - {self.run["method"]})

    def _pack_client(self, round_idx: int, state: Path, folder: Path) -> None:
        groups = load_state(state)
        if not groups:  # a client that keeps nothing has no adapter of its own
            return
        (folder / STATE).mkdir(parents=True)
        self._pack_export(round_folder(self.output_dir, round_idx), folder)
        weights = folder / EXPORT[1]
        tensors = load_file(weights)
        for group in (PRIVATE, PERSONAL):
            tensors |= {name: tensor.to(tensors[name].dtype) for name, tensor in groups.get(group, {}).items()}
        weights.unlink()  # a link to the round's own file
        save_file(tensors, weights, {"format": "pt"})
        _link(state, folder / CLIENT_STATE)
        _write_json(folder / CLIENT_VERSION, {"version": round_idx})
        (folder / "README.md").write_text(f"{self._client_card(round_idx, folder.name)}\n", encoding="utf-8")

    def _client_card(self, round_idx: int, client: str) -> ModelCard:
        repo_id, data = self.target.repo_id, ModelCardData(library_name="peft", base_model=self.base_model)
        info = replace(self.info, base_model=self.base_model, hub_model_id=repo_id)
        return ModelCard(
            f"---\n{data.to_yaml()}\n---\n\n# {repo_id}, {client}\n\n"
            f"The model of one client, `{client}`, after round {round_idx} of `{self.info.method}`, a method in which "
            f"clients keep a state of their own. What they share is on the branch `{self.target.branch}`.\n\n"
            f"{loading_snippet(info, repo_id, client_branch(client))}\n"
            "Everyone who may read this repository may read what this client's data left in these weights.\n"
        )

    def _pack_export(self, saved: Path, folder: Path) -> None:
        """Link a round's adapter, and name its base model as others find it."""
        for file in sorted(saved.iterdir()):
            if file.suffix in _EXPORTED and file.name != EXPORT[0]:
                _link(file, folder / file.name)
        config = _read_json(saved / EXPORT[0])
        _write_json(folder / EXPORT[0], config | {"base_model_name_or_path": self.base_model})

    def _public_run(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Return `run.json` without paths of this machine, and with the clients' public names."""
        run = {**self.run, "base_model": self.base_model, "clients": rename_keys(self.run["clients"], names)}
        return public_value(run)

    def _client_versions(self, round_idx: int) -> dict[str, int]:
        """Return, by client, the round in which the state that belongs to this round was written."""
        return _read_json(round_folder(self.output_dir, round_idx) / ROUND_STATE)["client_versions"]

    def _history(self, round_idx: int) -> list[RoundRecord]:
        """Return the records up to a round; its own from the saved round, as `metrics.jsonl` may not have it yet."""
        metrics = self.output_dir / METRICS
        earlier = read_history(metrics) if metrics.exists() else []
        own = RoundRecord.from_json(_read_json(round_folder(self.output_dir, round_idx) / ROUND_STATE)["record"])
        return [*(record for record in earlier if record.round_idx < round_idx), own]


def base_files(folder: Path) -> dict[str, Content]:
    """Return the files of a base model that are pushed, by path. Its JSON does not name the folder it was loaded from.

    Raises:
        `HubRefusedError`: if there are no weights in safetensors among them.
    """
    paths = [p for p in sorted(folder.iterdir()) if any(fnmatchcase(p.name, pattern) for pattern in _BASE_FILES)]
    if not any(path.suffix == ".safetensors" for path in paths):
        raise HubRefusedError(
            f"The base model in '{folder}' cannot be pushed beside the run: it has no weights in safetensors, and "
            "pickles are not sent. Save it again with `save_pretrained`, or name its repository with `hub_base_model`."
        )
    return {path.name: _without_origin(path) if path.name.endswith("config.json") else path for path in paths}


def digest_of(files: Mapping[str, Content]) -> str:
    """Return one hash of the names and contents of files."""
    digest = hashlib.sha256()
    for name, content in files.items():
        with open_content(content) as file:
            digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _without_origin(path: Path) -> Content:
    content = json.loads(path.read_text(encoding="utf-8"))
    public = {key: public_value(value) if key.endswith("name_or_path") else value for key, value in content.items()}
    return path if public == content else (json.dumps(public, indent=2) + "\n").encode()


def _link(source: Path, path: Path) -> None:
    """Give a file that is never written again a second name; copy it on a disk without links."""
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise HubRefusedError(
            f"There is no {path.name} in '{path.parent}', so it holds no run, or one of an older version; such a run "
            "writes it when it is started again with `--resume_from_checkpoint true`."
        )
    return json.loads(path.read_text(encoding="utf-8"))
