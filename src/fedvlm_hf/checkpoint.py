"""Saving whole rounds, and going on from one: to the bit, whenever the run was killed."""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from .callbacks import RoundCallback, RoundEnd
from .files import new_folder, round_tag, write_atomic
from .rounds import RoundStart
from .state import ClientStore, load_state, save_state
from .tensors import TensorDict
from .types import Generation, RoundRecord, ServerState


logger = logging.get_logger(__name__)

# Arguments that change what is written or shown, or how far a run goes, but no bit of a round
_NOT_COMPARED = {
    "output_dir",
    "run_name",
    "report_to",
    "disable_tqdm",
    "eval_every",
    "save_total_limit",
    "per_device_eval_batch_size",
    "resume_from_checkpoint",
    "log_level",
    "log_level_replica",
    "project",
    "trackio_space_id",
    "push_client_adapters",
    "share_client_names",
}


class RunMismatchError(ValueError):
    """`output_dir` holds another run than the one that was started."""


def round_folder(output_dir: str | os.PathLike[str], round_idx: int) -> Path:
    """Where the export of a round lies."""
    return Path(output_dir) / "rounds" / round_tag(round_idx)


def whole_rounds(output_dir: str | os.PathLike[str]) -> list[int]:
    """The rounds that were saved whole, in order."""
    return sorted(int(path.name[6:]) for path in (Path(output_dir) / "rounds").glob("round-[0-9]*"))


def environment() -> dict[str, Any]:
    """What "the same bits" depends on beside configuration and data."""
    cpu = torch.backends.cpu.get_cpu_capability()
    return {"torch": torch.__version__, "num_threads": torch.get_num_threads(), "cpu": cpu, "arch": platform.machine()}


def describe_run(
    *,
    method: str,
    base_model: str,
    config: Mapping[str, Any],
    adapter: str,
    clients: Mapping[str, str],
    evaluations: Mapping[str, str],
    transforms: Sequence[str],
) -> dict[str, Any]:
    """Content of `run.json`: everything that a bit of a round depends on, so that another run is told apart.

    Args:
        method (`str`):
            Name of the method.
        base_model (`str`):
            Name or folder of the base model.
        config (`Mapping[str, Any]`):
            Every argument, as JSON values.
        adapter (`str`):
            Digest of the adapter before training.
        clients (`Mapping[str, str]`), evaluations (`Mapping[str, str]`):
            Digests of the clients' datasets and of the evaluation sets, by name.
        transforms (`Sequence[str]`):
            The transforms of updates.

    Returns:
        `dict[str, Any]`: with `comparable`, a digest that runs of different methods share where they started from the
        same adapter and have the same data.
    """
    config = {
        key: value
        for key, value in config.items()
        if key not in _NOT_COMPARED and not key.startswith(("hub_", "push_to_hub", "logging_"))
    }
    if config["round_lr_scheduler_type"] == "constant":
        del config["num_rounds"]  # a longer run goes the same way
    comparable = {"adapter": adapter, "clients": dict(clients), "evaluations": dict(evaluations)}
    return {
        "method": method,
        "seed": config["seed"],
        "base_model": base_model,
        "comparable": hashlib.sha256(json.dumps(comparable, sort_keys=True).encode()).hexdigest(),
        "config": config,
        "transforms": list(transforms),
        "environment": environment(),
        **comparable,
    }


