"""Show-o in the format of transformers. Importing this package registers its classes with the Auto classes."""

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

from .configuration_showo import ShowoConfig, ShowoVQConfig
from .modeling_showo import ShowoForConditionalGeneration, ShowoModel, ShowoVQModel
from .processing_showo import ShowoProcessor, build_processor


__all__ = [
    "ShowoConfig",
    "ShowoForConditionalGeneration",
    "ShowoModel",
    "ShowoProcessor",
    "ShowoVQConfig",
    "ShowoVQModel",
    "build_processor",
]

AutoConfig.register(ShowoConfig.model_type, ShowoConfig, exist_ok=True)
AutoModel.register(ShowoConfig, ShowoModel, exist_ok=True)
AutoModelForImageTextToText.register(ShowoConfig, ShowoForConditionalGeneration, exist_ok=True)
AutoProcessor.register(ShowoConfig, ShowoProcessor, exist_ok=True)
