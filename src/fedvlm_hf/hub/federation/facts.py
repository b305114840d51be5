"""What both sides of a federation compare before anyone trains."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from ...files import file_sha256
from .documents import sha256_of
from .protocol import Announcement, package_versions


class MismatchError(ValueError):
    """This host cannot take part: what it would train is not what the server announced."""


def base_sha256(name: str, revision: str | None = None) -> str:
    """One hash of the SHA-256 sums of a base model's weight files, whatever they and their folder are called.

    Args:
        name (`str`):
            A folder, or a repository whose weights are brought to the cache, from where they are loaded later.
        revision (`str`, *optional*):
            Of the repository.

    Raises:
        `ValueError`: if it has no weights in safetensors.
    """
    sums = sorted(map(file_sha256, _weight_files(name, revision)))
    return sha256_of("\n".join(sums).encode())


def _weight_files(name: str, revision: str | None) -> list[Path]:
    """The files that transformers loads the weights from."""
    found = partial(cached_file, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    if single := found(SAFE_WEIGHTS_NAME):
        return [Path(single)]
    index = found(SAFE_WEIGHTS_INDEX_NAME)
    shards = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values() if index else ()
    paths = [found(shard) for shard in sorted(set(shards))]
    if not paths or None in paths:
        raise ValueError(
            f"`model_name_or_path` {name!r} has no weights in safetensors, or not all of them, so server and clients "
            "could not tell whether they start from the same. Save it with `save_pretrained`."
        )
    return [Path(path) for path in paths]


def check_same(
    announcement: Announcement, *, base: str, config: str, adapter: str, layout: Mapping, is_any_version: bool
) -> list[str]:
    """Compare what is here with what the server announced.

    Args:
        announcement ([`Announcement`]):
            The server's.
        base (`str`), config (`str`), adapter (`str`):
            Hashes of this host's base model, configuration and adapter before training.
        layout (`Mapping`):
            Names and shapes of the tensors that would travel.
        is_any_version (`bool`):
            Whether other package versions are told and not refused.

    Returns:
        `list[str]`: differences that do not forbid training but change the last bits.

    Raises:
        `MismatchError`: in plain words, before any training.
    """
    if config != announcement.config_sha256:
        raise MismatchError("The server's configuration has changed since this client started. Start it again.")
    if base != announcement.base_sha256:
        raise MismatchError(
            "The base model here is not the server's: its weight files have other hashes. Use the same repository and "
            "revision, or a copy of the server's folder in `--model_name_or_path`."
        )
    versions = package_versions()
    differing = [
        f"{name} {versions.get(name)} here, {theirs} at the server"
        for name, theirs in announcement.versions.items()
        if versions.get(name) != theirs
    ]
    if differing and not is_any_version:
        raise MismatchError(
            f"Package versions differ: {'; '.join(differing)}. Install the server's, or pass `--any_versions true` to "
            "take part all the same; the last bits will differ from a run in one process."
        )
    if list(layout.items()) != list(announcement.layout["global"].items()):
        raise MismatchError(
            f"The adapter here has other tensors than the server's: {_first_difference(layout, announcement)}."
        )
    if adapter != announcement.adapter_sha256:  # what travels is the server's all the same
        differing.append("the adapter was drawn from other random numbers, as by another device")
    return differing


def _first_difference(layout: Mapping, announcement: Announcement) -> str:
    theirs = announcement.layout["global"]
    for name in [*layout, *theirs]:
        if layout.get(name) != theirs.get(name):
            return f"{name!r} is {layout.get(name, 'missing')} here and {theirs.get(name, 'missing')} there"
    return "they are in another order"
