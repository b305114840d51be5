"""LLaVA with a connector of any depth: one linear layer, or LLaVA-1.5's MLP of two, six or N of them.

Except for the connector, the classes are those of stock LLaVA (https://huggingface.co/papers/2310.03744). Importing
this module registers them with the Auto classes. With `connector="mlp2x"` the weights have the names of stock LLaVA,
in memory and on disk.
"""

import re
from itertools import pairwise

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaModel,
    LlavaProcessor,
)
from transformers.activations import ACT2FN
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping


STOCK_CONNECTOR = "mlp2x"
"""The connector of LLaVA in transformers."""


def num_connector_layers(connector: str) -> int:
    """Return the number of linear layers of a connector: 1 for `"linear"`, N for `"mlpNx"`.

    Raises:
        `ValueError`: If the name has another form.
    """
    if connector == "linear":
        return 1
    match = re.fullmatch(r"mlp(\d+)x", connector)
    if not match or int(match[1]) < 2:
        raise ValueError(
            f"`connector` must be 'linear', or 'mlpNx' for N linear layers with an activation between them, such as "
            f"'mlp2x' and 'mlp6x' in FedVLMBench, got {connector!r}."
        )
    return int(match[1])


@strict
class FedLlavaConfig(LlavaConfig):
    r"""
    Configuration of a [`FedLlavaForConditionalGeneration`], with two fields more than [`~transformers.LlavaConfig`].

    Args:
        connector (`str`, *optional*, defaults to `"mlp2x"`):
            `"linear"`, or `"mlpNx"` for N linear layers with `projector_hidden_act` between them. The first layer maps
            from the width of the vision tower to that of the language model, which the other layers keep.
        untrained_connector (`bool`, *optional*, defaults to `False`):
            Whether the weights of the connector are random, so that the language model cannot see yet.

    Example:

    ```python
    >>> from fedvlm_hf.models import FedLlavaConfig

    >>> FedLlavaConfig(connector="mlp6x").model_type
    'fed_llava'
    ```
    """

    model_type = "fed_llava"

    connector: str = STOCK_CONNECTOR
    untrained_connector: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        num_connector_layers(self.connector)


class FedLlavaConnector(nn.Module):
    """A connector with layers `linear_1` ... `linear_N` and an activation between them.

    Args:
        config ([`FedLlavaConfig`]):
            The configuration of the model. `connector` sets the number of layers.
    """

    def __init__(self, config: FedLlavaConfig):
        super().__init__()
        layers = config.vision_feature_layer
        num_features = 1 if isinstance(layers, int) else len(layers)
        self.num_layers = num_connector_layers(config.connector)
        width = config.text_config.hidden_size
        sizes = [config.vision_config.hidden_size * num_features] + [width] * self.num_layers
        for index, (size_in, size_out) in enumerate(pairwise(sizes), start=1):
            self.add_module(f"linear_{index}", nn.Linear(size_in, size_out, bias=config.multimodal_projector_bias))
        self.act = ACT2FN[config.projector_hidden_act]

    def forward(self, image_features: torch.Tensor) -> torch.Tensor:
        """Map image features `(..., vision width)` to embeddings of the language model `(..., text width)`."""
        hidden_states = self.linear_1(image_features)
        for index in range(2, self.num_layers + 1):
            hidden_states = self.get_submodule(f"linear_{index}")(self.act(hidden_states))
        return hidden_states


class FedLlavaModel(LlavaModel):
    """LLaVA without a head.

    Args:
        config ([`FedLlavaConfig`]):
            The configuration of the model.
    """

    config: FedLlavaConfig

    def __init__(self, config: FedLlavaConfig):
        # Skip LlavaModel.__init__, which takes the same steps: calling it would build the language model twice
        super(LlavaModel, self).__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        self.multi_modal_projector = FedLlavaConnector(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()


class FedLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """LLaVA with its head.

    Args:
        config ([`FedLlavaConfig`]):
            The configuration of the model.

    Example:

    ```python
    >>> from transformers import AutoModelForImageTextToText, CLIPVisionConfig, LlamaConfig
    >>> from fedvlm_hf.models import FedLlavaConfig

    >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1}
    >>> parts = {"vision_config": CLIPVisionConfig(**sizes), "text_config": LlamaConfig(vocab_size=16, **sizes)}
    >>> model = AutoModelForImageTextToText.from_config(FedLlavaConfig(connector="linear", **parts))
    >>> [name for name, _ in model.model.multi_modal_projector.named_parameters()]
    ['linear_1.weight', 'linear_1.bias']
    ```
    """

    config: FedLlavaConfig

    def __init__(self, config: FedLlavaConfig):
        super(LlavaForConditionalGeneration, self).__init__(config)  # as in FedLlavaModel
        self.model = FedLlavaModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()


AutoConfig.register(FedLlavaConfig.model_type, FedLlavaConfig, exist_ok=True)
AutoModel.register(FedLlavaConfig, FedLlavaModel, exist_ok=True)
AutoModelForImageTextToText.register(FedLlavaConfig, FedLlavaForConditionalGeneration, exist_ok=True)
AutoProcessor.register(FedLlavaConfig, LlavaProcessor, exist_ok=True)

# Checkpoints of LLaVA have older names than its modules (`language_model.model.` for `model.language_model.`), which
# transformers converts by model type and by class. With the same conversions, each class loads folders of both.
for _ours, _stock in ((FedLlavaConfig.model_type, LlavaConfig.model_type), ("FedLlavaModel", "LlavaModel")):
    register_checkpoint_conversion_mapping(_ours, get_checkpoint_conversion_mapping(_stock), overwrite=True)
