"""
Fine-tune one vision-language model over four clients with four tasks, as in FedVLMBench's Fed-Nature.

Without arguments: the embedded data and tiny pretrained LLaVA, nothing to download; 2 CPU cores and 3 GiB do.

    accelerate launch recipes/fed_nature.py

The baselines, then the table of all three side by side:

    accelerate launch recipes/fed_nature.py --method central
    accelerate launch recipes/fed_nature.py --method local

Any VLM on any dataset whose splits are client_00, client_01, ... and test:

    accelerate launch recipes/fed_nature.py \
        --model_name_or_path HuggingFaceTB/SmolVLM-Instruct --dtype bfloat16 \
        --dataset_name path/or/hub-name --dataset_config noniid \
        --num_rounds 10 --learning_rate 1e-4 --per_device_train_batch_size 4
"""

import sys
from pathlib import Path

from trl import get_peft_config, get_quantization_config

from fedvlm_hf import FederatedTrainer
from fedvlm_hf.launch import DataArguments, load_federation, parse_recipe, print_results
from fedvlm_hf.mini import base_model, fed_nature


DEFAULTS = Path(__file__).parent / "configs" / "fed_nature_mini.yaml"


def main(argv: list[str]) -> None:
    data_args, args, model_args = parse_recipe(argv, DataArguments, __doc__, DEFAULTS)

    # Data
    is_default = data_args.dataset_name is None
    dataset = fed_nature() if is_default else load_federation(data_args.dataset_name, data_args.dataset_config)

    # Model and training
    trainer = FederatedTrainer(
        model=model_args.model_name_or_path or base_model("llava"),
        args=args,
        train_dataset=dataset,
        peft_config=get_peft_config(model_args),
        quantization_config=get_quantization_config(model_args),
    )
    trainer.train()

    # Every round is saved already
    print_results(args.output_dir)


if __name__ == "__main__":
    main(sys.argv[1:])
