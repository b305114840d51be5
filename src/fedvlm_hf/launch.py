"""What scripts share: where the data come from, how many threads work, and a readable end."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from datasets import DatasetDict, load_dataset, load_from_disk
from trl import ModelConfig, TrlParser

from .config import FederatedConfig


@dataclass
class DataArguments:
    """
    Where the federated dataset comes from, and how the machine is used.

    Parameters:
        dataset_name (`str`, *optional*):
            Hub dataset or local folder whose splits are `client_*` and `test`. The script's own data by default.
        dataset_config (`str`, *optional*):
            Configuration of the dataset, which is its partition, such as `noniid`.
        num_threads (`int`, *optional*):
            Threads for torch on a CPU. All cores by default: `accelerate launch` would leave one.
    """

    dataset_name: str | None = field(
        default=None,
        metadata={"help": "Hub dataset or folder with splits client_* and test. The script's own data by default."},
    )
    dataset_config: str | None = field(
        default=None, metadata={"help": "Configuration of the dataset: its partition, such as 'noniid'."}
    )
    num_threads: int | None = field(
        default=None,
        metadata={"help": "CPU threads for torch. All cores by default: `accelerate launch` would leave one."},
    )


D = TypeVar("D", bound=DataArguments)


def parse_recipe(
    argv: Sequence[str], data_class: type[D], description: str, defaults: str | os.PathLike[str]
) -> tuple[D, FederatedConfig, ModelConfig]:
    """Parse a recipe's command line, and let torch use the threads that it asks for.

    Args:
        argv (`Sequence[str]`):
            Arguments without the program's name. `--config file.yaml` sets defaults, which other arguments override.
        data_class (`type`):
            The recipe's own arguments.
        description (`str`):
            What `--help` says first.
        defaults (`str` or `os.PathLike`):
            The configuration of the embedded model, taken where neither `--config` nor a model is given.

    Returns:
        `tuple`: the recipe's arguments; the run's, with `model_init_kwargs` set from the model's; the model's.
    """
    if "--config" not in argv and "--model_name_or_path" not in argv:
        argv = ["--config", str(defaults), *argv]
    parser = TrlParser((data_class, FederatedConfig, ModelConfig), description=description)
    data_args, args, model_args = parser.parse_args_and_config(argv)
    use_threads(data_args.num_threads)
    args.model_init_kwargs = args.model_init_kwargs or {
        "revision": model_args.model_revision,
        "dtype": model_args.dtype,
        "attn_implementation": model_args.attn_implementation,
    }
    return data_args, args, model_args


def load_federation(name: str, config: str | None = None) -> DatasetDict:
    """Load a dataset with client splits from the Hub or from a folder.

    Args:
        name (`str`):
            A Hub dataset, a folder in the Hub's layout, or a folder that `DatasetDict.save_to_disk` wrote.
        config (`str`, *optional*):
            Its configuration.

    Returns:
        [`~datasets.DatasetDict`]: by split name.
    """
    if (Path(name) / "dataset_dict.json").exists():
        return load_from_disk(name)
    dataset = load_dataset(name, config)
    for rows in dataset.values() if not Path(name).exists() else ():
        rows.info.dataset_name = name  # `load_dataset` leaves out the owner, and no card could link to it
    return dataset


def use_threads(num_threads: int | None) -> None:
    """Let torch use so many threads, all cores by default. The same bits need the same number."""
    torch.set_num_threads(num_threads or len(os.sched_getaffinity(0)))


def print_results(output_dir: str) -> None:
    """Print the table of a finished run and where the rest lies."""
    folder = Path(output_dir)
    print(f"\n{(folder / 'report' / 'results.md').read_text(encoding='utf-8')}")
    print(f"Rounds, card, curves and samples are in {folder}/: start with README.md and report/.")
