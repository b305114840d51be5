"""Kill a tiny run by SIGKILL at twenty moments, resume it, and compare its last bits with a run that was never killed.

    python tests/kill_and_resume.py [--quick] [METHOD ...]

`--quick` takes one moment of each kind. Each is reached in a child process of its own, forked from this one so that
imports are paid once. The moments cover a client's run, the sum, half-written files, flushing, and both sides of the
rename from which a round counts. Nothing of ours is replaced: the faults are put under calls of the operating system,
torch and safetensors, and the sum is stopped after it took an update.
"""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import peft.peft_model
import safetensors.torch
import torch
from tqdm import tqdm

from federation import federated
from fedvlm_hf.tensors import WeightedMean


MOMENTS = {
    "in a client's optimizer step": [(torch.optim.AdamW, "step", n, "after") for n in (1, 4, 8, 13)],
    "between two updates of the sum": [(WeightedMean, "add", n, "after") for n in (1, 2, 4)],
    "in the middle of the mean": [(WeightedMean, "result", n, "before") for n in (1, 2)],
    "half-way through a tensor file": [(safetensors.torch, "save_file", n, "half") for n in (1, 2, 5)],
    "half-way through an export": [(peft.peft_model, "safe_save_file", n, "half") for n in (1, 3)],
    "while a file is flushed": [(os, "fsync", n, "before") for n in (2, 17)],
    "just before a rename": [(os, "replace", n, "before") for n in (1, 2, 6)],
    "just after a rename": [(os, "replace", n, "after") for n in (2, 7)],
}


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(owner: object, name: str, call: int, when: str) -> None:
    """Let this process be killed at the n-th call of a function: before it, half-way through its file, or after it."""
    original: Callable = getattr(owner, name)
    calls = 0

    def patched(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls < call:
            return original(*args, **kwargs)
        if when == "before":
            kill()
        result = original(*args, **kwargs)
        if when == "half":
            path = Path(args[1] if len(args) > 1 else kwargs["filename"])
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        kill()
        return result

    setattr(owner, name, patched)


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process; the signal that ended it, or 0."""
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        work()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status and not os.WIFSIGNALED(status):
        raise RuntimeError(f"A child failed with exit status {os.waitstatus_to_exitcode(status)}.")
    return os.WTERMSIG(status) if status else 0


def run(output_dir: Path, method: str, resume: bool) -> None:
    trainer = federated(output_dir, method=method, num_rounds=3, trainer_kwargs={"eval_dataset": None})
    trainer.train(resume_from_checkpoint=resume)
    digest = trainer.federation.tensors.digest()
    if method == "local":
        states = [trainer.store.load(name)["private"].digest() for name in sorted(trainer.clients)]
        digest = " ".join(states)
    (output_dir / "digest").write_text(digest)


def survives(method: str, moment: tuple, folder: Path, expected: str) -> bool:
    """Whether a run killed at `moment` and then resumed ends in the expected bits and the same metrics."""

    def die() -> None:
        kill_at(*moment)
        run(folder, method, resume=False)

    if in_child(die) != signal.SIGKILL:
        raise RuntimeError(f"The moment {moment} was never reached.")
    in_child(lambda: run(folder, method, resume=True))
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    leftovers = [path for path in (folder / "rounds").iterdir() if path.name.startswith(".")]
    return (folder / "digest").read_text() == expected and len(lines) == 4 and not leftovers


def check_all(method: str, moments: dict[str, list[tuple]]) -> list[str]:
    """Kill and resume at every moment; the ones that did not end in the same bits."""
    root = Path(tempfile.mkdtemp())
    try:
        in_child(lambda: run(root / "whole", method, resume=False))
        expected = (root / "whole" / "digest").read_text()
        failed = []
        todo = [(name, moment) for name, group in moments.items() for moment in group]
        for index, (name, moment) in enumerate(tqdm(todo, desc=f"{method}: kills", unit="kill", disable=None)):
            if not survives(method, moment, root / str(index), expected):
                failed.append(f"{name}: {moment[1]} call {moment[2]}, {moment[3]}")
        return failed
    finally:
        shutil.rmtree(root)


def main() -> None:
    torch.set_num_threads(1)  # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))  # see hub_children.py
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    quick = "--quick" in sys.argv
    for method in [name for name in sys.argv[1:] if name != "--quick"] or ("fedavg", "central", "local"):
        moments = {name: group[:1] for name, group in MOMENTS.items()} if quick else MOMENTS
        if method != "fedavg":  # the three differ in what a client keeps, so in a client's run and in its files
            moments = {name: group for name, group in moments.items() if "file" in name or "step" in name}
        failed = check_all(method, moments)
        count = sum(map(len, moments.values()))
        print(f"{method}: {count - len(failed)} of {count} killed runs ended in the same bits", *failed, sep="\n  ")
        if failed:
            sys.exit(1)


if __name__ == "__main__":
    main()
