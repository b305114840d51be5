"""FederatedMixin: turns any HF Trainer into a federation. The Trainer is the client; `rounds.py` is the server."""

import copy
import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import TrainOutput
from transformers.utils import logging

from .adapters import Adapter
from .callbacks import RoundCallback
from .checkpoint import CheckpointCallback, describe_run, load_export, start_run
from .client_run import ClientRunMixin
from .config import FederatedConfig
from .data.clients import check_content, client_datasets, dataset_digest, evaluation_datasets
from .data.framing import framed
from .data.spec import example_rows
from .engines import Engine
from .engines.in_process import InProcessEngine
from .evaluation import PreparedEvaluation
from .hub.download import fetched
from .hub.local_run import LocalRun
from .hub.mixin import HubMixin
from .methods import resolve_method
from .models import untrained_connector
from .progress import ClientProgress, RoundProgress, evaluation_bar
from .reporting.card import CardCallback
from .reporting.report import ReportCallback
from .reporting.run_info import RunInfo, run_info
from .reporting.trackers import TrackerCallback
from .rounds import RoundStart, run_rounds
from .sampling import cohort_size, sample_cohort
from .state import ClientStore
from .tensors import TensorDict
from .transforms import Transform
from .tuning import resolve_tuning, stage_at, tuning_stages
from .types import EvalResult, ServerState


logger = logging.get_logger(__name__)


