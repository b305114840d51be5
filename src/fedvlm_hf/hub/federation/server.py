"""HubFederation: a FederatedTrainer whose clients are on other hosts."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

from transformers.trainer_utils import TrainOutput

from ...config import FederatedConfig
from ...files import write_atomic
from ...methods import resolve_method
from ...tensors import TensorDict
from ...trainer import FederatedTrainer
from ...tuning import stage_at
from .announcing import Federation
from .answers import alone
from .checks import Limits
from .documents import to_json
from .engine import HubEngine, Waiting
from .facts import base_sha256
from .protocol import package_versions
from .remote import Remote
from .settings import Settings


class HubFederation(FederatedTrainer):
    """The server of a federation through a repository: every step of [`FederatedTrainer`] but the clients' training.

    Args:
        model (`str`):
            The base model's repository or folder.
        args ([`FederatedConfig`]):
            Arguments of the run.
        settings ([`~fedvlm_hf.hub.federation.settings.Settings`]):
            What clients train with; names them.
        remote ([`~fedvlm_hf.hub.federation.remote.Remote`]):
            The repository.
        waiting ([`~fedvlm_hf.hub.federation.engine.Waiting`], *optional*):
            How long a round waits.
        limits ([`~fedvlm_hf.hub.federation.checks.Limits`], *optional*):
            What of an update is too much.
        kwargs:
            What [`FederatedTrainer`] takes besides.

    Raises:
        `ValueError`: on a method that has nothing to do with clients elsewhere, or cannot be evaluated without them.
    """

    def __init__(
        self,
        model: str,
        args: FederatedConfig,
        settings: Settings,
        remote: Remote,
        waiting: Waiting | None = None,
        limits: Limits | None = None,
        eval_dataset: Any = None,
        **kwargs: Any,
    ):
        if resolve_method(args.method, args.method_kwargs).client.is_continuous:
            raise ValueError(
                f"`method` {args.method_name!r} trains on pooled rows, which clients elsewhere do not send."
            )
        if args.client_sampling == "weighted":
            raise ValueError("`client_sampling` 'weighted' needs every client's rows counted before it is asked.")
        super().__init__(
            model, args, {}, {} if eval_dataset is None else eval_dataset, client_ids=settings.client_ids, **kwargs
        )
        self._check_shared()
        federation = Federation(
            server=_server_id(Path(args.output_dir)),
            num_rounds=args.num_rounds,
            client_ids=settings.client_ids,
            config=settings.to_bytes(),
            base_sha256=base_sha256(model, settings.model["model_revision"]),
            adapter_sha256=self.adapter.read(self.adapter.parameters).digest(),
            versions=package_versions(),
        )
        self._hub_engine = HubEngine(remote, federation, self._fixed, waiting, limits)
        self._hub_engine.rows = self._client_rows  # the card tells them
        self._client_rows |= dict.fromkeys(settings.client_ids, 0)

    def train(self, resume_from_checkpoint: bool | str | None = True) -> TrainOutput:
        """Run the rounds that are left, from the last whole one in `output_dir`, then tell the clients to end.

        Args:
            resume_from_checkpoint (`bool` or `str`, *optional*, defaults to `True`):
                As in [`FederatedTrainer`].

        Returns:
            `TrainOutput`: as of [`FederatedTrainer`].

        Raises:
            `AnotherServerError`: if another server announced rounds in the repository.
        """
        with alone(Path(self.run_args.output_dir), "server"):
            output = super().train(resume_from_checkpoint)
            self._hub_engine.finish(output.global_step, self._global)
        return output

    def _engine(self) -> HubEngine:
        """The clients are elsewhere."""
        return self._hub_engine

    def _fixed(self, round_idx: int, tensors: TensorDict) -> TensorDict:
        """What earlier stages trained, which clients need beside the tensors that train now."""
        if stage_at(self.stages, round_idx) == self.stages[0]:
            return TensorDict({})
        return self.adapter.read(n for n in self.adapter.parameters if n not in tensors and n not in self._private)

    def _check_shared(self) -> None:
        if not self.shared_tensors:
            raise ValueError(f"`method` {self.run_args.method_name!r} shares nothing: clients need no server for it.")
        if self._private and self.evaluation_sets:
            raise ValueError(
                f"`method` {self.run_args.method_name!r} gives each client a model of its own, which stays with it: "
                "the server cannot score them. Leave out `--dataset_name`."
            )


def _server_id(output_dir: Path) -> str:
    """A name that lasts as long as the run's folder does."""
    path = output_dir / "server.json"
    if not path.exists():
        write_atomic(path, to_json({"server": uuid4().hex}))
    return json.loads(path.read_text(encoding="utf-8"))["server"]
