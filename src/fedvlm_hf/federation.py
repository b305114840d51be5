"""Federation: owns a run. It has clients, through an engine; it is none itself."""

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from datasets import Dataset
from transformers import ProcessorMixin, TrainerCallback
from transformers.utils import logging

from .callbacks import RoundCallback, RoundEnd
from .checkpoint import CheckpointCallback, load_export, start_run
from .client.model import ClientModel
from .client.store import ClientStore
from .config import FederatedArguments
from .data.clients import Roster, dataset_digest, evaluation_datasets
from .engines import Engine
from .evaluation import PreparedEvaluation, flat_scores
from .hub.layout import PushTarget
from .hub.push import HubCallback, push_run
from .hub.resume import LocalRun, download_if_on_hub
from .methods import ClientMethod, Method
from .models import untrained_connector
from .progress import RoundProgress, evaluation_bar
from .reporting.card import CardCallback
from .reporting.report import ReportCallback
from .reporting.run_info import run_info
from .reporting.trackers import TrackerCallback
from .rounds import RoundStart, run_rounds
from .run_description import RunDescription
from .sampling import cohort_size, sample_cohort
from .tensors import TensorDict
from .transforms import TransformChain
from .types import EvalResult, ServerState


logger = logging.get_logger(__name__)


class Federation:
    """A federated run: strategy, engine, cohorts, evaluation, checkpoints and callbacks.

    A trainer makes one for its own clients; the server of clients on other hosts holds one with another engine, and no
    trainer.

    Args:
        args ([`FederatedArguments`]):
            Arguments of the run.
        method ([`Method`]):
            The method.
        local ([`~fedvlm_hf.client.model.ClientModel`]):
            The model, for evaluation and export.
        roster ([`Roster`]):
            The clients.
        engine ([`~fedvlm_hf.engines.Engine`]):
            Who runs them.
        processor ([`~transformers.ProcessorMixin`]):
            The model's processor.
        evaluation_sets (`Mapping[str, Dataset]`, *optional*):
            What to evaluate on, by name.
        transforms ([`TransformChain`], *optional*):
            What happens to updates on their way.
        store ([`ClientStore`], *optional*):
            What clients here keep between their rounds.
        callbacks (`Sequence[RoundCallback]`, *optional*):
            Called after each round, before what pushes it.
        reporters (`Sequence[TrainerCallback]`, *optional*):
            The integrations behind `report_to`.

    Raises:
        `ValueError`: on a combination of arguments, method and data that cannot be run, before any training.
    """

    def __init__(
        self,
        args: FederatedArguments,
        method: Method,
        local: ClientModel,
        roster: Roster,
        engine: Engine,
        processor: ProcessorMixin,
        evaluation_sets: Mapping[str, Dataset] | None = None,
        transforms: TransformChain | None = None,
        store: ClientStore | None = None,
        callbacks: Sequence[RoundCallback] = (),
        reporters: Sequence[TrainerCallback] = (),
    ):
        self.args, self.method, self.local, self.roster, self.engine = args, method, local, roster, engine
        self.processor, self.evaluation_sets = processor, dict(evaluation_sets or {})
        self.transforms = transforms or TransformChain(seed=args.seed)
        self.store = store or ClientStore(Path(args.output_dir) / "client_state")
        self.callbacks, self.reporters = list(callbacks), list(reporters)
        self.client_rows = roster.sizes()
        self.cohort_size = cohort_size(args.clients_per_round, len(roster.names))
        self.end: RoundStart | None = None
        self._prepared: dict[str, PreparedEvaluation] = {}
        method.strategy.check_run(local.initial_of_all_stages(), roster.names)
        if method.strategy.changes_base:
            local.adapter.check_base_change()
        self._check_personalised()
        self._check_transforms()
        self._check_hub()
        if local.plan.tuning == "llm" and untrained_connector(local.model):
            logger.warning(
                "`tuning` 'llm' trains the language model over a connector with random weights, which stay as they "
                "are: it will hardly see the images. Use 'joint' or 'two_stage', or a pretrained connector."
            )

    @property
    def tensors(self) -> TensorDict:
        """The shared tensors after the last round, or before the first."""
        return self.local.initial_shared() if self.end is None else self.end.tensors

    @property
    def base_change(self) -> TensorDict:
        """The change of the base model after the last round."""
        return TensorDict({}) if self.end is None else self.method.strategy.base_change(self.end.state)

    def run(self, resume: bool | str | None = None) -> RoundStart:
        """Run all rounds.

        Args:
            resume (`bool` or `str`, *optional*):
                `True` continues after the last whole round in `output_dir`, or starts if there is none yet; a string
                is that `output_dir`, its last round's folder, or a round on the Hub.

        Returns:
            `RoundStart`: where the run stands after its last round.

        Raises:
            `ValueError`: if `output_dir` holds rounds and the run is not to continue them, or holds another run.
            `UpdateError`: if a client's update must not reach the sum.
        """
        self.local.reset()
        run = self.describe()
        initial = self.local.shared_tensors()
        fresh = RoundStart(initial, self.method.strategy.init(initial, len(self.roster.names)))
        resume = download_if_on_hub(resume, self._local_run(run), self.args.hub_token)
        start = start_run(self.args.output_dir, run, resume, self.store, fresh)
        if start.round_idx > 0:
            self.local.resume(start.round_idx, load_export(self.args.output_dir, start.round_idx))
        was_frozen = gc.get_freeze_count() > 0  # by the caller, who would find it thawed
        gc.collect()
        gc.freeze()  # each Trainer.train() collects garbage, and need not walk the frozen model's objects
        try:
            self.end = run_rounds(
                start=start,
                num_rounds=self.args.num_rounds,
                strategy=self.method.strategy,
                engine=self.engine,
                cohort=self.cohort,
                evaluate=self._evaluate_round,
                begin_round=self._begin_round,
                callbacks=self.round_callbacks(run),
                transforms=self.transforms,
            )
        finally:
            if not was_frozen:
                gc.unfreeze()
        self.load()
        return self.end

    def load(self) -> None:
        """Put the global model of the last round into the model."""
        self.local.load(self.tensors, base=self.base_change)

    def evaluate(self, eval_dataset: Dataset | Mapping[str, Dataset] | None = None) -> dict[str, float]:
        """Score the global model by generation, or each client's own where the method personalises.

        Args:
            eval_dataset (`Dataset` or `Mapping[str, Dataset]`, *optional*):
                The federation's own evaluation sets by default.

        Returns:
            `dict[str, float]`: such as `{"test/vqa_accuracy": 0.8, "test_client_00/vqa_accuracy": 0.8}`.

        Raises:
            `ValueError`: if there is no evaluation set.
        """
        prepared = self._prepare_evaluations()
        if eval_dataset is not None:
            prepared = {k: self._prepare(v) for k, v in evaluation_datasets({}, eval_dataset).items()}
        if not prepared:
            raise ValueError(
                "`eval_dataset` is needed: the run has no evaluation set, since its data have no split `test` and it "
                "was given no `eval_dataset`."
            )
        self.load()
        return flat_scores({name: self._score(evaluation) for name, evaluation in prepared.items()})

    def push_to_hub(self, token: str | None = None) -> str:
        """Send every round in `output_dir` that is not on the Hub yet, in order, and wait for it.

        A run that was trained without `push_to_hub` is sent whole. Nothing of `client_state/` is sent unless
        `push_client_adapters` is set, and no image or answer of an evaluation.

        Args:
            token (`str`, *optional*):
                Of an account that may write to `hub_model_id`. By default `hub_token`, or who is logged in.

        Returns:
            `str`: the repository's address.

        Raises:
            `ValueError`: if `hub_model_id` is not set, there is no round yet, or the Hub refuses.
            `OSError`: if the Hub is away for longer than `hub_patience`.
        """
        args = self.args
        return push_run(args.output_dir, PushTarget.of(args), token or args.hub_token, args.hub_patience)

    def cohort(self, round_idx: int) -> list[str]:
        """The clients of a round."""
        sizes = (
            self.roster.sizes() if self.roster.pooled is None else {n: len(d) for n, d in self.roster.pooled.items()}
        )
        size = min(self.cohort_size, len(sizes))
        return sample_cohort(sizes, size, self.args.client_sampling, self.args.seed, round_idx)

    def describe(self) -> RunDescription:
        """What the run is: everything that a bit of a round depends on."""
        return RunDescription(
            args=self.args,
            method=self.method,
            transforms=self.transforms.transforms,
            plan=self.local.plan,
            base_model=self.local.base_name,
            base_fingerprint=self.local.base_fingerprint,
            adapter=self.local.initial.digest(),
            clients=self.roster.digests(),
            evaluations={name: dataset_digest(dataset) for name, dataset in self.evaluation_sets.items()},
        )

    def round_callbacks(self, run: RunDescription) -> list[RoundCallback]:
        """What happens after each round, in order."""
        args, described = self.args, run.to_json()
        info = run_info(
            described,
            args,
            *(self.local.plan.tuning, self.method, self.local.model, self.roster.datasets),
            clients=self.client_rows,
            is_personal=self.local.is_personal,
            is_simulated=len(self.roster.datasets) == len(self.roster.names),  # others train on their own hosts
        )
        hub: list[RoundCallback] = []
        if args.push_to_hub:
            hub = [HubCallback(args.output_dir, PushTarget.of(args), args.hub_token, args.hub_patience)]
        return [
            CheckpointCallback(args.output_dir, described, self._export, self.store, args.save_total_limit),
            TrackerCallback(self.reporters, args, self.local.model),
            ReportCallback(args.output_dir, args.method_name, self.evaluation_sets),
            CardCallback(args.output_dir, info),
            RoundProgress(disable=args.disable_tqdm),
            *self.callbacks,
            *hub,  # what it sends is complete only now
        ]

    def _begin_round(
        self, round_idx: int, tensors: TensorDict, state: ServerState
    ) -> tuple[TensorDict, ServerState, TensorDict]:
        """Where a new stage begins, other tensors train and travel, and the server starts anew with them."""
        tensors, is_new_stage = self.local.begin_round(round_idx, tensors)
        if is_new_stage:
            state = self.method.strategy.init(tensors, len(self.roster.names))
        return tensors, state, self.local.fixed

    def _evaluate_round(self, round_idx: int, tensors: TensorDict, base: TensorDict) -> dict[str, EvalResult]:
        if round_idx % self.args.eval_every and round_idx != self.args.num_rounds:
            return {}
        results = {}
        for name, evaluation in self._prepare_evaluations().items():
            self.local.load(tensors, base=base)
            results[name] = self._score(evaluation)
        return results

    def _prepare_evaluations(self) -> dict[str, PreparedEvaluation]:
        if not self._prepared:
            self._prepared = {name: self._prepare(dataset) for name, dataset in self.evaluation_sets.items()}
        return self._prepared

    def _prepare(self, dataset: Dataset) -> PreparedEvaluation:
        return PreparedEvaluation(
            dataset,
            self.processor,
            batch_size=self.args.per_device_eval_batch_size,
            max_new_tokens=self.args.eval_max_new_tokens,
            by_client=self.local.is_personal,
        )

    def _score(self, evaluation: PreparedEvaluation) -> EvalResult:
        autocast_dtype = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else None
        with evaluation_bar(len(evaluation), self.args.disable_tqdm) as bar:
            return evaluation.run(
                self.local.model,
                autocast_dtype=autocast_dtype,
                on_batch=bar.update,
                load_client=self._load_client if self.local.is_personal else None,
            )

    def _load_client(self, client_id: str) -> None:
        self.local.load_personal(self.store.load(client_id))

    def _export(self, folder: Path, end: RoundEnd) -> None:
        self.local.export(folder, end.tensors, self.method.strategy.base_change(end.state))

    def _local_run(self, run: RunDescription) -> LocalRun:
        shapes = self.local.initial.shapes
        names = list(self.roster.datasets if self.roster.pooled is None else self.roster.pooled)
        return LocalRun(self.args.output_dir, run, shapes, self.store, names, self.method.client.is_continuous)

    def _check_personalised(self) -> None:
        for name, dataset in self.evaluation_sets.items() if self.local.is_personal else ():
            ids = dataset.unique("client_id") if "client_id" in dataset.column_names else [None]
            if None in ids:
                raise ValueError(
                    f"`method` {self.args.method_name!r} gives each client its own model, but `eval_dataset` "
                    f"{name!r} does not say in a column `client_id` whose each row is. Add it, or drop rows without."
                )
            if strangers := sorted(set(ids) - set(self.roster.names)):
                raise ValueError(
                    f"`eval_dataset` {name!r} has rows of client {strangers[0]!r}, which does not take part in the "
                    f"run, and `method` {self.args.method_name!r} gives each client its own model: there is none "
                    f"to score these rows with. Drop them; the clients are {', '.join(self.roster.names)}."
                )

    def _check_transforms(self) -> None:
        """Let transforms refuse the tasks of the first round, before anything is scored or trained."""
        if self.transforms:
            strategy, initial = self.method.strategy, self.local.initial_shared()
            state = strategy.init(initial, len(self.roster.names))
            for task in strategy.configure(1, self.cohort(1), initial, state):
                self.transforms.layout(task)

    def _check_hub(self) -> None:
        """Refuse what could only fail after the first round."""
        if not self.args.push_to_hub:
            return
        PushTarget.of(self.args).public_base(self.local.base_name)
        # a client's state comes from tensors that are not shared, or from the method's own `on_finish`
        keeps_state = self.local.is_personal or type(self.method.client).on_finish is not ClientMethod.on_finish
        if self.args.push_client_adapters and not keeps_state:
            raise ValueError(
                f"`push_client_adapters` is set, but with `method` {self.args.method_name!r} clients keep "
                "nothing: every client's adapter is the global one. Leave it out."
            )
