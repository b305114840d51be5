"""The real runs that checks read: three rounds on a tiny LLaVA, in a trainer that notes what passes."""

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
from ..types import ClientTask, ClientUpdate, ServerState
from .fingerprint import fingerprint
from .tiny import tiny_federation, tiny_llava


NUM_ROUNDS = 3
SIZES = {"client_00": 6, "client_01": 4, "client_02": 3}
RUN = {
    "num_rounds": NUM_ROUNDS,
    "max_steps": 5,
    "clients_per_round": 2,  # of three: who sat out a round comes back with a state of the round before
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
    """What a task or update holds, but for the seconds that it took."""
    held = fingerprint(message)
    return {path: content for path, content in held.items() if not path.endswith("['seconds']")}


@dataclass
class Exchange:
    """A task and its update, with what both held when they were handed over."""

    task: ClientTask
    update: ClientUpdate
    task_before: dict[str, str]
    task_after: dict[str, str]
    update_before: dict[str, str]


class Watch(RoundCallback):
    """Notes the state after each round, and may end a run after one."""

    def __init__(self, stop_after: int | None):
        self.ends: list[RoundEnd] = []
        self.stop_after = stop_after

    def on_round_end(self, end: RoundEnd) -> bool:
        """Keep copies, which a method that changes its state in place does not reach."""
        self.ends.append(replace(end, tensors=end.tensors.clone(), state=copy_of_state(end.state)))
        return end.record.round_idx == self.stop_after


def copy_of_state(state: ServerState) -> ServerState:
    """The same state in tensors of its own."""
    tensors = {group: tensors.clone() for group, tensors in state.tensors.items()}
    return ServerState(tensors, dict(state.scalars))


class QuietFederation(Federation):
    """A federation that saves its rounds and draws no report."""

    def round_callbacks(self, run: RunDescription) -> list[RoundCallback]:
        """What saves a round, and what watches it."""
        return [c for c in super().round_callbacks(run) if isinstance(c, CheckpointCallback | Watch)]


class Recorder(FederatedTrainer):
    """A FederatedTrainer that notes every task, update and round. It draws no report."""

    federation_class = QuietFederation

    def __init__(self, *args: Any, stop_after: int | None = None, **kwargs: Any):
        self.watch = Watch(stop_after)
        super().__init__(*args, callbacks=[self.watch], **kwargs)
        self.exchanges: list[Exchange] = []
        self.method_before = fingerprint(self.method)
        self.initial_models = self.models()

    def run_client(self, task: ClientTask) -> ClientUpdate:
        """Run a client and note what passed."""
        before = message_digests(task)
        update = super().run_client(task)
        self.exchanges.append(Exchange(task, update, before, message_digests(task), message_digests(update)))
        return update

    def run_alone(self, task: ClientTask) -> ClientUpdate:
        """Run a client outside of a run of rounds."""
        gc.freeze()  # Trainer collects garbage, and need not walk all that was ever imported
        try:
            return self.run_client(task)
        finally:
            gc.unfreeze()

    def models(self) -> TensorDict:
        """Each client's model, one after the other: global tensors and its own, in one order whatever is shared."""
        parts = {}
        for client_id in SIZES:
            self.federation.load()
            self.local.load_personal(self.store.load(client_id))
            model = self.local.adapter.read(self.local.adapter.parameters)
            parts.update({f"{client_id}:{name}": tensor for name, tensor in model.items()})
        return TensorDict.from_tensors(parts)


def build_trainer(folder: Path, method: Method, config: Mapping[str, Any], stop_after: int | None = None) -> Recorder:
    """A trainer on a tiny LLaVA and three unequal clients; whatever the method, it starts from the same bits."""
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
