"""FederatedTrainer: TRL's SFTTrainer as the client of a federation."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from datasets import Dataset
from peft import PeftConfig, PeftModel, get_peft_model
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
    ProcessorMixin,
    set_seed,
)
from trl import SFTTrainer
from trl.trainer.utils import create_model_from_path

from .adapters import complete_config
from .config import FederatedConfig
from .data.clients import check_max_length, client_datasets
from .federated import FederatedMixin
from .models.quantization import skip_trained_modules
from .models.vlm import check_trainable, sft_obstacle


class FederatedTrainer(FederatedMixin, SFTTrainer):
    """
    Fine-tunes a vision-language model over clients whose data stay where they are.

    Args:
        model (`str`, [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            A model's name or folder, a model, or a model that has its adapter already, as in [`~trl.SFTTrainer`].
        args ([`FederatedConfig`], *optional*):
            Arguments of the run.
        train_dataset (`DatasetDict` or `Mapping[str, Dataset]`):
            Clients: the splits `client_*` of a DatasetDict, or every key of a plain mapping. Rows as in
            `fedvlm_hf.data.spec`.
        eval_dataset (`Dataset` or `Mapping[str, Dataset]`, *optional*):
            What to evaluate on; by default the split `test`. A mapping gives one evaluation each.
        processing_class ([`~transformers.ProcessorMixin`], *optional*):
            The model's processor, loaded with it by default.
        peft_config ([`~peft.PeftConfig`], *optional*):
            The adapter. By default LoRA with r=8, alpha=32 and dropout 0.05 on every linear of the language model and
            nothing else. The connector is added to it, so that every round's export holds it.
        quantization_config ([`~transformers.BitsAndBytesConfig`], *optional*):
            As in [`~trl.SFTTrainer`]; it needs the model by name.
        client_ids (`Sequence[str]`, *optional*):
            Every client of the federation, where `train_dataset` has not all of them: others are on other hosts.
        kwargs:
            What [`FederatedMixin`] (`callbacks`, `transforms`) and [`~trl.SFTTrainer`] (`data_collator`) take besides.

    Raises:
        `ValueError`: on arguments or data that cannot be trained on, before any training.

    Example:

    ```python
    >>> from fedvlm_hf import FederatedConfig, FederatedTrainer
    >>> from fedvlm_hf.mini import base_model, fed_nature

    >>> trainer = FederatedTrainer(
    ...     model=base_model("llava"),
    ...     args=FederatedConfig(output_dir="out", num_rounds=3, max_steps=2, bf16=False),
    ...     train_dataset=fed_nature(),
    ... )
    >>> trainer.train()  # doctest: +SKIP
    ```
    """

    _tag_names: ClassVar[list[str]] = ["fedvlm_hf", "federated-learning", "trl", "sft"]
    _name = "Federated SFT"

    def __init__(
        self,
        model: str | PreTrainedModel | PeftModel,
        args: FederatedConfig | None = None,
        train_dataset: Mapping[str, Dataset] | None = None,
        eval_dataset: Dataset | Mapping[str, Dataset] | None = None,
        processing_class: ProcessorMixin | None = None,
        peft_config: PeftConfig | None = None,
        quantization_config: Any = None,
        client_ids: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        args = copy.copy(args) if args is not None else FederatedConfig()
        clients = client_datasets(train_dataset, client_ids)  # before a model of many gigabytes is loaded
        revision = (args.model_init_kwargs or {}).get("revision")
        if isinstance(model, str):
            model = _load(model, args, quantization_config, peft_config)
        if obstacle := sft_obstacle(model):
            raise ValueError(f"`model` cannot be trained by SFTTrainer: {obstacle}")
        if processing_class is None:
            processing_class = AutoProcessor.from_pretrained(
                model.config._name_or_path, revision=revision, trust_remote_code=args.trust_remote_code
            )
        check_max_length(clients, processing_class, args.max_length)
        if not isinstance(model, PeftModel):
            set_seed(args.seed)  # LoRA's A is random: the same seed gives every process the same adapter
            with (
                warnings.catch_warnings()
            ):  # PEFT 0.21 reads a property that transformers 5.23 renamed; no user can help it
                warnings.simplefilter("ignore", FutureWarning)
                model = get_peft_model(model, complete_config(peft_config, model))
        elif peft_config is not None:
            raise ValueError(
                "`peft_config` was given beside a PeftModel, which has its adapter already. Pass one of the two."
            )
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            client_ids=client_ids,
            **kwargs,
        )

    def reset_counters(self) -> None:
        """SFTTrainer goes on counting tokens and metrics from one `train()` to the next."""
        self._total_train_tokens = 0
        for metrics in self._metrics.values():
            metrics.clear()


def _load(
    name: str, args: FederatedConfig, quantization_config: Any, peft_config: PeftConfig | None
) -> PreTrainedModel:
    """Load a model as SFTTrainer does: here rather than there, since the adapter is built for the loaded model."""
    kwargs = {"trust_remote_code": args.trust_remote_code, **(args.model_init_kwargs or {})}
    args.model_init_kwargs = None  # they are used up: SFTTrainer would warn that it ignores them
    config = AutoConfig.from_pretrained(
        name, revision=kwargs.get("revision"), trust_remote_code=args.trust_remote_code
    )
    check_trainable(config)
    if quantization_config is not None:
        trained = (peft_config and peft_config.modules_to_save) or ()
        kwargs["quantization_config"] = skip_trained_modules(quantization_config, config, trained)
    # TRL 1.16 looks for the class in transformers alone, and fails on one that was registered from elsewhere
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        kwargs["architecture"] = AutoModelForImageTextToText
    return create_model_from_path(name, **kwargs)
