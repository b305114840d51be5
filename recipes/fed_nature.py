r"""
Fine-tune one vision-language model over four clients with four tasks, as in Fed-Nature of FedVLMBench.

Without arguments it uses the embedded data and a tiny pretrained LLaVA. This needs no download, 2 CPU cores and 3 GiB
of memory.

    accelerate launch recipes/fed_nature.py

Run the baselines, after which the report compares all three:

    accelerate launch recipes/fed_nature.py --method central
    accelerate launch recipes/fed_nature.py --method local

Choose a method, a tuning or a connector (as in tables 3 to 6 of FedVLMBench; a new connector starts untrained):

    accelerate launch recipes/fed_nature.py --method fedyogi --method_kwargs '{"server_lr": 0.01}'
    accelerate launch recipes/fed_nature.py --tuning two_stage --run_name fed_nature_two_stage
    accelerate launch recipes/fed_nature.py --connector mlp6x --run_name fed_nature_mlp6x

Use any VLM and any dataset with splits client_00, client_01, ... and test:

    accelerate launch recipes/fed_nature.py \
        --model_name_or_path HuggingFaceTB/SmolVLM-Instruct --dtype bfloat16 \
        --dataset_name path/or/hub-name --dataset_config noniid \
        --num_rounds 10 --learning_rate 1e-4 --per_device_train_batch_size 4
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path


if __name__ == "__main__":
    from fedvlm_hf.launch import start_recipe

    start_recipe("fed_nature")

from trl import get_peft_config, get_quantization_config

from fedvlm_hf import FederatedTrainer
from fedvlm_hf.launch import (
    DataArguments,
    check_arguments,
    load_federation,
    parse_recipe,
    print_results,
    removed_if_refused,
    resumable,
    run_recipe,
)
from fedvlm_hf.mini import base_model, fed_nature
from fedvlm_hf.models import base_with_connector
from fedvlm_hf.progress import print_loading


DEFAULTS = Path(__file__).parent / "configs" / "fed_nature_mini.yaml"


@dataclass
class NatureArguments(DataArguments):
    """
    [`DataArguments`] and the connector between vision tower and language model.

    Parameters:
        connector (`str`, *optional*):
            New connector for a LLaVA: `"linear"`, `"mlp2x"` or `"mlp6x"`. The random weights of all three are the same
            layer by layer. By default the model keeps its connector.
        pretrained_connector (`bool`, *optional*, defaults to `False`):
            Keep the connector of the model, which must have the type given by `connector`.
    """

    connector: str | None = field(
        default=None,
        metadata={"help": "New connector for a LLaVA, with random weights: linear, mlp2x or mlp6x."},
    )
    pretrained_connector: bool = field(
        default=False, metadata={"help": "Keep the connector of the model, which must have the type of `connector`."}
    )


def main(argv: list[str]) -> None:
    data_args, args, model_args = parse_recipe(argv, NatureArguments, __doc__, DEFAULTS)
    check_arguments(args, model_args, data_args.vlm_parts)

    # Data
    print_loading("loading data")
    is_default = data_args.dataset_name is None
    dataset = fed_nature() if is_default else load_federation(data_args.dataset_name, data_args.dataset_config)

    base = Path(args.output_dir) / "base"  # a saved adapter loads only if its base model still exists
    with resumable(args.output_dir, args.num_rounds), removed_if_refused(base):
        # Model
        model = model_args.model_name_or_path or base_model("llava")
        if data_args.connector:
            model = base_with_connector(
                model,
                data_args.connector,
                base,
                seed=args.seed,
                pretrained=data_args.pretrained_connector,
                revision=model_args.model_revision,
            )

        # Training
        trainer = FederatedTrainer(
            model=model,
            args=args,
            train_dataset=dataset,
            peft_config=get_peft_config(model_args),
            quantization_config=get_quantization_config(model_args),
        )
        trainer.train()

    # All rounds have been saved during training
    print_results(args.output_dir)


if __name__ == "__main__":
    sys.exit(run_recipe(main, sys.argv[1:], "fed_nature"))
