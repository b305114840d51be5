"""The real runs that the checks inspect: three rounds on a tiny LLaVA, in a trainer that records what happens."""

import gc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from ..callbacks import RoundCallback, RoundEnd
from ..checkpoint import CheckpointCallback
from ..config import FederatedConfig
from ..federation import Federation
from ..methods import Method
from ..run_description import RunDescription
from ..tensors import TensorDict
from ..trainer import FederatedTrainer
from ..types import ClientTask, ClientUpdate, ServerState, State
from .fingerprint import fingerprint
from .tiny import tiny_federation, tiny_llava


NUM_ROUNDS = 3
SIZES = {"client_00": 6, "client_01": 4, "client_02": 3}
RUN = {
    "num_rounds": NUM_ROUNDS,
    "max_steps": 5,
    "clients_per_round": 2,  # of three, so that clients also come back after a round that they sat out
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 2,
    "gradient_checkpointing": False,
    "bf16": False,
    "use_cpu": True,
    "dataloader_pin_memory": False,
    "disable_tqdm": True,
    "report_to": "none",
}


def message_digests(message: ClientTask | ClientUpdate) -> dict[str, str]:
    """Return the fingerprint of a task or an update, without the seconds that it took."""
    held = fingerprint(message)
    return {path: content for path, content in held.items() if not path.endswith("['seconds']")}


@dataclass
class Exchange:
    """One client run: its task and update, their fingerprints at the time, the adapter's tensors, and what was kept.

    Args:
        task (`ClientTask`), update (`ClientUpdate`):
            What the client was given, and what it gave back.
        task_before (`dict[str, str]`), task_after (`dict[str, str]`), update_before (`dict[str, str]`):
            Fingerprints of the task before and after the run, and of the update when it was given back.
        phases (`dict[str, tuple[TensorDict, TensorDict]]`):
            For each local phase, every tensor of the adapter before its first step and after its last one.
        kept (`State`):
            What is saved for the client's next round.
    """

    task: ClientTask
    update: ClientUpdate
    task_before: dict[str, str]
    task_after: dict[str, str]
    update_before: dict[str, str]
    phases: dict[str, tuple[TensorDict, TensorDict]]
    kept: State


class Watch(RoundCallback):
    """Records the state after each round, and may end the run after one of them."""

    def __init__(self, stop_after: int | None):
        self.ends: list[RoundEnd] = []
        self.stop_after = stop_after

    def on_round_end(self, end: RoundEnd) -> bool:
        """Keep copies, so that a method that changes its state in place does not change them."""
        self.ends.append(replace(end, tensors=end.tensors.clone(), state=copy_of_state(end.state)))
        return end.record.round_idx == self.stop_after


def copy_of_state(state: ServerState) -> ServerState:
    """Return a copy of a state that shares no memory with it."""
    tensors = {group: tensors.clone() for group, tensors in state.tensors.items()}
    return ServerState(tensors, dict(state.scalars))


class QuietFederation(Federation):
    """A federation that saves its rounds and writes no report."""

    def round_callbacks(self, run: RunDescription) -> list[RoundCallback]:
        """Return the callbacks that save and record a round."""
        return [c for c in super().round_callbacks(run) if isinstance(c, CheckpointCallback | Watch)]


class Recorder(FederatedTrainer):
    """A FederatedTrainer that records every task, update, phase and round, and writes no report."""

    federation_class = QuietFederation

    def __init__(self, *args: Any, stop_after: int | None = None, **kwargs: Any):
        self.watch = Watch(stop_after)
        super().__init__(*args, callbacks=[self.watch], **kwargs)
        self.exchanges: list[Exchange] = []
        self._phases: dict[str, tuple[TensorDict, TensorDict]] = {}
        self.method_before = fingerprint(self.method)
        self.initial_models = self.models()

    def run_client(self, task: ClientTask) -> ClientUpdate:
        """Run a client and record the exchange."""
        before, self._phases = message_digests(task), {}
        update = super().run_client(task)
        digests = message_digests(task), message_digests(update)
        kept = self.store.load(task.client_id)
        self.exchanges.append(Exchange(task, update, before, *digests, self._phases, kept))
        return update

    def _run_phase(self, task: ClientTask, index: int) -> dict[str, float]:
        before = self.local.adapter.read(self.local.adapter.parameters)
        metrics = super()._run_phase(task, index)
        self._phases[task.phase.name] = before, self.local.adapter.read(self.local.adapter.parameters)
        return metrics

    def run_alone(self, task: ClientTask) -> ClientUpdate:
        """Run one client outside of a federated run."""
        gc.freeze()  # Trainer collects garbage, which need not visit every object that was ever imported
        try:
            return self.run_client(task)
        finally:
            gc.unfreeze()

    def models(self) -> TensorDict:
        """Return the model of each client, and the change of the base model if there is one.

        A client's model has the global tensors and its own ones, in the same order whatever is shared.
        """
        parts = {}
        for client_id in SIZES:
            self.federation.load()
            self.local.load_personal(self.store.load(client_id))
            model = self.local.adapter.read(self.local.adapter.parameters)
            parts.update({f"{client_id}:{name}": tensor for name, tensor in model.items()})
        parts.update({f"base:{name}": tensor for name, tensor in self.federation.base_change.items()})
        return TensorDict.from_tensors(parts)


def build_trainer(folder: Path, method: Method, config: Mapping[str, Any], stop_after: int | None = None) -> Recorder:
    """Build a trainer on a tiny LLaVA and three unequal clients. All methods start from the same bits."""
    model, processor = tiny_llava()
    return Recorder(
        model,
        FederatedConfig(str(folder), **{**RUN, **config, "method": method}),
        _federation(),
        eval_dataset={},
        processing_class=processor,
        stop_after=stop_after,
    )


@cache
def _federation() -> DatasetDict:
    return tiny_federation(SIZES, test_rows=1)
