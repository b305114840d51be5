"""`federation/config.json`: what every client trains with, as its server says.

A client takes numbers and names from it, and nothing that would run code, read or write a path, or report elsewhere:
those arguments are not in the lists below. Where a server sets one, it says so instead of dropping it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from trl import ModelConfig

from ...config import FederatedConfig
from ...data.clients import client_datasets
from .documents import Document, DocumentError
from .protocol import CONFIG, PROTOCOL


_ROUNDS = (
    "num_rounds clients_per_round client_sampling client_weighting round_lr_scheduler_type round_min_learning_rate "
    "method method_kwargs tuning stage_rounds"
)
_LOCAL_WORK = (
    "seed data_seed full_determinism per_device_train_batch_size gradient_accumulation_steps num_train_epochs "
    "max_steps learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps optim optim_args weight_decay "
    "adam_beta1 adam_beta2 adam_epsilon max_grad_norm label_smoothing_factor neftune_noise_alpha bf16 fp16 tf32 "
    "gradient_checkpointing activation_checkpointing activation_offloading use_liger_kernel train_sampling_strategy "
    "dataloader_drop_last max_length pad_to_multiple_of completion_only_loss loss_type router_aux_loss_coef"
)
TRAVELS = tuple(f"{_ROUNDS} {_LOCAL_WORK}".split())
"""Arguments that clients take from the server."""

_OWN = re.compile(
    "(hub|push|logging|log|eval|save|trackio|dataloader|per_device_eval)_.*|output_dir|run_name|report_to|project|"
    "disable_tqdm|use_cpu|trust_remote_code|resume_from_checkpoint|share_client_names|engine"
)
_MODEL_OWN = ("model_name_or_path", "trust_remote_code")


@dataclass(frozen=True)
class Settings(Document):
    """What every client trains with.

    Attributes:
        client_ids (`list[str]`): Every client; seeds depend on it.
        base_model (`str`, *optional*): The base model's repository; without one, each client is told where it has it.
        args (`dict`): The arguments of [`FederatedConfig`] in `TRAVELS`.
        model (`dict`): Arguments of [`~trl.ModelConfig`]: the adapter, and how the base is loaded.
    """

    client_ids: list[str]
    base_model: str | None
    args: dict[str, Any]
    model: dict[str, Any]
    protocol: int = PROTOCOL


def make_settings(
    args: FederatedConfig, model_args: ModelConfig, client_ids: Sequence[str], base_model: str
) -> Settings:
    """What a server publishes.

    Args:
        args ([`FederatedConfig`]), model_args ([`~trl.ModelConfig`]):
            The server's.
        client_ids (`Sequence[str]`):
            Every client.
        base_model (`str`):
            A repository or a folder. A folder's path stays here; clients are told `hub_base_model`, if it is set.

    Raises:
        `ValueError`: if an argument is set that clients would have to share, and do not take from a server.
    """
    client_datasets({}, client_ids)  # ids that can be names of branches
    values = args.to_dict()
    travels = {name: values[name] for name in TRAVELS}
    default = FederatedConfig(
        args.output_dir, **travels | {"use_cpu": args.use_cpu, "report_to": "none", "disable_tqdm": True}
    ).to_dict()
    kept = [name for name in values if name not in TRAVELS and not _OWN.fullmatch(name)]
    if unsent := [name for name in kept if values[name] != default[name]]:
        raise ValueError(
            f"`{unsent[0]}` is set to {values[unsent[0]]!r}, but clients do not take it from a server: it could run "
            "code, use a path or report elsewhere at their hosts. Leave it at its default."
        )
    model = {field.name: getattr(model_args, field.name) for field in fields(ModelConfig)}
    return Settings(
        client_ids=sorted(client_ids),
        base_model=args.hub_base_model if Path(base_model).is_dir() else base_model,
        args=travels,
        model={name: value for name, value in model.items() if name not in _MODEL_OWN},
    )


def read_settings(content: bytes) -> Settings:
    """What a client reads.

    Raises:
        `ValueError`: if it cannot be used, or holds an argument that a client does not take.
    """
    try:
        settings = Settings.from_bytes(content)
        _check_names("args", settings.args, TRAVELS)
        _check_names("model", settings.model, [f.name for f in fields(ModelConfig) if f.name not in _MODEL_OWN])
        if settings.base_model is not None:
            validate_repo_id(settings.base_model)
    except (DocumentError, HFValidationError) as error:
        raise ValueError(f"The server's {CONFIG} cannot be used: {error}.") from None
    return settings


def client_arguments(settings: Settings, own: Mapping[str, Any]) -> tuple[FederatedConfig, ModelConfig]:
    """A client's arguments: the server's, and its own for what stays with it.

    Args:
        settings ([`Settings`]):
            What the server published.
        own (`Mapping[str, Any]`):
            Such as `output_dir` and `use_cpu`. No code from a model's repository is run.
    """
    args = FederatedConfig(**settings.args, **own, trust_remote_code=False)
    model_args = ModelConfig(**settings.model)
    args.model_init_kwargs = load_arguments(model_args)
    return args, model_args


def load_arguments(model_args: ModelConfig) -> dict[str, Any]:
    """How the base is loaded, on both sides; weights from safetensors alone."""
    return {
        "revision": model_args.model_revision,
        "dtype": model_args.dtype,
        "attn_implementation": model_args.attn_implementation,
        "use_safetensors": True,
    }


def _check_names(what: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    if strange := sorted(given.keys() - set(known)):
        raise DocumentError(f"its `{what}` has {strange[0]!r:.60}, which no client takes from a server")
    if missing := sorted(set(known) - given.keys()):
        raise DocumentError(f"its `{what}` lacks {missing[0]!r}: the server has another version of fedvlm_hf or trl")