def start_run(
    output_dir: str | os.PathLike[str],
    run: Mapping[str, Any],
    resume: bool | str | None,
    store: ClientStore,
    fresh: RoundStart,
) -> RoundStart:
    """Decide where a run starts.

    Args:
        output_dir (`str` or `os.PathLike`):
            The run's folder.
        run (`Mapping[str, Any]`):
            What `describe_run` returned.
        resume (`bool` or `str`, *optional*):
            Whether to go on with what `output_dir` holds; a string may name it, or its last round's folder.
        store (`ClientStore`):
            The clients' states, put back to the round that the run goes on from.
        fresh (`RoundStart`):
            The start of a new run.

    Raises:
        `ValueError`: if `output_dir` holds rounds and `resume` is not set, or `resume` names another place.
        `RunMismatchError`: if `output_dir` holds another run.
    """
    rounds = whole_rounds(output_dir)
    is_flag = isinstance(resume, str) and resume.lower() in ("true", "false")
    if isinstance(resume, str) and not is_flag:
        own = [Path(output_dir), *(round_folder(output_dir, r) for r in rounds[-1:])]
        if Path(resume).resolve() not in [folder.resolve() for folder in own]:
            raise ValueError(
                f"`resume_from_checkpoint` is {resume!r}, but a run goes on from the last whole round of its own "
                f"`output_dir` {str(output_dir)!r}. Pass `true`, or set `output_dir` to that run; a round on the Hub "
                "is 'org/name@round-0003'."
            )
    if rounds and (not resume or (is_flag and str(resume).lower() == "false")):
        raise ValueError(
            f"`output_dir` {str(output_dir)!r} holds a run, up to round {rounds[-1]}. Pass "
            "`--resume_from_checkpoint true` to go on with it, or another `--output_dir`; nothing was overwritten."
        )
    if not rounds:
        store.restore({})
        return fresh
    for line in check_same_run(output_dir, run):
        logger.warning(f"The last bits of the resumed run may differ from an unbroken one: {line}.")
    return load_last_round(output_dir, store)


def check_same_run(output_dir: str | os.PathLike[str], run: Mapping[str, Any]) -> list[str]:
    """Compare a run with the one that `output_dir` holds.

    Args:
        output_dir (`str` or `os.PathLike`):
            Folder with a `run.json`.
        run (`Mapping[str, Any]`):
            What this run would write there.

    Returns:
        `list[str]`: differences of the environment, which do not forbid resuming but change the last bits.

    Raises:
        `RunMismatchError`: if method, configuration, base model, clients or evaluation differ; it lists how.
    """
    saved = json.loads((Path(output_dir) / "run.json").read_text(encoding="utf-8"))
    return compare_runs(saved, run, f"`output_dir` {str(output_dir)!r}", "`output_dir`")


def compare_runs(saved: Mapping[str, Any], run: Mapping[str, Any], what: str, place: str) -> list[str]:
    """Compare two runs as `describe_run` describes them.

    Args:
        saved (`Mapping[str, Any]`):
            The run that is to be gone on with.
        run (`Mapping[str, Any]`):
            What this run is.
        what (`str`), place (`str`):
            What holds the saved run, at length and in short.

    Returns:
        `list[str]`: differences of the environment, which do not forbid resuming but change the last bits.

    Raises:
        `RunMismatchError`: if method, configuration, base model, clients or evaluation differ; it lists how.
    """
    lines = _differences(saved, json.loads(json.dumps(run)), place)
    differences = [line for line in lines if not line.startswith("environment")]
    if differences:
        raise RunMismatchError(
            f"{what} holds another run, so it cannot be resumed with these arguments:\n  "
            + "\n  ".join(differences)
            + "\nUse the arguments of that run, or another `output_dir`."
        )
    return [line.removeprefix("environment.") for line in lines]


