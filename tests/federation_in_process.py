"""The run in one process that a federation through a repository is held against; `run(argv)` as a command has it."""

from collections.abc import Sequence

from datasets import load_from_disk

from fedvlm_hf import FederatedConfig, FederatedTrainer


def run(argv: Sequence[str]) -> None:
    """Train the splits `client_*` of a dataset under other names: MODEL DATASET OUTPUT_DIR NAMES CONFIG."""
    from trl import ModelConfig, TrlParser

    model, dataset, output_dir, names, config = argv
    parser = TrlParser((FederatedConfig, ModelConfig))
    args, _ = parser.parse_args_and_config(["--config", config, "--output_dir", output_dir])
    splits = load_from_disk(dataset)
    clients = {name: splits[f"client_{index:02d}"] for index, name in enumerate(names.split(","))}
    FederatedTrainer(model, args, clients, eval_dataset={}).train()
