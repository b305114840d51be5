"""Convert the published checkpoints of Show-o to the format of transformers.

They are in three repositories: the language model in showlab/show-o, the image tokenizer in showlab/magvitv2, and the
configuration and the tokenizer of the language model in microsoft/phi-1_5. The first two are in a format that
transformers cannot load.
"""

import json
import os
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PhiConfig

from ...files import new_folder
from ..vlm import model_skeleton
from .configuration_showo import ShowoConfig, ShowoVQConfig
from .modeling_showo import ShowoForConditionalGeneration
from .processing_showo import ADDED_TOKENS, EOI_TOKEN, SOI_TOKEN, ShowoProcessor, build_processor


CONFIG_FILE = "config.json"
WEIGHT_FILES = ("pytorch_model.safetensors", "model.safetensors", "pytorch_model.bin")
"""Files that may have the weights. The first one that exists is read."""

_SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Checkpoint:
    """The names in a published checkpoint.

    Args:
        argument (`str`):
            The option that names the checkpoint.
        renamed (`dict[str, str]`):
            Start of the names that are used -> what replaces it.
        unneeded (`dict[str, str]`, *optional*):
            Start of the names that are not used -> what they are.
    """

    argument: str
    renamed: Mapping[str, str]
    unneeded: Mapping[str, str] = field(default_factory=dict)

    def expected(self, weights: Mapping[str, torch.Tensor]) -> dict[str, str]:
        """Return the name in the checkpoint -> the name in the model, for each weight that the checkpoint must have.

        Args:
            weights (`Mapping[str, torch.Tensor]`):
                The weights of the model by name, which may be on the meta device.
        """
        return {
            old + name.removeprefix(new): name
            for old, new in self.renamed.items()
            for name in weights
            if name.startswith(new)
        }

    def convert(
        self, tensors: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor], source: str
    ) -> dict[str, torch.Tensor]:
        """Check and rename the tensors of a checkpoint.

        Args:
            tensors (`Mapping[str, torch.Tensor]`):
                All tensors of the checkpoint.
            weights (`Mapping[str, torch.Tensor]`):
                The weights of the model, as in [`expected`].
            source (`str`):
                Name of the checkpoint in messages.

        Returns:
            `dict[str, torch.Tensor]`: The weights that the checkpoint has, by their names in the model.

        Raises:
            `ValueError`: If a tensor is missing, unknown or of another shape.
        """
        expected = self.expected(weights)
        unneeded = tuple(self.unneeded)
        unknown = [name for name in tensors if name not in expected and not (unneeded and name.startswith(unneeded))]
        shapes = [
            f"{old} {tuple(tensors[old].shape)} instead of {tuple(weights[new].shape)}"
            for old, new in expected.items()
            if old in tensors and tensors[old].shape != weights[new].shape
        ]
        problems = {
            "missing": [old for old in expected if old not in tensors],
            "unknown": unknown,
            "of another shape": shapes,
        }
        if found := [f"{len(names)} {problem}: {_first(names)}" for problem, names in problems.items() if names]:
            raise ValueError(
                f"`--{self.argument}` {source!r} does not have the weights of the published checkpoint. Tensors "
                f"{'; '.join(found)}. Nothing was written. Use the checkpoint as it was published."
            )
        return {new: tensors[old] for old, new in expected.items()}


SHOWO = Checkpoint("showo", {"showo.model.": "model.language_model.", "showo.lm_head.": "lm_head."})
MAGVIT = Checkpoint(
    "magvit",
    {"encoder.": "model.vqmodel.encoder."},
    {"decoder.": "turns codes into images", "quantize.": "constants that follow from the size of a code"},
)


def save_converted(
    showo: Path, magvit: Path, phi: str, output_dir: str | os.PathLike[str]
) -> ShowoForConditionalGeneration:
    """Convert the checkpoints and save model and processor.

    Args:
        showo (`Path`), magvit (`Path`), phi (`str`):
            As in [`convert_showo`].
        output_dir (`str` or `os.PathLike`):
            A new folder. If the process is killed, it does not contain a partial model.

    Returns:
        [`ShowoForConditionalGeneration`]: The model.

    Raises:
        `ValueError`: If `output_dir` exists, or as [`convert_showo`].
    """
    check_output_dir(output_dir)
    model, processor = convert_showo(showo, magvit, phi)
    with new_folder(Path(output_dir)) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
    return model


def check_output_dir(output_dir: str | os.PathLike[str]) -> None:
    """Check that the folder to save in does not exist yet.

    Raises:
        `ValueError`: If it exists.
    """
    if Path(output_dir).exists():
        raise ValueError(f"`--output_dir` '{output_dir}' exists already and is not overwritten. Name a new folder.")


