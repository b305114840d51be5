"""A model folder that is made once and found again: what an export names as its base has to be there to load."""

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
"""In the folder: what the model was made from."""

_MODEL_FILES = {".json", ".jinja", ".safetensors", ".bin", ".model", ".txt"}


def save_once(
    folder: str | os.PathLike[str],
    recipe: Mapping[str, Any],
    make: Callable[[], tuple[PreTrainedModel, ProcessorMixin]],
) -> str:
    """Make a model and save it with its processor, or find it saved already.

    Args:
        folder (`str` or `os.PathLike`):
            Where. It appears as a whole or, if the process is killed, not at all.
        recipe (`Mapping[str, Any]`):
            Everything that the model depends on, as JSON. A folder of the same recipe is taken as it is.
        make (`Callable`):
            Returns model and processor.

    Returns:
        `str`: the absolute path of the folder, since exports on top of it must load from anywhere.

    Raises:
        `ValueError`: if the folder holds something else.
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
    """What a model folder or Hub model is, for a recipe: a folder by the digest of its files, wherever it lies.

    Args:
        name (`str`):
            Folder or Hub id.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.

    Returns:
        `dict[str, str]`: `sha256`, which reads every weight of a folder; or `name` and `commit`.
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
    """A base model like another, but with a connector of another make: a folder to train from.

    Args:
        base (`str`):
            A LLaVA's folder or Hub id.
        connector (`str`):
            `"linear"` or `"mlpNx"`.
        folder (`str` or `os.PathLike`):
            Where the model is saved, or found if it is there already.
        seed (`int`):
            Of the connector's random weights; see [`replace_connector`].
        pretrained (`bool`, *optional*, defaults to `False`):
            Keep the connector of `base`, which is then the model asked for.
        revision (`str`, *optional*):
            Of `base` on the Hub.

    Returns:
        `str`: the absolute path of `folder`; `base` itself where its own connector is kept.

    Raises:
        `ValueError`: if `base` is no LLaVA, its own connector is to be kept and is of another make, or `folder` holds
            something else.

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
        f"`folder` {str(path)!r} exists and holds {found}, so it is not the model asked for, "
        f"{json.dumps(recipe, sort_keys=True)}. Nothing was overwritten: remove it, or choose another folder."
    )
