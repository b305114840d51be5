"""What server and clients must share: the settings that a server publishes, and the facts compared before training.

A client takes numbers and names from a server, but nothing that would run code, read or write a path, or report
elsewhere: those arguments are not in the lists below. A server that sets one of them gets an error.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file
from trl import ModelConfig

from ..config import FederatedConfig
from ..data.clients import client_datasets
from ..files import file_sha256
from ..tensors import TensorDict
from .documents import PROTOCOL, Document, DocumentError, sha256_of
from .tensor_files import Entry, layout_of


_FIELDS = {field.name for field in fields(FederatedConfig)}
SHARED_ARGUMENTS = (
    *("method", "method_kwargs", "transforms", "transform_kwargs"),
    # not the path, and not what the installed transformers lacks
    *(name for name in FederatedConfig.deciding if name != "chat_template_path" and name in _FIELDS),
)
"""Arguments that clients take from the server: those that decide the bits of a round."""

_OWN_ARGUMENTS = re.compile(
    "(hub|push|logging|log|eval|save|trackio|dataloader|per_device_eval)_.*|output_dir|run_name|report_to|project|"
    "disable_tqdm|use_cpu|trust_remote_code|resume_from_checkpoint|share_client_names|engine|check_data"
)
_OWN_MODEL_ARGUMENTS = ("model_name_or_path", "trust_remote_code")

# Both sides need the same versions of these: they decide the arithmetic of a step and the layout of the adapter
_PACKAGES = ("fedvlm_hf", "torch", "transformers", "trl", "peft", "accelerate")


class MismatchError(ValueError):
    """This host cannot take part: what it would train is not what the server announced."""


@dataclass(frozen=True)
class Settings(Document):
    """What every client trains with.

    Attributes:
        client_ids (`list[str]`): Every client; seeds depend on it.
        base_model (`str`, *optional*): Repository of the base model. Without it, each client names its own copy.
        args (`dict`): The arguments of [`FederatedConfig`] in `SHARED_ARGUMENTS`.
        model (`dict`): Arguments of [`~trl.ModelConfig`]: the adapter, and how the base model is loaded.
    """

    client_ids: list[str]
    base_model: str | None
    args: dict[str, Any]
    model: dict[str, Any]
    protocol: int = PROTOCOL


def make_settings(
    args: FederatedConfig, model_args: ModelConfig, client_ids: Sequence[str], base_model: str
) -> Settings:
    """Collect what a server publishes.

    Args:
        args ([`FederatedConfig`]), model_args ([`~trl.ModelConfig`]):
            The server's arguments.
        client_ids (`Sequence[str]`):
            Every client.
        base_model (`str`):
            A repository or a folder. A folder's path is not published; clients get `hub_base_model` if it is set.

    Raises:
        `ValueError`: if an argument is set that clients would have to share but do not take from a server.
    """
    client_datasets({}, client_ids)  # checks that ids can be names of branches
    values = args.to_dict()
    shared = {name: values[name] for name in SHARED_ARGUMENTS}
    default = FederatedConfig(
        args.output_dir, **shared | {"use_cpu": args.use_cpu, "report_to": "none", "disable_tqdm": True}
    ).to_dict()
    kept = [name for name in values if name not in SHARED_ARGUMENTS and not _OWN_ARGUMENTS.fullmatch(name)]
    if unsent := [name for name in kept if values[name] != default[name]]:
        raise ValueError(
            f"`{unsent[0]}` is set to {values[unsent[0]]!r}, but clients do not take it from a server: it could run "
            "code, use a path or report elsewhere on their hosts. Leave it at its default."
        )
    model = {field.name: getattr(model_args, field.name) for field in fields(ModelConfig)}
    return Settings(
        client_ids=sorted(client_ids),
        base_model=args.hub_base_model if Path(base_model).is_dir() else base_model,
        args=shared,
        model={name: value for name, value in model.items() if name not in _OWN_MODEL_ARGUMENTS},
    )


def read_settings(content: bytes) -> Settings:
    """Read the settings that a server published.

    Raises:
        `ValueError`: if they cannot be used, or hold an argument that a client does not take.
    """
    try:
        settings = Settings.from_bytes(content)
        _check_names("args", settings.args, SHARED_ARGUMENTS)
        own = _OWN_MODEL_ARGUMENTS
        _check_names("model", settings.model, [f.name for f in fields(ModelConfig) if f.name not in own])
        if settings.base_model is not None:
            validate_repo_id(settings.base_model)
    except (DocumentError, HFValidationError) as error:
        raise ValueError(f"The server's config.json cannot be used: {error}.") from None
    return settings


def client_arguments(settings: Settings, own: Mapping[str, Any]) -> tuple[FederatedConfig, ModelConfig]:
    """Make a client's arguments: the server's, with its own for what stays on its host.

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
    """Return how both sides load the base model: from safetensors only."""
    return {
        "revision": model_args.model_revision,
        "dtype": model_args.dtype,
        "attn_implementation": model_args.attn_implementation,
        "use_safetensors": True,
    }


