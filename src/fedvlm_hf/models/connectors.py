"""Give an existing LLaVA a new connector; the vision tower and the language model stay the same."""

import math

import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import AutoModelForImageTextToText, LlavaConfig, LlavaForConditionalGeneration, PreTrainedModel

from .llava import STOCK_CONNECTOR, FedLlavaConfig, FedLlavaForConditionalGeneration, num_connector_layers
from .vlm import vlm_parts


def connector_of(config: LlavaConfig) -> str:
    """Return the type of a LLaVA's connector: `"linear"`, or `"mlpNx"` with N linear layers.

    Raises:
        `ValueError`: If the model belongs to another family, whose connector has another form.
    """
    if config.model_type == FedLlavaConfig.model_type:
        return config.connector
    if config.model_type == LlavaConfig.model_type:
        return STOCK_CONNECTOR
    raise ValueError(
        f"`connector`: a connector can be replaced in models of type 'llava' and 'fed_llava', but this one has the "
        f"type {config.model_type!r}, whose connector has another form. Keep it, and leave `connector` out."
    )


def check_own_connector(config: LlavaConfig, connector: str) -> None:
    """Check that the connector to keep has the type that was asked for.

    Raises:
        `ValueError`: If it has another type.
    """
    if (own := connector_of(config)) != connector:
        raise ValueError(
            f"`pretrained` keeps the connector of the model, which is {own!r}, but `connector` is {connector!r}. Set "
            f"`connector` to {own!r}, or let the connector start from random weights."
        )


def llava_config(connector: str, **fields: object) -> LlavaConfig:
    """Return the configuration of a LLaVA with this connector.

    Args:
        connector (`str`):
            `"linear"` or `"mlpNx"`.
        fields:
            The fields of [`~transformers.LlavaConfig`], and `untrained_connector`.

    Returns:
        [`~transformers.LlavaConfig`]: A [`FedLlavaConfig`], or a stock LLaVA configuration for `"mlp2x"`, so that such
        a model also loads without this package.
    """
    num_connector_layers(connector)
    if connector == STOCK_CONNECTOR:
        return LlavaConfig(**fields)
    return FedLlavaConfig(connector=connector, **fields)


def assemble_llava(config: LlavaConfig, tower: nn.Module, decoder: nn.Module, head: nn.Linear, seed: int) -> nn.Module:
    """Assemble a LLaVA from existing parts, without copying them, in `eval()` mode.

    Args:
        config ([`~transformers.LlavaConfig`]):
            The configuration, from [`llava_config`].
        tower (`nn.Module`), decoder (`nn.Module`), head (`nn.Linear`):
            The vision tower, the language model without its head, and the head.
        seed (`int`):
            Seed of the connector's random weights; see [`reset_connector`].

    Returns:
        [`~transformers.LlavaForConditionalGeneration`] or [`FedLlavaForConditionalGeneration`]: The model. Its
        connector has the device and the dtype of the decoder.
    """
    is_stock = config.model_type == LlavaConfig.model_type
    with torch.device("meta"):
        model = (LlavaForConditionalGeneration if is_stock else FedLlavaForConditionalGeneration)(config)
    model.model.vision_tower, model.model.language_model, model.lm_head = tower, decoder, head
    connector = model.model.multi_modal_projector.to_empty(device=decoder.device).to(decoder.dtype)
    reset_connector(connector, seed)
    model.tie_weights()
    return model.eval()


@torch.no_grad()
def reset_connector(connector: nn.Module, seed: int) -> None:
    """Set a connector to random weights, uniform in ±1/sqrt(inputs) as in PyTorch's linears.

    LLaVA's own code initializes its connectors in the same way. The layers are drawn one after another and in fp32, so
    connectors with the same seed share their first layers: `linear` equals the first layer of `mlp2x`, and `mlp2x` the
    first two layers of `mlp6x`.

    Args:
        connector (`nn.Module`):
            A module with `linear_1` ... `linear_N`.
        seed (`int`):
            Seed of the weights. The global random state does not change.
    """
    generator = torch.Generator().manual_seed(seed)
    for linear in (module for module in connector.modules() if isinstance(module, nn.Linear)):
        bound = 1 / math.sqrt(linear.in_features)
        for parameter in linear.parameters():
            parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))


def replace_connector(
    model: PreTrainedModel | str, connector: str, *, seed: int, pretrained: bool = False, revision: str | None = None
) -> PreTrainedModel:
    """Create a LLaVA with the tower and the language model of another one, and with another connector.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]):
            A LLaVA, or its name or folder, which is loaded with its stored dtype. A model object shares its tower and
            its language model with the new model.
        connector (`str`):
            `"linear"` or `"mlpNx"`.
        seed (`int`):
            Seed of the random weights; see [`reset_connector`].
        pretrained (`bool`, *optional*, defaults to `False`):
            Keep the connector of the model.
        revision (`str`, *optional*):
            Revision of the model on the Hub.

    Returns:
        [`~transformers.PreTrainedModel`]: A model with a connector that is marked as untrained, or `model` itself if
        its connector is kept.

    Raises:
        `ValueError`: If the model is not a LLaVA, or if its connector is to be kept but has another type.

    Example:

    ```python
    >>> from fedvlm_hf.mini import base_model
    >>> from fedvlm_hf.models import replace_connector, untrained_connector

    >>> model = replace_connector(base_model("llava"), "mlp6x", seed=0)
    >>> type(model).__name__, untrained_connector(model)
    ('FedLlavaForConditionalGeneration', True)
    ```
    """
    num_connector_layers(connector)
    if isinstance(model, str):
        model = AutoModelForImageTextToText.from_pretrained(model, revision=revision, dtype="auto")
    if pretrained:
        check_own_connector(model.config, connector)
        return model
    config = llava_config(connector, **(_fields(model.config) | {"untrained_connector": True}))
    replaced = assemble_llava(config, model.model.vision_tower, model.model.language_model, model.lm_head, seed)
    replaced.generation_config = model.generation_config
    return replaced


def untrained_connector(model: PreTrainedModel | PeftModel) -> bool:
    """Return whether the connector of a model still has its initial random weights, so that the model cannot see.

    The configuration of the base model says so. If a PeftModel contains a connector, that one decides: it has been
    trained if it differs from the connector of the base model.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    # The stock configuration has no such field, and keeps the value as an extra attribute
    if not getattr(base.config, "untrained_connector", False):
        return False
    if not isinstance(model, PeftModel):
        return True
    wrapped = [base.get_submodule(path) for path in vlm_parts(model).connector]
    return all(_is_original(module, model.active_adapter) for module in wrapped)


def _is_original(module: nn.Module, adapter: str) -> bool:
    """Return whether the adapter has no copy of a module, or one that equals it."""
    if not isinstance(module, ModulesToSaveWrapper) or adapter not in module.modules_to_save:
        return True
    pairs = zip(module.original_module.parameters(), module.modules_to_save[adapter].parameters(), strict=True)
    return all(torch.equal(original.to(copy.dtype), copy) for original, copy in pairs)


def _fields(config: LlavaConfig) -> dict[str, object]:
    """Return the fields of a LLaVA's configuration, except its class and how this copy was loaded."""
    connector_of(config)  # raises if the model is not a LLaVA
    dropped = {"model_type", "architectures", "transformers_version", "connector", "_name_or_path"}
    return {name: value for name, value in config.to_dict().items() if name not in dropped}
