"""Read the records of a run, split the names of its scores, and find the runs that it can be compared with."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers.utils import logging

from ..metrics import PRIMARY
from ..types import EvalResult, RoundRecord


logger = logging.get_logger(__name__)

METRIC_NAMES = {
    "mean_iou": "mean IoU",
    "accuracy_at_50": "accuracy at IoU 0.5",
    "cider": "CIDEr",
    "rouge_l": "ROUGE-L",
}
"""Names of metrics in figures, where they are not the words of the key."""


@dataclass(frozen=True)
class Run:
    """A run and its method.

    Args:
        method (`str`):
            Name of the method, such as `fedavg`, `local` or `central`.
        history (`Sequence[RoundRecord]`):
            Records of the run, starting with round 0.
    """

    method: str
    history: Sequence[RoundRecord]

    def first(self, evaluation: str) -> EvalResult | None:
        """Return the result of `evaluation` before training, or `None` if there is none."""
        results = [record.evaluations.get(evaluation) for record in self.history if record.round_idx == 0]
        return results[0] if results else None

    def last(self, evaluation: str) -> EvalResult | None:
        """Return the result of `evaluation` at the last round that has one, whatever its scores are."""
        results = [record.evaluations[evaluation] for record in self.history if evaluation in record.evaluations]
        return results[-1] if results else None

    def last_round(self, evaluation: str) -> int | None:
        """Return the round of [`last`]."""
        rounds = [record.round_idx for record in self.history if evaluation in record.evaluations]
        return rounds[-1] if rounds else None


def evaluation_names(history: Iterable[RoundRecord]) -> list[str]:
    """Return the names of the evaluation sets in `history`, in order of first appearance."""
    return list(dict.fromkeys(name for record in history for name in record.evaluations))


def primary_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """Return the primary metric of each task in `scores`, such as `{"vqa": 0.61}`."""
    return {task: scores[f"{task}_{metric}"] for task, metric in PRIMARY.items() if f"{task}_{metric}" in scores}


def split_name(score: str) -> tuple[str, str]:
    """Split the name of a score into task and metric: `grounding_mean_iou` is `("grounding", "mean_iou")`."""
    for task in PRIMARY:
        if score.startswith(f"{task}_"):
            return task, score.removeprefix(f"{task}_")
    task, _, metric = score.partition("_")
    return task, metric


def metric_name(metric: str) -> str:
    """Return the name of a metric as people write it, such as `"mean IoU"` for `mean_iou`."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def client_mean(record: RoundRecord, metric: str) -> float | None:
    """Return the unweighted mean of a local metric over the clients of a round, or `None` if no client has it."""
    values = [metrics[metric] for metrics in record.clients.values() if metric in metrics]
    return sum(values) / len(values) if values else None


def read_history(path: str | os.PathLike[str]) -> list[RoundRecord]:
    """Read a `metrics.jsonl`."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [RoundRecord.from_json(json.loads(line)) for line in lines]


def comparable_runs(output_dir: str | os.PathLike[str]) -> dict[str, Run]:
    """Find the runs beside `output_dir` that had the same starting point and were scored on the same rows.

    These are the folders next to `output_dir` with the same `comparable` (a digest of the base model, the data and the
    evaluation) and the same `seed` in `run.json`. Runs without a record are left out, and so are runs that cannot be
    read, with a warning.

    Args:
        output_dir (`str` or `os.PathLike`):
            Folder of a run. If it has no `run.json`, no run is comparable.

    Returns:
        `dict[str, Run]`: Runs by label. The label is the method, followed by the name of the folder in brackets if
        another run, including the one in `output_dir`, has the same method.
    """
    output_dir = Path(output_dir).resolve()
    if not (output_dir / "run.json").is_file():
        return {}
    own = json.loads((output_dir / "run.json").read_text(encoding="utf-8"))
    found = {}
    for path in sorted(output_dir.parent.glob("*/run.json")):
        metrics = path.with_name("metrics.jsonl")
        if path.parent == output_dir or not metrics.is_file():
            continue
        try:
            other = json.loads(path.read_text(encoding="utf-8"))
            if all(other[key] == own[key] for key in ("comparable", "seed")):
                found[path.parent.name] = Run(other["method"], read_history(metrics))
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning_once(
                f"The report leaves out the run in '{path.parent.name}', a folder beside `output_dir`: its run.json "
                f"or metrics.jsonl cannot be read ({type(error).__name__}: {error}). Move the folder to stop this "
                "warning."
            )
    methods = Counter([own["method"], *(run.method for run in found.values())])
    return {
        run.method if methods[run.method] == 1 else f"{run.method} ({folder})": run for folder, run in found.items()
    }
