"""Saving complete rounds, and resuming from one: to the bit, at whatever moment the run was killed."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers.utils import logging

from .callbacks import RoundCallback, RoundEnd
from .client.store import ClientStore
from .exchange.tensor_files import load_state, save_state
from .files import new_folder, round_tag, write_atomic
from .rounds import RoundStart
from .run_description import RunDescription, RunMismatchError, compare_runs, schedule_change
from .tensors import TensorDict
from .transforms.base import PREFIX
from .types import Generation, RoundRecord, ServerState, State


logger = logging.get_logger(__name__)


def round_folder(output_dir: str | os.PathLike[str], round_idx: int) -> Path:
    """Where the export of a round lies."""
    return Path(output_dir) / "rounds" / round_tag(round_idx)


def whole_rounds(output_dir: str | os.PathLike[str]) -> list[int]:
    """The rounds that were saved whole, in order."""
    return sorted(int(path.name[6:]) for path in (Path(output_dir) / "rounds").glob("round-[0-9]*"))


def start_run(
    output_dir: str | os.PathLike[str],
    run: RunDescription,
    resume: bool | str | None,
    store: ClientStore,
    fresh: RoundStart,
) -> RoundStart:
    """Decide where a run starts.

    Args:
        output_dir (`str` or `os.PathLike`):
            The run's folder.
        run ([`RunDescription`]):
            What the run is.
        resume (`bool` or `str`, *optional*):
            Whether to continue what `output_dir` holds; a string may name it, or its last round's folder.
        store (`ClientStore`):
            The clients' states, put back to the round that the run continues from.
        fresh (`RoundStart`):
            The start of a new run.

    Round 0 alone, which is evaluated before training, never forbids a start: where the run does not continue from it,
    it is replaced.

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
                f"`resume_from_checkpoint` is {resume!r}, but a run continues from the last whole round of its own "
                f"`output_dir` {str(output_dir)!r}. Pass `true`, or set `output_dir` to that run; a round on the Hub "
                "is 'org/name@round-0003'."
            )
    continues = bool(resume) and not (is_flag and str(resume).lower() == "false")
    if rounds == [0] and not (continues and _is_same_run(output_dir, run)):
        _discard_round_0(Path(output_dir))
        rounds = []
    if rounds and not continues:
        raise ValueError(
            f"`output_dir` {str(output_dir)!r} holds a run, up to round {rounds[-1]}. Pass "
            "`--resume_from_checkpoint true` to continue it, or another `--output_dir`; nothing was overwritten."
        )
    if not rounds:
        store.restore({})
        return fresh
    for line in check_same_run(output_dir, run):
        logger.warning(f"The last bits of the resumed run may differ from those of an uninterrupted one: {line}.")
    if change := schedule_change(_saved_run(output_dir), run.to_json(), rounds[-1]):
        logger.warning(change)
    return load_last_round(output_dir, store)


def _is_same_run(output_dir: str | os.PathLike[str], run: RunDescription) -> bool:
    try:
        check_same_run(output_dir, run)
    except RunMismatchError:
        return False
    return True


def _discard_round_0(output_dir: Path) -> None:
    logger.warning(
        f"`output_dir` {str(output_dir)!r} holds only round 0, the evaluation before training, of a run that was "
        "stopped before the end of round 1. It is replaced."
    )
    folder = round_folder(output_dir, 0)
    discarded = folder.with_name(f".{folder.name}.tmp")  # a kill while it is deleted must not leave half a round
    shutil.rmtree(discarded, ignore_errors=True)
    folder.rename(discarded)
    shutil.rmtree(discarded)
    (output_dir / "metrics.jsonl").unlink(missing_ok=True)


def check_same_run(output_dir: str | os.PathLike[str], run: RunDescription) -> list[str]:
    """Compare a run with the one that `output_dir` holds; see [`compare_runs`]."""
    return compare_runs(_saved_run(output_dir), run.to_json(), f"`output_dir` {str(output_dir)!r}", "`output_dir`")


def _saved_run(output_dir: str | os.PathLike[str]) -> dict[str, Any]:
    return json.loads((Path(output_dir) / "run.json").read_text(encoding="utf-8"))


class CheckpointCallback(RoundCallback):
    """Saves each round as one folder that appears whole or not at all, then `metrics.jsonl`.

    Args:
        output_dir (`str` or `os.PathLike`):
            The run's folder.
        run (`Mapping[str, Any]`):
            Content of `run.json`: what the run is.
        export (`Callable[[Path, RoundEnd], None]`):
            Writes the export of a round into an empty folder.
        store (`ClientStore`):
            The clients' states; each round notes which versions belong to it.
        save_total_limit (`int`, *optional*):
            How many of the newest rounds to keep. All by default.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        run: Mapping[str, Any],
        export: Callable[[Path, RoundEnd], None],
        store: ClientStore,
        save_total_limit: int | None = None,
    ):
        self.output_dir, self.run, self.export, self.store = Path(output_dir), run, export, store
        self.save_total_limit = save_total_limit
        self.history: list[RoundRecord] = []

    def on_start(self, history: Sequence[RoundRecord], num_rounds: int) -> None:
        """Write `run.json` and bring `metrics.jsonl` to the round that the run continues from."""
        write_atomic(self.output_dir / "run.json", json.dumps(self.run, indent=2, sort_keys=True) + "\n")
        self.history = list(history)
        self._write_metrics()

    def on_round_end(self, end: RoundEnd) -> None:
        """Save the round; the rename of its folder is the moment from which it counts."""
        with new_folder(round_folder(self.output_dir, end.record.round_idx)) as folder:
            self.export(folder, end)
            state = folder / "federated_state"
            state.mkdir()
            save_state(state / "tensors.safetensors", {"global": end.tensors})
            save_state(state / "server.safetensors", {**end.state.tensors, **end.transforms})
            content = {
                "record": end.record.to_json(),
                "server_scalars": dict(end.state.scalars),
                "client_versions": dict(end.client_versions),
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
        if self.store.root.exists():
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
    groups = load_state(folder / "server.safetensors")
    transforms: State = {name: group for name, group in groups.items() if name.startswith(PREFIX)}
    server = ServerState(
        {name: group for name, group in groups.items() if name not in transforms}, content["server_scalars"]
    )
    lines = (Path(output_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines() if round_idx else []
    earlier = [RoundRecord.from_json(json.loads(line)) for line in lines]
    history = [*(r for r in earlier if r.round_idx < round_idx), record]
    return RoundStart(tensors, server, round_idx, history, transforms, content["client_versions"])


def load_export(output_dir: str | os.PathLike[str], round_idx: int) -> TensorDict:
    """Every tensor of a round's export, by the names that `Adapter` has, in any dtype as fp32."""
    from safetensors.torch import load_file

    return TensorDict.from_tensors(load_file(round_folder(output_dir, round_idx) / "adapter_model.safetensors"))


def _read_json(output_dir: str | os.PathLike[str], round_idx: int) -> dict[str, Any]:
    path = round_folder(output_dir, round_idx) / "federated_state" / "state.json"
    return json.loads(path.read_text(encoding="utf-8"))
