"""FederatedArguments: the knobs of every federated run. A method's own knobs are in the method's file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from trl import SFTConfig

from .precision import choose_precision
from .repository.requests import check_repo_id


_POSITIVE = (
    *("num_rounds", "eval_every", "eval_max_new_tokens", "gradient_accumulation_steps"),
    *("per_device_train_batch_size", "per_device_eval_batch_size"),
)


@dataclass
class FederatedArguments:
    r"""
    Arguments of the rounds, to be mixed into the configuration of any HF Trainer, before it in the bases.

    The arguments of that configuration then mean one client's local work in one round. A client run is not a whole
    run, so these defaults differ from TRL's: `num_train_epochs` 1, `lr_scheduler_type` constant, `save_strategy` and
    `eval_strategy` `"no"`, `max_length` `None` (cutting a VLM's sequence can cut its image tokens or its answer).
    `bf16` follows the device unless it is given: bf16 where the accelerator computes in it, otherwise fp32. A
    repository that is made is private unless `hub_private_repo` is `False`, and `output_dir` is
    `out/METHOD-seedSEED`, below `out/RUN_NAME` if there is a `run_name`, so that runs to compare lie side by side.

    Parameters:
        > Parameters of the rounds

        num_rounds (`int`, *optional*, defaults to `10`):
            Rounds to run. Round 0 is the evaluation before training. A run that is resumed with more rounds than it
            had goes on; a schedule over rounds is then the one of the new number, from the next round on.
        clients_per_round (`float`, *optional*):
            Clients that take part in each round: below 1 a fraction of them, from 1 a number. All by default.
        client_sampling (`str`, *optional*, defaults to `"uniform"`):
            How they are drawn: `"uniform"`, or `"weighted"` by their number of rows.
        client_weighting (`str`, *optional*, defaults to `"num_samples"`):
            Weights in the mean: `"num_samples"`, or `"uniform"`.
        round_lr_scheduler_type (`str`, *optional*, defaults to `"constant"`):
            How `learning_rate` changes between rounds: `"constant"`, or `"cosine"` from `learning_rate` in round 1 to
            near `round_min_learning_rate` in the last. Inside a round it is what `lr_scheduler_type` says.
        round_min_learning_rate (`float`, *optional*, defaults to `0.0`):
            Rate towards which `"cosine"` falls.

        > Parameters of the method

        method (`str`, *optional*, defaults to `"fedavg"`):
            A registered method, such as `"fedavg"`, or the baselines `"central"` and `"local"`. Two halves combine as
            `"client+server"`. An object is also taken, see [`~fedvlm_hf.methods.Method`].
        method_kwargs (`dict[str, Any]`, *optional*):
            The method's own knobs.
        tuning (`str`, *optional*):
            What trains: `"connector"`, `"llm"` (LoRA on the language model), `"joint"` (both) or `"two_stage"` (the
            connector in the first rounds, LoRA in the others). Joint by default, or llm where the model has no
            connector.
        stage_rounds (`int`, *optional*):
            Rounds of the first of two stages. By default half of `num_rounds`, rounded down.
        transforms (`list[str]`, *optional*):
            What happens to updates on their way, by registered names, in the order in which they change an update at
            the client, such as `["clip", "gaussian"]`. None by default. No epsilon is computed.
        transform_kwargs (`dict[str, Any]`, *optional*):
            The knobs of the transforms. Each goes to every transform that has a knob of this name.

        > Parameters of the data

        check_data (`bool`, *optional*, defaults to `True`):
            Read every row and decode every image once before training. What passed is remembered, so that the same
            data are not checked again. `False` skips it: a bad row then fails, or trains wrongly, when it is met.

        > Parameters of the evaluation and the trackers

        eval_every (`int`, *optional*, defaults to `1`):
            Evaluate after every so many rounds; round 0 and the last round always are.
        eval_max_new_tokens (`int`, *optional*):
            Longest answer in tokens. By default it is derived from each task's references.
        log_local_steps (`bool`, *optional*, defaults to `False`):
            Also log to the trackers of `report_to` what each client's Trainer logs every `logging_steps` steps, such
            as its loss. Only clients that run in this process are logged.

        > Parameters of the engine

        engine (`str`, *optional*, defaults to `"in_process"`):
            Who runs the clients.

        > Parameters of the Hub. With `push_to_hub` every round becomes a commit of `hub_model_id` with a tag, sent
        > while the next one trains. `hub_strategy` `"end"` pushes only the last one; its other values all mean every
        > round, since each holds what resuming takes. `hub_always_push` changes nothing: no round is left out.

        push_client_adapters (`bool`, *optional*, defaults to `False`):
            Also push what clients keep for themselves: adapter and state, each client on the branch
            `clients/client_00`. Who may read the repository can then read them.
        share_client_names (`bool`, *optional*, defaults to `True`):
            Whether clients keep their names on the Hub. Otherwise they are numbered in the order of their names.
        hub_base_model (`str`, *optional*):
            Repository of the base model, where `model` is a folder with a copy of it. Without it, a base model in a
            folder is pushed too, to `hub_model_id` with `-base` at its end.
        hub_patience (`float`, *optional*, defaults to `600.0`):
            How long the end of training waits for a Hub that cannot be reached, in seconds. The rest stays on disk.
    """

    objective: ClassVar[str] = "sft"
    """What clients train on, as the Hub tags it."""
    deciding: ClassVar[tuple[str, ...]] = (
        *("num_rounds", "clients_per_round", "client_sampling", "client_weighting", "round_lr_scheduler_type"),
        *("round_min_learning_rate", "tuning", "stage_rounds", "seed", "data_seed", "full_determinism"),
        *("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps"),
        *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "optim", "optim_args"),
        *("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "label_smoothing_factor"),
        *("neftune_noise_alpha", "bf16", "fp16", "tf32", "gradient_checkpointing", "use_liger_kernel"),
        *("train_sampling_strategy", "dataloader_drop_last", "max_length"),
    )
    """Arguments that change the bits of a round: what a resumed run must share, and what clients on other hosts take
    from their server. Method and transforms are described apart."""

    # Defaults that differ from those of TRL, because a client run is not a whole run
    num_train_epochs: float = field(
        default=1.0, metadata={"help": "Local epochs of each client in each round; ignored if `max_steps` is set."}
    )
    max_steps: int = field(
        default=-1, metadata={"help": "Local optimizer steps of each client in each round; -1 to go by epochs."}
    )
    lr_scheduler_type: str = field(
        default="constant",
        metadata={"help": "Schedule of the learning rate inside one client run; see `round_lr_scheduler_type`."},
    )
    save_strategy: str = field(
        default="no", metadata={"help": "Must stay 'no': every round is saved, whole, at its end."}
    )
    eval_strategy: str = field(default="no", metadata={"help": "Must stay 'no': see `eval_every`."})
    max_length: int | None = field(
        default=None,
        metadata={"help": "Longest sequence in tokens; data that it would cut is refused. No limit by default."},
    )

    # Rounds
    num_rounds: int = field(default=10, metadata={"help": "Rounds to run."})
    clients_per_round: float | None = field(
        default=None,
        metadata={"help": "Clients in each round: below 1 a fraction, from 1 a number. All by default."},
    )
    client_sampling: str = field(
        default="uniform",
        metadata={"help": "How a round's clients are drawn.", "choices": ["uniform", "weighted"]},
    )
    client_weighting: str = field(
        default="num_samples",
        metadata={"help": "Weights of the clients in the mean.", "choices": ["num_samples", "uniform"]},
    )
    round_lr_scheduler_type: str = field(
        default="constant",
        metadata={"help": "How the learning rate changes between rounds.", "choices": ["constant", "cosine"]},
    )
    round_min_learning_rate: float = field(
        default=0.0, metadata={"help": "Learning rate towards which the cosine schedule falls."}
    )

    # Method
    method: str = field(
        default="fedavg", metadata={"help": "A registered method; 'central' and 'local' are the baselines."}
    )
    method_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "The method's own knobs, as a JSON dictionary."}
    )
    tuning: str | None = field(
        default=None,
        metadata={
            "help": "What trains: 'connector', 'llm', 'joint' (default if there is a connector) or 'two_stage'."
        },
    )
    stage_rounds: int | None = field(
        default=None,
        metadata={"help": "With two_stage: rounds in which the connector trains, before LoRA does. Half by default."},
    )

    transforms: list[str] | None = field(
        default=None,
        metadata={
            "help": "What happens to updates on their way, such as 'quantize', or 'clip gaussian': the noise of "
            "DP-FedAvg for cohorts of a fixed size. No epsilon is computed. `fedvlm methods` lists them."
        },
    )
    transform_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "The knobs of the transforms, as a JSON dictionary."}
    )

    # Data
    check_data: bool = field(
        default=True, metadata={"help": "Read every row and decode every image before training, once."}
    )

    # Evaluation and trackers
    eval_every: int = field(
        default=1, metadata={"help": "Evaluate after every so many rounds; rounds 0 and the last always are."}
    )
    eval_max_new_tokens: int | None = field(
        default=None, metadata={"help": "Longest answer in tokens; derived from each task's references by default."}
    )
    log_local_steps: bool = field(
        default=False, metadata={"help": "Also send each client's own logs to the trackers."}
    )

    # Engine
    engine: str = field(default="in_process", metadata={"help": "Who runs the clients.", "choices": ["in_process"]})

    # Hub
    push_client_adapters: bool = field(
        default=False, metadata={"help": "Also push each client's own adapter and state, on its own branch."}
    )
    share_client_names: bool = field(
        default=True, metadata={"help": "Whether clients keep their names on the Hub, or become numbers."}
    )
    hub_base_model: str | None = field(
        default=None,
        metadata={"help": "Repository of the base model, where the model is a folder with a copy of it."},
    )
    hub_patience: float = field(
        default=600.0,
        metadata={"help": "How long the end of training waits for a Hub that cannot be reached, in seconds."},
    )

    def __post_init__(self):
        if self.output_dir is None:
            self.output_dir = "/".join(filter(None, ["out", self.run_name, f"{self.method_name}-seed{self.seed}"]))
        if self.activation_checkpointing is None:  # the old name, which TRL sets, makes transformers warn
            self.activation_checkpointing = self.gradient_checkpointing
        self.bf16, self.fp16 = choose_precision(self.bf16, self.fp16, self.use_cpu)
        super().__post_init__()
        self._check_rounds()
        self._check_choices()
        self._check_refused()
        self._check_hub()
        if self.log_local_steps and not self.report_to:
            raise ValueError("`log_local_steps` needs a tracker. Set `report_to` to one, such as 'tensorboard'.")

    def to_dict(self) -> dict[str, Any]:
        """Every argument as JSON values; a method or transforms that were passed as objects become their text."""
        values = super().to_dict()
        values["method"] = self.method_name
        values["transforms"] = None if self.transforms is None else list(map(str, self.transforms))
        return values

    @property
    def method_name(self) -> str:
        """The method's name, or what an object that was passed for it prints."""
        return self.method if isinstance(self.method, str) else repr(self.method)

    def round_learning_rate(self, round_idx: int) -> float:
        """The clients' learning rate in a round: constant, or half a cosine towards `round_min_learning_rate`.

        As in FedVLMBench's code, round r of R is at (r - 1) / R of the cosine, so the last round still learns.
        """
        if self.round_lr_scheduler_type == "constant":
            return self.learning_rate
        share = (1 + math.cos(math.pi * (round_idx - 1) / self.num_rounds)) / 2
        return self.round_min_learning_rate + (self.learning_rate - self.round_min_learning_rate) * share

    def check_launch(self, trainer_kwargs: Mapping[str, Any]) -> None:
        """Refuse, in plain words, launches and trainer arguments that have no meaning in a federated run.

        Args:
            trainer_kwargs (`Mapping[str, Any]`):
                Arguments for the trainer other than model, data and callbacks.

        Raises:
            `ValueError`: naming the argument and what to do.
        """
        if self.world_size > 1:
            raise ValueError(
                f"This run was launched with {self.world_size} processes, but the engine {self.engine!r} runs clients "
                "one by one in a single process. Launch it with `accelerate launch --num_processes 1`."
            )
        if trainer_kwargs.get("optimizers", (None, None)) != (None, None):
            raise ValueError(
                "`optimizers` cannot be passed: every client run needs a fresh optimizer. Set `optim`, `optim_args` "
                "and `learning_rate` in `args`."
            )
        if trainer_kwargs.get("compute_metrics") is not None:
            raise ValueError("`compute_metrics` cannot be passed: scores come from generated answers.")

    def _check_rounds(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(
                f"`learning_rate` must be a finite number above 0, got {self.learning_rate}: clients would "
                "learn nothing."
            )
        if self.max_steps == 0 or (self.max_steps < 0 and self.num_train_epochs <= 0):
            raise ValueError(
                f"Clients would do nothing: `max_steps` is {self.max_steps} and `num_train_epochs` is "
                f"{self.num_train_epochs}. Set one of them above 0."
            )

    def _check_choices(self) -> None:
        for name, field_ in self.__dataclass_fields__.items():
            choices = field_.metadata.get("choices")
            if choices and name in FederatedArguments.__annotations__ and getattr(self, name) not in choices:
                raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {getattr(self, name)!r}.")

    def _check_refused(self) -> None:
        refused = {
            "load_best_model_at_end": (
                self.load_best_model_at_end,
                "the run always ends with its last round; `rounds/` keeps the others",
            ),
            "auto_find_batch_size": (
                self.auto_find_batch_size,
                "clients with different batch sizes would no longer do comparable work",
            ),
            "save_strategy": (self.save_strategy != "no", "every round is saved, whole, at its end"),
            "eval_strategy": (self.eval_strategy != "no", "rounds are evaluated by `eval_every`"),
        }
        for name, (is_set, reason) in refused.items():
            if is_set:
                raise ValueError(f"`{name}` cannot be set in a federated run: {reason}.")

    def _check_hub(self) -> None:
        if self.push_to_hub and self.hub_model_id is None:
            raise ValueError(
                "`push_to_hub` needs `hub_model_id`, the repository that gets the rounds: set it to 'OWNER/NAME'. "
                "OWNER is your name or an organization's. It is made when the first round is sent."
            )
        for name in ("hub_model_id", "hub_base_model"):
            if getattr(self, name) is not None:
                check_repo_id(name, getattr(self, name))


@dataclass
class FederatedConfig(FederatedArguments, SFTConfig):
    r"""
    Configuration of a federated run of supervised fine-tuning, for [`FederatedTrainer`].

    It has every argument of [`FederatedArguments`] and of [`~trl.SFTConfig`].
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*SFTConfig._VALID_DICT_FIELDS, "method_kwargs", "transform_kwargs"]

    deciding: ClassVar[tuple[str, ...]] = (
        *FederatedArguments.deciding,
        *("activation_checkpointing", "activation_offloading", "pad_to_multiple_of", "completion_only_loss"),
        *("assistant_only_loss", "chat_template_path", "loss_type", "router_aux_loss_coef"),
    )
