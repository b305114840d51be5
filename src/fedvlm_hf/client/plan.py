"""What trains in which phase of which round: one plan for stages between rounds and phases in a round.

Stages are the tunings F-C, F-L, F-CL and F-2stage of FedVLMBench (https://huggingface.co/papers/2506.09638). Phases
are what a method such as Ditto asks for.
"""

from dataclasses import dataclass

from ..types import LocalPhase


TUNINGS = {
    "connector": ("connector",),
    "llm": ("llm",),
    "joint": ("joint",),
    "two_stage": ("connector", "llm"),
}
"""Tuning mode -> what its stages train: the connector, LoRA on the language model (llm), or both (joint)."""


@dataclass(frozen=True)
class Stage:
    """Rounds in which the same tensors train.

    Args:
        trains (`str`):
            `"connector"`, `"llm"` or `"joint"`.
        first_round (`int`):
            The stage's first round; it ends before the first round of the next stage.
    """

    trains: str
    first_round: int = 1


@dataclass(frozen=True)
class Plan:
    """What trains in a run.

    Args:
        tuning (`str`):
            A key of `TUNINGS`.
        stages (`tuple[Stage, ...]`):
            What trains in which rounds.
        phases (`tuple[LocalPhase, ...]`, *optional*):
            The phases of each local round.

    Raises:
        `ValueError`: if the phases have no meaning, or personal copies are kept in more than one stage.
    """

    tuning: str
    stages: tuple[Stage, ...]
    phases: tuple[LocalPhase, ...] = (LocalPhase(),)

    def __post_init__(self) -> None:
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names) or all(phase.is_personal for phase in self.phases):
            raise ValueError(
                f"`phases` of a method must have different names and one that trains the shared tensors, got {names}."
            )
        if unknown := [phase.trains for phase in self.phases if phase.trains not in ("all", "shared", "private")]:
            raise ValueError(f"`trains` of a phase must be 'all', 'shared' or 'private', got {unknown[0]!r}.")
        if self.is_personal and len(self.stages) > 1:
            raise ValueError(
                f"`tuning` {self.tuning!r} trains other tensors in each stage, and this `method` keeps a personal "
                "copy of what trains: the copy of the first stage would be lost. Use 'connector', 'llm' or 'joint'."
            )

    @property
    def is_personal(self) -> bool:
        """Whether clients have personal copies of the shared tensors."""
        return any(phase.is_personal for phase in self.phases)

    def stage(self, round_idx: int) -> Stage:
        """The stage that a round belongs to; round 0, before training, belongs to the first."""
        return next((stage for stage in reversed(self.stages) if stage.first_round <= round_idx), self.stages[0])


def resolve_tuning(tuning: str | None, has_connector: bool) -> str:
    """The tuning mode of a run: `joint` by default, or `llm` where the adapter holds no connector.

    Raises:
        `ValueError`: on an unknown mode, or a mode that trains a connector that is not there.
    """
    if tuning is None:
        return "joint" if has_connector else "llm"
    if tuning not in TUNINGS:
        raise ValueError(f"`tuning` must be one of {', '.join(TUNINGS)}, got {tuning!r}.")
    if tuning != "llm" and not has_connector:
        raise ValueError(
            f"`tuning` {tuning!r} trains the connector, but this model has none in its adapter. Use `tuning='llm'`, "
            "or, for a PeftModel of your own, list the connector in its `modules_to_save`."
        )
    return tuning


def tuning_stages(tuning: str, num_rounds: int, stage_rounds: int | None = None) -> tuple[Stage, ...]:
    """The stages of a run.

    Args:
        tuning (`str`):
            A key of `TUNINGS`.
        num_rounds (`int`):
            Rounds of the run.
        stage_rounds (`int`, *optional*):
            Rounds of the first of two stages. Neither the paper nor the code of FedVLMBench says how many (its code
            never switches), so the default is half of them, rounded down.

    Returns:
        `tuple[Stage, ...]`: one stage, or two.

    Raises:
        `ValueError`: if `stage_rounds` leaves one of two stages without a round, or there is only one stage.

    Example:

    ```python
    >>> from fedvlm_hf.client.plan import tuning_stages

    >>> tuning_stages("two_stage", num_rounds=5)
    (Stage(trains='connector', first_round=1), Stage(trains='llm', first_round=3))
    ```
    """
    names = TUNINGS[tuning]
    if len(names) == 1:
        if stage_rounds is not None:
            raise ValueError(f"`stage_rounds` goes with `tuning='two_stage'`, got {stage_rounds} with {tuning!r}.")
        return (Stage(names[0]),)
    stage_rounds = num_rounds // 2 if stage_rounds is None else stage_rounds
    if not 1 <= stage_rounds < num_rounds:
        raise ValueError(
            f"`stage_rounds` is {stage_rounds} of {num_rounds} rounds, so one of the two stages would have none. Set "
            f"it from 1 to `num_rounds` - 1, with `num_rounds` at least 2."
        )
    return Stage(names[0]), Stage(names[1], stage_rounds + 1)
