"""What the training scripts share: their arguments, loading of data, threads and the final output."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from datasets import DatasetDict, load_dataset, load_from_disk
from joblib import cpu_count
from trl import ModelConfig, TrlParser

from .config import FederatedConfig


@dataclass
class DataArguments:
    """
    Arguments about the federated dataset and the machine.

    Parameters:
        dataset_name (`str`, *optional*):
            Hub dataset or local folder with splits `client_*` and `test`. Each script has its own default.
        dataset_config (`str`, *optional*):
            Configuration of the dataset, which is a partition, such as `noniid`.
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
    num_threads: int | None = field(
        default=None,
        metadata={
            "help": "CPU threads for torch, by default one per core (with `accelerate launch`, torch would use one)."
        },
    )


D = TypeVar("D", bound=DataArguments)


def parse_recipe(
    argv: Sequence[str], data_class: type[D], description: str, defaults: str | os.PathLike[str]
) -> tuple[D, FederatedConfig, ModelConfig]:
    """Parse the command line of a recipe, and set the number of torch's threads.

    Args:
        argv (`Sequence[str]`):
            Arguments without the name of the program. `--config file.yaml` sets defaults, which other arguments
            override.
        data_class (`type`):
            Dataclass of the recipe's own arguments.
        description (`str`):
            First text of `--help`.
        defaults (`str` or `os.PathLike`):
            Configuration for the embedded model, which is used if neither `--config` nor a model is given.

    Returns:
        `tuple`: The arguments of the recipe, those of the run, with `model_init_kwargs` set from the model arguments,
        and those of the model.
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
            Configuration of the dataset.

    Returns:
        [`~datasets.DatasetDict`]: The splits by name.

    Raises:
        `ValueError`: if a configuration of a folder is asked for that has none.
    """
    if (Path(name) / "dataset_dict.json").exists():
        if config is not None:
            raise ValueError(
                f"`dataset_config` is {config!r}, but `dataset_name` {name!r} is a folder that `save_to_disk` wrote, "
                "which has no configurations. Leave `dataset_config` out, or name the folder of another partition."
            )
        return load_from_disk(name)
    dataset = load_dataset(name, config)
    for rows in dataset.values() if not Path(name).exists() else ():
        rows.info.dataset_name = (
            name  # `load_dataset` omits the owner, without which a card cannot link to the dataset
        )
    return dataset


def use_threads(num_threads: int | None) -> None:
    """Set the number of torch's threads, by default one per usable core. Other numbers give other bits."""
    # counts what affinity and container limits leave to this process, on Linux, macOS and Windows
    torch.set_num_threads(num_threads or cpu_count())


def print_results(output_dir: str) -> None:
    """Print the table of a finished run and the place of its other files."""
    folder = Path(output_dir)
    print(f"\n{(folder / 'report' / 'results.md').read_text(encoding='utf-8')}")
    has_scores = (folder / "report" / "samples.png").exists()
    files = "Rounds, card, curves and samples" if has_scores else "Rounds, card and losses"
    print(f"{files} are in {folder}/. Start with README.md and report/.")
