"""FederatedMixin: turns an HF Trainer into the client of a federation, and `train()` into the run of one."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset
from peft import PeftConfig, PeftModel
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import TrainOutput

from .callbacks import RoundCallback
from .client.loading import load_model
from .client.model import ClientModel
from .client.run import ClientMixin
from .client.store import ClientStore
from .config import FederatedArguments
from .data.clients import Roster, check_content, check_max_length, client_datasets, evaluation_datasets
from .data.framing import PreparingCollator, wrap_collator
from .data.spec import RowFormat
from .engines.in_process import InProcessEngine
from .evaluation import flat_scores
from .federation import Federation
from .methods import resolve_method
from .models.vlm import vlm_parts
from .progress import ClientProgress, print_loading, print_parts
from .reporting.trackers import ClientTrackerCallback
from .sampling import cohort_size
from .transforms import Transform, TransformChain, resolve_transforms


class FederatedMixin(ClientMixin):
    """Federated rounds for an HF Trainer; put it before the Trainer in the bases.

    A subclass names its `row_format`, the `config_class` of its arguments and the `collator_class` of its Trainer.

    Args:
        model (`str`, [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            The name or folder of a model, a model, or a model that has its adapter already.
        args ([`FederatedArguments`], *optional*):
            Arguments of the run; the object itself is not changed.
        train_dataset (`DatasetDict` or `Mapping[str, Dataset]`):
            Clients: the splits `client_*` of a DatasetDict, or every key of a plain mapping. Rows may also have a
            column `image` and TRL's `messages`, see [`~fedvlm_hf.data.rows.in_row_format`].
        eval_dataset (`Dataset` or `Mapping[str, Dataset]`, *optional*):
            What to evaluate on; by default the split `test`. A mapping gives one evaluation for each of its keys.
        processing_class ([`~transformers.ProcessorMixin`], *optional*):
            The model's processor, loaded with it by default.
        peft_config ([`~peft.PeftConfig`], *optional*):
            The adapter. By default LoRA with r=8, alpha=32 and dropout 0.05 on every linear layer of the language
            model and nothing else. The connector is added to it, so that the export of every round holds it.
        quantization_config ([`~transformers.BitsAndBytesConfig`], *optional*):
            How the base model is quantised; it needs the model by name.
        callbacks (`list`, *optional*):
            [`~transformers.TrainerCallback`] objects see each client run, [`RoundCallback`] objects each round.
        transforms (`Sequence[str | Transform]`, *optional*):
            What happens to updates on their way, instead of `args.transforms`.
        client_ids (`Sequence[str]`, *optional*):
            Every client of the federation, where not all of them have their rows here. Seeds depend on it.
        kwargs:
            Everything else that the trainer takes.

    Raises:
        `ValueError`: on arguments or data that cannot be trained on, before any training.
    """

    row_format: ClassVar[RowFormat]
    config_class: ClassVar[type[FederatedArguments]]
    collator_class: ClassVar[Callable]
    federation_class: ClassVar[type[Federation]] = Federation

    def __init__(
        self,
        model: str | PreTrainedModel | PeftModel,
        args: FederatedArguments | None = None,
        train_dataset: Mapping[str, Dataset] | None = None,
        eval_dataset: Dataset | Mapping[str, Dataset] | None = None,
        processing_class: ProcessorMixin | None = None,
        peft_config: PeftConfig | None = None,
        quantization_config: Any = None,
        callbacks: Sequence[TrainerCallback | RoundCallback] | None = None,
        transforms: Sequence[str | Transform] | None = None,
        client_ids: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        args = copy.copy(args) if args is not None else self.config_class()
        args.check_launch(kwargs)
        self.run_args, self.method = args, resolve_method(args.method, args.method_kwargs)
        self._check_method()
        chain = resolve_transforms(
            args.transforms if transforms is None else transforms, args.transform_kwargs, self.method
        )
        self.transforms = TransformChain(chain, args.seed)
        # before a model of many gigabytes is loaded
        datasets = client_datasets(train_dataset, client_ids, self.row_format)
        evaluation_sets = evaluation_datasets(train_dataset, eval_dataset)
        self.num_clients = len(client_ids or datasets)
        self.cohort_size = cohort_size(args.clients_per_round, self.num_clients)
        if args.check_data:
            print_loading("checking data")
            check_content(datasets, evaluation_sets, self.row_format)
        if isinstance(model, str):
            print_loading(f"loading model {Path(model).name if Path(model).is_dir() else model}")
        model, processing_class = load_model(
            model, args, processing_class, peft_config, quantization_config, type(self).__name__
        )
        print_parts(vlm_parts(model))
        check_max_length(datasets, PreparingCollator(self.collator_class(processing_class)), args.max_length)
        clients = self.method.client.clients(datasets)
        self.client_ids = sorted(client_ids or clients)
        super().__init__(
            model=model,
            args=self._client_arguments(),
            train_dataset=next(iter(clients.values()), self.row_format.example()),
            processing_class=processing_class,
            callbacks=[c for c in callbacks or [] if not isinstance(c, RoundCallback)],
            **kwargs,
        )
        self.data_collator = wrap_collator(self.data_collator, self.processing_class, datasets)
        self.clients = {name: self._training_columns(rows) for name, rows in clients.items()}
        self.args.remove_unused_columns = False  # they are gone, and Trainer need not look for them before every run
        self.local = ClientModel(self.model, self.method.client, args.tuning, args.num_rounds, args.stage_rounds)
        self.check_first_row()
        self.store = ClientStore(Path(args.output_dir) / "client_state")
        self.federation = self.federation_class(
            args,
            self.method,
            self.local,
            Roster(datasets, client_ids, clients if clients.keys() != datasets.keys() else None),
            InProcessEngine(self.run_client),
            self.processing_class,
            evaluation_sets,
            self.transforms,
            self.store,
            [c for c in callbacks or [] if isinstance(c, RoundCallback)],
            self._take_over_display(),
        )

    def train(self, resume_from_checkpoint: bool | str | None = None) -> TrainOutput:
        """Run all rounds.

        Args:
            resume_from_checkpoint (`bool` or `str`, *optional*):
                `True` continues after the last whole round in `output_dir`, or starts if there is none yet; a string
                is that `output_dir` or its last round's folder, or a round on the Hub, such as
                `"org/name@round-0003"`, which is brought to `output_dir` first. By default what `args` says.

        Returns:
            `TrainOutput`: the last round, the mean train loss of its clients, and the last scores.

        Raises:
            `ValueError`: if `output_dir` holds rounds and the run is not to continue them, or holds another run.
            `UpdateError`: if a client's update must not reach the sum.
        """
        if resume_from_checkpoint is None:
            resume_from_checkpoint = self.run_args.resume_from_checkpoint
        last = self.federation.run(resume_from_checkpoint).history[-1]
        losses = [client["train_loss"] for client in last.clients.values()]
        return TrainOutput(last.round_idx, sum(losses) / max(len(losses), 1), flat_scores(last.evaluations))

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
        return self.federation.evaluate(eval_dataset)

    def push_to_hub(self, token: str | None = None) -> str:
        """Send every round in `output_dir` that is not on the Hub yet; see [`Federation.push_to_hub`]."""
        return self.federation.push_to_hub(token)

    def _client_arguments(self) -> FederatedArguments:
        """The arguments of the Trainer that runs clients: it pushes nothing."""
        args = copy.copy(self.run_args)
        args.push_to_hub = False
        return args

    def _training_columns(self, rows: Dataset) -> Dataset:
        """The rows of a client with the columns that the collator takes."""
        if not self.run_args.remove_unused_columns:
            return rows
        return rows.select_columns([column for column in self.row_format.columns if column in rows.column_names])

    def _take_over_display(self) -> list[TrainerCallback]:
        """One bar for rounds and one for the client that trains; the trackers, whose step is the round."""
        for callback in (ProgressCallback, PrinterCallback):
            self.remove_callback(callback)
        popped = [self.pop_callback(tracker) for tracker in get_reporting_integration_callbacks(self.args.report_to)]
        reporters = [reporter for reporter in popped if reporter is not None]
        self.add_callback(ClientProgress(disable=self.args.disable_tqdm))
        if self.run_args.log_local_steps:
            self.add_callback(ClientTrackerCallback(reporters, self.run_args))
        return reporters

    def _check_method(self) -> None:
        args, client = self.run_args, self.method.client
        client.check_config(args)
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
