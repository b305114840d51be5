"""The cards of one round and of a merged model, and what they share with the card of the run: metadata and code."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ..files import path_from_here, round_tag
from ..markdown import markdown_table, number
from ..types import EvalResult, RoundRecord
from .run_info import RunInfo, is_hub_id, public_name
from .tables import flat_scores


TEMPLATE = "---\n{{ card_data }}\n---\n\n{{ text }}"
TAGS = ("federated-learning", "fedvlm_hf", "trl", "lora")
TASK = "image-text-to-text"
_IMPORT = "import fedvlm_hf.models  # registers the class of the base model\n"


def round_card(info: RunInfo, record: RoundRecord, output_dir: str | os.PathLike[str]) -> ModelCard:
    """Build the card of one round, `README.md` in its folder: its scores, and how to load it.

    Args:
        info (`RunInfo`):
            What the card says besides the scores.
        record (`RoundRecord`):
            The record of the round.
        output_dir (`str` or `os.PathLike`):
            The folder of the run.
    """
    tag = round_tag(record.round_idx)
    text = "\n".join(
        [
            f"# {Path(output_dir).resolve().name}, round {record.round_idx}\n",
            f"A round of a federated run by `{info.method}`. The card of the run is [README.md](../../README.md).\n",
            *_scores(record.evaluations),
            "## Use\n",
            loading_snippet(info, f"{path_from_here(output_dir)}/rounds/{tag}"),
        ]
    )
    return ModelCard.from_template(adapter_metadata(info), template_str=TEMPLATE, text=text.rstrip())


@dataclass(frozen=True)
class MergedRound:
    """A round whose adapter was merged into its base model.

    Args:
        run (`str`):
            The repository or the folder of the run.
        round_idx (`int`):
            The round.
        method (`str`):
            Name of the method.
        base_model (`str`):
            Hub id or folder of the base model.
        client_id (`str`, *optional*):
            The client that the model belongs to, if each client has its own.
        evaluations (`Mapping[str, EvalResult]`, *optional*):
            The scores of the round by evaluation set, as the run recorded them.
        run_card (`Mapping[str, Any]`, *optional*):
            Metadata of the run's card, of which license, data and tags are taken over.
        is_our_class (`bool`, *optional*, defaults to `False`):
            Whether the class of the base model comes with this package and has to be imported before loading.
    """

    run: str
    round_idx: int
    method: str
    base_model: str
    client_id: str | None = None
    evaluations: Mapping[str, EvalResult] = field(default_factory=dict)
    run_card: Mapping[str, Any] = field(default_factory=dict)
    is_our_class: bool = False


def merged_card(merged: MergedRound, folder: str | os.PathLike[str]) -> ModelCard:
    """Build the card of a merged model, `README.md` in its folder: what it is, its scores, and how to load it.

    Args:
        merged (`MergedRound`):
            What was merged.
        folder (`str` or `os.PathLike`):
            The folder of the merged model.
    """
    evaluations, client = merged.evaluations, ""
    if merged.client_id is not None:
        client = f", with what the client `{merged.client_id}` keeps for itself"
        evaluations = {
            name: EvalResult(result.clients[merged.client_id])
            for name, result in evaluations.items()
            if merged.client_id in result.clients
        }
    known = {key: value for key, value in merged.run_card.items() if _is_taken_over(key, value)}
    place, imports = path_from_here(folder), _IMPORT if merged.is_our_class else ""
    text = "\n".join(
        [
            f"# {Path(folder).resolve().name}\n",
            f"Round {merged.round_idx} of the federated run {model_link(merged.run)} by `{merged.method}`{client}, "
            f"merged into {model_link(merged.base_model)}: an ordinary model, which is loaded without PEFT and "
            "without the base model.\n",
            *(["Scores of the round, as the run recorded them:\n"] if evaluations else []),
            *_scores(evaluations),
            "## Use\n",
            "The path is from the directory in which the model was merged.\n",
            f"""```python
{imports}from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{place}")
processor = AutoProcessor.from_pretrained("{place}")
```""",
        ]
    )
    data = _metadata(merged.base_model, "transformers", "finetune", **{"tags": list(TAGS), **known})
    return ModelCard.from_template(data, template_str=TEMPLATE, text=text)


def model_link(name: str) -> str:
    """Return Markdown that links to a model on the Hub, or the last part of the path of a folder."""
    return f"[{name}](https://huggingface.co/{name})" if is_hub_id(name) else f"`{public_name(name)}`"


def _scores(evaluations: Mapping[str, EvalResult]) -> list[str]:
    """Return the scores as one titled table for each evaluation set."""
    parts = []
    for name, result in evaluations.items():
        rows = [[*key, number(value)] for key, value in flat_scores(result).items()]
        parts += [f"Evaluation set `{name}`:\n", markdown_table(["task", "metric", "score"], rows, num_labels=2)]
    return parts


def _is_taken_over(key: str, value: Any) -> bool:
    """Return whether an entry of a run's card belongs on the card of a merged model, and has the right type."""
    if key in ("datasets", "tags"):
        return isinstance(value, list) and all(isinstance(part, str) for part in value)
    return key in ("license", "license_name", "license_link") and isinstance(value, str)


