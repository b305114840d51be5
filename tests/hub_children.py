"""Tests' programs against the loopback Hub: a process that has imported everything once forks for each of them.

    with programs(hub, tmp_path, "hf_alice") as run:
        seen = run("trainer(OUT, hub_model_id='alice/run', push_to_hub=True).train(); show(done=True)")

Imports take many seconds and a fork some milliseconds. A program may be killed, and leaves the others alone.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub_server import Hub


SERVER = '''
import json, os, signal, sys, traceback
from pathlib import Path
import matplotlib.backends.backend_agg, matplotlib.figure
import torch
torch.set_num_threads(1)
# A child makes a new thread pool at its first use; two threads that do so together fail ("Invalid thread pool!")
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
from fedvlm_hf import FederatedConfig, FederatedTrainer, RoundCallback
from fedvlm_hf.commands.push import run as fedvlm_push
from fedvlm_hf.testing.tiny import save_tiny, tiny_federation
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from peft import PeftModel
from transformers import AutoModelForImageTextToText

BASE = Path(sys.argv[1]) / "my-base"
save_tiny(BASE)

ARGS = dict(use_cpu=True, bf16=False, gradient_checkpointing=False, per_device_train_batch_size=2, learning_rate=1e-2,
            report_to="none", disable_tqdm=True, dataloader_pin_memory=False, num_rounds=2, max_steps=2, eval_every=9)

def trainer(out, data=None, callbacks=(), model=BASE, **kwargs):
    data = data or tiny_federation({"client_00": 4, "client_01": 3}, test_rows=1)
    args = FederatedConfig(str(out), **{**ARGS, **kwargs})
    return FederatedTrainer(str(model), args, data, callbacks=list(callbacks))

class KillAfter(RoundCallback):
    """Kills the process after a round, which is saved by then and not packed yet."""
    def __init__(self, round_idx):
        self.round_idx = round_idx
    def on_round_end(self, end):
        if end.record.round_idx == self.round_idx:
            os.kill(os.getpid(), signal.SIGKILL)

class Before(RoundCallback):
    """Calls a function with the round, before it is packed."""
    def __init__(self, call):
        self.call = call
    def on_round_end(self, end):
        self.call(end.record.round_idx)

def show(**seen):
    print(json.dumps(seen, default=str))

print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        file = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1), os.dup2(file, 2)
        os.environ.update(job["environment"])
        code = 1
        try:
            exec(job["code"], {**globals(), **job["names"]})
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    status = os.waitpid(child, 0)[1]
    print(os.waitstatus_to_exitcode(status), flush=True)
'''


@dataclass
class Ended:
    """What a program left: its status (negative for a signal) and everything that it printed."""

    status: int
    output: str

    def __getitem__(self, name: str) -> Any:
        """What it showed under a name, in its last line."""
        return json.loads(self.output.splitlines()[-1])[name]


@contextmanager
def programs(hub: Hub, folder: Path, token: str) -> Iterator[Callable[..., Ended]]:
    """A function that runs a program against a Hub and waits for its end.

    Args:
        hub (`Hub`):
            The running Hub.
        folder (`Path`):
            For the programs' home and the tiny base model, which is `my-base` in it.
        token (`str`):
            What programs log in with, unless `run(code, token=...)` says something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**hub.environment(token, folder / "home"), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder)],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder,
    )  # fmt: skip
    output = folder / "output.txt"

    def run(code: str, token: str | None = None, is_checked: bool = True, **names: Any) -> Ended:
        job = {
            "code": code,
            "names": {name: str(value) if isinstance(value, os.PathLike) else value for name, value in names.items()},
            "environment": {} if token is None else {"HF_TOKEN": token},
            "output": str(output),
        }
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        ended = Ended(int(server.stdout.readline()), output.read_text())
        assert not is_checked or ended.status == 0, ended.output[-4000:]
        return ended

    try:
        while (line := server.stdout.readline()).strip() != "ready":
            assert line, "the programs' process ended"
        yield run
    finally:
        server.stdin.close()
        server.wait()
        server.stdout.close()
