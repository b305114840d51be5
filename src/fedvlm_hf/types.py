"""What passes between the layers: frozen dataclasses, no behaviour beyond JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .tensors import TensorDict


State = Mapping[str, TensorDict]
"""Named groups of tensors, such as `{"private": ..., "control": ...}`."""


@dataclass(frozen=True)
class ClientTask:
    """What a client is asked to do in one round.

    Args:
        round_idx (`int`):
            The round that this task belongs to, 1 ... num_rounds.
        client_id (`str`):
            The client.
        tensors (`TensorDict`):
            The global tensors that the round starts from.
        control (`State`, *optional*):
            What else the server sends, such as control variates.
        state (`State`, *optional*):
            What the client kept from its last round. Filled in at the client; it never travels.
    """

    round_idx: int
    client_id: str
    tensors: TensorDict
    control: State = field(default_factory=dict)
    state: State = field(default_factory=dict)


@dataclass(frozen=True)
class ClientUpdate:
    """What a client gives back.

    Args:
        round_idx (`int`):
            The round of the task.
        client_id (`str`):
            The client.
        tensors (`TensorDict`):
            The shared tensors after local training, as weights (as deltas between transforms).
        num_samples (`int`):
            Weight in the mean: the client's number of training rows, or 1 where clients weigh the same.
        metrics (`Mapping[str, float]`, *optional*):
            Local numbers, such as `train_loss` (mean over the local steps) and `num_steps`.
        control (`State`, *optional*):
            What else travels to the server.
        state (`State`, *optional*):
            What the client keeps until its next round. It never travels.
    """

    round_idx: int
    client_id: str
    tensors: TensorDict
    num_samples: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    control: State = field(default_factory=dict)
    state: State = field(default_factory=dict)


@dataclass(frozen=True)
class ServerState:
    """What the server keeps between rounds: tensors and scalars only, so that saving it is generic."""

    tensors: State = field(default_factory=dict)
    scalars: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Generation:
    """One generated answer beside its references; `row` is its index in the evaluation set."""

    row: int
    task: str
    prediction: str
    references: list[str]


@dataclass(frozen=True)
class EvalResult:
    """Scores of one evaluation set, by generation.

    Args:
        scores (`dict[str, float]`):
            `"{task}_{metric}"` to value over all rows, such as `vqa_accuracy` or `grounding_mean_iou`.
        clients (`dict[str, dict[str, float]]`):
            The same per `client_id`, where the rows have that column.
        subsets (`dict[str, dict[str, float]]`):
            The same per `subset`, where the rows have that column.
        generations (`list[Generation]`):
            Every answer, in row order.
        seconds (`float`):
            Wall time of generating and scoring.
    """

    scores: dict[str, float]
    clients: dict[str, dict[str, float]] = field(default_factory=dict)
    subsets: dict[str, dict[str, float]] = field(default_factory=dict)
    generations: list[Generation] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class RoundRecord:
    """One line of `metrics.jsonl`.

    Args:
        round_idx (`int`):
            0 is before training.
        evaluations (`dict[str, EvalResult]`):
            By evaluation set, such as `test`; empty where the round was not evaluated.
        clients (`dict[str, dict[str, float]]`):
            Local metrics of each client of the cohort (`train_loss`, `num_steps`, `num_samples`,
            `learning_rate`, `seconds`).
        bytes_down (`int`), bytes_up (`int`):
            Payload from and to the server over the whole cohort.
        seconds (`dict[str, float]`):
            Wall time by part: `clients`, `aggregate`, `evaluate`, `total`.
        peak_memory (`int`):
            Peak resident memory of the process so far, in bytes.
    """

    round_idx: int
    evaluations: dict[str, EvalResult] = field(default_factory=dict)
    clients: dict[str, dict[str, float]] = field(default_factory=dict)
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory: int = 0

    def without_generations(self) -> "RoundRecord":
        """The record as it stays in memory when the next one is there: its scores, and no longer every answer."""
        evaluations = {name: replace(result, generations=[]) for name, result in self.evaluations.items()}
        return replace(self, evaluations=evaluations)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary without the generations: those stay with the report's samples."""
        line = asdict(self)
        for evaluation in line["evaluations"].values():
            del evaluation["generations"]
        return line

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> "RoundRecord":
        """The record that `to_json` described."""
        evaluations = {name: EvalResult(**value) for name, value in line["evaluations"].items()}
        return cls(**{**line, "evaluations": evaluations})