def adapter_metadata(info: RunInfo, **kwargs: Any) -> ModelCardData:
    """Build the metadata of an adapter. The base model is named only if it is on the Hub.

    Args:
        info (`RunInfo`):
            The run.
        kwargs:
            Other arguments of [`~huggingface_hub.ModelCardData`].
    """
    return _metadata(
        info.base_model,
        "peft",
        "adapter",
        license=info.license,
        license_name=info.license_name,
        license_link=info.license_link,
        tags=[*TAGS, info.objective],
        **kwargs,
    )


def _metadata(base_model: str, library: str, relation: str, **kwargs: Any) -> ModelCardData:
    """Build metadata that names the base model, and how the model was made of it, only if it is on the Hub."""
    is_linked = is_hub_id(base_model)
    return ModelCardData(
        base_model=base_model if is_linked else None,
        base_model_relation=relation if is_linked else None,
        library_name=library,
        pipeline_tag=TASK,
        **kwargs,
    )


def loading_snippet(info: RunInfo, folder: str, revision: str | None = None) -> str:
    """Return Markdown with the code that loads a round and answers a question about an image.

    Args:
        info (`RunInfo`):
            The run. Its base model is loaded by name, or by its path from the current directory.
        folder (`str`):
            Path of the round's folder from the directory in which the code runs.
        revision (`str`, *optional*):
            Revision of the round on the Hub. With it, the code loads the round of a pushed run from its repository.
    """
    imports, base = "", f'"{info.base_model}"'
    if Path(info.base_model).parent == Path(__file__).parents[1] / "mini":
        imports, base = "from fedvlm_hf.mini import base_model\n", f'base_model("{public_name(info.base_model)}")'
    elif Path(info.base_model).is_absolute():
        base = f'"{path_from_here(info.base_model)}"'
    if info.is_our_class:
        imports += _IMPORT
    place, change, download = f'"{folder}"', "", ""
    if info.hub_model_id and revision:
        place = f'"{info.hub_model_id}", revision="{revision}"'
        download = "from huggingface_hub import snapshot_download\n"
    if info.changes_base:
        imports += f"from fedvlm_hf import apply_base_delta\n{download}"
        place = f"snapshot_download({place})" if download else place
        change, place = f"folder = {place}\nbase = apply_base_delta(base, folder)\n", "folder"
    notes = []
    if not info.base_model:
        notes.append("The base model was made in memory: load it in place of the empty name.")
    if not (info.hub_model_id and revision):
        notes.append("Paths are from the directory in which the run was started.")
    note = f"{' '.join(notes)}\n\n" if notes else ""
    return f"""{note}```python
{imports}from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

base = AutoModelForImageTextToText.from_pretrained({base})
{change}model = PeftModel.from_pretrained(base, {place})
processor = AutoProcessor.from_pretrained({base})

image = Image.new("RGB", (224, 224), "red")  # or Image.open("photo.jpg")
content = [{{"type": "image", "image": image}}, {{"type": "text", "text": "Describe the image."}}]
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": content}}],
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
).to(model.device, model.dtype)
output = model.generate(**inputs, max_new_tokens=64, do_sample=False)
print(processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```
"""
