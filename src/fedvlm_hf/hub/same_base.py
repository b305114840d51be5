"""Whether a base model is the one that a pushed run started from, by the hashes of its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, RepoFile
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from .reading import open_revision
from .repository import is_same


WEIGHTS = ".safetensors"


def with_same_base(saved: Mapping[str, Any], run: Mapping[str, Any], api: HfApi) -> dict[str, Any]:
    """A run as it was pushed, with its base model named as it is here where the weights of the two are equal.

    A base model that was only local is pushed beside the run and named by that repository, so that names alone tell
    nothing.

    Args:
        saved (`Mapping[str, Any]`):
            `run.json` of the repository; its `base_model` is a repository's name, never a path here.
        run (`Mapping[str, Any]`):
            What this run would write; its `base_model` is a folder or a repository's name.
        api ([`~huggingface_hub.HfApi`]):
            The Hub, which knows the hashes of large files without a download.
    """
    there, here = saved["base_model"], run["base_model"]
    if there == here or not _is_repo_id(there) or not _same_weights(there, here, api):
        return dict(saved)
    return {**saved, "base_model": here}


def _same_weights(there: str, here: str, api: HfApi) -> bool:
    files = _remote_weights(there, api)
    if Path(here).is_dir():
        own = {path.name: path for path in Path(here).glob(f"*{WEIGHTS}")}
        return bool(files) and own.keys() == files.keys() and all(is_same(own[name], files[name]) for name in files)
    if not _is_repo_id(here):
        return False
    others = _remote_weights(here, api)
    digests = [
        {name: file.lfs.sha256 if file.lfs else file.blob_id for name, file in found.items()}
        for found in (files, others)
    ]
    return bool(files) and digests[0] == digests[1]


def _remote_weights(repo_id: str, api: HfApi) -> dict[str, RepoFile]:
    files = open_revision(repo_id, "main", api).files
    return {path: file for path, file in files.items() if path.endswith(WEIGHTS) and "/" not in path}


def _is_repo_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name
