"""A federated dataset before any row is read: its configurations, their splits, the files of each, the manifest."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..markdown import front_matter
from .pieces import Piece, dataset_pieces, parquet_pieces


if TYPE_CHECKING:
    from datasets import Dataset

# What builds write in cards. Everything else is left to `datasets`, which takes a second to import
_PLAIN_PATTERN = re.compile(r"(?!.*\*\*)[\w*-][\w.*-]*(/[\w*-][\w.*-]*)*")


@dataclass
class FederatedDataset:
    """The configurations, splits and files of a federated dataset.

    Attributes:
        name (`str`): Name of the dataset in messages, such as its folder.
        configs (`dict[str, dict[str, list[str]]]`): The ordered files of each split of each configuration; the default
            configuration comes first.
        files (`dict[str, list[Piece]]`): The pieces of each file, once for all configurations; none for damaged files.
        schemas (`dict[str, pa.Schema]`): Columns and types of each readable file.
        manifest (`dict[str, Any]`, *optional*): The content of `manifest.json`, if there is one.
        problems (`list[tuple[str, str]]`): Files that cannot be used, and why.
        unlisted (`list[str]`): Parquet files in the folder that no configuration lists.
    """

    name: str
    configs: dict[str, dict[str, list[str]]]
    files: dict[str, list[Piece]] = field(default_factory=dict)
    schemas: dict[str, pa.Schema] = field(default_factory=dict)
    manifest: dict[str, Any] | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)

    def pieces(self, config: str) -> Iterator[tuple[str, Piece]]:
        """Yield `(split, piece)` for a configuration in the order of its rows."""
        for split, files in self.configs[config].items():
            for file in files:
                for piece in self.files[file]:
                    yield split, piece

    def entry(self, config: str) -> dict[str, Any]:
        """Return the manifest's entry for a configuration, or an empty dict if there is none."""
        configs = (self.manifest or {}).get("configs")
        entry = configs.get(config) if isinstance(configs, dict) else None
        return entry if isinstance(entry, dict) else {}

    def columns(self, config: str, names: list[str]) -> dict[str, dict[str, list[Any]]]:
        """Read some columns of a configuration without reading its images.

        Args:
            config (`str`):
                The configuration.
            names (`list[str]`):
                The columns; those that do not exist are ignored.

        Returns:
            `dict[str, dict[str, list]]`: for each split and column the values in row order.
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
        """Return the columns that all files of a configuration have, in the order of the first file."""
        files = [file for split in self.configs[config].values() for file in split if file in self.schemas]
        names = self.schemas[files[0]].names if files else []
        return [name for name in names if all(name in self.schemas[file].names for file in files)]


def read_folder(folder: str | Path) -> FederatedDataset:
    """Open a folder in the Hub's layout: `README.md` with `configs:`, Parquet files, and optionally `manifest.json`.

    Files that are missing or damaged are listed in `problems`; all others can be used.

    Args:
        folder (`str` or `Path`):
            A folder that `fedvlm build` wrote, or a download of it.

    Raises:
        `ValueError`: if there is no such folder, its card lists no configuration, or the card or manifest cannot be
            read.
    """
    folder = Path(folder)
    federation = FederatedDataset(str(folder), {}, manifest=_manifest(folder))
    configs = _card_configs(folder)
    if all(set(patterns) == {"partition"} for patterns in configs.values()):
        raise ValueError(
            f"{folder} has the id, split and client of each row, but no rows, because one of its sources may not be "
            "redistributed. Build the dataset from the sources, as its README.md explains, and use that folder."
        )
    for name, patterns in configs.items():
        federation.configs[name] = {}
        for split, paths in patterns.items():
            found = [file for path in paths for file in _resolve(folder, path, f"{name}/{split}", federation)]
            federation.configs[name][split] = found
            for file in found:
                if file not in federation.files:
                    federation.files[file] = _pieces(folder, file, federation)
    stored = (path.relative_to(folder) for path in sorted(folder.rglob("*.parquet")))
    named = [path.as_posix() for path in stored if not any(part.startswith(".") for part in path.parts)]
    federation.unlisted = [file for file in named if file not in federation.files]
    return federation


def from_splits(name: str, configs: "Mapping[str, Mapping[str, Dataset]]") -> FederatedDataset:
    """Open a loaded dataset, in which each split counts as one file.

    Args:
        name (`str`):
            Name of the dataset in messages.
        configs (`"Mapping[str, Mapping[str, Dataset]]"`):
            The `DatasetDict` of each configuration.
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
    """Return the file patterns of each split of each configuration, the default configuration first."""
    card = folder / "README.md"
    if not card.is_file():
        raise ValueError(
            f"{folder} is not a federated dataset: it has no {card.name} with `configs:` that list splits and files. "
            "Use a folder written by `fedvlm build` or by `DatasetDict.save_to_disk`."
        )
    try:
        configs = front_matter(card).get("configs")
        read = {entry["config_name"]: (entry.get("default"), entry["data_files"]) for entry in configs}
        if not read:
            raise ValueError("there is none")
        ordered = sorted(read.items(), key=lambda item: not item[1][0])
        return {str(name): _patterns(data_files) for name, (_, data_files) in ordered}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{card}: its YAML does not list configurations in the form that `load_dataset` reads, `configs:` with "
            f"`config_name` and `data_files` with `split` and `path` ({type(error).__name__}: {error})."
        ) from error


def _patterns(data_files: Any) -> dict[str, list[str]]:
    """Return the file patterns of each split, as `load_dataset` reads them."""
    if isinstance(data_files, list) and all(
        isinstance(entry, dict) and entry.keys() == {"split", "path"} and isinstance(entry["path"], str)
        for entry in data_files
    ):
        patterns = {str(entry["split"]): [entry["path"]] for entry in data_files}
        if len(patterns) == len(data_files):
            return patterns
    from datasets.data_files import sanitize_patterns

    return sanitize_patterns(data_files)


def _resolve(folder: Path, pattern: str, where: str, federation: FederatedDataset) -> list[str]:
    """Return the files that match a pattern, relative to the folder, as `load_dataset` finds them."""
    root = folder.resolve()
    if _PLAIN_PATTERN.fullmatch(pattern):
        paths = [path for path in sorted(root.glob(pattern)) if path.is_file()]
    else:
        from datasets.data_files import resolve_pattern

        try:
            paths = [Path(path) for path in resolve_pattern(pattern, str(root))]
        except FileNotFoundError:
            paths = []
    if not paths:
        federation.problems.append((pattern, f"is listed by {where} in README.md, but there is no such file"))
    return [path.relative_to(root).as_posix() for path in paths]


def _pieces(folder: Path, file: str, federation: FederatedDataset) -> list[Piece]:
    try:
        federation.schemas[file] = pq.read_schema(folder / file)
        return parquet_pieces(folder / file, file)
    except (OSError, pa.ArrowInvalid) as error:
        federation.problems.append((file, f"is not a complete Parquet file ({error})"))
        return []


def _manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): build the dataset again.") from error
    if not isinstance(manifest, dict):
        raise ValueError(f"{path} is a {type(manifest).__name__}, not an object: build the dataset again.")
    return manifest
