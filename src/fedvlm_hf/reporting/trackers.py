"""Log a federated run as one run in TensorBoard, Weights & Biases and other trackers."""

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from ..callbacks import RoundCallback, RoundEnd
from ..client.run import ClientCallback
from ..types import ClientTask, RoundRecord
from .runs import client_mean


class TrackerCallback(RoundCallback):
    """Call the integrations of `report_to` with the round as the step.

    In Weights & Biases and trackio the project is `run_name` (of `output_dir` if there is none), and the run is the
    folder `output_dir`, such as `fedavg-seed42`, so that runs to compare are in one project. `project` or the variable
    `WANDB_PROJECT` set another one.

    A resumed run continues in the same TensorBoard folder, `runs/` in `output_dir`. Other trackers have their own
    variables to continue a run, such as `WANDB_RUN_ID` with `WANDB_RESUME=must`.

    Args:
        reporters (`Sequence[TrainerCallback]`):
            Callbacks of the integrations, from `transformers.integrations.get_reporting_integration_callbacks`. The
            client runs must not call them too.
        args ([`~transformers.TrainingArguments`]):
            Arguments of the run, which trackers store.
        model (`torch.nn.Module`, *optional*):
            The model. Trackers store its configuration.
    """

    def __init__(self, reporters: Sequence[TrainerCallback], args: TrainingArguments, model: Any = None):
        self.reporters, self.args, self.model = list(reporters), _named(args), model
        self._state, self._control = TrainerState(), TrainerControl()
        for reporter in self.reporters:
            # by default each start would create a new folder, named after the machine
            if isinstance(reporter, TensorBoardCallback) and reporter.logging_dir is None:
                reporter.logging_dir = str(Path(args.output_dir) / "runs")

    def on_start(self, history: Sequence[RoundRecord], num_rounds: int) -> None:
        """Open the run and log the last known round again, which may have been saved but not logged before a kill."""
        self._state.max_steps = num_rounds
        is_set = "WANDB_PROJECT" in os.environ
        os.environ.setdefault("WANDB_PROJECT", self.args.project)  # its integration asks for nothing else
        try:
            self._call("on_train_begin")
        finally:
            if not is_set:
                del os.environ["WANDB_PROJECT"]
        if history:
            self._log(history[-1])

    def on_round_end(self, end: RoundEnd) -> None:
        """Log the round."""
        self._log(end.record)

    def on_end(self, history: Sequence[RoundRecord]) -> None:
        """Close the run."""
        self._call("on_train_end")

    def _log(self, record: RoundRecord) -> None:
        self._state.global_step = record.round_idx
        self._state.epoch = float(record.round_idx)
        self._call("on_log", logs=round_logs(record))

    def _call(self, event: str, **kwargs: Any) -> None:
        for reporter in self.reporters:
            getattr(reporter, event)(self.args, self._state, self._control, model=self.model, **kwargs)


class ClientTrackerCallback(ClientCallback):
    """Call the integrations of `report_to` with what a client's Trainer logs within a round, such as its loss.

    The names start with the client and the phase of its training: `client_00_local_loss`. The step is the client's
    own optimizer step, counted as if it had trained in every round, so that the curves of a client that was not
    sampled in a round, and of a run that was killed and resumed, continue at the right place.

    Args:
        reporters (`Sequence[TrainerCallback]`):
            The integrations, which a [`TrackerCallback`] opens and closes.
        args ([`~transformers.TrainingArguments`]):
            Arguments of the run.
    """

    def __init__(self, reporters: Sequence[TrainerCallback], args: TrainingArguments):
        self.reporters, self.args = list(reporters), _named(args)
        self._task: ClientTask | None = None
        self._first_step = 0

    def on_client_begin(self, task: ClientTask) -> None:
        """Take over which client trains."""
        self._task = task

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take over where the client starts. One that continues one long run does not start at 0."""
        self._first_step = state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Log the values of the last steps. The totals at the end of a client's training are those of its round."""
        if not logs or "train_loss" in logs:
            return
        num_steps = state.max_steps - self._first_step
        place = copy.copy(state)
        place.global_step = (self._task.round_idx - 1) * num_steps + state.global_step - self._first_step
        prefix = f"{self._task.client_id}_{self._task.phase.name}"
        named = {f"{prefix}_{name}": value for name, value in logs.items() if name != "epoch"}
        for reporter in self.reporters:
            reporter.on_log(self.args, place, control, logs=dict(named), model=model)


def _named(args: TrainingArguments) -> TrainingArguments:
    """Return a copy of the arguments with the names of the project and the run for trackers."""
    folder = Path(args.output_dir).resolve().name
    named = copy.copy(args)
    if args.project == type(args).project:  # the default
        named.project = args.run_name or folder
    named.run_name = folder
    return named


def round_logs(record: RoundRecord) -> dict[str, float]:
    """Return the values to log for a round, with names in the style of Trainer.

    The integrations turn the prefixes `test_` and `eval_` into `test/` and `eval/` and put all other names below
    `train/` (`rewrite_logs` in transformers). The final names therefore have one slash: `test/vqa_accuracy`,
    `test/client_00_vqa_accuracy`, `eval/validation_vqa_accuracy`, `train/loss`, `train/client_00_loss`.

    Args:
        record (`RoundRecord`):
            The round.
    """
    logs: dict[str, float] = {}
    for name, result in record.evaluations.items():
        prefix = name if name.split("_")[0] in ("test", "eval") else f"eval_{name}"
        logs.update({f"{prefix}_{score}": value for score, value in result.scores.items()})
        for part, scores in [*result.clients.items(), *result.subsets.items()]:
            logs.update({f"{prefix}_{part}_{score}": value for score, value in scores.items()})
    for client_id, metrics in record.clients.items():
        if "train_loss" in metrics:
            logs[f"{client_id}_loss"] = metrics["train_loss"]
    means = {"loss": client_mean(record, "train_loss"), "learning_rate": client_mean(record, "learning_rate")}
    logs.update({name: value for name, value in means.items() if value is not None})
    logs.update({f"seconds_{part}": value for part, value in record.seconds.items()})
    return {
        **logs,
        "bytes_down": record.bytes_down,
        "bytes_up": record.bytes_up,
        "peak_memory": record.peak_memory,
        "peak_accelerator_memory": record.peak_accelerator_memory,
    }