def convert_showo(showo: Path, magvit: Path, phi: str) -> tuple[ShowoForConditionalGeneration, ShowoProcessor]:
    """Build model and processor from the published checkpoints.

    Args:
        showo (`Path`):
            Folder of the language model, such as a download of showlab/show-o.
        magvit (`Path`):
            Folder of the image tokenizer, such as a download of showlab/magvitv2. If its config.json has fields of
            [`ShowoVQConfig`], they replace the published sizes.
        phi (`str`):
            Hub id or folder with the configuration and the tokenizer of the language model. No weights are read.

    Returns:
        `tuple`: The model, in the dtype of the language model's weights and with its image tokenizer in fp32, and the
        processor.

    Raises:
        `ValueError`: If a file is missing or cannot be read, or if weights, sizes and tokens do not fit.
    """
    config, processor = _config(showo, magvit, phi)
    weights = model_skeleton(config).state_dict()
    language_model = SHOWO.convert(_read_tensors(SHOWO.argument, showo), weights, str(showo))
    image_tokenizer = MAGVIT.convert(_read_tensors(MAGVIT.argument, magvit), weights, str(magvit))
    model = ShowoForConditionalGeneration.from_pretrained(
        None,
        config=config,
        state_dict={**language_model, **image_tokenizer},
        dtype=language_model["lm_head.weight"].dtype,
    )
    special = {name: getattr(config.text_config, name) for name in _SPECIAL_IDS}
    model.generation_config = GenerationConfig(do_sample=False, **special)
    return model, processor


def _config(showo: Path, magvit: Path, phi: str) -> tuple[ShowoConfig, ShowoProcessor]:
    published = {"codebook_size": 8192, "num_vq_tokens": 256, **_read_config(SHOWO.argument, showo)}
    vq_config = _vq_config(magvit)
    tokenizer = AutoTokenizer.from_pretrained(phi, padding_side="left")
    _check_published(published, str(showo), len(tokenizer), vq_config)
    image_size = isqrt(published["num_vq_tokens"]) * vq_config.downsampling
    processor = build_processor(tokenizer, image_size, patch_size=vq_config.downsampling)
    config = ShowoConfig(
        vq_config=vq_config,
        text_config=_text_config(phi, published["vocab_size"], processor),
        image_token_id=processor.image_token_id,
        soi_token_id=tokenizer.convert_tokens_to_ids(SOI_TOKEN),
        eoi_token_id=tokenizer.convert_tokens_to_ids(EOI_TOKEN),
        first_code_id=len(tokenizer),
    )
    return config, processor


def _vq_config(magvit: Path) -> ShowoVQConfig:
    own = _read_config(MAGVIT.argument, magvit) if (magvit / CONFIG_FILE).is_file() else {}
    return ShowoVQConfig(**{name: own[name] for name in ShowoVQConfig.__annotations__ if name in own})


def _text_config(phi: str, vocab_size: int, processor: ShowoProcessor) -> PhiConfig:
    config = AutoConfig.from_pretrained(phi)
    if config.model_type != PhiConfig.model_type:
        raise ValueError(f"`--phi` {phi!r} must be a Phi, but it has the model type {config.model_type!r}.")
    config.vocab_size = vocab_size
    config.qk_layernorm = True  # Show-o sets it in its code and not in a configuration
    for name in _SPECIAL_IDS:
        setattr(config, name, getattr(processor.tokenizer, name))
    config.name_or_path = ""  # may be a folder of this machine
    return config


def _check_published(published: Mapping[str, Any], source: str, num_tokens: int, vq_config: ShowoVQConfig) -> None:
    """Check what config.json says: tokens of Phi, Show-o's own tokens, codes and a mask token are the vocabulary."""
    if published.get("w_clip_vit"):
        raise ValueError(
            f"`--showo` {source!r} is a variant with the vision tower of CLIP (`w_clip_vit` in its {CONFIG_FILE}), "
            "which is another architecture. Use showlab/show-o or showlab/show-o-512x512."
        )
    size = num_tokens + len(ADDED_TOKENS) + vq_config.codebook_size + 1
    expected = {"vocab_size": size, "llm_vocab_size": num_tokens, "codebook_size": vq_config.codebook_size}
    if wrong := [name for name, value in expected.items() if published.get(name) != value]:
        found = ", ".join(f"{name} {published.get(name)} instead of {expected[name]}" for name in wrong)
        raise ValueError(
            f"`--showo` {source!r} does not fit `--phi` and `--magvit`: its {CONFIG_FILE} has {found}. The vocabulary "
            f"must have {num_tokens} tokens of Phi, {len(ADDED_TOKENS)} of Show-o, {vq_config.codebook_size} image "
            "codes and 1 mask token. Use the tokenizer and the image tokenizer that the model was trained with."
        )
    num_codes = published["num_vq_tokens"]
    if not isinstance(num_codes, int) or num_codes < 1 or isqrt(num_codes) ** 2 != num_codes:
        raise ValueError(
            f"`--showo` {source!r}: `num_vq_tokens` in its {CONFIG_FILE} must be a square number, since images are "
            f"square, got {num_codes!r}."
        )


def _read_config(argument: str, folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"`--{argument}`: {path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"`--{argument}`: {path} must be a JSON object, got a {type(content).__name__}.")
    return content


def _read_tensors(argument: str, folder: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a folder. A pickle is read without executing anything in it."""
    path = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(f"`--{argument}` '{folder}' has no weights. It must have one of {', '.join(WEIGHT_FILES)}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Files of old versions of torch are not zip files and cannot be mapped into memory
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"`--{argument}`: {path} cannot be read: {reason} Only tensors are read. A file that needs code to be "
            "executed is refused, because it may do anything on this machine."
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise ValueError(f"`--{argument}`: {path} must have a dictionary of tensors and nothing else.")
    return tensors


def _first(names: Iterable[str], count: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
