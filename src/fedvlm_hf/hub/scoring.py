"""Scoring saved rounds again, by generation, in the same way as the run did."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from datasets import Dataset
from peft import PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, set_seed

from ..client.model import ClientModel, load_base_delta
from ..data.rows import in_row_format
from ..evaluation import PreparedEvaluation
from ..exchange.tensor_files import load_state
from ..methods import ClientMethod, resolve_method
from ..tensors import TensorDict
from ..types import EvalResult, State
from .revision import understood
from .rounds import SavedRounds


_SMALL_RANK = 256  # needs little memory with any model


class RoundScorer:
    """Scores rounds one after another with one base model.

    Args:
        saved ([`~hub.rounds.SavedRounds`]):
            The run's rounds.
        rounds (`Sequence[int]`):
            The rounds to score.
        base_model (`str`, *optional*):
            Folder or repository. By default the one that the rounds' `adapter_config.json` names.
        dtype (`str`, *optional*, defaults to `"float32"`):
            Of the base model; use that of the training.

    Raises:
        `ValueError`: if a round or the base model cannot be found.
    """

    def __init__(
        self, saved: SavedRounds, rounds: Sequence[int], base_model: str | None = None, dtype: str = "float32"
    ):
        for round_idx in rounds:
            saved.check(round_idx)
        self.saved, self.rounds = saved, list(rounds)
        path = saved.adapter_config(self.rounds[-1])
        with understood(path.name, saved.name):
            config = PeftConfig.from_pretrained(str(path.parent))
        self.base_model = base_model or config.base_model_name_or_path
        try:
            base = AutoModelForImageTextToText.from_pretrained(
                _existing(self.base_model),
                dtype=dtype,
                use_safetensors=True if base_model is None else None,  # the rounds may name any repository
            )
            self.processor = AutoProcessor.from_pretrained(self.base_model)
        except OSError as error:
            raise ValueError(
                f"The base model {self.base_model!r} of {saved.name} cannot be loaded: {error}. If it is elsewhere, "
                "name it with `--base_model`."
            ) from error
        self.run = saved.run(self.rounds[-1])
        _check_ranks(config, base, saved.name)
        set_seed(self.run["seed"])  # what clients keep starts from the adapter that the run drew
        with warnings.catch_warnings(), understood(path.name, saved.name):
            # PEFT 0.21 reads a property that transformers 5.23 renamed
            warnings.simplefilter("ignore", FutureWarning)
            model = get_peft_model(base, config)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        with understood("run.json", saved.name):
            self.local = self._make_local(model)
        self.shapes = self.local.initial.shapes

    def _make_local(self, model: PeftModel) -> ClientModel:
        """Return the model with the tensors that each client of the run keeps for itself."""
        config, client = self.run["config"], ClientMethod()
        if any(self.saved.client_versions(round_idx) for round_idx in self.rounds):
            client = resolve_method(self.run["method"], config.get("method_kwargs")).client
        stage_rounds = next(iter(config["stage_rounds"]), None)
        # an earlier version did not keep the number of rounds, which decides nothing here
        num_rounds = config.get("num_rounds", self.rounds[-1] + (stage_rounds or 0) + 1)
        return ClientModel(model, client, config["tuning"], num_rounds, stage_rounds)

    @property
    def is_personal(self) -> bool:
        """Whether each client has its own model."""
        return self.local.is_personal

    def prepare(self, dataset: Dataset, batch_size: int = 8, max_new_tokens: int | None = None) -> PreparedEvaluation:
        """Prepare an evaluation set for all rounds. The longest answer is by default that of the run."""
        if self.is_personal and ("client_id" not in dataset.column_names or None in dataset.unique("client_id")):
            raise ValueError(
                f"`method` {self.run['method']!r} gives each client its own model, but the rows have no column "
                "`client_id` that names the client of each row."
            )
        return PreparedEvaluation(
            in_row_format(dataset, "`dataset_name`"),
            self.processor,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens or self.run["config"].get("eval_max_new_tokens"),
            by_client=self.is_personal,
        )

    def load(self, round_idx: int, client_id: str | None = None) -> PeftModel:
        """Put a round into the model, and over it what a client keeps for itself if one is named."""
        exported = TensorDict.from_tensors(load_file(self.saved.weights(round_idx, self.shapes)))
        self.local.adapter.write(exported)
        self.local.adapter.change_base(self._base_change(round_idx))
        if client_id is not None:
            versions = self.saved.client_versions(round_idx)
            self.local.load_personal(self._state(client_id, versions[client_id]) if client_id in versions else {})
        return self.local.model

    def score(self, round_idx: int, prepared: PreparedEvaluation, on_batch: Callable[[int], None]) -> EvalResult:
        """Score a round; if each client has its own model, its rows are answered by that model."""
        config = self.run["config"]
        dtype = torch.bfloat16 if config.get("bf16") else torch.float16 if config.get("fp16") else None
        model = self.load(round_idx)
        if not self.is_personal:
            return prepared.run(model, autocast_dtype=dtype, on_batch=on_batch)

        def load_client(client_id: str) -> None:
            self.load(round_idx, client_id)

        return prepared.run(model, autocast_dtype=dtype, on_batch=on_batch, load_client=load_client)

    def _base_change(self, round_idx: int) -> TensorDict:
        path = self.saved.base_delta(round_idx, self.shapes)
        return TensorDict({}) if path is None else load_base_delta(path)

    def _state(self, client_id: str, version: int) -> State:
        path = self.saved.client_state(client_id, version, self.shapes)
        if path is None:
            raise ValueError(
                f"{self.saved.name} does not have what {client_id} keeps for itself, so its model cannot be scored. "
                "The Hub has it if the run was trained with `--push_client_adapters`."
            )
        return load_state(path)


def _check_ranks(config: PeftConfig, base: PreTrainedModel, name: str) -> None:
    """Check that the adapter is not larger than the base model, since whoever wrote the round chose its rank."""
    full = max(min(parameter.shape) for parameter in base.parameters() if parameter.dim() == 2)
    rank = max([config.r, *config.rank_pattern.values()])
    if rank > max(full, _SMALL_RANK):
        raise ValueError(
            f"adapter_config.json of {name} has the rank {rank:,}, but the weights of the base model have the rank "
            f"{full:,} at most. It is not the adapter of this model."
        )


def _existing(base_model: str) -> str:
    is_folder = Path(base_model).is_absolute() or base_model.startswith(".")
    if is_folder and not Path(base_model).is_dir():
        raise ValueError(
            f"The base model was in '{base_model}', which no longer exists. Run the command in the directory in which "
            "the run was started, or name the base model with `--base_model`."
        )
    return base_model
