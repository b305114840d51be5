"""Fed-Nature mini, the embedded default: a small dataset of real digits and a tiny pretrained model, without
downloads.

`fed_nature()` makes the data of four clients, and `base_model("llava")` returns the folder of the base model.
"""

from pathlib import Path

from .dataset import blind_floors, fed_nature


__all__ = ["base_model", "blind_floors", "fed_nature"]

_FOLDER = Path(__file__).parent
_BASE_MODELS = ("llava",)


def base_model(name: str = "llava") -> str:
    """Return the local folder of an embedded base model.

    Args:
        name (`str`, *optional*, defaults to `"llava"`): Name of the model.

    Returns:
        `str`: A folder that `AutoModelForImageTextToText.from_pretrained` and `AutoProcessor.from_pretrained` load.

    Example:

    ```python
    >>> from transformers import AutoModelForImageTextToText
    >>> from fedvlm_hf.mini import base_model

    >>> model = AutoModelForImageTextToText.from_pretrained(base_model("llava"))
    ```
    """
    if name not in _BASE_MODELS:
        raise ValueError(
            f"`name` must be one of {list(_BASE_MODELS)}, the base models that ship with fedvlm_hf, got {name!r}. To "
            "use another model, pass its folder or Hub id to the trainer."
        )
    return str(_FOLDER / name)