class FederatedMixin(HubMixin, ClientRunMixin):
    """Federated rounds for an HF Trainer, put before it in the bases.

    The trainer that is mixed in gets a model that is a [`~peft.PeftModel`] already; [`FederatedTrainer`] makes it one.

    Args:
        model ([`~peft.PeftModel`]):
            The model with its adapter.
        args ([`FederatedConfig`]):
            Arguments; the object itself is left as it is.
        train_dataset (`DatasetDict` or `Mapping[str, Dataset]`):
            Clients: the splits `client_*`, or every key of a plain mapping.
        eval_dataset (`Dataset` or `Mapping[str, Dataset]`, *optional*):
            What to evaluate on, by default the split `test`.
        callbacks (`list`, *optional*):
            [`~transformers.TrainerCallback`] objects see each client run, [`RoundCallback`] objects each round.
        transforms (`Sequence[Transform]`, *optional*):
            What happens to updates on their way.
        client_ids (`Sequence[str]`, *optional*):
            Every client of the federation, where not all of them have their rows here. Seeds depend on it.
        kwargs:
            Everything else that the trainer takes.

    Raises:
        `ValueError`: on arguments or data that cannot be trained on, before any training.
    """

    def __init__(
        self,
        model: Any,
        args: FederatedConfig,
        train_dataset: Mapping[str, Dataset],
        eval_dataset: Dataset | Mapping[str, Dataset] | None = None,
        callbacks: Sequence[TrainerCallback | RoundCallback] | None = None,
        transforms: Sequence[Transform] = (),
        client_ids: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        args.check_launch(kwargs)
        self.run_args = args
        self.method = resolve_method(args.method, args.method_kwargs)
        self._check_method()
        datasets = client_datasets(train_dataset, client_ids)
        self.evaluation_sets = evaluation_datasets(train_dataset, eval_dataset)
        self.num_clients = len(client_ids or datasets)
        self.cohort_size = cohort_size(args.clients_per_round, self.num_clients)
        check_content(datasets, self.evaluation_sets)
        self.clients = self.method.client.clients(datasets)
        self.client_ids = sorted(client_ids or self.clients)
        self.transforms = tuple(transforms)
        self._round_callbacks = [c for c in callbacks or [] if isinstance(c, RoundCallback)]
        super().__init__(
            model=model,
            args=copy.copy(args),
            train_dataset=next(iter(self.clients.values()), example_rows()),
            callbacks=[c for c in callbacks or [] if not isinstance(c, RoundCallback)],
            **kwargs,
        )
        self.data_collator = framed(self.data_collator, self.processing_class, datasets)
        self._take_over_display()
        self.adapter = Adapter(self.model)
        self.tuning = resolve_tuning(args.tuning, bool(self.adapter.connector))
        self._prepare_tensors(tuning_stages(self.tuning, args.num_rounds, args.stage_rounds))
        self._check_personalised()
        self._take_over_hub()
        if self.tuning == "llm" and untrained_connector(self.model):
            logger.warning(
                "`tuning` 'llm' trains the language model over a connector with random weights, which stay as they "
                "are: it will hardly see the images. Use 'joint' or 'two_stage', or a pretrained connector."
            )
        self._global = self._initial_shared
        self._store = ClientStore(Path(args.output_dir) / "client_state")
        self._prepared: dict[str, PreparedEvaluation] = {}
        self._client_rows = {name: len(dataset) for name, dataset in sorted(datasets.items())}
        self._client_digests = dict.fromkeys(client_ids or (), "elsewhere")
        self._client_digests |= {name: dataset_digest(dataset) for name, dataset in sorted(datasets.items())}

    def train(self, resume_from_checkpoint: bool | str | None = None) -> TrainOutput:
        """Run all rounds.

        Args:
            resume_from_checkpoint (`bool` or `str`, *optional*):
                `True` goes on after the last whole round in `output_dir`, or starts where there is none yet; a string
                is that `output_dir` or its last round's folder, or a round on the Hub, such as
                `"org/name@round-0003"`, which is brought to `output_dir` first. By default what `args` says.

        Returns:
            `TrainOutput`: the last round, the mean train loss of its clients, and the last scores.

        Raises:
            `ValueError`: if `output_dir` holds rounds and the run is not to go on with them, or holds another run.
            `UpdateError`: if a client's update must not reach the sum.
        """
        if resume_from_checkpoint is None:
            resume_from_checkpoint = self.run_args.resume_from_checkpoint
        self.adapter.write(self._initial)
        self._enter(self.stages[0])
        run = self._describe()
        fresh = RoundStart(self._initial_shared, self.method.strategy.init(self._initial_shared))
        resume = fetched(resume_from_checkpoint, self._local_run(run), self.run_args.hub_token)
        start = start_run(self.run_args.output_dir, run, resume, self._store, fresh)
        if (stage := stage_at(self.stages, start.round_idx)) != self._stage:
            # what an earlier stage trained is fixed now, and only in the export
            self.adapter.write(load_export(self.run_args.output_dir, start.round_idx))
            self._enter(stage)
        was_frozen = gc.get_freeze_count() > 0  # by the caller, who would find it thawed
        gc.collect()
        gc.freeze()  # each Trainer.train() collects garbage, and need not walk the frozen model's objects
        try:
            end = run_rounds(
                start=start,
                num_rounds=self.run_args.num_rounds,
                strategy=self.method.strategy,
                engine=self._engine(),
                cohort=self._cohort,
                evaluate=self._evaluate_round,
                begin_round=self._begin_round,
                callbacks=self._all_round_callbacks(run),
                transforms=self.transforms,
            )
        finally:
            if not was_frozen:
                gc.unfreeze()
        self._global = end.tensors
        self._load_tensors(end.tensors, {})
        losses = [client["train_loss"] for client in end.history[-1].clients.values()]
        return TrainOutput(end.round_idx, sum(losses) / max(len(losses), 1), flat_scores(end.history[-1].evaluations))

    def evaluate(
        self,
        eval_dataset: Dataset | Mapping[str, Dataset] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Score the global model by generation, or each client's own where the method personalises.

        Args:
            eval_dataset (`Dataset` or `Mapping[str, Dataset]`, *optional*):
                By default the sets that the trainer was built with.
            ignore_keys, metric_key_prefix:
                Kept for the signature of [`~transformers.Trainer`]; names come from the evaluation sets.

        Returns:
            `dict[str, float]`: such as `{"test/vqa_accuracy": 0.8, "test_client_00/vqa_accuracy": 0.8}`.
        """
        prepared = self._prepare_evaluations()
        if eval_dataset is not None:
            prepared = {k: self._prepare(v) for k, v in evaluation_datasets({}, eval_dataset).items()}
        return flat_scores({name: self._evaluate_one(e, self._global) for name, e in prepared.items()})

    def _evaluate_round(self, round_idx: int, tensors: TensorDict) -> dict[str, EvalResult]:
        if round_idx % self.run_args.eval_every and round_idx != self.run_args.num_rounds:
            return {}
        return {name: self._evaluate_one(e, tensors) for name, e in self._prepare_evaluations().items()}

    def _prepare_evaluations(self) -> dict[str, PreparedEvaluation]:
        if not self._prepared:
            self._prepared = {name: self._prepare(dataset) for name, dataset in self.evaluation_sets.items()}
        return self._prepared

    def _prepare(self, dataset: Dataset) -> PreparedEvaluation:
        return PreparedEvaluation(
            dataset,
            self.processing_class,
            batch_size=self.run_args.per_device_eval_batch_size,
            max_new_tokens=self.run_args.eval_max_new_tokens,
            by_client=bool(self._private),
        )

    def _evaluate_one(self, prepared: PreparedEvaluation, tensors: TensorDict) -> EvalResult:
        self._load_tensors(tensors, {})
        autocast_dtype = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else None
        with evaluation_bar(len(prepared), self.args.disable_tqdm) as bar:
            return prepared.run(
                self.model,
                autocast_dtype=autocast_dtype,
                on_batch=bar.update,
                load_client=self._load_client if self._private else None,
            )

    def _load_client(self, client_id: str) -> None:
        self.adapter.write(self._store.load(client_id).get("private", self._initial_private))

    def _begin_round(self, round_idx: int, tensors: TensorDict, state: ServerState) -> tuple[TensorDict, ServerState]:
        """Where a new stage begins, other tensors train and travel, and the server starts afresh with them."""
        stage = stage_at(self.stages, round_idx)
        if stage == self._stage:
            return tensors, state
        self._load_tensors(tensors, {})
        self._enter(stage)
        return self._initial_shared, self.method.strategy.init(self._initial_shared)

    def _engine(self) -> Engine:
        """Hook: who runs the clients."""
        return InProcessEngine(self.run_client)

    def _cohort(self, round_idx: int) -> list[str]:
        sizes = {name: len(self.clients.get(name, [None])) for name in self.client_ids}
        size = min(self.cohort_size, len(sizes))
        return sample_cohort(sizes, size, self.run_args.client_sampling, self.run_args.seed, round_idx)

    def _describe(self) -> dict[str, Any]:
        """Content of `run.json`: everything that a bit of a round depends on."""
        return describe_run(
            method=self.run_args.method_name,
            base_model=self.model.get_base_model().config._name_or_path,
            config=self.run_args.to_dict()
            | {
                "method": repr(self.method),
                "tuning": self.tuning,
                "stage_rounds": [stage.first_round - 1 for stage in self.stages[1:]],
            },
            adapter=self.adapter.read(self.adapter.parameters).digest(),
            clients=self._client_digests,
            evaluations={name: dataset_digest(dataset) for name, dataset in self.evaluation_sets.items()},
            transforms=[repr(transform) for transform in self.transforms],
        )

    def _local_run(self, run: Mapping[str, Any]) -> LocalRun:
        shapes = {name: parameter.shape for name, parameter in self.adapter.parameters.items()}
        is_continuous = self.method.client.is_continuous
        return LocalRun(self.run_args.output_dir, run, shapes, self._store, list(self.clients), is_continuous)

    def _all_round_callbacks(self, run: Mapping[str, Any]) -> list[RoundCallback]:
        args, output_dir = self.run_args, self.run_args.output_dir
        return [
            CheckpointCallback(output_dir, run, self._export, self._store, args.save_total_limit),
            TrackerCallback(self._reporters, args, self.model),
            ReportCallback(output_dir, args.method_name, self.evaluation_sets),
            CardCallback(output_dir, self._run_info(run)),
            RoundProgress(disable=args.disable_tqdm),
            *self._round_callbacks,
            *self._hub_callbacks(),  # what it sends is complete only now
        ]

    def _run_info(self, run: Mapping[str, Any]) -> RunInfo:
        return run_info(
            run,
            self.run_args,
            *(self.tuning, self.method, self.model, self.clients),
            clients=self._client_rows,
            is_personal=bool(self._private),
            is_simulated=len(self.clients) == len(self.client_ids),  # the others train on hosts of their own
        )

    def _export(self, folder: Path, tensors: TensorDict) -> None:
        self._load_tensors(tensors, {})
        self.adapter.export(folder)

    def _take_over_display(self) -> None:
        """One bar for rounds and one for the client at work; one tracker run with the round as its step."""
        for callback in (ProgressCallback, PrinterCallback):
            self.remove_callback(callback)
        popped = map(self.pop_callback, get_reporting_integration_callbacks(self.args.report_to))
        self._reporters = [reporter for reporter in popped if reporter is not None]
        self._client_progress = ClientProgress(disable=self.args.disable_tqdm)
        self.add_callback(self._client_progress)

    def _check_method(self) -> None:
        args, client = self.run_args, self.method.client
        if args.fp16 and client.adjusts_gradients:
            raise ValueError(
                f"`fp16` cannot be used with `method` {args.method_name!r}: it changes gradients, and with fp16 they "
                "are multiplied by a loss scale at that moment. Use `bf16`."
            )
        if client.is_continuous and not args.lr_scheduler_type.value.startswith("constant"):
            raise ValueError(
                f"`method` {args.method_name!r} is one run cut into rounds, so `lr_scheduler_type` must be constant, "
                f"got {args.lr_scheduler_type.value!r}. `round_lr_scheduler_type` changes the rate between rounds."
            )

    def _check_personalised(self) -> None:
        for name, dataset in self.evaluation_sets.items() if self._private else ():
            if "client_id" not in dataset.column_names or None in dataset.unique("client_id"):
                raise ValueError(
                    f"`method` {self.run_args.method_name!r} gives each client a model of its own, but `eval_dataset` "
                    f"{name!r} does not say in a column `client_id` whose each row is. Add it, or drop rows without."
                )

    def _send_telemetry(self) -> None:
        """Nothing: TRL reports trainer and model names at construction, and no telemetry may leave a client."""


def flat_scores(evaluations: Mapping[str, EvalResult]) -> dict[str, float]:
    """Scores by name, one slash each: `test/vqa_accuracy`, `test_client_00/vqa_accuracy`."""
    flat = {}
    for name, result in evaluations.items():
        flat.update({f"{name}/{key}": value for key, value in result.scores.items()})
        for part, scores in {**result.clients, **result.subsets}.items():
            flat.update({f"{name}_{part}/{key}": value for key, value in scores.items()})
    return flat
