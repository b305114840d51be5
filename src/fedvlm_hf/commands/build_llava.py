"""`fedvlm build-llava`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from . import HelpFormatter, dedented
from .option_parser import OptionParser


@dataclass
class BuildArguments:
    """
    Arguments about the output.

    Parameters:
        output_dir (`str`, *optional*):
            Folder for model and processor. If it contains the same model already, nothing is done.
        dry_run (`bool`, *optional*, defaults to `False`):
            Only print counts.
    """

    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for model and processor. Required without --dry_run."}
    )
    dry_run: bool = field(
        default=False,
        metadata={
            "help": "Load only configurations, and print the number of parameters, the targets of LoRA, and what a "
            "client trains and sends in a round."
        },
    )


def run(argv: Sequence[str]) -> None:
    r"""Assemble FedVLMBench's encoder-based model: CLIP, a connector and a Llama 3.

    The connector starts from random weights. Model and processor are saved to a
    folder, which recipes take as --model_name_or_path.

    The weights of Llama are gated: accept the license on the page of the model on
    the Hub, then run `hf auth login` or set HF_TOKEN. Local folders work too.

    examples:
      Print what would be built, trained and sent, from the configurations alone:
        fedvlm build-llava --dry_run
      Build the model of the paper, and train it:
        fedvlm build-llava --output_dir out/llava-mlp2x
        accelerate launch recipes/fed_nature.py \
            --config recipes/configs/fedvlmbench_llava.yaml
    """
    # Imported here because it takes seconds, which `fedvlm --help` should not wait for
    from ..models.builder import LlavaRecipe, recipe_config, save_llava
    from .dry_run import dry_run

    parser = OptionParser(
        LlavaRecipe,
        BuildArguments,
        prog="fedvlm build-llava",
        description=dedented(run.__doc__),
        formatter_class=HelpFormatter,
    )
    recipe, build = parser.parse_into_dataclasses(argv)
    if build.dry_run:
        print(dry_run(recipe_config(recipe)))
        return
    if build.output_dir is None:
        raise ValueError("`--output_dir` is needed, the folder to save the model in. Only --dry_run works without it.")
    folder = save_llava(recipe, build.output_dir)
    print(f"The model is in {folder}. To train it, pass --model_name_or_path {folder} to a recipe.")
