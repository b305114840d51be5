"""`fedvlm inspect`."""

from collections.abc import Sequence

from ..launch.errors import OneLineParser
from . import HelpFormatter, dedented


def run(argv: Sequence[str]) -> None:
    r"""Show the parts of a model, and what each tuning would train and send.

    Only the configuration is loaded, no weights: a model of any size takes
    seconds and no memory. A model that cannot be trained is refused with the
    reason, as a recipe would do.

    examples:
      A model on the Hub, or in a folder:
        fedvlm inspect HuggingFaceTB/SmolVLM-Instruct
        fedvlm inspect out/llava-mlp2x
      With another adapter, which recipes take with the same options:
        fedvlm inspect HuggingFaceTB/SmolVLM-Instruct --lora_r 16 \
            --lora_target_modules q_proj v_proj
      A model whose parts are not found:
        fedvlm inspect path/to/model --vlm_parts \
            '{"decoder": "model.llm", "tower": "model.vit", "connector": ["model.bridge"]}'
    """
    parser = OneLineParser("fedvlm inspect", description=dedented(run.__doc__), formatter_class=HelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="Name on the Hub, or a folder.")
    parser.add_argument("--revision", help="Branch, tag or commit on the Hub.")
    parser.add_argument("--vlm_parts", help="Paths of the parts as JSON. By default they are found.")
    parser.add_argument("--lora_r", type=int, default=8, help="Rank of LoRA.")
    parser.add_argument("--lora_alpha", type=int, default=32, help="Alpha of LoRA.")
    parser.add_argument("--lora_target_modules", nargs="+", help="By default every linear of the language model.")
    parser.add_argument("--lora_modules_to_save", nargs="+", help="Modules that train in full, as the connector does.")
    parser.add_argument("--use_dora", action="store_true", help="DoRA.")
    arguments = parser.parse_args(argv)
    if arguments.lora_r < 1:
        raise ValueError(f"`--lora_r` must be at least 1, got {arguments.lora_r}.")
    # Imports that take seconds are in the functions, so that `fedvlm --help` does not wait for them
    from trl import ModelConfig, get_peft_config

    from ..launch.checks import load_config
    from ..models.vlm import check_trainable, model_skeleton, register_vlm_option, sft_obstacle, vlm_parts
    from .dry_run import dry_run, format_table

    config = load_config("MODEL", arguments.model, arguments.revision)
    if arguments.vlm_parts is not None:
        register_vlm_option(config.model_type, arguments.vlm_parts)
    adapter = ModelConfig(
        use_peft=True,
        lora_r=arguments.lora_r,
        lora_alpha=arguments.lora_alpha,
        lora_target_modules=arguments.lora_target_modules,
        lora_modules_to_save=arguments.lora_modules_to_save,
        use_dora=arguments.use_dora,
    )
    check_trainable(config)
    model = model_skeleton(config)
    parts = vlm_parts(model)
    if obstacle := sft_obstacle(model):
        raise ValueError(f"`MODEL` cannot be trained: {obstacle}")
    sizes = dry_run(config, get_peft_config(adapter))
    rows = [(part, path) for part, paths in parts.paths().items() for path in paths]
    print(f"{arguments.model}: {type(model).__name__}, model type {config.model_type}")
    print("\n".join(["", *format_table([("part", "module"), *rows], left=True), "", str(sizes)]))
    if "connector" in sizes.trainable:
        print("two_stage  trains the connector in the first stage, and then LoRA alone.")
