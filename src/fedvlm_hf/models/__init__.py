"""Vision-language models: the parts of each family, LLaVA with connectors of any depth, and Show-o."""

from .connectors import replace_connector, untrained_connector
from .llava import FedLlavaConfig, FedLlavaForConditionalGeneration, FedLlavaModel
from .parts import VLMParts
from .saved import base_with_connector
from .showo import ShowoConfig, ShowoForConditionalGeneration, ShowoModel, ShowoProcessor, ShowoVQConfig
from .vlm import known_model_types, lora_target_regex, register_vlm, sft_obstacle, vlm_parts


__all__ = [
    "FedLlavaConfig",
    "FedLlavaForConditionalGeneration",
    "FedLlavaModel",
    "ShowoConfig",
    "ShowoForConditionalGeneration",
    "ShowoModel",
    "ShowoProcessor",
    "ShowoVQConfig",
    "VLMParts",
    "base_with_connector",
    "known_model_types",
    "lora_target_regex",
    "register_vlm",
    "replace_connector",
    "sft_obstacle",
    "untrained_connector",
    "vlm_parts",
]
