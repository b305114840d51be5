"""Hand-made runs for the tests of reports."""

import json
from dataclasses import replace
from pathlib import Path

from PIL import Image

from fedvlm_hf.callbacks import RoundCallback, RoundEnd
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.types import EvalResult, Generation, RoundRecord, ServerState


ROWS = [
    {"images": [Image.new("RGB", (64, 64), "white")], "prompt": [{"role": "user", "content": "What color is it?"}]},
    {"images": [Image.new("RGB", (64, 64), "white")], "prompt": [{"role": "user", "content": "Where is the 3?"}]},
]


def record(round_idx: int, vqa: float | None, grounding: float = 0.25, losses: tuple[float, ...] = ()) -> RoundRecord:
    """Make a round of two clients, `a` with vqa and `b` with grounding. With `vqa=None` it is not evaluated."""
    evaluations = {}
    if vqa is not None:
        scores = {"grounding_accuracy_at_50": 0.5, "grounding_mean_iou": grounding, "vqa_accuracy": vqa}
        clients = {"a": {"vqa_accuracy": vqa}, "b": {"grounding_mean_iou": grounding}}
        subsets = {"open": {"vqa_accuracy": vqa / 2}}
        generations = [
            Generation(0, "vqa", f"red {round_idx}", ["red"], id="row-0", question="What color is it?", score=1.0),
            Generation(1, "grounding", "[0.3, 0.3, 0.9, 0.9]", ["[0.2, 0.2, 0.6, 0.6]"]),
        ]
        evaluations["test"] = EvalResult(scores, clients, subsets, generations, seconds=0.5)
    clients = {
        name: {"num_samples": 10, "train_loss": loss, "num_steps": 2, "learning_rate": 1e-3, "seconds": 2.0}
        for name, loss in zip("ab", losses, strict=False)
    }
    traffic = 1_000_000 * len(clients)
    return RoundRecord(round_idx, evaluations, clients, traffic, 2 * traffic, {"total": 4.5}, peak_memory=10**9)


HISTORY = [
    record(0, 0.5),
    record(1, None, losses=(2.0, 1.0)),
    record(2, 0.75, 0.5, losses=(1.5, 0.5)),
]


def drive(callback: RoundCallback, history: list[RoundRecord], first: int = 0) -> None:
    """Call a callback like the server loop, for a run that is resumed at round `first`.

    Of the rounds that are read from disk, only the last one has its answers.
    """
    saved = [RoundRecord.from_json(json.loads(json.dumps(line.to_json()))) for line in history[:first]]
    if saved:
        evaluations = {
            name: replace(result, generations=history[first - 1].evaluations[name].generations)
            for name, result in saved[-1].evaluations.items()
        }
        saved[-1] = replace(saved[-1], evaluations=evaluations)
    last = history[-1].round_idx
    callback.on_start(saved, last)
    for line in history[first:]:
        callback.on_round_end(RoundEnd(line, TensorDict({}), ServerState(), last))
    callback.on_end([*saved, *history[first:]])


def write_run(folder: Path, method: str, history: list[RoundRecord], comparable: str = "x", seed: int = 1) -> None:
    """Write the two files by which other runs find a run."""
    folder.mkdir()
    run = {"method": method, "seed": seed, "comparable": comparable}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    lines = "".join(json.dumps(line.to_json()) + "\n" for line in history)
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
