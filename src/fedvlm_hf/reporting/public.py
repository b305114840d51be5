"""What of a run's arguments goes on its card: those that matter for the result, without paths of the machine."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..config import FederatedConfig


ALWAYS_SHOWN = (
    "num_rounds", "clients_per_round", "client_sampling", "client_weighting", "num_train_epochs", "max_steps",
    "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "round_lr_scheduler_type",
    "lr_scheduler_type", "optim", "weight_decay", "max_grad_norm", "bf16", "seed",
)  # fmt: skip
# said elsewhere on the card, about the place and the look of the run, or never at their default once parsed
NEVER_SHOWN = {
    "method", "tuning", "output_dir", "run_name", "project", "report_to", "disable_tqdm", "debug", "use_cpu",
    "resume_from_checkpoint", "accelerator_config", "activation_checkpointing", "eos_token", "pad_token",
    "pad_to_multiple_of", "push_client_adapters", "share_client_names",
}  # fmt: skip
NEVER_SHOWN_PREFIXES = (
    "hub_", "push_to_hub", "trackio_", "logging_", "log_", "save_", "dataloader_", "ddp_", "per_device_eval_",
)  # fmt: skip


def hyperparameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `FederatedConfig.to_dict()` that matter for the result.

    Args:
        config (`Mapping[str, Any]`):
            All arguments. What has `FederatedConfig`'s default is left out unless it is in `ALWAYS_SHOWN`; so is what
            concerns logging, saving and the Hub. Of an absolute path the last part of the name is left.
    """
    defaults = {
        entry.name: entry.default_factory() if entry.default_factory is not MISSING else entry.default
        for entry in fields(FederatedConfig)
    }
    names = [name for name in ALWAYS_SHOWN if name in config]
    for name in sorted(config.keys() & defaults.keys() - NEVER_SHOWN - set(names)):
        if config[name] != defaults[name] and not name.startswith(NEVER_SHOWN_PREFIXES):
            names.append(name)
    return {name: public_value(config[name]) for name in names}


def is_hub_id(name: str) -> bool:
    """Whether `name` can only be a repository on the Hub: `owner/name`, and no folder here."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name and not Path(name).exists()


def public_name(name: str) -> str:
    """A Hub id or a plain name as it is; of a folder, the last part of its name."""
    return name if is_hub_id(name) else PureWindowsPath(name).name  # it splits at both kinds of slashes


def public_value(value: Any) -> Any:
    """A value with every absolute path in it cut to its last part."""
    if isinstance(value, Mapping):
        return {key: public_value(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [public_value(part) for part in value]
    if isinstance(value, str) and (
        value.startswith("~") or PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()
    ):
        return PureWindowsPath(value).name
    return value
