"""Upload a built dataset to the Hub, without rows if one of its sources may not be redistributed."""

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
from .workspace import INPUTS


_PLACE = ("id", "split", "client_id")
# Files of an earlier push that are deleted: files that no configuration uses any more would stay forever
_REPLACED = ["data/*", "partition/*", "report/*"]


def files_to_push(folder: str | Path, builder: Builder) -> Path:
    """Return the folder to push: the dataset itself, or a new folder without rows if a source is restricted.

    The new folder has the card, the manifest, and `partition/<configuration>.parquet` with the `id`, `split` and
    `client_id` of each row and the builder's `public_columns`.

    Args:
        folder (`str` or `Path`):
            The folder that `build_dataset` made.
        builder ([`Builder`]):
            The builder of the dataset.

    Returns:
        `Path`: `folder`, or a hidden folder next to it.
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
    """Upload a folder in one commit. Needs `HF_TOKEN` or a login, and respects `HF_ENDPOINT`.

    The names of the files that the build read, `inputs.json`, stay on this machine.

    Args:
        folder (`str` or `Path`):
            The folder that [`files_to_push`] returned.
        repo_id (`str`):
            The repository, such as `"my-group/fed-slake"`. It is created if necessary; files of an earlier push are
            replaced.
        private (`bool`, *optional*, defaults to `True`):
            Whether a new repository is private.

    Returns:
        `str`: the URL of the repository.

    Raises:
        `ValueError`: if the folder has rows of a source that may not be redistributed.
    """
    folder = Path(folder)
    restricted = _manifest(folder)["restricted_sources"]
    if restricted and (folder / "data").exists():
        raise ValueError(
            f"{folder} has rows of {' and '.join(restricted)}, which may not be redistributed. Push the folder that "
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
        ignore_patterns=[INPUTS],
    )
    return str(url)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} is not a built dataset: it has no manifest.json. Use a folder that `fedvlm build` made."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _places(folder: Path, data_files: dict[str, str], columns: Sequence[str]) -> pa.Table:
    """Return the id, split and client of each row of a configuration, without texts and images."""
    tables = []
    for split, pattern in data_files.items():
        for path in sorted(folder.glob(pattern)):
            table = pq.read_table(path, columns=["id", "client_id", *columns]).replace_schema_metadata()
            tables.append(table.append_column("split", pa.array([split] * table.num_rows, pa.string())))
    return pa.concat_tables(tables).select([*_PLACE, *columns]).sort_by("id")
