"""A method under test, with the runs and updates that checks need. Each run is made once."""

import copy
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..methods import ClientMethod, Method, Strategy, resolve_method
from ..tensors import TensorDict
from ..types import Aggregate, ClientUpdate, ServerState
from .examples import WorkedExample, step
from .recorder import NUM_ROUNDS, Exchange, Recorder, build_trainer, copy_of_state
from .report import NotApplicable


STOP_AFTER = 2


@dataclass
class Subject:
    """A method under test.

    Args:
        method (`str`, `Method`, `Strategy` or `ClientMethod`), method_kwargs (`Mapping[str, Any]`, *optional*):
            As in [`check_method`].
        folder (`Path`):
            Folder for its runs.
        examples (`Sequence[WorkedExample]`, *optional*), alias_of (`str`, *optional*), weighting (`str`, *optional*):
            As in [`check_method`].
        config (`Mapping[str, Any]`, *optional*):
            Arguments of the runs that replace those in `RUN`.
    """

    method: "str | Method | Strategy | ClientMethod"
    method_kwargs: Mapping[str, Any] | None
    folder: Path
    examples: Sequence[WorkedExample] = ()
    alias_of: str | None = None
    weighting: str = "num_samples"
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("method", "num_rounds", "output_dir"):
            if name in self.config:
                raise ValueError(f"`config_kwargs` has {name!r}, which the suite sets itself. Leave it out.")
        self._pristine = resolve_method(copy.deepcopy(self.method), self.method_kwargs)
        self._run_error: Exception | None = None

    def fresh(self) -> Method:
        """Return the method as it was given, in new objects: what a new process would start with."""
        return copy.deepcopy(self._pristine)

    def trainer(self, name: str, stop_after: int | None = None) -> Recorder:
        """Build a trainer with a fresh method, with its files in the folder `name`."""
        return build_trainer(self.folder / name, self.fresh(), self.config, stop_after)

    @cached_property
    def whole(self) -> Recorder:
        """The trainer after an uninterrupted run."""
        if self._run_error is not None:
            raise NotApplicable("the real run failed, see `runs`")
        trainer = self.trainer("whole")
        try:
            trainer.train()
        except Exception as error:
            self._run_error = error
            raise
        return trainer

    def weights(self) -> str:
        """Digest of the clients' models after the uninterrupted run; empty if it failed or no check needed it."""
        return self.whole.models().digest() if "whole" in vars(self) else ""

    @cached_property
    def cut(self) -> Recorder:
        """The trainer after the same run, stopped after round `STOP_AFTER`."""
        trainer = self.trainer("cut", STOP_AFTER)
        trainer.train()
        return trainer

    def resumed(self) -> Recorder:
        """Return a new trainer with a fresh method, after it has resumed the stopped run and finished it."""
        trainer = self.trainer(Path(self.cut.run_args.output_dir).name)
        trainer.train(resume_from_checkpoint=True)
        return trainer

    def copy_of_clients(self, name: str) -> Recorder:
        """Return a new trainer with the client states that were saved after round `STOP_AFTER`."""
        cut, trainer = self.cut, self.trainer(name)
        if cut.store.root.exists():
            shutil.copytree(cut.store.root, trainer.store.root)
        trainer.store.restore(cut.store.versions)
        return trainer

    def before_last_round(self) -> tuple[TensorDict, ServerState]:
        """Return the global tensors and the server state before the last round of the uninterrupted run."""
        end = self.whole.watch.ends[-2]
        return end.tensors.clone(), copy_of_state(end.state)

    def last_exchanges(self) -> list[Exchange]:
        """Return the client runs of the last round."""
        return [e for e in self.whole.exchanges if e.task.round_idx == NUM_ROUNDS]

    def updates(self, weights: Sequence[int]) -> list[ClientUpdate]:
        """Make different updates for the last round, one per client: the real ones with noise on what they changed."""
        current, _ = self.before_last_round()
        exchanges, client_ids = self.last_exchanges(), sorted(self.whole.clients)
        if len(client_ids) < len(weights):
            raise NotApplicable(f"there is only the client {client_ids[0]!r}")
        if not current:
            raise NotApplicable("no tensor travels")
        made = []
        for index, (client_id, weight) in enumerate(zip(client_ids, weights, strict=False)):
            exchange = exchanges[index % len(exchanges)]
            sent, start = exchange.update.tensors, exchange.task.tensors
            generator = torch.Generator().manual_seed(index)
            zeros = torch.zeros_like(sent.flat)
            tensors = _noisy(sent, start.flat if sent.shapes == start.shapes else zeros, generator)
            control = {
                group: _noisy(values, torch.zeros_like(values.flat), generator)
                for group, values in exchange.update.control.items()
            }
            made.append(
                replace(
                    exchange.update, client_id=client_id, tensors=tensors, weight=weight, control=control, state={}
                )
            )
        return made

    def aggregate(self, updates: Sequence[ClientUpdate]) -> Aggregate:
        """Return what a fresh server half makes of updates in the last round, from copies of them."""
        return self.fresh().strategy.aggregate(map(copy_of_update, updates), *self.before_last_round())

    def outcome(self, updates: Sequence[ClientUpdate]) -> tuple[TensorDict, ServerState]:
        """Return tensors and state after a fresh server half has processed copies of these updates."""
        return step(self.fresh().strategy, list(map(copy_of_update, updates)), *self.before_last_round())


def _noisy(tensors: TensorDict, start: torch.Tensor, generator: torch.Generator) -> TensorDict:
    noise = torch.randn(start.shape, generator=generator)
    return tensors.with_flat(start + (tensors.flat - start) * (1 + 0.5 * noise))


def copy_of_update(update: ClientUpdate) -> ClientUpdate:
    """Return a copy of an update that shares no tensor with it."""
    control = {group: tensors.clone() for group, tensors in update.control.items()}
    return replace(update, tensors=update.tensors.clone(), control=control)


_REFERENCES: dict[str, tuple[TensorDict, TensorDict]] = {}


def reference_models(method: Method, config: Mapping[str, Any]) -> tuple[TensorDict, TensorDict]:
    """Return all clients' models before and after a run of another method with the same data, seeds and arguments."""
    key = repr((method, sorted(config.items()), torch.get_num_threads()))  # the last bits depend on these
    if key not in _REFERENCES:
        with TemporaryDirectory() as folder:
            trainer = build_trainer(Path(folder), method, config)
            trainer.train()
            _REFERENCES[key] = trainer.initial_models, trainer.models()
    return _REFERENCES[key]
