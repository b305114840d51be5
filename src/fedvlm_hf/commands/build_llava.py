"""`fedvlm build-llava`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from . import HelpFormatter, dedented


@dataclass
class BuildArguments:
    """
    Where a built model goes.

    Parameters:
        output_dir (`str`, *optional*):
            Folder for model and processor. If the same model is in it already, nothing is done.
        dry_run (`bool`, *optional*, defaults to `False`):
            Build nothing: count.
    """

    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for model and processor; needed without --dry_run."}
    )
    dry_run: bool = field(
        default=False,
        metadata={
            "help": "Load configurations only, and print parameters, LoRA's targets, and what a client trains and "
            "sends in a round."
        },
    )


def run(argv: Sequence[str]) -> None:
    r"""Assemble FedVLMBench's encoder-based model: CLIP, a connector and a Llama 3.

    The connector starts from random weights. Model and processor are saved to a
    folder, which recipes take as --model_name_or_path.

    Llama's weights are gated: accept the licence on the model's page of the Hub,
    then run `hf auth login` or set HF_TOKEN. Local folders do as well.

    examples:
      What would be built, trained and sent, from the configurations alone:
        fedvlm build-llava --dry_run
      The paper's model, and a run with it:
        fedvlm build-llava --output_dir out/llava-mlp2x
        accelerate launch recipes/fed_nature.py \
            --config recipes/configs/fedvlmbench_llava.yaml
    """
    # Imports that take seconds are in the functions, so that `fedvlm --help` does not wait for them
    from transformers import HfArgumentParser

    from ..models.builder import LlavaRecipe, recipe_config, save_llava
    from ..models.dry_run import dry_run

    parser = HfArgumentParser(
        (LlavaRecipe, BuildArguments),
        prog="fedvlm build-llava",
        description=dedented(run.__doc__),
        formatter_class=HelpFormatter,
    )
    recipe, build = parser.parse_args_into_dataclasses(list(argv))
    if build.dry_run:
        print(dry_run(recipe_config(recipe)))
        return
    if build.output_dir is None:
        raise ValueError("`--output_dir` is needed: the folder that the model goes to. --dry_run does without.")
    folder = save_llava(recipe, build.output_dir)
    print(f"The model is in {folder}. Train it with --model_name_or_path {folder}")
