"""The metadata of a model card: what the Hub links, filters by and shows beside it."""

import re
from collections.abc import Sequence

from huggingface_hub import EvalResult as HubEvalResult
from huggingface_hub import ModelCardData

from ..types import RoundRecord
from .public import is_hub_id, public_name
from .run_info import RunInfo
from .runs import Run, evaluation_names, split_name


TAGS = ("federated-learning", "fedvlm_hf", "trl", "sft", "lora")
TASK = "image-text-to-text"


def card_data(info: RunInfo, history: Sequence[RoundRecord], name: str) -> ModelCardData:
    """The metadata of a run's card, with the scores of the last evaluated round as its `model-index`.

    Base model and data are named only if they are on the Hub: a folder's name here would link to somebody else's
    repository.

    Args:
        info (`RunInfo`):
            What the card says beside the scores.
        history (`Sequence[RoundRecord]`):
            The run's records, round 0 first.
        name (`str`):
            Name of the model.
    """
    run = Run(info.method, history)
    is_linked = is_hub_id(info.base_model)
    data = public_name(info.dataset) if info.dataset else "the clients' data"
    results = [
        HubEvalResult(
            task_type=TASK,
            task_name="Image-Text-to-Text",
            dataset_type=data if is_hub_id(data) else re.sub(r"[^a-z0-9]+", "-", data.lower()).strip("-"),
            dataset_name=data,
            dataset_config=info.dataset_config,
            dataset_split=evaluation,
            metric_type=split_name(score)[1],
            metric_name=score,
            metric_value=round(value, 4),
        )
        for evaluation in evaluation_names(history)
        for score, value in sorted(run.last(evaluation).scores.items())
    ]
    return ModelCardData(
        base_model=info.base_model if is_linked else None,
        base_model_relation="adapter" if is_linked else None,
        datasets=[info.dataset] if info.dataset and is_hub_id(info.dataset) else None,
        library_name="peft",
        license=info.license,
        license_name=info.license_name,
        license_link=info.license_link,
        pipeline_tag=TASK,
        tags=list(TAGS),
        model_name=name,
        eval_results=results or None,
    )
