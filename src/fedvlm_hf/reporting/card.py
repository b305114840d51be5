"""The model card of a run: what was trained on what, how, how well, and how to load it."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult as HubEvalResult
from huggingface_hub import ModelCard, ModelCardData

from ..callbacks import RoundCallback, RoundEnd
from ..files import write_atomic
from ..types import RoundRecord
from .public import hyperparameters, is_hub_id, public_name
from .runs import Run, evaluation_names, split_name
from .tables import flat_scores, markdown_table, megabytes, number


TAGS = ("federated-learning", "fedvlm_hf", "trl", "sft", "lora")
PACKAGES = ("fedvlm_hf", "torch", "transformers", "trl", "peft", "datasets")
MAX_LISTED_CLIENTS = 20
LIMITS = (
    "The scores hold for the evaluation rows above; other images, questions and wordings were not tested.",
    "All clients were simulated by one program. Each score is of one run with one seed.",
    "The model inherits the limits and biases of its base model and of the clients' data.",
)


@dataclass(frozen=True)
class RunInfo:
    """What a card says beside the scores.

    Args:
        base_model (`str`):
            Hub id or folder of the base model. Of a folder only the last part of the name is shown.
        method (`str`):
            The method's name.
        tuning (`str`):
            What was trained: `connector`, `llm`, `joint` or `two_stage`.
        clients (`Mapping[str, int]`):
            Client to number of training rows.
        config (`Mapping[str, Any]`):
            The arguments of the run, as `FederatedConfig.to_dict()` gives them.
        dataset (`str`, *optional*):
            Hub id, folder or name of the data.
        license (`str`, *optional*):
            License of the trained weights, such as `apache-2.0`.
        paper (`str`, *optional*):
            Link to the method's paper.
        transforms (`Sequence[str]`, *optional*):
            What happened to the updates on their way, in words.
        limits (`Sequence[str]`, *optional*):
            Sentences on what the model or its data cannot do, beside the general ones.
        is_our_class (`bool`, *optional*, defaults to `False`):
            Whether the base model's class comes with this package, so that loading it takes an import.
    """

    base_model: str
    method: str
    tuning: str
    clients: Mapping[str, int]
    config: Mapping[str, Any] = field(default_factory=dict)
    dataset: str | None = None
    license: str | None = None
    paper: str | None = None
    transforms: Sequence[str] = ()
    limits: Sequence[str] = ()
    is_our_class: bool = False


class CardCallback(RoundCallback):
    """Writes `README.md`, the model card, after each round.

    Args:
        output_dir (`str` or `os.PathLike`):
            The run's folder; its name is the model's name.
        info (`RunInfo`):
            What the card says beside the scores.
    """

    def __init__(self, output_dir: str | os.PathLike[str], info: RunInfo):
        self.output_dir, self.info = Path(output_dir), info
        self._history: list[RoundRecord] = []

    def on_start(self, history: Sequence[RoundRecord], num_rounds: int) -> None:
        """Take up the rounds of a resumed run."""
        self._history = list(history)

    def on_round_end(self, end: RoundEnd) -> None:
        """Write the card of the rounds so far."""
        self._history.append(end.record)
        self._write()

    def on_end(self, history: Sequence[RoundRecord]) -> None:
        """Write the card of the whole run."""
        self._history = list(history)
        self._write()

    def _write(self) -> None:
        card = model_card(self.info, self._history, self.output_dir.resolve().name)
        write_atomic(self.output_dir / "README.md", f"{card}\n")


def model_card(info: RunInfo, history: Sequence[RoundRecord], name: str) -> ModelCard:
    """The card of a run, without any path or name of the machine that it ran on.

    Args:
        info (`RunInfo`):
            What the card says beside the scores.
        history (`Sequence[RoundRecord]`):
            The run's records, round 0 first.
        name (`str`):
            Name of the model.
    """
    run = Run(info.method, history)
    sections = [
        f"# {name}\n",
        _summary(info, run),
        "## Results\n",
        _results(run),
        "## Use\n",
        _usage(info, run, name),
        "## Training\n",
        _training(info, run),
        "## Limits\n",
        "".join(f"- {line}\n" for line in [*_privacy(info), *LIMITS, *info.limits]),
        "## Versions\n",
        ", ".join(f"{package} {version(package)}" for package in PACKAGES) + "\n",
    ]
    return ModelCard(f"---\n{card_data(info, history, name).to_yaml()}\n---\n\n" + "\n".join(sections))


def card_data(info: RunInfo, history: Sequence[RoundRecord], name: str) -> ModelCardData:
    """The card's metadata, with the scores of the last evaluated round as its `model-index`.

    Arguments as in `model_card`. Base model and data are named only if they are on the Hub: a folder's name here would
    link to somebody else's repository.
    """
    run = Run(info.method, history)
    data = public_name(info.dataset) if info.dataset else "the clients' data"
    results = [
        HubEvalResult(
            task_type="image-text-to-text",
            task_name="Image-Text-to-Text",
            dataset_type=data if is_hub_id(data) else re.sub(r"[^a-z0-9]+", "-", data.lower()).strip("-"),
            dataset_name=data,
            dataset_split=evaluation,
            metric_type=split_name(score)[1],
            metric_name=score,
            metric_value=round(value, 4),
        )
        for evaluation in evaluation_names(history)
        for score, value in sorted(run.last(evaluation).scores.items())
    ]
    return ModelCardData(
        base_model=info.base_model if is_hub_id(info.base_model) else None,
        base_model_relation="adapter" if is_hub_id(info.base_model) else None,
        datasets=[info.dataset] if info.dataset and is_hub_id(info.dataset) else None,
        library_name="peft",
        license=info.license,
        pipeline_tag="image-text-to-text",
        tags=list(TAGS),
        model_name=name,
        eval_results=results or None,
    )


def _summary(info: RunInfo, run: Run) -> str:
    lora = "a LoRA adapter of the language model"
    parts = {"connector": "the connector", "llm": lora, "two_stage": f"the connector and then {lora}"}
    trained = parts.get(info.tuning, f"{lora} and the connector")
    base = f"`{public_name(info.base_model)}`"
    if is_hub_id(info.base_model):
        base = f"[{info.base_model}](https://huggingface.co/{info.base_model})"
    method = f"[{info.method}]({info.paper})" if info.paper else f"`{info.method}`"
    rows = f"{sum(info.clients.values()):,} rows{f' of {public_name(info.dataset)}' if info.dataset else ''}"
    return (
        f"This is {trained} for {base}, trained by {method} in {run.history[-1].round_idx} rounds over "
        f"{len(info.clients)} clients with {rows}. It was made with fedvlm_hf, which runs each client as a Hugging "
        "Face Trainer.\n"
    )


def _results(run: Run) -> str:
    parts = []
    for name in evaluation_names(run.history):
        start, last = flat_scores(run.first(name)), flat_scores(run.last(name))
        rows = [[*key, number(start.get(key)), number(value)] for key, value in last.items()]
        header = ["task", "metric", "round 0", f"round {run.last_round(name)}"]
        parts += [
            f"Evaluation set `{name}`, answers generated greedily:\n",
            markdown_table(header, rows, num_labels=2),
        ]
    if not parts:
        return "The run was not evaluated.\n"
    return "\n".join([*parts, "![Learning curves](report/learning_curves.png)\n", "![Samples](report/samples.png)\n"])


def _usage(info: RunInfo, run: Run, name: str) -> str:
    imports, base = "", f'"{public_name(info.base_model)}"'
    if Path(info.base_model).parent == Path(__file__).parents[1] / "mini":
        imports, base = "from fedvlm_hf.mini import base_model\n", f"base_model({base})"
    elif info.is_our_class:
        imports = "import fedvlm_hf.models  # registers the base model's class\n"
    return (
        "Every round is a PEFT adapter that holds the connector too; round 0 is the model before training.\n\n"
        f"```python\n{imports}from peft import PeftModel\nfrom transformers import AutoModelForImageTextToText\n\n"
        f"base = AutoModelForImageTextToText.from_pretrained({base})\n"
        f'model = PeftModel.from_pretrained(base, "{name}/rounds/round-{run.history[-1].round_idx:04d}")\n```\n'
    )


def _training(info: RunInfo, run: Run) -> str:
    if len(info.clients) <= MAX_LISTED_CLIENTS:
        rows = [[client_id, f"{num_rows:,}"] for client_id, num_rows in sorted(info.clients.items())]
        clients = markdown_table(["client", "training rows"], rows)
    else:
        sizes = info.clients.values()
        clients = f"{len(sizes)} clients with {min(sizes):,} to {max(sizes):,} training rows.\n"
    rows = [[f"`{key}`", f"`{value}`"] for key, value in hyperparameters(info.config).items()]
    trained = [record for record in run.history if record.clients]
    num_runs = sum(len(record.clients) for record in trained)
    parts = [
        f"Method `{info.method}`, tuning `{info.tuning}`.\n",
        clients,
        markdown_table(["hyper-parameter", "value"], rows, num_labels=2) if rows else "",
    ]
    if trained:
        down, up = (sum(getattr(record, key) for record in trained) for key in ("bytes_down", "bytes_up"))
        parts.append(
            f"Traffic of a client and round: {megabytes(down / num_runs)} MB down, {megabytes(up / num_runs)} MB up; "
            f"{megabytes(down + up)} MB in all over {len(trained)} rounds.\n"
        )
    return "\n".join(part for part in parts if part)


def _privacy(info: RunInfo) -> list[str]:
    if info.transforms:
        return [f"Updates passed through {', '.join(info.transforms)} on their way to the server."]
    return [
        "Updates reached the server as they were, without clipping, noise or secure aggregation: federated training "
        "by itself does not keep them from revealing training data."
    ]
