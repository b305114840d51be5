"""A method under test, with the runs and updates that checks ask for, each made once."""

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
from ..types import ClientUpdate, ServerState
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
            Where its runs may write.
        examples (`Sequence[WorkedExample]`, *optional*), alias_of (`str`, *optional*), weighting (`str`, *optional*):
            As in [`check_method`].
        config (`Mapping[str, Any]`, *optional*):
            Arguments of the runs that differ from `RUN`.
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
        """The method as it came, in new objects: what a new process would start with."""
        return copy.deepcopy(self._pristine)

    def trainer(self, name: str, stop_after: int | None = None) -> Recorder:
        """A trainer with a fresh method; the name is that of its folder."""
        return build_trainer(self.folder / name, self.fresh(), self.config, stop_after)

    @cached_property
    def whole(self) -> Recorder:
        """The trainer of the unbroken run."""
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
        """Digest of the clients' models after the unbroken run; empty where it failed or no check needed it."""
        return self.whole.models().digest() if "whole" in vars(self) else ""

    @cached_property
    def cut(self) -> Recorder:
        """The trainer of the same run, ended after round `STOP_AFTER`."""
        trainer = self.trainer("cut", STOP_AFTER)
        trainer.train()
        return trainer

    def resumed(self) -> Recorder:
        """A new trainer with a fresh method that went on where the cut run ended."""
        trainer = self.trainer(Path(self.cut.run_args.output_dir).name)
        trainer.train(resume_from_checkpoint=True)
        return trainer

    def copy_of_clients(self, name: str) -> Recorder:
        """A new trainer whose clients hold what they held after round `STOP_AFTER`."""
        cut, trainer = self.cut, self.trainer(name)
        if cut.store.root.exists():
            shutil.copytree(cut.store.root, trainer.store.root)
        trainer.store.restore(cut.store.versions)
        return trainer

    def before_last_round(self) -> tuple[TensorDict, ServerState]:
        """Global tensors and server state that the last round of the unbroken run started from."""
        end = self.whole.watch.ends[-2]
        return end.tensors.clone(), copy_of_state(end.state)

    def last_exchanges(self) -> list[Exchange]:
        """Tasks and updates of the last round."""
        return [e for e in self.whole.exchanges if e.task.round_idx == NUM_ROUNDS]

    def updates(self, num_samples: Sequence[int]) -> list[ClientUpdate]:
        """Unequal updates for the last round, one a client: its real ones, each moved otherwise than it was."""
        current, _ = self.before_last_round()
        exchanges, client_ids = self.last_exchanges(), sorted(self.whole.clients)
        if len(client_ids) < len(num_samples):
            raise NotApplicable(f"there is only the client {client_ids[0]!r}")
        if not current:
            raise NotApplicable("no tensor travels")
        made = []
        for index, (client_id, size) in enumerate(zip(client_ids, num_samples, strict=False)):
            update = exchanges[index % len(exchanges)].update
            noise = torch.randn(current.flat.shape, generator=torch.Generator().manual_seed(index))
            flat = current.flat + (update.tensors.flat - current.flat) * (1 + 0.5 * noise)
            made.append(replace(update, client_id=client_id, tensors=current.with_flat(flat), weight=size, state={}))
        return made

    def outcome(self, updates: Sequence[ClientUpdate]) -> tuple[TensorDict, ServerState]:
        """What a fresh server half makes of updates in the last round; it gets copies, whatever it does to them."""
        current, state = self.before_last_round()
        copies = [replace(update, tensors=update.tensors.clone()) for update in updates]
        return step(self.fresh().strategy, copies, current, state)


_REFERENCES: dict[str, tuple[TensorDict, TensorDict]] = {}


def reference_models(method: Method, config: Mapping[str, Any]) -> tuple[TensorDict, TensorDict]:
    """Every client's model before and after a run of another method with the same data, seeds and arguments."""
    key = repr((method, sorted(config.items()), torch.get_num_threads()))  # on which the last bits depend
    if key not in _REFERENCES:
        with TemporaryDirectory() as folder:
            trainer = build_trainer(Path(folder), method, config)
            trainer.train()
            _REFERENCES[key] = trainer.initial_models, trainer.models()
    return _REFERENCES[key]
