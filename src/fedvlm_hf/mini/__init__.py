"""Fed-Nature mini, the embedded default: a small real-digit dataset and tiny pretrained base models, with no download.

`fed_nature()` makes the four clients' data, `base_model("llava")` is the local folder of a base model for
`from_pretrained`.
"""

from pathlib import Path

from .dataset import fed_nature
from .floors import blind_floors


__all__ = ["base_model", "blind_floors", "fed_nature"]

_FOLDER = Path(__file__).parent
_BASE_MODELS = ("llava",)


def base_model(name: str = "llava") -> str:
    """Local folder of an embedded base model.

    Args:
        name (`str`, *optional*, defaults to `"llava"`): Which one.

    Returns:
        `str`: a folder that `AutoModelForImageTextToText.from_pretrained` and `AutoProcessor.from_pretrained` load.

    Example:

    ```python
    >>> from transformers import AutoModelForImageTextToText
    >>> from fedvlm_hf.mini import base_model

    >>> model = AutoModelForImageTextToText.from_pretrained(base_model("llava"))
    ```
    """
    if name not in _BASE_MODELS:
        raise ValueError(
            f"`name` must be one of {list(_BASE_MODELS)}, the base models that ship with fedvlm_hf, but is {name!r}. "
            "For any other model pass its own path or Hub name to the trainer."
        )
    return str(_FOLDER / name)
