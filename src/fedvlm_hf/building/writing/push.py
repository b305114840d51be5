"""A built dataset on the Hub, or of it what may be there."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi

from ..builders.base import Builder
from .card import card
from .manifest import as_json


_PLACE = ("id", "split", "client_id")
# Of an earlier push: a file that is in no configuration any more would stay for ever
_REPLACED = ["data/*", "partition/*", "report/*"]


def files_to_push(folder: str | Path, builder: Builder) -> Path:
    """The folder to push: the dataset's own, or a new one without rows where a source is restricted.

    What leaves in that case: the card, the manifest, and `partition/<configuration>.parquet` with each row's `id`,
    `split` and `client_id` and the builder's `public_columns`.

    Args:
        folder (`str` or `Path`):
            What `build_dataset` made.
        builder ([`Builder`]):
            What made it.

    Returns:
        `Path`: `folder`, or a hidden folder beside it.
    """
    folder = Path(folder)
    if not any(source.is_restricted for source in builder.used_sources):
        return folder
    manifest = _manifest(folder)
    public = folder.with_name(f".{folder.name}.public")
    shutil.rmtree(public, ignore_errors=True)
    (public / "partition").mkdir(parents=True)
    for name, config in manifest["configs"].items():
        table = _places(folder, config["data_files"], builder.public_columns)
        pq.write_table(table, public / "partition" / f"{name}.parquet")
    (public / "manifest.json").write_text(as_json(manifest), encoding="utf-8")
    (public / "README.md").write_text(card(builder, manifest, partition_only=True), encoding="utf-8")
    return public


def push_dataset(folder: str | Path, repo_id: str, private: bool = True) -> str:
    """Uploads a folder in one commit. Needs `HF_TOKEN` or a login, and takes `HF_ENDPOINT`.

    Args:
        folder (`str` or `Path`):
            What [`files_to_push`] returned.
        repo_id (`str`):
            Such as `"my-group/fed-slake"`. Made if it is not there; what an earlier push left in it is replaced.
        private (`bool`, *optional*, defaults to `True`):
            Of a new repository.

    Returns:
        `str`: the repository's address.

    Raises:
        `ValueError`: if the folder holds rows of a source that may not be passed on.
    """
    folder = Path(folder)
    restricted = _manifest(folder)["restricted_sources"]
    if restricted and (folder / "data").exists():
        raise ValueError(
            f"{folder} holds rows of {' and '.join(restricted)}, which may not be passed on. Push what "
            "`files_to_push(folder, builder)` returns."
        )
    api = HfApi()
    url = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    api.upload_folder(
        repo_id=url.repo_id,
        folder_path=folder,
        repo_type="dataset",
        commit_message="Federated dataset by fedvlm_hf",
        delete_patterns=_REPLACED,
    )
    return str(url)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no built dataset: there is no manifest.json. Give what `fedvlm build` made.")
    return json.loads(path.read_text(encoding="utf-8"))


def _places(folder: Path, data_files: dict[str, str], columns: Sequence[str]) -> pa.Table:
    """Each row's place in a configuration, without text or image."""
    tables = []
    for split, pattern in data_files.items():
        for path in sorted(folder.glob(pattern)):
            table = pq.read_table(path, columns=["id", "client_id", *columns]).replace_schema_metadata()
            tables.append(table.append_column("split", pa.array([split] * table.num_rows, pa.string())))
    return pa.concat_tables(tables).select([*_PLACE, *columns]).sort_by("id")
