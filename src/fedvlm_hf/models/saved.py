"""Save a built model once and find it again: an export loads only if its base model still exists."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoProcessor, PreTrainedModel, ProcessorMixin

from ..files import new_folder
from .connectors import check_own_connector, replace_connector


RECIPE_FILE = "fedvlm_build.json"
"""File in the folder that says how the model was made."""

_MODEL_FILES = {".json", ".jinja", ".safetensors", ".bin", ".model", ".txt"}


def save_once(
    folder: str | os.PathLike[str],
    recipe: Mapping[str, Any],
    make: Callable[[], tuple[PreTrainedModel, ProcessorMixin]],
) -> str:
    """Make a model and save it with its processor, unless the folder already contains it.

    Args:
        folder (`str` or `os.PathLike`):
            The folder. If the process is killed, it does not contain a partial model.
        recipe (`Mapping[str, Any]`):
            Everything that the model depends on, as JSON. A folder with the same recipe is used as it is.
        make (`Callable`):
            Function that returns model and processor.

    Returns:
        `str`: The absolute path of the folder, so that adapters trained on it load from any working directory.

    Raises:
        `ValueError`: If the folder contains something else.
    """
    path = Path(folder).absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        _check_recipe(path, recipe)
        return str(path)
    model, processor = make()
    with new_folder(path) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        (temporary / RECIPE_FILE).write_text(json.dumps(recipe, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return str(path)


def source_of(name: str, revision: str | None = None) -> dict[str, str]:
    """Identify a model for a recipe: a folder by the digest of its files, wherever it is, a Hub model by its commit.

    Args:
        name (`str`):
            Folder or Hub id.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.

    Returns:
        `dict[str, str]`: `sha256` of a folder, for which all its weights are read, or `name` and `commit`.
    """
    if not Path(name).is_dir():
        return {"name": name, "commit": AutoConfig.from_pretrained(name, revision=revision)._commit_hash}
    digest = hashlib.sha256()
    for file in sorted(Path(name).iterdir()):
        if file.suffix in _MODEL_FILES:
            with file.open("rb") as stream:
                digest.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return {"sha256": digest.hexdigest()}


def base_with_connector(
    base: str,
    connector: str,
    folder: str | os.PathLike[str],
    *,
    seed: int,
    pretrained: bool = False,
    revision: str | None = None,
) -> str:
    """Save a copy of a base model with another connector, to train from.

    Args:
        base (`str`):
            Folder or Hub id of a LLaVA.
        connector (`str`):
            `"linear"` or `"mlpNx"`.
        folder (`str` or `os.PathLike`):
            Folder for the model. If it contains the model already, nothing is done.
        seed (`int`):
            Seed of the connector's random weights; see [`replace_connector`].
        pretrained (`bool`, *optional*, defaults to `False`):
            Keep the connector of `base`. No copy is needed then.
        revision (`str`, *optional*):
            Revision of `base` on the Hub.

    Returns:
        `str`: The absolute path of `folder`, or `base` if its connector is kept.

    Raises:
        `ValueError`: If `base` is not a LLaVA, if its connector is to be kept but has another type, or if `folder`
            contains something else.

    Example:

    ```python
    >>> from fedvlm_hf.mini import base_model
    >>> from fedvlm_hf.models import base_with_connector

    >>> folder = base_with_connector(base_model("llava"), "linear", "out/bases/llava-linear", seed=42)
    ```
    """
    if pretrained:
        check_own_connector(AutoConfig.from_pretrained(base, revision=revision), connector)
        return base
    recipe = {"base": source_of(base, revision), "connector": connector, "seed": seed}
    return save_once(
        folder,
        recipe,
        lambda: (
            replace_connector(base, connector, seed=seed, revision=revision),
            AutoProcessor.from_pretrained(base, revision=revision),
        ),
    )


def _check_recipe(path: Path, recipe: Mapping[str, Any]) -> None:
    file = path / RECIPE_FILE
    made = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    if made == recipe:
        return
    found = f"a model of another recipe, {json.dumps(made, sort_keys=True)}" if made else f"no {RECIPE_FILE}"
    raise ValueError(
        f"`folder` {str(path)!r} exists and contains {found}, which is not the requested model, "
        f"{json.dumps(recipe, sort_keys=True)}. Nothing was overwritten. Remove it, or choose another folder."
    )
