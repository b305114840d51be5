"""The card of one round, and what it shares with the card of the run: metadata, and the code that loads a round."""

import os
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ..files import path_from_here, round_tag
from ..markdown import markdown_table, number
from ..types import RoundRecord
from .run_info import RunInfo, is_hub_id, public_name
from .tables import flat_scores


TEMPLATE = "---\n{{ card_data }}\n---\n\n{{ text }}"
TAGS = ("federated-learning", "fedvlm_hf", "trl", "lora")
TASK = "image-text-to-text"


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
    results = []
    for name, result in record.evaluations.items():
        rows = [[*key, number(value)] for key, value in flat_scores(result).items()]
        results += [f"Evaluation set `{name}`:\n", markdown_table(["task", "metric", "score"], rows, num_labels=2)]
    text = "\n".join(
        [
            f"# {Path(output_dir).resolve().name}, round {record.round_idx}\n",
            f"A round of a federated run by `{info.method}`. The card of the run is [README.md](../../README.md).\n",
            *results,
            "## Use\n",
            loading_snippet(info, f"{path_from_here(output_dir)}/rounds/{tag}"),
        ]
    )
    return ModelCard.from_template(adapter_metadata(info), template_str=TEMPLATE, text=text.rstrip())


def adapter_metadata(info: RunInfo, **kwargs: Any) -> ModelCardData:
    """Build the metadata of an adapter. The base model is named only if it is on the Hub.

    Args:
        info (`RunInfo`):
            The run.
        kwargs:
            Other arguments of [`~huggingface_hub.ModelCardData`].
    """
    is_linked = is_hub_id(info.base_model)
    return ModelCardData(
        base_model=info.base_model if is_linked else None,
        base_model_relation="adapter" if is_linked else None,
        library_name="peft",
        license=info.license,
        license_name=info.license_name,
        license_link=info.license_link,
        pipeline_tag=TASK,
        tags=[*TAGS, info.objective],
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
        imports += "import fedvlm_hf.models  # registers the class of the base model\n"
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
