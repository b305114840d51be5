"""What a card says of a run beside its scores."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any


PACKAGES = ("fedvlm_hf", "torch", "transformers", "trl", "peft", "datasets")


def versions() -> dict[str, str]:
    """Versions of what a run is made with."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


@dataclass(frozen=True)
class RunInfo:
    """What a card says beside the scores. All of it is JSON: a run keeps it as `card.json`.

    Args:
        base_model (`str`):
            Hub id or folder of the base model. Of a folder only the last part of the name is shown.
        method (`str`):
            The method's name.
        tuning (`str`):
            What was trained: `connector`, `llm`, `joint` or `two_stage`.
        clients (`Mapping[str, int]`):
            Client to number of training rows.
        config (`Mapping[str, Any]`):
            The arguments of the run, as `FederatedConfig.to_dict()` gives them.
        knobs (`Mapping[str, Any]`, *optional*):
            The method's own hyper-parameters and the adapter's, defaults too.
        dataset (`str`, *optional*), dataset_config (`str`, *optional*):
            Hub id, folder or name of the data, and its configuration.
        hub_model_id (`str`, *optional*):
            The repository that the run is pushed to.
        license (`str`, *optional*), license_name (`str`, *optional*), license_link (`str`, *optional*):
            License of the trained weights, such as `apache-2.0`; with `other`, its name and link.
        paper (`str`, *optional*):
            Link to the method's paper.
        transforms (`Sequence[str]`, *optional*):
            What happened to the updates on their way, in words.
        limits (`Sequence[str]`, *optional*):
            Sentences on what the model or its data cannot do, beside the general ones.
        command (`str`, *optional*):
            What was typed to start the run.
        versions (`Mapping[str, str]`, *optional*):
            Package to version, those that are installed by default.
        is_our_class (`bool`, *optional*, defaults to `False`):
            Whether the base model's class comes with this package, so that loading it takes an import.
        is_personal (`bool`, *optional*, defaults to `False`):
            Whether clients keep tensors of their own, so that each is scored with a model that no round holds.
        is_simulated (`bool`, *optional*, defaults to `True`):
            Whether all clients were on one host.
    """

    base_model: str
    method: str
    tuning: str
    clients: Mapping[str, int]
    config: Mapping[str, Any] = field(default_factory=dict)
    knobs: Mapping[str, Any] = field(default_factory=dict)
    dataset: str | None = None
    dataset_config: str | None = None
    hub_model_id: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    paper: str | None = None
    transforms: Sequence[str] = ()
    limits: Sequence[str] = ()
    command: str | None = None
    versions: Mapping[str, str] = field(default_factory=versions)
    is_our_class: bool = False
    is_personal: bool = False
    is_simulated: bool = True
