"""ClientRunMixin: one client's local round as one ordinary `train()` of the HF Trainer that it is mixed into.

Before it trains, a client's tensors are loaded into the model and what the last client left behind is reset:
optimizer, scheduler, random state, counters. The trainer object itself is built once.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import Trainer
from transformers.trainer_utils import set_seed

from .adapters import Adapter, ListedParameters, keep_batch_norms_fixed
from .config import FederatedConfig
from .methods import Method
from .models.vlm import vlm_parts
from .progress import ClientProgress
from .sampling import client_seed
from .state import ClientStore
from .tensors import TensorDict
from .tuning import Stage, stage_at
from .types import ClientTask, ClientUpdate, State


class ClientRunMixin:
    """What a Trainer needs to run clients. [`FederatedMixin`] sets these attributes and adds the rounds.

    Attributes:
        run_args ([`FederatedConfig`]):
            Arguments of the whole run. The trainer's own `args` are a copy whose rate and seed change by client.
        method ([`Method`]):
            The method, whose client half has hooks into the run.
        clients (`dict[str, Dataset]`):
            The clients whose rows are here, by id.
        client_ids (`list[str]`):
            Every client of the run, in sorted order.
        cohort_size (`int`), num_clients (`int`):
            Clients in each round, and in all (also where a baseline pools them into one).
        adapter ([`Adapter`]):
            The parameters that are exchanged or kept.
        stages (`Sequence[Stage]`):
            What trains in which rounds.
    """

    run_args: FederatedConfig
    method: Method
    clients: dict[str, Dataset]
    client_ids: list[str]
    cohort_size: int
    num_clients: int
    adapter: Adapter
    stages: Sequence[Stage]
    _store: ClientStore
    _client_progress: ClientProgress
    _task: ClientTask | None = None
    _used_columns: Mapping[str, tuple[str, Dataset]] = MappingProxyType({})

    def _prepare_tensors(self, stages: Sequence[Stage]) -> None:
        """Note what may train in any stage, and with which values the run starts."""
        keep_batch_norms_fixed(self.model, vlm_parts(self.model))
        trainable: dict[str, None] = {}
        for stage in stages:
            self.adapter.set_trainable(stage.trains)
            trainable.update(dict.fromkeys(self.adapter.trainable()))
        self.stages = stages
        self._private = [name for name in trainable if not self.method.client.is_shared(name)]
        self._initial = self.adapter.read(trainable)
        self._initial_private = self.adapter.read(self._private)
        self._enter(stages[0])
        self._find_once()

    def _find_once(self) -> None:
        """Keep what `train()` would find anew for every client, each time the same, in milliseconds.

        Before the first client trains, since small objects that are made amid training and kept leave the heap in
        fragments, 80 KB for each client.
        """
        self.accelerator.verify_device_map = cache(self.accelerator.verify_device_map)  # a walk over all modules
        drop_columns = super()._remove_unused_columns
        self._used_columns = {
            name: (rows._fingerprint, drop_columns(rows, "training")) for name, rows in self.clients.items()
        }

    def _enter(self, stage: Stage) -> None:
        """Set what trains in a stage and what of it travels, starting from what the model holds."""
        self._stage = stage
        self.adapter.set_trainable(stage.trains)
        trainable = self.adapter.trainable()
        self._shared = [name for name in trainable if self.method.client.is_shared(name)]
        self._trainable_parameters = {name: self.adapter.parameters[name] for name in trainable}
        self._initial_shared = self.adapter.read(self._shared)
        self._listed_model = ListedParameters(self.model)
        self._decay_names = frozenset(super().get_decay_parameter_names(self.model))

    def run_client(self, task: ClientTask) -> ClientUpdate:
        """Run one client: load its tensors, train, read them back.

        Args:
            task (`ClientTask`):
                The round, the client and the global tensors.

        Returns:
            `ClientUpdate`: what travels; what stays is saved before it is returned.
        """
        began = time.perf_counter()
        task = replace(task, state=self._client_state(task.client_id))
        self._load_tensors(task.tensors, task.state)
        resume = self._begin_client(task)
        self.method.client.on_start(self.model, task)
        try:
            output = super().train(resume_from_checkpoint=resume)
        finally:
            self._task = None
        metrics = {
            "train_loss": output.training_loss,
            "num_steps": self.state.global_step - self._initial_global_step,
            "learning_rate": self.args.learning_rate,
            "seconds": time.perf_counter() - began,
        }
        update = ClientUpdate(
            task.round_idx,
            task.client_id,
            self.adapter.read(self._shared),
            len(self.clients[task.client_id]) if self.run_args.client_weighting == "num_samples" else 1,
            metrics,
            state={"private": self.adapter.read(self._private)} if self._private else {},
        )
        update = self.method.client.on_finish(update, task)
        if self.method.client.is_continuous:
            self._save_trainer_state(self._store.folder(task.client_id, task.round_idx))
        self._store.save(task.client_id, task.round_idx, update.state)
        return update

    def enter_round(self, round_idx: int, fixed: TensorDict, versions: Mapping[str, int]) -> None:
        """Stand where a round begins, at a host that did not run the rounds before it.

        Args:
            round_idx (`int`):
                The round.
            fixed (`TensorDict`):
                What earlier stages trained, and the round's own does not.
            versions (`Mapping[str, int]`):
                The clients' states that the round goes on from.
        """
        self._store.restore(versions)
        self._store.prune([versions])
        if (stage := stage_at(self.stages, round_idx)) != self._stage:
            self.adapter.write(fixed)
            self._enter(stage)

    @property
    def shared_tensors(self) -> TensorDict:
        """What of this stage travels, as the model held it when the stage began."""
        return self._initial_shared

    @property
    def state_versions(self) -> dict[str, int]:
        """By client, the round whose state is its newest; clients that keep nothing are not there."""
        return dict(self._store.versions)

    def _client_state(self, client_id: str) -> State:
        """What a client kept. At a stage's start only its tensors: the method starts afresh, as the server does."""
        state = self._store.load(client_id)
        if self._store.versions.get(client_id, 0) < self._stage.first_round:
            return {group: tensors for group, tensors in state.items() if group == "private"}
        return state

    def _load_tensors(self, shared: TensorDict, state: Mapping[str, TensorDict]) -> None:
        """Put the model where a client stands: the shared tensors, and the client's own or their initial values."""
        self.adapter.write(shared)
        self.adapter.write(state.get("private", self._initial_private))

    def _begin_client(self, task: ClientTask) -> str | None:
        """Forget the last client and set this one's data, seed and rate; the folder to resume its optimizer from."""
        is_continuous = self.method.client.is_continuous
        position = self.client_ids.index(task.client_id)
        seed = self.run_args.seed
        if not is_continuous:
            seed = client_seed(seed, task.round_idx, position)
        self._task = task
        self.train_dataset = self.clients[task.client_id]
        self.optimizer = self.lr_scheduler = None  # Trainer builds an optimizer only where there is none
        self.args.seed = seed
        self.args.learning_rate = self.run_args.round_learning_rate(task.round_idx)
        self.reset_counters()
        self._client_progress.start(task.client_id, task.round_idx)
        set_seed(seed)
        return self._extend_run(task) if is_continuous else None

    def _extend_run(self, task: ClientTask) -> str | None:
        """Let a continuous client train up to where one run of so many rounds would be, from where it stopped."""
        steps, epochs = self.run_args.max_steps, self.run_args.num_train_epochs
        num_rounds = task.round_idx - self._stage.first_round + 1
        self.args.max_steps = steps * self.cohort_size * num_rounds if steps > 0 else -1
        self.args.num_train_epochs = epochs * num_rounds * self.cohort_size / self.num_clients
        version = self._store.versions.get(task.client_id, 0)
        return None if version < self._stage.first_round else str(self._store.folder(task.client_id, version))

    def reset_counters(self) -> None:
        """Hook: reset counters that the trainer keeps from one `train()` to the next."""

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """A new one for each client, as Trainer builds it, without walking the model for the same names again."""
        if model is not None:
            return super().create_optimizer(model)
        if super().create_optimizer.__func__ is not Trainer.create_optimizer:
            return super().create_optimizer()  # what is mixed in has one of its own, which may want the model itself
        return super().create_optimizer(self._listed_model)

    def get_decay_parameter_names(self, model: nn.Module) -> Collection[str]:
        """Names of the parameters with weight decay, found once for each stage."""
        return self._decay_names if model is self._listed_model else super().get_decay_parameter_names(model)

    def _remove_unused_columns(self, dataset: Dataset, description: str | None = None) -> Dataset:
        """The rows of a client as they are kept without the columns that training leaves unused."""
        fingerprint, used = self._used_columns.get(self._task.client_id if self._task else None, (None, None))
        return used if fingerprint == dataset._fingerprint else super()._remove_unused_columns(dataset, description)

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
            self.method.client.adjust_gradients(self._trainable_parameters, self._task)
        return loss

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Not the checkpoint's weights: a continuous client's tensors come with its task, as every client's do."""

    def _save_trainer_state(self, folder: Path) -> None:
        """What Trainer itself resumes a run from, beside the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        self._save_optimizer_and_scheduler(str(folder))
        self._save_rng_state(str(folder))
        self.state.save_to_json(str(folder / "trainer_state.json"))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """A continuous client goes on with its moments, at the rate of this round."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        rate = self.args.learning_rate
        self.lr_scheduler.base_lrs = [rate] * len(self.lr_scheduler.base_lrs)
        for group, factor in zip(self.optimizer.param_groups, self.lr_scheduler.lr_lambdas, strict=True):
            group["initial_lr"], group["lr"] = rate, rate * factor(self.state.global_step)
