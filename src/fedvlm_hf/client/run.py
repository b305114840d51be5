"""ClientMixin: one client's local round as ordinary `train()` calls of the HF Trainer that it is mixed into.

Before it trains, a client's tensors are loaded into the model and what the last client left behind is reset:
optimizer, scheduler, random state, counters, frozen parameters. The trainer object itself is built once.
"""

import random
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from datasets import Dataset
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import set_seed

from ..methods import Method
from ..sampling import client_seed
from ..tensors import TensorDict
from ..transforms import TransformChain
from ..transforms.base import PREFIX
from ..types import ClientTask, ClientUpdate, LocalPhase, State
from .adapters import ListedParameters
from .model import PERSONAL, PRIVATE, ClientModel
from .modules import eval_mode
from .store import ClientStore


class ClientCallback(TrainerCallback):
    """A [`~transformers.TrainerCallback`] that is told which client trains. All hooks do nothing by default."""

    def on_client_begin(self, task: ClientTask) -> None:
        """Called before each `train()` of a client.

        Args:
            task (`ClientTask`):
                The round, the client, and the phase of its local training.
        """


class ClientMixin:
    """Runs clients with the Trainer that it is mixed into; put it before the Trainer in the bases.

    `FederatedMixin` sets the attributes, and nothing here knows of the server.

    Attributes:
        run_args ([`FederatedArguments`]):
            Arguments of the whole run. The trainer's own `args` are a copy whose rate and seeds change by client.
        method ([`Method`]):
            The method, whose client half has hooks into the run.
        transforms ([`TransformChain`]):
            What happens to updates on their way; the client halves run here.
        clients (`dict[str, Dataset]`):
            The clients whose rows are here, by id.
        client_ids (`list[str]`):
            Every client of the run, in sorted order.
        cohort_size (`int`), num_clients (`int`):
            Number of clients in each round, and of all clients (also where a baseline pools them into one).
        local ([`ClientModel`]):
            The model with what of it trains and travels.
        store ([`ClientStore`]):
            What clients keep between their rounds.
    """

    run_args: Any
    method: Method
    transforms: TransformChain
    clients: dict[str, Dataset]
    client_ids: list[str]
    cohort_size: int
    num_clients: int
    local: ClientModel
    store: ClientStore
    args: TrainingArguments
    _task: ClientTask | None = None
    _listed: ListedParameters | None = None
    _num_steps: int = 0

    def check_first_row(self) -> None:
        """Collate one row and compute its loss, so that a model which cannot be trained fails before any round.

        Weights, statistics and random state stay as they are.

        Raises:
            `ValueError`: naming the row and what failed.
        """
        client_id = next(iter(self.clients), None)
        if client_id is None:  # all clients are on other hosts
            return
        row = f"the first row of client {client_id!r}"
        with eval_mode(self.model), _random_state_kept(), torch.no_grad(), self.accelerator.autocast():
            try:
                batch = self.data_collator([self.clients[client_id][0]])
            except Exception as error:
                raise ValueError(
                    f"`processing_class`: {type(self.processing_class).__name__} cannot process {row} as "
                    f"{type(self).__name__} asks it to, which is a prompt with images and an answer without: "
                    f"{_one_line(error)}. Use a model of another family, or pass a `data_collator`."
                ) from error
            try:
                self.compute_loss(self.model, send_to_device(dict(batch), self.args.device))
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                model_type = self.model.get_base_model().config.model_type
                raise ValueError(
                    f"`model`: {type(self).__name__} cannot compute the loss of {row} with a model of the type "
                    f"{model_type!r}: {_one_line(error)}. Use a model of another family."
                ) from error
        self._reset_counters()

    def run_client(self, task: ClientTask) -> ClientUpdate:
        """Run one client: load its tensors, train, read them back.

        Args:
            task (`ClientTask`):
                The round, the client and the tensors that it starts from.

        Returns:
            `ClientUpdate`: what travels, after the client halves of the transforms; what stays is saved before it is
                returned.
        """
        began = time.perf_counter()
        kept = self._kept_state(task)
        task = replace(task, state={name: group for name, group in kept.items() if not name.startswith(PREFIX)})
        self.local.enter(task.round_idx)
        self.local.load(task.tensors, task.state, task.fixed, task.base)
        in_model = replace(task, tensors=self.local.as_loaded(task.tensors))  # for hooks that see the parameters
        self.local.set_phase(self.local.plan.phases[0])
        self.method.client.on_start(self.model, task)
        shared, personal, metrics = task.tensors, {}, {}
        for index, phase in enumerate(self.local.plan.phases):
            if phase.is_personal:
                self.local.load_personal_copy({**task.state, **personal})
            elif personal:
                self.local.adapter.write(shared)
            if index:
                self.local.set_phase(phase)
            metrics |= self._run_phase(replace(in_model, phase=phase), index)
            if phase.is_personal:
                personal = {PERSONAL: self.local.shared_tensors()}
            else:
                shared = self.local.shared_tensors(task.expected)
        weight = len(self.clients[task.client_id]) if self.run_args.client_weighting == "num_samples" else 1
        metrics["seconds"] = time.perf_counter() - began
        own = {**self.local.own_tensors(), **personal}
        update = self.method.client.on_finish(
            ClientUpdate(task.round_idx, task.client_id, shared, weight, metrics), task
        )
        if reserved := {PRIVATE, PERSONAL} & update.state.keys():
            raise ValueError(
                f"`on_finish` of `method` returns the state group {min(reserved)!r}, which the run keeps itself. Use "
                "another name for what the method keeps."
            )
        update, transforms = self.transforms.encode(update, task, kept)
        return self._keep(update, {**own, **update.state, **transforms})

    def _kept_state(self, task: ClientTask) -> State:
        """What the client kept. At the start of a stage only its tensors: the method starts anew, as at the server."""
        state = self.store.load(task.client_id)
        if self.store.versions.get(task.client_id, 0) < self.local.plan.stage(task.round_idx).first_round:
            return {group: tensors for group, tensors in state.items() if group == PRIVATE}
        return state

    def _run_phase(self, task: ClientTask, index: int) -> dict[str, float]:
        """Train one phase; its metrics, named after the phase from the second phase on."""
        resume = self._begin_phase(task, index)
        try:
            output = super().train(resume_from_checkpoint=resume)
        finally:
            self._task = None
        metrics = {
            "train_loss": output.training_loss,
            "num_steps": self._num_steps,
            "learning_rate": self.args.learning_rate,
        }
        return metrics if index == 0 else {f"{task.phase.name}_{name}": value for name, value in metrics.items()}

    def _begin_phase(self, task: ClientTask, index: int) -> str | None:
        """Forget the last client and set this one's data, seeds and rate; the folder to resume its optimizer from."""
        is_continuous = self.method.client.is_continuous
        position = self.client_ids.index(task.client_id)
        self._task = task
        self.train_dataset = self.clients[task.client_id]
        self.optimizer = self.lr_scheduler = None  # Trainer builds an optimizer only where there is none
        for name in ("seed", "data_seed"):
            seed = getattr(self.run_args, name)
            if seed is not None and not is_continuous:
                seed = client_seed(seed, task.round_idx, position, index)
            setattr(self.args, name, seed)
        self.accelerator.dataloader_config.data_seed = self.args.data_seed  # Trainer set it when it was built
        self.args.learning_rate = self.run_args.round_learning_rate(task.round_idx)
        self._set_length(task.phase)
        self._reset_counters()
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, ClientCallback):
                callback.on_client_begin(task)
        set_seed(self.args.seed)
        return self._extend_run(task) if is_continuous else None

    def _set_length(self, phase: LocalPhase) -> None:
        self.args.max_steps = self.run_args.max_steps if phase.steps is None else phase.steps
        self.args.num_train_epochs = self.run_args.num_train_epochs

    def _extend_run(self, task: ClientTask) -> str | None:
        """Let a continuous client train up to where one run of so many rounds would be, from where it stopped."""
        steps, epochs = self.run_args.max_steps, self.run_args.num_train_epochs
        first_round = self.local.stage.first_round
        num_rounds = task.round_idx - first_round + 1
        self.args.max_steps = steps * self.cohort_size * num_rounds if steps > 0 else -1
        self.args.num_train_epochs = epochs * num_rounds * self.cohort_size / self.num_clients
        version = self.store.versions.get(task.client_id, 0)
        return None if version < first_round else str(self.store.folder(task.client_id, version))

    def _reset_counters(self) -> None:
        """TRL's trainers continue to count tokens and metrics from one `train()` to the next."""
        self._num_steps = self._total_train_tokens = 0
        for metrics in self._metrics.values():
            metrics.clear()

    def _keep(self, update: ClientUpdate, kept: Mapping[str, TensorDict]) -> ClientUpdate:
        """Save what the client keeps; the update with its version."""
        if self.method.client.is_continuous:
            self._save_trainer_state(self.store.folder(update.client_id, update.round_idx))
        self.store.save(update.client_id, update.round_idx, kept)
        return replace(update, state=dict(kept), state_version=self.store.versions.get(update.client_id))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """A new one for each client, as Trainer builds it, without walking the model for the same names again."""
        if model is not None:
            return super().create_optimizer(model)
        if super().create_optimizer.__func__ is not Trainer.create_optimizer:
            return super().create_optimizer()  # the trainer that is mixed in has its own, which may want the model
        if self._listed is None:
            self._listed = ListedParameters(self.model)
            self._decay_names = frozenset(super().get_decay_parameter_names(self.model))
        return super().create_optimizer(self._listed)

    def get_decay_parameter_names(self, model: nn.Module) -> Collection[str]:
        """Names of the parameters with weight decay, found once."""
        if self._listed is not None and model is self._listed:
            return self._decay_names
        return super().get_decay_parameter_names(model)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The trainer's loss, plus the method's `extra_loss` while a client trains."""
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        extra = self.method.client.extra_loss(model, inputs, self._task) if self._task else None
        if extra is None:
            return result
        if num_items_in_batch is not None:  # then Trainer does not divide by the accumulation steps, so this must
            extra = extra / self.current_gradient_accumulation_steps
        return (result[0] + extra, result[1]) if return_outputs else result + extra

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The trainer's step, then the method's `adjust_gradients` once per optimizer step, before clipping.

        The callback `on_pre_optimizer_step` would come too late: gradients are clipped by then.
        """
        loss = super().training_step(*args, **kwargs)
        if self.accelerator.sync_gradients:
            self._num_steps += 1  # `state.global_step` of a continuous client also has those of earlier rounds
            self.method.client.adjust_gradients(self.local.parameters, self._task)
        return loss

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: constructing the trainer needs no Hub."""

    def _send_telemetry(self) -> None:
        """Nothing: TRL reports trainer and model names at construction, and no telemetry may leave a client."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Not the checkpoint's weights: a continuous client's tensors come with its task, as every client's do."""

    def _save_trainer_state(self, folder: Path) -> None:
        """What Trainer itself resumes a run from, besides the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        self._save_optimizer_and_scheduler(str(folder))
        self._save_rng_state(str(folder))
        self.state.save_to_json(str(folder / "trainer_state.json"))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """A continuous client continues with its moments, at the rate of this round."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        rate = self.args.learning_rate
        self.lr_scheduler.base_lrs = [rate] * len(self.lr_scheduler.base_lrs)
        for group, factor in zip(self.optimizer.param_groups, self.lr_scheduler.lr_lambdas, strict=True):
            group["initial_lr"], group["lr"] = rate, rate * factor(self.state.global_step)


@contextmanager
def _random_state_kept() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):  # in `eval()`, nothing is drawn on an accelerator
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