@dataclass(frozen=True)
class Facts:
    """What both sides compare before anyone trains.

    Attributes:
        config_sha256 (`str`): Of the settings, as the server published them.
        base_sha256 (`str`): Of the base model's weights: what `base_sha256` returns.
        adapter_sha256 (`str`): Of the whole adapter before training: its names, shapes and bits.
        adapter (`Mapping[str, Entry]`): The adapter's tensors, in order.
        versions (`Mapping[str, str]`): Of the packages that both sides need in the same version.
    """

    config_sha256: str
    base_sha256: str
    adapter_sha256: str
    adapter: Mapping[str, Entry]
    versions: Mapping[str, str]

    @classmethod
    def of(cls, config: bytes, base_sha256: str, adapter: TensorDict) -> "Facts":
        """Collect the facts of this host.

        Args:
            config (`bytes`):
                The settings, as the server published them.
            base_sha256 (`str`):
                Of the base model.
            adapter (`TensorDict`):
                Every tensor of the adapter before training.
        """
        layout = layout_of({"adapter": adapter})["adapter"]
        return cls(sha256_of(config), base_sha256, adapter.digest(), layout, package_versions())


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that both sides share, without the build that follows a `+`."""
    return {name: version(name).partition("+")[0] for name in _PACKAGES}


def base_sha256(name: str, revision: str | None = None) -> str:
    """Hash the SHA-256 sums of a base model's weight files, independent of the names of files and folder.

    Args:
        name (`str`):
            A folder, or a repository. The weights of a repository are downloaded to the cache, where loading the model
            finds them later.
        revision (`str`, *optional*):
            Of the repository.

    Raises:
        `ValueError`: if the model has no weights in safetensors.
    """
    sums = sorted(map(file_sha256, _weight_files(name, revision)))
    return sha256_of("\n".join(sums).encode())


def compare_facts(here: Facts, server: Facts, is_any_version: bool = False) -> list[str]:
    """Compare what is on this host with what the server announced.

    Args:
        here ([`Facts`]), server ([`Facts`]):
            Facts of the two sides.
        is_any_version (`bool`, *optional*, defaults to `False`):
            Whether other package versions are reported instead of refused.

    Returns:
        `list[str]`: differences that allow training but change the last bits.

    Raises:
        `MismatchError`: if this host would train something else than the server announced.
    """
    if here.config_sha256 != server.config_sha256:
        raise MismatchError("The server's configuration has changed since this client started. Start it again.")
    if here.base_sha256 != server.base_sha256:
        raise MismatchError(
            "The base model here is not the server's: its weight files have other hashes. Use the same repository and "
            "revision, or a copy of the server's folder in `--model_name_or_path`."
        )
    differences = [
        f"{name} {here.versions.get(name)} here, {theirs} at the server"
        for name, theirs in server.versions.items()
        if here.versions.get(name) != theirs
    ]
    if differences and not is_any_version:
        raise MismatchError(
            f"Package versions differ: {'; '.join(differences)}. Install the server's versions, or pass "
            "`--any_versions true` to take part anyway; the last bits will then differ from a run in one process."
        )
    if list(here.adapter.items()) != list(server.adapter.items()):
        raise MismatchError(
            f"The adapter here has other tensors than the server's: {_first_difference(here.adapter, server.adapter)}."
        )
    if here.adapter_sha256 != server.adapter_sha256:  # harmless: training starts from the server's tensors
        differences.append("the adapter was drawn from other random numbers, as on another device")
    return differences


def _weight_files(name: str, revision: str | None) -> list[Path]:
    """Find the files that transformers loads the weights from."""
    find = partial(cached_file, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    if single := find(SAFE_WEIGHTS_NAME):
        return [Path(single)]
    index = find(SAFE_WEIGHTS_INDEX_NAME)
    shards = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values() if index else ()
    paths = [find(shard) for shard in sorted(set(shards))]
    if not paths or None in paths:
        raise ValueError(
            f"`model_name_or_path` {name!r} has no weights in safetensors, or not all of them, so server and clients "
            "cannot check that they start from the same model. Save it with `save_pretrained`."
        )
    return [Path(path) for path in paths]


def _first_difference(here: Mapping[str, Entry], there: Mapping[str, Entry]) -> str:
    for name in [*here, *there]:
        if here.get(name) != there.get(name):
            return f"{name!r} is {here.get(name, 'missing')} here and {there.get(name, 'missing')} there"
    return "they are in another order"


def _check_names(what: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    if strange := sorted(given.keys() - set(known)):
        raise DocumentError(f"its `{what}` has {strange[0]!r:.60}, which no client takes from a server")
    if missing := sorted(set(known) - given.keys()):
        raise DocumentError(f"its `{what}` lacks {missing[0]!r}: the server has another version of fedvlm_hf or trl")
