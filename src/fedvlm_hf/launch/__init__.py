"""What the training scripts share: their arguments, loading of data, threads and the final output."""

import json
import re
import textwrap
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..lazy import lazy_attributes
from .checks import check_arguments, removed_if_refused
from .errors import resumable, run_main, run_recipe, start_recipe


if TYPE_CHECKING:
    from datasets import DatasetDict

    from .parser import parse_recipe

__all__ = [
    "DataArguments",
    "check_arguments",
    "load_federation",
    "parse_recipe",
    "print_results",
    "removed_if_refused",
    "resumable",
    "run_main",
    "run_recipe",
    "start_recipe",
    "use_threads",
]

# Imports that take seconds are in the functions, since `fedvlm --help` does not need them
__getattr__ = lazy_attributes(__name__, {"parse_recipe": "parser"})


@dataclass
class DataArguments:
    """
    Arguments about the federated dataset and the machine.

    Parameters:
        dataset_name (`str`, *optional*):
            Hub dataset or local folder with splits `client_*` and `test`. Each script has its own default.
        dataset_config (`str`, *optional*):
            Configuration of the dataset, which is a partition, such as `noniid`.
        vlm_parts (`str`, *optional*):
            Paths of the parts of the model as JSON, where they are not found by themselves.
        num_threads (`int`, *optional*):
            Number of CPU threads for torch, by default one per core (with `accelerate launch`, torch would use one).
    """

    dataset_name: str | None = field(
        default=None,
        metadata={"help": "Hub dataset or folder with splits client_* and test. Each script has its own default."},
    )
    dataset_config: str | None = field(
        default=None, metadata={"help": "Configuration of the dataset, which is a partition, such as 'noniid'."}
    )
    vlm_parts: str | None = field(
        default=None,
        metadata={
            "help": 'Paths of the parts of a model of an unknown family, as JSON: \'{"decoder": '
            '"model.language_model", "tower": "model.vit", "connector": ["model.bridge"]}\'. By default they are '
            "found. `fedvlm inspect` shows them."
        },
    )
    num_threads: int | None = field(
        default=None,
        metadata={
            "help": "CPU threads for torch, by default one per core (with `accelerate launch`, torch would use one)."
        },
    )


def load_federation(name: str, config: str | None = None) -> "DatasetDict":
    """Load a dataset with client splits from the Hub or from a folder.

    Args:
        name (`str`):
            A Hub dataset, a folder in the Hub's layout, or a folder that `DatasetDict.save_to_disk` wrote.
        config (`str`, *optional*):
            Configuration of the dataset.

    Returns:
        [`~datasets.DatasetDict`]: The splits by name.

    Raises:
        `ValueError`: if there is no such dataset, it has no such configuration, or a split is empty.
    """
    from datasets import load_dataset, load_from_disk
    from datasets.exceptions import DatasetsError

    from ..repository.requests import check_on_hub

    if (Path(name) / "dataset_dict.json").exists():
        if config is not None:
            raise ValueError(
                f"`dataset_config` is {config!r}, but `dataset_name` {name!r} is a folder that `save_to_disk` wrote, "
                "which has no configurations. Leave `dataset_config` out, or name the folder of another partition."
            )
        splits = json.loads((Path(name) / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        for split in splits:  # `datasets` fails on one without rows with an IndexError
            state = json.loads((Path(name) / split / "state.json").read_text(encoding="utf-8"))
            if not state["_data_files"]:
                raise _empty_split(name, split)
        return load_from_disk(name)
    if not Path(name).exists():
        check_on_hub("--dataset_name", name, "dataset")
    try:
        dataset = load_dataset(name, config)
    except (ValueError, OSError, DatasetsError) as error:
        if empty := re.search('Instruction "(.*)" corresponds to no data', str(error)):
            raise _empty_split(name, empty[1]) from None
        asked = f"`--dataset_name` {name!r}" + (f" with `--dataset_config` {config!r}" if config else "")
        raise ValueError(f"{asked} cannot be loaded: {error}") from error
    for rows in dataset.values() if not Path(name).exists() else ():
        rows.info.dataset_name = (
            name  # `load_dataset` omits the owner, without which a card cannot link to the dataset
        )
    return dataset


def _empty_split(name: str, split: str) -> ValueError:
    return ValueError(f"`dataset_name` {name!r}: the split {split!r} is empty. Leave it out, or give it rows.")


def use_threads(num_threads: int | None) -> None:
    """Set the number of torch's threads, by default one per usable core. Other numbers give other bits."""
    # counts what affinity and container limits leave to this process, on Linux, macOS and Windows
    import torch
    from joblib import cpu_count

    torch.set_num_threads(num_threads or cpu_count())


def print_results(output_dir: str) -> None:
    """Print the scores of a finished run and the place of its other files, with sentences of at most 80 columns.

    The table of the rounds is too wide for a terminal, which has shown each round already.
    """
    folder = Path(output_dir)
    page = (folder / "report" / "results.md").read_text(encoding="utf-8")
    has_scores = (folder / "report" / "samples.png").exists()
    files = "Rounds, card, curves and samples" if has_scores else "Rounds, card and losses"
    scores, _, _ = page.partition("\n## Rounds\n")
    text = f"\n{scores}\n{files} are in {folder}/. Start with README.md and report/."
    wrap = partial(textwrap.fill, width=80, break_long_words=False, break_on_hyphens=False)
    print("\n".join(line if line.startswith("|") else wrap(line) for line in text.split("\n")))