def _differences(old: Any, new: Any, place: str, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        nested = [_differences(old.get(k), new.get(k), place, f"{path}.{k}" if path else k) for k in keys]
        return [line for lines in nested for line in lines]
    return [] if old == new else [f"{path}: {old!r} in {place}, {new!r} now"]


class CheckpointCallback(RoundCallback):
    """Saves each round as one folder that appears whole or not at all, then `metrics.jsonl`.

    Args:
        output_dir (`str` or `os.PathLike`):
            The run's folder.
        run (`Mapping[str, Any]`):
            Content of `run.json`: what the run is.
        export (`Callable[[Path, TensorDict], None]`):
            Writes the export of the global tensors into an empty folder.
        store (`ClientStore`):
            The clients' states; each round notes which versions belong to it.
        save_total_limit (`int`, *optional*):
            How many of the newest rounds to keep. All by default.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        run: Mapping[str, Any],
        export: Callable[[Path, TensorDict], None],
        store: ClientStore,
        save_total_limit: int | None = None,
    ):
        self.output_dir, self.run, self.export, self.store = Path(output_dir), run, export, store
        self.save_total_limit = save_total_limit
        self.history: list[RoundRecord] = []

    def on_start(self, history: Sequence[RoundRecord], num_rounds: int) -> None:
        """Write `run.json` and bring `metrics.jsonl` to the round that the run goes on from."""
        write_atomic(self.output_dir / "run.json", json.dumps(self.run, indent=2, sort_keys=True) + "\n")
        self.history = list(history)
        self._write_metrics()

    def on_round_end(self, end: RoundEnd) -> None:
        """Save the round; the rename of its folder is the moment from which it counts."""
        with new_folder(round_folder(self.output_dir, end.record.round_idx)) as folder:
            self.export(folder, end.tensors)
            state = folder / "federated_state"
            state.mkdir()
            save_state(state / "tensors.safetensors", {"global": end.tensors})
            save_state(state / "server.safetensors", end.state.tensors)
            content = {
                "record": end.record.to_json(),
                "server_scalars": dict(end.state.scalars),
                "client_versions": dict(self.store.versions),
            }
            (state / "state.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            generations = {k: [asdict(g) for g in e.generations] for k, e in end.record.evaluations.items()}
            (state / "generations.json").write_text(json.dumps(generations) + "\n", encoding="utf-8")
        self.history.append(end.record)
        self._write_metrics()
        self._prune()

    def _write_metrics(self) -> None:
        if self.history:
            lines = [json.dumps(record.to_json()) for record in self.history]
            write_atomic(self.output_dir / "metrics.jsonl", "\n".join(lines) + "\n")

    def _prune(self) -> None:
        rounds = whole_rounds(self.output_dir)
        kept = rounds[-self.save_total_limit :] if self.save_total_limit else rounds
        for round_idx in rounds[: len(rounds) - len(kept)]:
            shutil.rmtree(round_folder(self.output_dir, round_idx))
        if self.store.versions:
            self.store.prune([_read_json(self.output_dir, i)["client_versions"] for i in kept])


def load_last_round(output_dir: str | os.PathLike[str], store: ClientStore) -> RoundStart:
    """The state after the last whole round, with the clients' states put back to it.

    Args:
        output_dir (`str` or `os.PathLike`):
            Folder of a run with at least one whole round.
        store (`ClientStore`):
            The clients' states; what was written after that round is deleted.

    Returns:
        `RoundStart`: where to go on.
    """
    round_idx = whole_rounds(output_dir)[-1]
    folder = round_folder(output_dir, round_idx) / "federated_state"
    content = _read_json(output_dir, round_idx)
    record = RoundRecord.from_json(content["record"])
    generations = folder / "generations.json"  # never on the Hub, where a round may have come from
    answers = json.loads(generations.read_text(encoding="utf-8")) if generations.exists() else {}
    for name, rows in answers.items():
        evaluation = replace(record.evaluations[name], generations=[Generation(**row) for row in rows])
        record.evaluations[name] = evaluation
    store.restore(content["client_versions"])
    tensors = load_state(folder / "tensors.safetensors").get("global", TensorDict({}))
    server = ServerState(load_state(folder / "server.safetensors"), content["server_scalars"])
    lines = (Path(output_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines() if round_idx else []
    earlier = [RoundRecord.from_json(json.loads(line)) for line in lines]
    history = [*(r for r in earlier if r.round_idx < round_idx), record]
    return RoundStart(tensors, server, round_idx, history)


def load_export(output_dir: str | os.PathLike[str], round_idx: int) -> TensorDict:
    """Every tensor of a round's export, by the names that `Adapter` has, in any dtype as fp32."""
    from safetensors.torch import load_file

    return TensorDict.from_tensors(load_file(round_folder(output_dir, round_idx) / "adapter_model.safetensors"))


def _read_json(output_dir: str | os.PathLike[str], round_idx: int) -> dict[str, Any]:
    path = round_folder(output_dir, round_idx) / "federated_state" / "state.json"
    return json.loads(path.read_text(encoding="utf-8"))
