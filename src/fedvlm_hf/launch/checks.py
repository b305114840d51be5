"""Checks of arguments before anything is loaded or written: numbers, folders, method, model and Hub."""

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from trl import ModelConfig

    from ..config import FederatedConfig


def check_arguments(args: "FederatedConfig", model_args: "ModelConfig") -> None:
    """Check the arguments of a run, and the configuration of its model, without loading weights.

    Raises:
        `ValueError`: naming the option, what came and what to do.
    """
    from ..client.plan import TUNINGS
    from ..methods import resolve_method
    from ..transforms import resolve_transforms

    for name in ("lora_r", "lora_alpha"):
        if getattr(model_args, name) < 1:
            raise ValueError(f"`--{name}` must be at least 1, got {getattr(model_args, name)}.")
    if not 0 <= model_args.lora_dropout < 1:
        raise ValueError(f"`--lora_dropout` must be at least 0 and below 1, got {model_args.lora_dropout}.")
    method = resolve_method(args.method, args.method_kwargs)
    resolve_transforms(args.transforms, args.transform_kwargs, method)
    if args.tuning is not None and args.tuning not in TUNINGS:
        raise ValueError(f"`tuning` must be one of {', '.join(TUNINGS)}, got {args.tuning!r}.")
    check_writable("--output_dir", args.output_dir)
    if model_args.model_name_or_path is not None:
        _check_model(args, model_args)


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


def check_on_hub(option: str, name: str, kind: str) -> None:
    """Check that a name which is no folder can be on the Hub: if it is not cached, the Hub must answer.

    This takes seconds, where the libraries would retry for half a minute.

    Args:
        option (`str`):
            How an error names the option.
        name (`str`):
            The name that the user gave.
        kind (`str`):
            `"model"` or `"dataset"`.

    Raises:
        `ValueError`: if the name is that of a missing folder, or if the Hub does not answer.
    """
    import httpx2
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    missing = f"`{option}` {name!r} is not a folder in {Path.cwd()}"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"{missing}, and it cannot be a name on the Hub, such as 'org/name'.") from error
    cached = Path(constants.HF_HUB_CACHE, f"{kind}s--{name.replace('/', '--')}")
    if cached.exists():
        return
    away = f"{missing}, and it is not in the cache of the Hub's files. The Hub "
    if constants.is_offline_mode():
        raise ValueError(f"{away}cannot be asked, because HF_HUB_OFFLINE is set. Check the spelling.")
    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except httpx2.TransportError as error:
        raise ValueError(
            f"{away}at {constants.ENDPOINT} does not answer ({error}). Check the spelling and the connection."
        ) from error


def check_saved_splits(folder: str | os.PathLike[str]) -> None:
    """Check that each split of a folder that `DatasetDict.save_to_disk` wrote has rows.

    Raises:
        `ValueError`: naming the split, where `datasets` would fail with an `IndexError`.
    """
    folder = Path(folder)
    for split in json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]:
        state = folder / split / "state.json"
        if state.exists() and not json.loads(state.read_text(encoding="utf-8"))["_data_files"]:
            raise empty_split(str(folder), split)


def empty_split(name: str, split: str) -> ValueError:
    """Return the error for a split without rows."""
    return ValueError(f"`--dataset_name` {name!r}: the split {split!r} is empty. Leave it out, or give it rows.")


def _check_model(args: "FederatedConfig", model_args: "ModelConfig") -> None:
    from transformers import AutoConfig

    from ..models.vlm import check_trainable, known_model_types

    name, option = model_args.model_name_or_path, "`--model_name_or_path`"
    if not Path(name).exists():
        check_on_hub("--model_name_or_path", name, "model")
    try:
        config = AutoConfig.from_pretrained(
            name, revision=model_args.model_revision, trust_remote_code=args.trust_remote_code
        )
    except (ValueError, OSError) as error:
        raise ValueError(f"{option} {name!r} is not a model that can be loaded: {error}") from error
    if config.model_type not in known_model_types() and _is_text_model(config):
        raise ValueError(
            f"{option} {name!r} is a text model of the type {config.model_type!r}, which takes no images. Use a "
            f"vision-language model, such as one of the types {', '.join(known_model_types())}."
        )
    check_trainable(config)
    if model_args.use_peft and model_args.lora_target_modules is not None:
        _check_targets(config, model_args)


def _is_text_model(config: object) -> bool:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def _check_targets(config: object, model_args: "ModelConfig") -> None:
    """Check that LoRA has a target, on a model without weights."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    from ..models.vlm import model_skeleton

    targets = model_args.lora_target_modules
    if targets == "all-linear" or type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return
    lora = LoraConfig(target_modules=targets)
    names = [name for name, _ in model_skeleton(config).named_modules()]
    if not any(check_target_module_exists(lora, name) for name in names):
        pattern = " A single name is a regular expression for the whole path: try '.*NAME'."
        hint = pattern if isinstance(targets, str) else ""
        raise ValueError(
            f"`--lora_target_modules` {targets!r} matches no module of {model_args.model_name_or_path}.{hint} Leave "
            "it out to train every linear layer of the language model."
        )
