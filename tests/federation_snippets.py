"""Code that talks to the loopback Hub as a server or a client does, run in a process by `hub_processes.Processes`."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import torch
from trl import ModelConfig

from fedvlm_hf import FederatedConfig
from fedvlm_hf.client.store import ClientStore
from fedvlm_hf.engines.hub.answers import Question, find_pull_request, write_update
from fedvlm_hf.engines.hub.client import HubClient
from fedvlm_hf.engines.hub.engine import HubEngine, RunFacts, Waiting
from fedvlm_hf.engines.hub.protocol import REPLY, TENSORS, read_announcement
from fedvlm_hf.exchange.documents import sha256_of
from fedvlm_hf.exchange.limits import Limits
from fedvlm_hf.exchange.settings import Facts, make_settings, package_versions
from fedvlm_hf.repository import Repository, requests
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.transforms import TransformChain
from fedvlm_hf.types import Absent, ClientTask, ClientUpdate, Expected
from hub_updates import ANNOUNCEMENT, CURRENT


SITES = ["site_a", "site_b", "site_c"]


def run_facts(server: str = "s") -> RunFacts:
    args = FederatedConfig("out", use_cpu=True, bf16=False, report_to="none")
    config = make_settings(args, ModelConfig(), SITES, "org/base").to_bytes()
    facts = Facts(sha256_of(config), "b" * 64, CURRENT.digest(), ANNOUNCEMENT.adapter, package_versions())
    return RunFacts(server, 5, SITES, config, facts)


def engine(repository: Repository, server: str = "s", waiting: Waiting | None = None, **limits: Any) -> HubEngine:
    return HubEngine(repository, run_facts(server), None, waiting, Limits(**limits))


def tasks(round_idx: int = 1, cohort: Sequence[str] = tuple(SITES)) -> list[ClientTask]:
    return [ClientTask(round_idx, client_id, CURRENT) for client_id in cohort]


def announce(repository: Repository, round_idx: int = 1, server: str = "s", timeout: float | None = None) -> str:
    """What a server of this name announces; its hash."""
    with TemporaryDirectory() as folder:
        hub = engine(repository, server, Waiting(None, timeout))
        return hub.announce(tasks(round_idx), Path(folder))[1]


def answer(repository: Repository, client_id: str, step: float, spoil: Any = None, is_pull: bool = False) -> None:
    """Answer the newest announcement as a client does; `spoil` changes the folder before it is sent."""
    while (found := read_announcement(repository, repository.head())) is None:
        time.sleep(0.05)
    update = ClientUpdate(found[0].round_idx, client_id, CURRENT.with_flat(CURRENT.flat + step), 5, {"train_loss": 1})
    with TemporaryDirectory() as folder:
        task = ClientTask(update.round_idx, client_id, CURRENT)
        write_update(update, Path(folder), Question(*found, repository.head(), task, TransformChain()), "b" * 64)
        if spoil:
            spoil(Path(folder))
        files = {f"updates/{client_id}/{path.name}": path.read_bytes() for path in Path(folder).iterdir()}
    if not is_pull:
        assert repository.try_to_create_branch(f"updates/{client_id}")
        repository.commit("update", files, f"updates/{client_id}")
    elif pull := find_pull_request(client_id, repository):
        repository.commit("update", files, pull)
    else:
        repository.open_pull_request(f"Update of {client_id}", files)


class Host:
    """What trains a client: it answers with the tensors that it was sent plus 1, and with its control groups."""

    def __init__(self, folder: Path):
        self.local, self.store, self.transforms = (
            SimpleNamespace(initial=CURRENT),
            ClientStore(folder),
            TransformChain(),
        )

    def run_client(self, task: ClientTask) -> ClientUpdate:
        assert (task.fixed["f"].item(), task.base["x"].tolist()) == (1.0, [1.0, 1.0])
        tensors = task.tensors.with_flat(task.tensors.flat + 1)
        return ClientUpdate(task.round_idx, task.client_id, tensors, 5, {"train_loss": 1.0}, task.control)


def run_host(repository: Repository, client_id: str, folder: str) -> int:
    """Run a client until the server has finished; the number of rounds that it answered."""
    host = Host(Path(folder) / "client_state")
    client = HubClient(repository, client_id, Path(folder) / "answers", lambda settings: (host, "b" * 64))
    while read_announcement(repository, repository.head()) is None:
        time.sleep(0.05)
    return client.run()


def run(argv: Sequence[str]) -> None:
    """CODE, OUT: execute code; what it passes to `show` goes to OUT as JSON."""
    code, out = argv

    def show(**seen: Any) -> None:
        Path(out).write_text(json.dumps(seen))

    repository = Repository("alice/fed", first_wait=0.1)
    exec(
        code, {**globals(), "repository": repository, "show": show, "torch": torch, "huggingface_hub": huggingface_hub}
    )


__all__ = ["REPLY", "TENSORS", "Absent", "Expected", "TensorDict", "requests", "run"]
