"""What passes between the layers: frozen dataclasses with no behaviour beyond JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Self

import torch

from .tensors import TensorDict


State = Mapping[str, TensorDict]
"""Named groups of tensors, such as `{"control": ...}`."""


class TensorSpec(NamedTuple):
    """Shape and dtype of one tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Expected:
    """What an update must hold: neither less nor more, in this order.

    Args:
        tensors (`Mapping[str, TensorSpec]`):
            The shared tensors. Clients may have different shapes, such as different LoRA ranks.
        control (`Mapping[str, Mapping[str, TensorSpec]]`, *optional*):
            The control groups.
    """

    tensors: Mapping[str, TensorSpec]
    control: Mapping[str, Mapping[str, TensorSpec]] = field(default_factory=dict)

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor], control: State | None = None) -> Self:
        """What an update holds that has the names, shapes and dtypes of these tensors."""
        groups = {group: _specs(values) for group, values in (control or {}).items()}
        return cls(_specs(tensors), groups)


def _specs(tensors: Mapping[str, torch.Tensor]) -> dict[str, TensorSpec]:
    if isinstance(tensors, TensorDict):  # without making its views
        return {name: TensorSpec(tuple(shape)) for name, shape in tensors.shapes.items()}
    return {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


@dataclass(frozen=True)
class LocalPhase:
    """One stretch of a client's local training in a round. A round has one phase unless its method asks for more.

    Args:
        name (`str`, *optional*, defaults to `"local"`):
            Names the phase in metrics.
        trains (`str`, *optional*, defaults to `"all"`):
            Which of the tensors that the round trains: `"all"`, only the `"shared"` ones or only the `"private"` ones.
        is_personal (`bool`, *optional*, defaults to `False`):
            Train the client's personal copy of the shared tensors instead of the global ones. The run keeps the copy
            between rounds and evaluates the client with it. It starts from the tensors that the run starts from.
        steps (`int`, *optional*):
            Optimizer steps. By default what the run's configuration says.
    """

    name: str = "local"
    trains: str = "all"
    is_personal: bool = False
    steps: int | None = None


@dataclass(frozen=True)
class ClientTask:
    """What a client is asked to do in one round.

    Args:
        round_idx (`int`):
            The round that this task belongs to, 1 ... num_rounds.
        client_id (`str`):
            The client.
        tensors (`TensorDict`):
            The shared tensors that the client starts from.
        control (`State`, *optional*):
            Other tensors that the server sends, such as control variates.
        expects (`Expected`, *optional*):
            What the update must hold. By default the layout of `tensors`, and no control group.
        fixed (`TensorDict`, *optional*):
            Adapter tensors that do not train in this round and are not at their initial values, such as those of an
            earlier tuning stage. Filled in by the run.
        base (`TensorDict`, *optional*):
            Change of the base model, as LoRA pairs by module, see [`~fedvlm_hf.lora.lora_pairs`].
        state (`State`, *optional*):
            What the client kept from its last round. Filled in at the client; it never travels.
        phase (`LocalPhase`, *optional*):
            The local phase that is running. Filled in at the client.
    """

    round_idx: int
    client_id: str
    tensors: TensorDict
    control: State = field(default_factory=dict)
    expects: Expected | None = None
    fixed: TensorDict = field(default_factory=lambda: TensorDict({}))
    base: TensorDict = field(default_factory=lambda: TensorDict({}))
    state: State = field(default_factory=dict)
    phase: LocalPhase = field(default_factory=LocalPhase)

    @property
    def expected(self) -> Expected:
        """What the update must hold, before any transform."""
        return Expected.of(self.tensors) if self.expects is None else self.expects

    @property
    def nbytes(self) -> int:
        """Bytes that travel to the client in this round."""
        return self.tensors.nbytes + self.base.nbytes + sum(group.nbytes for group in self.control.values())


@dataclass(frozen=True)
class ClientUpdate:
    """What a client gives back.

    Args:
        round_idx (`int`):
            The round of the task.
        client_id (`str`):
            The client.
        tensors (`Mapping[str, torch.Tensor]`):
            The shared tensors after local training: a [`TensorDict`] of weights, or what a transform made of it.
        weight (`float`):
            Weight in the mean: the client's number of training rows, 1 where clients weigh the same, or another
            positive number that the method chooses.
        metrics (`Mapping[str, float]`, *optional*):
            Local numbers, such as `train_loss` (mean over the local steps) and `num_steps`.
        control (`State`, *optional*):
            Other tensors that travel to the server.
        state (`State`, *optional*):
            What the method keeps at the client until its next round. It never travels.
        state_version (`int`, *optional*):
            The round whose state is the client's newest. `None` if it keeps nothing.
    """

    round_idx: int
    client_id: str
    tensors: Mapping[str, torch.Tensor]
    weight: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    control: State = field(default_factory=dict)
    state: State = field(default_factory=dict)
    state_version: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that travel to the server."""
        groups = [self.tensors, *self.control.values()]
        return sum(
            group.nbytes if isinstance(group, TensorDict) else sum(tensor.nbytes for tensor in group.values())
            for group in groups
        )


@dataclass(frozen=True)
class Absent:
    """A client that a round continues without, and why. An engine yields it instead of an update."""

    round_idx: int
    client_id: str
    reason: str


@dataclass(frozen=True)
class Aggregate:
    """What the server makes of a round's updates.

    Args:
        tensors (`TensorDict`):
            The combined tensors, as weights.
        control (`State`, *optional*):
            The control groups, summed over the clients, and other tensors that `aggregate` hands to `apply`.
        num_clients (`int`, *optional*):
            Number of updates.
        total_weight (`float`, *optional*):
            Sum of their weights.
        state (`State`, *optional*):
            For transforms only: what the transform keeps at the server until the next round.
    """

    tensors: TensorDict
    control: State = field(default_factory=dict)
    num_clients: int = 0
    total_weight: float = 0.0
    state: State = field(default_factory=dict)


@dataclass(frozen=True)
class ServerState:
    """What a strategy keeps between rounds: tensors and scalars only, so that saving it is generic."""

    tensors: State = field(default_factory=dict)
    scalars: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Generation:
    """One generated answer.

    Args:
        row (`int`):
            Index of the row in the evaluation set.
        task (`str`), prediction (`str`), references (`list[str]`):
            The task of the row, the answer of the model, and the correct answers.
        id (`str`, *optional*):
            The `id` of the row, if the evaluation set has that column.
        question (`str`, *optional*, defaults to `""`):
            The last message of the prompt.
        score (`float`, *optional*):
            The value of the primary metric of the task for this row.
    """

    row: int
    task: str
    prediction: str
    references: list[str]
    id: str | None = None
    question: str = ""
    score: float | None = None


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
            Local metrics of each client of the cohort (`train_loss`, `num_steps`, `num_samples`, which is its weight
            in the mean, `learning_rate`, `seconds`).
        bytes_down (`int`), bytes_up (`int`):
            Payload from and to the server over the whole cohort, as it travels.
        seconds (`dict[str, float]`):
            Wall time by part: `clients`, `aggregate`, `evaluate`, `total`.
        peak_memory (`int`):
            Peak resident memory of the process so far, in bytes.
        peak_accelerator_memory (`int`):
            Peak memory of tensors on the accelerator so far, in bytes; 0 without one.
        absent (`dict[str, str]`):
            Clients of the cohort that the round continued without, each with the reason.
    """

    round_idx: int
    evaluations: dict[str, EvalResult] = field(default_factory=dict)
    clients: dict[str, dict[str, float]] = field(default_factory=dict)
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory: int = 0
    peak_accelerator_memory: int = 0
    absent: dict[str, str] = field(default_factory=dict)

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
