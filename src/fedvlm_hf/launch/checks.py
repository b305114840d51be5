"""Checks of arguments before anything is loaded or written: numbers, folders, method, model and Hub."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from transformers import PreTrainedConfig
    from trl import ModelConfig

    from ..config import FederatedConfig


def check_arguments(args: "FederatedConfig", model_args: "ModelConfig", vlm_parts: str | None = None) -> None:
    """Check the arguments of a run, and the configuration of its model, without loading weights.

    Args:
        args ([`FederatedConfig`]), model_args ([`~trl.ModelConfig`]):
            The arguments.
        vlm_parts (`str`, *optional*):
            Parts of the model as JSON, which are registered for its family.

    Raises:
        `ValueError`: naming the option, what came and what to do.
    """
    from ..client.plan import resolve_tuning
    from ..methods import resolve_method
    from ..transforms import resolve_transforms

    for name in ("lora_r", "lora_alpha"):
        if getattr(model_args, name) < 1:
            raise ValueError(f"`--{name}` must be at least 1, got {getattr(model_args, name)}.")
    if not 0 <= model_args.lora_dropout < 1:
        raise ValueError(f"`--lora_dropout` must be at least 0 and below 1, got {model_args.lora_dropout}.")
    method = resolve_method(args.method, args.method_kwargs)
    resolve_transforms(args.transforms, args.transform_kwargs, method)
    resolve_tuning(args.tuning, has_connector=True)  # whether the model has one is known when it is loaded
    check_writable("--output_dir", args.output_dir)
    if model_args.model_name_or_path is not None:
        _check_model(args, model_args, vlm_parts)
    elif vlm_parts is not None:
        raise ValueError("`--vlm_parts` is about the model that `--model_name_or_path` names, which is not given.")


def check_writable(option: str, folder: str | os.PathLike[str]) -> None:
    """Check that a folder can be made and written to, without leaving anything.

    Raises:
        `ValueError`: naming the option and the reason.
    """
    path = Path(folder).absolute()
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return
    except OSError as error:
        raise ValueError(
            f"`{option}` {str(folder)!r} cannot be written: {existing}: {error.strerror}. Choose another folder."
        ) from error


@contextmanager
def removed_if_refused(folder: Path) -> Iterator[None]:
    """Remove a folder that a run made below its `output_dir`, if the run ends with an error before it saved a round.

    Args:
        folder (`Path`):
            The folder. It is kept if it was there before, and so are all other files.
    """
    parents = [parent for parent in folder.absolute().parents if not parent.exists()]
    was_there, before = folder.exists(), _rounds_beside(folder)
    try:
        yield
    except BaseException:
        if not was_there and _rounds_beside(folder) == before:
            shutil.rmtree(folder, ignore_errors=True)
            for parent in parents:  # from the innermost one
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()
        raise


def _rounds_beside(folder: Path) -> set[str]:
    return {path.name for path in folder.parent.glob("rounds/round-*")}


def load_config(
    option: str, name: str, revision: str | None = None, trust_remote_code: bool = False
) -> "PreTrainedConfig":
    """Load the configuration of a model.

    Args:
        option (`str`):
            How an error names the option.
        name (`str`):
            A folder or a name on the Hub.
        revision (`str`, *optional*), trust_remote_code (`bool`, *optional*, defaults to `False`):
            As in `from_pretrained`.

    Raises:
        `ValueError`: naming the option and what to do.
    """
    from transformers import AutoConfig

    from ..repository.requests import check_on_hub

    if not Path(name).exists():
        check_on_hub(option, name, "model")
    try:
        return AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except (ValueError, OSError) as error:
        raise ValueError(f"`{option}` {name!r} is not a model that can be loaded: {error}") from error


def _check_model(args: "FederatedConfig", model_args: "ModelConfig", vlm_parts: str | None) -> None:
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    from trl import get_peft_config

    from ..client.adapters import complete_config
    from ..models.vlm import check_trainable, model_skeleton, register_vlm_option

    name, option = model_args.model_name_or_path, "--model_name_or_path"
    config = load_config(option, name, model_args.model_revision, args.trust_remote_code)
    if vlm_parts is not None:
        register_vlm_option(config.model_type, vlm_parts)
    try:
        check_trainable(config)
    except ValueError as error:
        raise ValueError(f"`{option}` {name!r}: {error}") from error
    lora = get_peft_config(model_args)
    if lora is not None and type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        complete_config(lora, model_skeleton(config))  # refuses names that no module has
