"""Another connector for a LLaVA that is there: the tower and the language model stay, the connector starts afresh."""

import math

import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import AutoModelForImageTextToText, LlavaConfig, LlavaForConditionalGeneration, PreTrainedModel

from .llava import STOCK_CONNECTOR, FedLlavaConfig, FedLlavaForConditionalGeneration, num_connector_layers
from .vlm import vlm_parts


def connector_of(config: LlavaConfig) -> str:
    """The connector of a LLaVA: `"linear"`, or `"mlpNx"` with N linear layers.

    Raises:
        `ValueError`: if the model is of another family, whose connector is of another make.
    """
    if config.model_type == FedLlavaConfig.model_type:
        return config.connector
    if config.model_type == LlavaConfig.model_type:
        return STOCK_CONNECTOR
    raise ValueError(
        f"`connector`: a connector can be replaced in models of type 'llava' and 'fed_llava', and this one is "
        f"{config.model_type!r}, whose connector is of another make. Keep its own."
    )


def check_own_connector(config: LlavaConfig, connector: str) -> None:
    """Refuse to keep a connector of one make as one of another.

    Raises:
        `ValueError`: if the model's connector is not the one named.
    """
    if (own := connector_of(config)) != connector:
        raise ValueError(
            f"`pretrained` keeps the connector that the model has, which is {own!r}, but `connector` is "
            f"{connector!r}. Ask for {own!r}, or let the connector start from random weights."
        )


def llava_config(connector: str, **fields: object) -> LlavaConfig:
    """Configuration of a LLaVA with this connector.

    Args:
        connector (`str`):
            `"linear"` or `"mlpNx"`.
        fields:
            Those of [`~transformers.LlavaConfig`], and `untrained_connector`.

    Returns:
        [`~transformers.LlavaConfig`]: a [`FedLlavaConfig`], but stock LLaVA's own for `"mlp2x"`, so that such a model
        loads where this package is not installed.
    """
    num_connector_layers(connector)
    if connector == STOCK_CONNECTOR:
        return LlavaConfig(**fields)
    return FedLlavaConfig(connector=connector, **fields)


def assemble_llava(config: LlavaConfig, tower: nn.Module, decoder: nn.Module, head: nn.Linear, seed: int) -> nn.Module:
    """A LLaVA around parts that are there, which are neither copied nor built a second time, in `eval()` mode.

    Args:
        config ([`~transformers.LlavaConfig`]):
            Of [`llava_config`].
        tower (`nn.Module`), decoder (`nn.Module`), head (`nn.Linear`):
            The vision tower, the language model without its head, and the head.
        seed (`int`):
            Of the connector; see [`reset_connector`].

    Returns:
        [`~transformers.LlavaForConditionalGeneration`]: or a [`FedLlavaForConditionalGeneration`]; the connector is on
        the decoder's device and in its dtype.
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
    """Give a connector the random weights of a seed: uniform in ±1/sqrt(inputs), as PyTorch's linears start.

    That is how LLaVA's own code starts its connectors. Layers draw in their order and in fp32, so connectors of one
    seed share their first layers: `linear` is the first of `mlp2x`, `mlp2x` the first two of `mlp6x`.

    Args:
        connector (`nn.Module`):
            `linear_1` ... `linear_N`.
        seed (`int`):
            The global random state is left alone.
    """
    generator = torch.Generator().manual_seed(seed)
    for linear in (module for module in connector.modules() if isinstance(module, nn.Linear)):
        bound = 1 / math.sqrt(linear.in_features)
        for parameter in linear.parameters():
            parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))


def replace_connector(
    model: PreTrainedModel | str, connector: str, *, seed: int, pretrained: bool = False, revision: str | None = None
) -> PreTrainedModel:
    """A LLaVA with the tower and language model of another, and a connector of another make.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]):
            A LLaVA, or its name or folder, which is then loaded in the dtype that it is stored in. A model that is
            passed shares tower and language model with the new one.
        connector (`str`):
            `"linear"` or `"mlpNx"`.
        seed (`int`):
            Of the random weights, which are drawn alike for all connectors; see [`reset_connector`].
        pretrained (`bool`, *optional*, defaults to `False`):
            Keep the connector that the model has.
        revision (`str`, *optional*):
            The model's revision on the Hub.

    Returns:
        [`~transformers.PreTrainedModel`]: a model whose connector is marked as untrained, or `model` itself if its own
        connector is kept.

    Raises:
        `ValueError`: if the model is no LLaVA, or its own connector is to be kept and is of another make.

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
    """Whether a model's connector still has its random first weights, so that its language model cannot see.

    A base says so in its configuration. A PeftModel may hold a connector of its own, and then it is what counts: one
    that differs from the base's has been trained.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    # Not a field of the stock configuration, which keeps it as an attribute that was given to it.
    if not getattr(base.config, "untrained_connector", False):
        return False
    if not isinstance(model, PeftModel):
        return True
    wrapped = [base.get_submodule(path) for path in vlm_parts(model).connector]
    return all(_is_original(module, model.active_adapter) for module in wrapped)


def _is_original(module: nn.Module, adapter: str) -> bool:
    """Whether an adapter's copy of a module, if it has one, equals the module itself."""
    if not isinstance(module, ModulesToSaveWrapper) or adapter not in module.modules_to_save:
        return True
    pairs = zip(module.original_module.parameters(), module.modules_to_save[adapter].parameters(), strict=True)
    return all(torch.equal(original.to(copy.dtype), copy) for original, copy in pairs)


def _fields(config: LlavaConfig) -> dict[str, object]:
    """A LLaVA's configuration without what names its class or says how this copy was loaded."""
    connector_of(config)  # or it is no LLaVA
    dropped = {"model_type", "architectures", "transformers_version", "connector", "_name_or_path"}
    return {name: value for name, value in config.to_dict().items() if name not in dropped}
