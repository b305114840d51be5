"""Code that talks to the loopback Hub as a server or a client does, run in a process by `hub_processes.Processes`."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from fedvlm_hf.hub.federation.announcing import Announcer, Federation
from fedvlm_hf.hub.federation.checks import Limits
from fedvlm_hf.hub.federation.engine import HubEngine, Waiting
from fedvlm_hf.hub.federation.protocol import FINISHED, OPEN, REPLY, TENSORS, package_versions
from fedvlm_hf.hub.federation.publishing import read_announcement
from fedvlm_hf.hub.federation.remote import Remote
from fedvlm_hf.hub.federation.replying import Question, own_pull, write_update
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.types import ClientTask, ClientUpdate
from hub_updates import CURRENT


SITES = ["site_a", "site_b", "site_c"]


def federation(server: str = "s") -> Federation:
    return Federation(server, 5, SITES, b"{}", "b" * 64, "a" * 64, package_versions())


def engine(remote: Remote, server: str = "s", waiting: Waiting | None = None, **limits: Any) -> HubEngine:
    return HubEngine(remote, federation(server), lambda *_: TensorDict({}), waiting, Limits(**limits))


def tasks(round_idx: int = 1, cohort: Sequence[str] = tuple(SITES)) -> list[ClientTask]:
    return [ClientTask(round_idx, client_id, CURRENT) for client_id in cohort]


def announce(remote: Remote, round_idx: int = 1, server: str = "s", **kwargs: Any) -> str:
    """What a server of this name announces; its hash."""
    announcer = Announcer(remote, federation(server), lambda *_: TensorDict({}), **kwargs)
    with TemporaryDirectory() as folder:
        return announcer.announce(OPEN, tasks(round_idx)[0], SITES, Path(folder))[1]


def answer(remote: Remote, client_id: str, step: float, spoil: Any = None, is_pull: bool = False) -> None:
    """Answer the newest announcement as a client does; `spoil` changes the folder before it is sent."""
    while (found := read_announcement(remote, remote.head())) is None:
        time.sleep(0.05)
    update = ClientUpdate(found[0].round_idx, client_id, CURRENT.with_flat(CURRENT.flat + step), 5, {"train_loss": 1})
    with TemporaryDirectory() as folder:
        write_update(update, Path(folder), Question(*found, remote.head(), CURRENT), "b" * 64)
        if spoil:
            spoil(Path(folder))
        files = {f"updates/{client_id}/{path.name}": path.read_bytes() for path in Path(folder).iterdir()}
    if not is_pull:
        assert remote.make_branch(f"updates/{client_id}")
        remote.commit(files, "update", f"updates/{client_id}")
    elif pull := own_pull(client_id, remote):
        remote.commit(files, "update", pull)
    else:
        remote.open_pull(files, f"Update of {client_id}")


def run(argv: Sequence[str]) -> None:
    """CODE, OUT: execute code; what it passes to `show` goes to OUT as JSON."""
    code, out = argv

    def show(**seen: Any) -> None:
        Path(out).write_text(json.dumps(seen))

    remote = Remote("alice/fed", pause=0.1)
    exec(code, {**globals(), "remote": remote, "show": show, "torch": torch, "sys": sys})


__all__ = ["FINISHED", "REPLY", "TENSORS", "run"]
