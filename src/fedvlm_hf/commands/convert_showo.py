"""`fedvlm convert-showo`."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from . import HelpFormatter, dedented
from .option_parser import OptionParser


if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class ConvertArguments:
    """
    Arguments of the conversion.

    Parameters:
        showo (`str`, *optional*, defaults to `"showlab/show-o"`):
            The language model.
        magvit (`str`, *optional*, defaults to `"showlab/magvitv2"`):
            The image tokenizer.
        phi (`str`, *optional*, defaults to `"microsoft/phi-1_5"`):
            The configuration and the tokenizer of the language model.
        output_dir (`str`, *optional*):
            Folder for model and processor.
        dry_run (`bool`, *optional*, defaults to `False`):
            Only print counts.
    """

    showo: str = field(default="showlab/show-o", metadata={"help": "Hub id or folder of the language model."})
    magvit: str = field(default="showlab/magvitv2", metadata={"help": "Hub id or folder of the image tokenizer."})
    phi: str = field(
        default="microsoft/phi-1_5",
        metadata={"help": "Hub id or folder with the configuration and the tokenizer of the language model."},
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "New folder for model and processor. Required without --dry_run."}
    )
    dry_run: bool = field(
        default=False,
        metadata={
            "help": "Read nothing, and print for the published sizes the names and the number of the weights, the "
            "targets of LoRA, and what a client trains and sends in a round."
        },
    )


def run(argv: Sequence[str]) -> None:
    r"""Convert FedVLMBench's encoder-free model, Show-o, to the format of transformers.

    No release of transformers has Show-o. Model and processor are saved to a
    folder, which recipes take as --model_name_or_path.

    A checkpoint is a folder or a repository on the Hub, with its weights as
    .safetensors or .bin. From a .bin file only tensors are read; one that needs
    code to be executed is refused.

    examples:
      Print what would be converted, trained and sent:
        fedvlm convert-showo --dry_run
      Convert the model for images of 256 pixels:
        fedvlm convert-showo --output_dir out/show-o
      Convert the one for images of 512 pixels:
        fedvlm convert-showo --showo showlab/show-o-512x512 \
            --output_dir out/show-o-512
    """
    parser = OptionParser(
        ConvertArguments,
        prog="fedvlm convert-showo",
        description=dedented(run.__doc__),
        formatter_class=HelpFormatter,
    )
    (arguments,) = parser.parse_into_dataclasses(argv)
    if not arguments.dry_run and arguments.output_dir is None:
        raise ValueError("`--output_dir` is needed, the folder to save the model in. Only --dry_run works without it.")
    # Imported here because it takes seconds, which `fedvlm --help` should not wait for
    from ..models.showo import ShowoConfig
    from ..models.showo.conversion import check_output_dir, save_converted
    from ..models.vlm import model_skeleton
    from ..repository.requests import check_on_hub
    from .dry_run import dry_run

    if arguments.dry_run:
        config = ShowoConfig()
        print(f"{dry_run(config)}\n\n{_names_of_weights(model_skeleton(config), arguments)}")
        return
    check_output_dir(arguments.output_dir)  # before anything is downloaded
    if not Path(arguments.phi).is_dir():
        check_on_hub("--phi", arguments.phi, "model")
    showo, magvit = _local("showo", arguments.showo), _local("magvit", arguments.magvit)
    model = save_converted(showo, magvit, arguments.phi, arguments.output_dir)
    print(_names_of_weights(model, arguments))
    print(
        f"The model is in {arguments.output_dir}. To train it, pass --model_name_or_path {arguments.output_dir} to a "
        "recipe."
    )


def _names_of_weights(model: "PreTrainedModel", arguments: ConvertArguments) -> str:
    """Say for each checkpoint which weights are used, and which are not needed."""
    from ..models.showo.conversion import MAGVIT, SHOWO

    weights = model.state_dict()
    lines = []
    for checkpoint, name in ((SHOWO, arguments.showo), (MAGVIT, arguments.magvit)):
        lines.append(f"{name}: {len(checkpoint.expected(weights))} tensors are used.")
        lines += [f"  {old}* -> {new}*" for old, new in checkpoint.renamed.items()]
        lines += [f"  {start}* is not needed: {what}" for start, what in checkpoint.unneeded.items()]
    return "\n".join(lines)


def _local(argument: str, name: str) -> Path:
    """Return the folder of a checkpoint, and download its configuration and its weights if it is on the Hub."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    from ..models.showo.conversion import CONFIG_FILE, WEIGHT_FILES
    from ..repository.requests import check_on_hub, plain_errors

    check_on_hub(f"--{argument}", name, "model")
    with plain_errors(name), suppress(EntryNotFoundError):  # the image tokenizer may have no configuration
        hf_hub_download(name, CONFIG_FILE)
    for file in WEIGHT_FILES:
        with plain_errors(name), suppress(EntryNotFoundError):
            return Path(hf_hub_download(name, file)).parent
    raise ValueError(f"`--{argument}` {name!r} has no weights. It must have one of {', '.join(WEIGHT_FILES)}.")
