"""`fedvlm <subcommand>`: what is done once and is no training. Training is in `recipes/`."""

import argparse
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import __version__


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


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults after each option, and texts with their own line ends."""


def build_llava(argv: Sequence[str]) -> None:
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

    from .models.builder import LlavaRecipe, recipe_config, save_llava
    from .models.dry_run import dry_run

    parser = HfArgumentParser(
        (LlavaRecipe, BuildArguments),
        prog="fedvlm build-llava",
        description=_dedented(build_llava.__doc__),
        formatter_class=_Formatter,
    )
    recipe, build = parser.parse_args_into_dataclasses(list(argv))
    if build.dry_run:
        print(dry_run(recipe_config(recipe)))
        return
    if build.output_dir is None:
        raise ValueError("`--output_dir` is needed: the folder that the model goes to. --dry_run does without.")
    folder = save_llava(recipe, build.output_dir)
    print(f"The model is in {folder}. Train it with --model_name_or_path {folder}")


COMMANDS = {"build-llava": build_llava}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        argv (`Sequence[str]`, *optional*):
            Arguments without the program's name; by default those of the process.

    Returns:
        `int`: the exit status, 1 where the arguments, or what they name, cannot be used.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    summaries = [f"  {name:<14} {_dedented(run.__doc__).splitlines()[0]}" for name, run in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="fedvlm",
        usage="fedvlm SUBCOMMAND [--help] [OPTIONS]",
        description="\n".join(["Federated fine-tuning of vision-language models.", "", "subcommands:", *summaries]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fedvlm_hf {__version__}")
    parser.add_argument("subcommand", choices=COMMANDS, help=argparse.SUPPRESS)
    command = parser.parse_args(argv[:1]).subcommand
    try:
        COMMANDS[command](argv[1:])
    except (ValueError, OSError) as error:  # what a user can mend: a traceback would hide the line that says how
        print(f"fedvlm {command}: error: {error}", file=sys.stderr)
        return 1
    return 0


def _dedented(text: str | None) -> str:
    return inspect.cleandoc(text or "")


if __name__ == "__main__":
    sys.exit(main())
