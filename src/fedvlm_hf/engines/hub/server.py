"""HubFederation: a FederatedTrainer whose clients are on other hosts."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

from transformers.trainer_utils import TrainOutput

from ...config import FederatedConfig
from ...exchange.documents import to_json
from ...exchange.limits import Limits
from ...exchange.settings import Settings, base_sha256, package_versions
from ...files import write_atomic
from ...methods import resolve_method
from ...repository import Repository
from ...tensors import TensorDict
from ...trainer import FederatedTrainer
from ...tuning import stage_at
from .answers import exclusive_lock
from .engine import HubEngine, RunFacts, Waiting


class HubFederation(FederatedTrainer):
    """The server of a federation through a repository: every step of [`FederatedTrainer`] but the clients' training.

    Args:
        model (`str`):
            The base model's repository or folder.
        args ([`FederatedConfig`]):
            Arguments of the run.
        settings ([`~fedvlm_hf.exchange.settings.Settings`]):
            What clients train with, and their names.
        repository ([`~fedvlm_hf.repository.Repository`]):
            The repository.
        waiting ([`~fedvlm_hf.engines.hub.engine.Waiting`], *optional*):
            How long a round waits.
        limits ([`~fedvlm_hf.exchange.limits.Limits`], *optional*):
            Limits of an update.
        kwargs:
            Other arguments of [`FederatedTrainer`].

    Raises:
        `ValueError`: on a method that cannot be used with clients on other hosts, or be evaluated without them.
    """

    def __init__(
        self,
        model: str,
        args: FederatedConfig,
        settings: Settings,
        repository: Repository,
        waiting: Waiting | None = None,
        limits: Limits | None = None,
        eval_dataset: Any = None,
        **kwargs: Any,
    ):
        if resolve_method(args.method, args.method_kwargs).client.is_continuous:
            raise ValueError(
                f"`method` {args.method_name!r} trains on pooled rows, which clients on other hosts do not send."
            )
        if args.client_sampling == "weighted":
            raise ValueError("`client_sampling` 'weighted' needs the number of rows of every client in advance.")
        super().__init__(
            model, args, {}, {} if eval_dataset is None else eval_dataset, client_ids=settings.client_ids, **kwargs
        )
        self._check_shared()
        facts = RunFacts(
            server=_server_id(Path(args.output_dir)),
            num_rounds=args.num_rounds,
            client_ids=settings.client_ids,
            config=settings.to_bytes(),
            base_sha256=base_sha256(model, settings.model["model_revision"]),
            adapter_sha256=self.adapter.read(self.adapter.parameters).digest(),
            versions=package_versions(),
        )
        self._hub_engine = HubEngine(repository, facts, self._fixed, waiting, limits)
        self._hub_engine.rows = self._client_rows  # shown on the card
        self._client_rows |= dict.fromkeys(settings.client_ids, 0)

    def train(self, resume_from_checkpoint: bool | str | None = True) -> TrainOutput:
        """Run the remaining rounds, from the last complete one in `output_dir`, then tell the clients to end.

        Args:
            resume_from_checkpoint (`bool` or `str`, *optional*, defaults to `True`):
                As in [`FederatedTrainer`].

        Returns:
            `TrainOutput`: as of [`FederatedTrainer`].

        Raises:
            `AnotherServerError`: if another server announced rounds in the repository.
        """
        with exclusive_lock(Path(self.run_args.output_dir), "server"):
            output = super().train(resume_from_checkpoint)
            self._hub_engine.finish(output.global_step, self._global)
        return output

    def _engine(self) -> HubEngine:
        """Return the engine of clients on other hosts."""
        return self._hub_engine

    def _fixed(self, round_idx: int, tensors: TensorDict) -> TensorDict:
        """Return what earlier stages trained, which clients need besides the tensors that train now."""
        if stage_at(self.stages, round_idx) == self.stages[0]:
            return TensorDict({})
        return self.adapter.read(n for n in self.adapter.parameters if n not in tensors and n not in self._private)

    def _check_shared(self) -> None:
        if not self.shared_tensors:
            raise ValueError(f"`method` {self.run_args.method_name!r} shares nothing: clients need no server for it.")
        if self._private and self.evaluation_sets:
            raise ValueError(
                f"`method` {self.run_args.method_name!r} gives each client its own model, which stays with it: "
                "the server cannot score them. Leave out `--dataset_name`."
            )


def _server_id(output_dir: Path) -> str:
    """Return a name that is kept in the run's folder."""
    path = output_dir / "server.json"
    if not path.exists():
        write_atomic(path, to_json({"server": uuid4().hex}))
    return json.loads(path.read_text(encoding="utf-8"))["server"]
