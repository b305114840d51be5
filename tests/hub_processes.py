"""Processes of a federation for tests: forked from one that has imported everything, so that imports are paid once.

    with Processes(hub.environment("", home), tmp_path) as processes:
        processes.start("server", "fedvlm_hf.commands.hub_server", [...], token="hf_alice")

A process is killed by its id and may be started again under its name. Each is a process of its own, with a memory of
its own; nothing of it is shared but files.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from waiting import DEADLINE


class Processes:
    """Starts modules' `run(argv)` in processes, kills them and says how they ended.

    Args:
        environment (`Mapping[str, str]`): Of all of them.
        folder (`Path`): Where what they print goes, to `NAME.log`.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path):
        self.environment, self.folder = environment, folder
        self.pids: dict[str, int] = {}
        self.starts: dict[str, int] = {}

    def __enter__(self) -> "Processes":
        environment = {**self.environment, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.parent = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        return self

    def __exit__(self, *_: Any) -> None:
        for name in self.pids:
            self.kill(name)
        self.parent.communicate(timeout=DEADLINE)

    def start(self, name: str, module: str, argv: Sequence[str], token: str = "") -> None:
        log = str(self.folder / f"{name}.log")
        self.pids[name] = self._ask(module=module, argv=list(argv), token=token, log=log)
        self.starts[name] = self.starts.get(name, 0) + 1

    def kill(self, name: str) -> None:
        """SIGKILL, as by a power cut; nothing where it has ended."""
        if self.pids[name]:
            os.kill(self.pids[name], signal.SIGKILL)

    def status(self, name: str) -> int | None:
        """Its exit status, -9 after a kill; `None` while it runs."""
        status = self._ask(pid=self.pids[name])
        if status is not None:
            self.pids[name] = 0
        return status

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def _ask(self, **request: Any) -> Any:
        self.parent.stdin.write(json.dumps(request) + "\n")
        self.parent.stdin.flush()
        return json.loads(self.parent.stdout.readline())


def serve() -> None:
    """Read requests until there are no more: start a process, or say how one ended."""
    import torch

    import fedvlm_hf.engines.hub.client
    import fedvlm_hf.engines.hub.engine
    import fedvlm_hf.federation
    import fedvlm_hf.trainer  # noqa: F401

    torch.set_num_threads(1)
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))  # see hub_children.py
    for line in sys.stdin:
        request = json.loads(line)
        if "module" in request:
            print(json.dumps(os.fork() or work(**request)), flush=True)
        else:
            pid, status = os.waitpid(request["pid"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)


def work(module: str, argv: Sequence[str], token: str, log: str) -> None:
    """In a forked process: run, and end it."""
    sys.stdin.close()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ["HF_TOKEN"] = token
    try:
        importlib.import_module(module).run(argv)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    serve()
