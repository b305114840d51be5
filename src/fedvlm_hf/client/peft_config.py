"""Checks of a PEFT configuration: which kinds of adapters can be averaged, and which modules they reach."""

import copy
import re
from collections import Counter
from collections.abc import Collection

from peft import LoraConfig, PeftConfig, PeftModel, PeftType
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from ..models.vlm import decoder_linears, lora_target_regex, vlm_parts


logger = logging.get_logger(__name__)

# Each of these was run: the mean of two clients is exact, and stock PEFT loads the export to the same logits
AVERAGED = (
    PeftType.LORA, PeftType.IA3, PeftType.LOHA, PeftType.LOKR, PeftType.OFT, PeftType.HRA, PeftType.VERA,
    PeftType.FOURIERFT, PeftType.LN_TUNING, PeftType.C3A, PeftType.VBLORA, PeftType.RANDLORA, PeftType.HIRA,
    PeftType.ROAD, PeftType.MISS, PeftType.DELORA,
)  # fmt: skip
"""Kinds of adapters that can be trained in a federation."""

_PROMPTS = (
    PeftType.PROMPT_TUNING, PeftType.MULTITASK_PROMPT_TUNING, PeftType.P_TUNING, PeftType.PREFIX_TUNING, PeftType.CPT,
    PeftType.CARTRIDGE,
)  # fmt: skip
_NOT_AVERAGED = {
    **dict.fromkeys(
        _PROMPTS,
        "puts trained tokens into the prompt, outside the modules of the model, where evaluation misses them",
    ),
    PeftType.ADALORA: "moves rank between layers with a call after each step that Trainer does not make",
    PeftType.ADAPTION_PROMPT: "has no `modules_to_save`, in which the connector would be",
    PeftType.BOFT: "compiles a CUDA extension when it is built, which some hosts of a federation cannot do",
    PeftType.SHIRA: "does not export which weights it trains, so that the export cannot be loaded elsewhere",
    PeftType.XLORA: "mixes adapters that are trained already",
    PeftType.POLY: "chooses among several adapters by task",
    PeftType.TRAINABLE_TOKENS: "has no `modules_to_save`, in which the connector would be. Use `LoraConfig` with "
    "`trainable_token_indices`",
}
_UNTRIED = "has not been tried here: a mean of its tensors over clients may be meaningless"


def check_peft_type(config: PeftConfig) -> None:
    """Refuse a kind of adapter that cannot be averaged over clients, or that was not tried.

    Raises:
        `ValueError`: With the reason.
    """
    if config.peft_type not in AVERAGED:
        known = ", ".join(kind.value for kind in AVERAGED)
        raise ValueError(
            f"`peft_config` of type {PeftType(config.peft_type).value} cannot be used: it "
            f"{_NOT_AVERAGED.get(config.peft_type, _UNTRIED)}. Use one of the types {known}."
        )


def default_targets(model: PreTrainedModel) -> str | set[str]:
    """Return the `target_modules` that reach every linear of the language model and nothing else.

    For some families with experts (GLM-4.5V), PEFT turns the names of the linears in an MLP into the stacked
    parameters of the experts, and applies all other names to the whole model. There the linears are listed with
    their full paths, without those of the MLPs.
    """
    config = LoraConfig(target_modules=decoder_linears(model))
    convert_peft_config_for_transformers(config, model, None)
    return set(config.target_modules) if config.target_parameters else lora_target_regex(model)


def check_targets(config: PeftConfig, model: PreTrainedModel) -> None:
    """Check the modules that a configuration names, and warn of LoRA inside the connector.

    Raises:
        `ValueError`: If the model has no such module, or if PEFT or TRL cannot train what is named.
    """
    for option in ("target_modules", "modules_to_save"):
        _check_names(option, getattr(config, option), model)
    if config.peft_type == PeftType.LORA:
        _check_experts(config, model)
        _check_trained_tokens(config, model)
    left_out = [name for path in vlm_parts(model).connector for name in _targets_below(config, model, path)]
    if left_out:
        logger.warning_once(
            f"`target_modules` of `peft_config` also has {len(left_out)} linears of the connector, such as "
            f"{left_out[0]}. They get no adapter, because the connector trains in full."
        )


def _check_names(option: str, given: str | Collection[str] | None, model: PreTrainedModel) -> None:
    """Refuse a name that no module has: PEFT leaves it out without a word where another name is found."""
    if given is None or given == "all-linear":
        return
    names = [name for name, _ in model.named_modules()]
    if isinstance(given, str):  # a regular expression
        unknown = [] if any(re.fullmatch(given, name) for name in names) else [given]
    else:
        unknown = [own for own in given if not any(name == own or name.endswith(f".{own}") for name in names)]
    if unknown:
        linears = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        raise ValueError(
            f"`lora_{option}`, which is `{option}` of the LoRA configuration, has {sorted(unknown)[0]!r}, but no "
            f"module of the model is called so. Linear layers are {', '.join(sorted(linears))}. Without "
            f"`lora_target_modules`, LoRA reaches every linear layer of the language model."
        )


def _check_experts(config: LoraConfig, model: PreTrainedModel) -> None:
    if not config.lora_dropout or not config.target_modules:
        return
    converted = copy.deepcopy(config)
    convert_peft_config_for_transformers(converted, model, None)
    if converted.target_parameters:
        raise ValueError(
            f"`lora_dropout` must be 0, got {config.lora_dropout}: `target_modules` or `target_parameters` reach the "
            f"experts of {model.config.model_type!r}, which are stacked parameters "
            f"({', '.join(sorted(converted.target_parameters))}), and PEFT has no dropout for them. Without "
            "`target_modules`, LoRA reaches the attention layers, with dropout."
        )


def _check_trained_tokens(config: LoraConfig, model: PreTrainedModel) -> None:
    head = model.get_output_embeddings()
    is_tied = head is not None and head.weight is model.get_input_embeddings().weight
    if config.trainable_token_indices is not None and is_tied:
        raise ValueError(
            "`trainable_token_indices` cannot be used with this model: its head is tied to the embeddings, so PEFT "
            "wraps the head too, and TRL computes the loss from the weight and the bias of the head. Train "
            "`embed_tokens` with LoRA instead, as one of the `target_modules`."
        )


def _targets_below(config: PeftConfig, model: PreTrainedModel, path: str) -> list[str]:
    """Return the linears of a module that `target_modules` names."""
    if config.target_modules is None:
        return []
    linears = [
        f"{path}.{name}".rstrip(".")
        for name, module in model.get_submodule(path).named_modules()
        if isinstance(module, nn.Linear)
    ]
    if config.target_modules == "all-linear":
        return linears
    return [name for name in linears if check_target_module_exists(config, name)]


def warn_outside_language_model(model: PeftModel) -> None:
    """Warn of what an adapter trains outside the language model, and count it."""
    parts = vlm_parts(model)
    found = Counter(
        parts.part_of(name.removeprefix("base_model.model."))
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    )
    outside = {part: count for part, count in found.items() if part not in ("language model", "connector")}
    if outside:
        counts = ", ".join(f"{count} in the {part}" for part, count in outside.items())
        logger.warning_once(
            f"The adapter trains {sum(outside.values())} tensors outside the language model and the connector: "
            f"{counts}. They are trained and sent with every `tuning` except 'connector'. Without `target_modules` "
            "and `bias`, LoRA reaches only the language model."
        )
