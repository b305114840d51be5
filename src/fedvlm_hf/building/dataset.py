"""A federated dataset before any row is read: its configurations, their splits, the files of each, its manifest."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from datasets import Dataset
from datasets.data_files import resolve_pattern, sanitize_patterns
from huggingface_hub.repocard import metadata_load

from .pieces import Piece, dataset_pieces, parquet_pieces


@dataclass
class FederatedDataset:
    """Where the rows of a federated dataset are.

    Attributes:
        name (`str`): The folder, as messages name it.
        configs (`dict[str, dict[str, list[str]]]`): Configuration to split to its files, in order; the default first.
        files (`dict[str, list[Piece]]`): Every file once, however many configurations list it; damaged ones without
            pieces.
        schemas (`dict[str, pa.Schema]`): Columns and types of each readable file.
        manifest (`dict[str, Any]`, *optional*): What the build wrote down, where there is a `manifest.json`.
        problems (`list[tuple[str, str]]`): Files that cannot be used, and why.
    """

    name: str
    configs: dict[str, dict[str, list[str]]]
    files: dict[str, list[Piece]] = field(default_factory=dict)
    schemas: dict[str, pa.Schema] = field(default_factory=dict)
    manifest: dict[str, Any] | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)

    def pieces(self, config: str) -> Iterator[tuple[str, Piece]]:
        """`(split, piece)` of a configuration in the order of its rows."""
        for split, files in self.configs[config].items():
            for file in files:
                for piece in self.files[file]:
                    yield split, piece

    def entry(self, config: str) -> dict[str, Any]:
        """What the manifest says of a configuration; empty where there is no manifest, or it does not know it."""
        return (self.manifest or {}).get("configs", {}).get(config, {})

    def columns(self, config: str, names: list[str]) -> dict[str, dict[str, list[Any]]]:
        """Columns of a configuration without its images.

        Args:
            config (`str`):
                The configuration.
            names (`list[str]`):
                The columns; those that are not there are left out.

        Returns:
            `dict[str, dict[str, list]]`: split to column to values in row order.
        """
        known = [name for name in names if name in self.column_names(config)]
        columns: dict[str, dict[str, list[Any]]] = {
            split: {name: [] for name in known} for split in self.configs[config]
        }
        for split, piece in self.pieces(config):
            for batch in piece.batches(known):
                for name in known:
                    columns[split][name] += batch[name].to_pylist()
        return columns

    def column_names(self, config: str) -> list[str]:
        """Columns that all files of a configuration have, in the first one's order."""
        files = [file for split in self.configs[config].values() for file in split if file in self.schemas]
        names = self.schemas[files[0]].names if files else []
        return [name for name in names if all(name in self.schemas[file].names for file in files)]


def read_folder(folder: str | Path) -> FederatedDataset:
    """Looks at a folder in the Hub's layout: `README.md` with `configs:`, Parquet files, perhaps a `manifest.json`.

    Files that are missing or damaged are listed in `problems`; the others can be used.

    Args:
        folder (`str` or `Path`):
            What `fedvlm build` wrote, or a download of it.

    Raises:
        `ValueError`: if there is no such folder, its card names no configuration, or the card or manifest cannot be
            read.
    """
    folder = Path(folder)
    federation = FederatedDataset(str(folder), {}, manifest=_manifest(folder))
    configs = _card_configs(folder)
    if all(set(patterns) == {"partition"} for patterns in configs.values()):
        raise ValueError(
            f"{folder} has each row's id, split and client, and no rows: a source of it may not be passed on. Build "
            "the dataset from the sources, see its README.md, and use that folder."
        )
    for name, patterns in configs.items():
        federation.configs[name] = {}
        for split, paths in patterns.items():
            found = [file for path in paths for file in _resolve(folder, path, f"{name}/{split}", federation)]
            federation.configs[name][split] = found
            for file in found:
                if file not in federation.files:
                    federation.files[file] = _pieces(folder, file, federation)
    return federation


def from_splits(name: str, configs: Mapping[str, Mapping[str, Dataset]]) -> FederatedDataset:
    """A loaded dataset; each split counts as a file.

    Args:
        name (`str`):
            As messages name it.
        configs (`Mapping[str, Mapping[str, Dataset]]`):
            Configuration to its `DatasetDict`.
    """
    federation = FederatedDataset(name, {})
    for config, splits in configs.items():
        federation.configs[config] = {}
        for split, dataset in splits.items():
            file = f"{config}/{split}"
            federation.configs[config][split] = [file]
            federation.files[file] = dataset_pieces(dataset, file)
            federation.schemas[file] = dataset.features.arrow_schema
    return federation


def _card_configs(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Configuration to split to patterns, the default first."""
    card = folder / "README.md"
    if not card.is_file():
        raise ValueError(
            f"{folder} is not a federated dataset: there is no {card.name} whose `configs:` name splits and files. "
            "Give the folder that `fedvlm build` wrote, or one that `DatasetDict.save_to_disk` wrote."
        )
    try:
        configs = (metadata_load(card) or {}).get("configs")
        read = {entry["config_name"]: (entry.get("default"), entry["data_files"]) for entry in configs}
        if not read:
            raise ValueError("there is none")
        ordered = sorted(read.items(), key=lambda item: not item[1][0])
        return {str(name): sanitize_patterns(data_files) for name, (_, data_files) in ordered}
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{card}: its YAML does not list configurations as `load_dataset` reads them, `configs:` with "
            f"`config_name` and `data_files` of `split` and `path` ({type(error).__name__}: {error})."
        ) from error


def _resolve(folder: Path, pattern: str, where: str, federation: FederatedDataset) -> list[str]:
    """The files of a pattern, relative to the folder, as `load_dataset` finds them."""
    try:
        paths = resolve_pattern(pattern, str(folder.resolve()))
    except FileNotFoundError:
        federation.problems.append((pattern, f"is listed by {where} in README.md, and there is no such file"))
        return []
    return [Path(path).relative_to(folder.resolve()).as_posix() for path in paths]


def _pieces(folder: Path, file: str, federation: FederatedDataset) -> list[Piece]:
    try:
        federation.schemas[file] = pq.read_schema(folder / file)
        return parquet_pieces(folder / file, file)
    except (OSError, pa.ArrowInvalid) as error:
        federation.problems.append((file, f"is not a whole Parquet file ({error})"))
        return []


def _manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): build the dataset again.") from error
