"""Vision-language models: where each family keeps its parts."""

from .vlm import VLMParts, known_model_types, lora_target_regex, register_vlm, sft_obstacle, vlm_parts


__all__ = ["VLMParts", "known_model_types", "lora_target_regex", "register_vlm", "sft_obstacle", "vlm_parts"]
