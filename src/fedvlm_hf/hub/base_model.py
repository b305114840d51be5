"""A base model that is only a folder: pushed once, beside the run, so that others find what its rounds belong to."""

import hashlib
import json
from fnmatch import fnmatchcase
from pathlib import Path

from ..reporting.run_info import public_value
from .errors import HubRefusedError
from .repository import Content, Repository, is_same, opened
from .sent import SentRecord


SENT = (
    "*.safetensors", "*.safetensors.index.json", "*config.json", "tokenizer*.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "*.tiktoken", "*.model", "*.jinja",
    "chat_template.json", "README.md", "LICENSE*", "NOTICE*",
)  # fmt: skip
"""What loading takes, and who may use it under which terms. No pickle and no code is among it."""


def send_base(folder: Path, repository: Repository, sent: SentRecord) -> None:
    """Push the files of a base model, unless these very files have arrived before.

    Args:
        folder (`Path`):
            Where the base model lies.
        repository ([`~hub.repository.Repository`]):
            Its own repository, made where it is not there.
        sent ([`~hub.sent.SentRecord`]):
            Where its digest is noted.

    Raises:
        `HubRefusedError`: if it has no safetensors, or its repository holds another model.
    """
    files = base_files(folder)
    digest = _digest(files)
    if sent.base == digest:
        return
    head = repository.head()
    there = repository.files(head)
    weights = [path for path in there if path.endswith(".safetensors")]
    if not all(path in files and is_same(files[path], there[path]) for path in weights):
        raise HubRefusedError(
            f"{repository.repo_id}, where the run's base model would go, holds another model, so nothing was sent. "
            "Give the run a new `hub_model_id`, or name the base model's own repository with `hub_base_model`."
        )
    repository.commit("Base model", files, head)
    sent.note_base(digest)


def base_files(folder: Path) -> dict[str, Content]:
    """The files of a base model that are pushed, by path; its JSON does not say in which folder it was loaded from.

    Raises:
        `HubRefusedError`: if there are no weights in safetensors among them.
    """
    paths = [path for path in sorted(folder.iterdir()) if any(fnmatchcase(path.name, pattern) for pattern in SENT)]
    if not any(path.suffix == ".safetensors" for path in paths):
        raise HubRefusedError(
            f"The base model in '{folder}' cannot be pushed beside the run: it has no weights in safetensors, and "
            "pickles are not sent. Save it again with `save_pretrained`, or name its repository with `hub_base_model`."
        )
    return {path.name: _without_origin(path) if path.name.endswith("config.json") else path for path in paths}


def _without_origin(path: Path) -> Content:
    content = json.loads(path.read_text(encoding="utf-8"))
    public = {key: public_value(value) if key.endswith("name_or_path") else value for key, value in content.items()}
    return path if public == content else (json.dumps(public, indent=2) + "\n").encode()


def _digest(files: dict[str, Content]) -> str:
    digest = hashlib.sha256()
    for name, content in files.items():
        with opened(content) as file:
            digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
