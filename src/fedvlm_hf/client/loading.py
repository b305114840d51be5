"""Loading a model and giving it its adapter, in the same way at every client and at a server."""

import warnings
from typing import Any

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
from trl.trainer.utils import create_model_from_path

from ..config import FederatedArguments
from ..models.quantization import skip_trained_modules
from ..models.vlm import check_trainable, sft_obstacle
from .adapters import complete_config
from .peft_config import warn_outside_language_model


def load_model(
    model: str | PreTrainedModel | PeftModel,
    args: FederatedArguments,
    processor: ProcessorMixin | None = None,
    peft_config: PeftConfig | None = None,
    quantization_config: Any = None,
    trainer_name: str = "FederatedTrainer",
) -> tuple[PeftModel, ProcessorMixin]:
    """Return a model with its adapter, and its processor.

    Args:
        model (`str`, [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            The name or folder of a model, a model, or a model that has its adapter already.
        args ([`FederatedArguments`]):
            Arguments of the run. Its `model_init_kwargs` are used up.
        processor ([`~transformers.ProcessorMixin`], *optional*):
            The model's processor, loaded with it by default.
        peft_config ([`~peft.PeftConfig`], *optional*), quantization_config (*optional*):
            As in [`FederatedMixin`].
        trainer_name (`str`, *optional*):
            The trainer that an error names.

    Raises:
        `ValueError`: if the model cannot be trained.
    """
    revision = (args.model_init_kwargs or {}).get("revision")
    if isinstance(model, str):
        model = _load(model, args, quantization_config, peft_config)
    else:
        check_trainable((model.get_base_model() if isinstance(model, PeftModel) else model).config)
    if obstacle := sft_obstacle(model):
        raise ValueError(f"`model` cannot be trained by {trainer_name}: {obstacle}")
    if processor is None:
        processor = AutoProcessor.from_pretrained(
            model.config._name_or_path, revision=revision, trust_remote_code=args.trust_remote_code
        )
    if isinstance(model, PeftModel):
        if peft_config is not None:
            raise ValueError(
                "`peft_config` was given with a PeftModel, which has its adapter already. Pass one of the two."
            )
        warn_outside_language_model(model)
        return model, processor
    set_seed(args.seed)  # LoRA's A is random: the same seed gives every process the same adapter
    with warnings.catch_warnings():
        # PEFT 0.21 reads a property that transformers 5.23 renamed; no user can help it
        warnings.simplefilter("ignore", FutureWarning)
        adapted = get_peft_model(model, complete_config(peft_config, model))
    warn_outside_language_model(adapted)
    return adapted, processor


def _load(
    name: str, args: FederatedArguments, quantization_config: Any, peft_config: PeftConfig | None
) -> PreTrainedModel:
    """Load a model as TRL does: here rather than there, since the adapter is built for the loaded model."""
    kwargs = {"trust_remote_code": args.trust_remote_code, **(args.model_init_kwargs or {})}
    args.model_init_kwargs = None  # they are used up: TRL would warn that it ignores them
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
