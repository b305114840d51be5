"""The model card of a run: what was trained, on which data, how, with which scores, and how to load it."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import EvalResult as HubEvalResult
from huggingface_hub import ModelCard, ModelCardData

from ..callbacks import RoundCallback, RoundEnd
from ..files import path_from_here, round_tag, write_atomic
from ..markdown import markdown_table
from ..types import RoundRecord
from .round_card import TASK, TEMPLATE, adapter_metadata, loading_snippet, model_link, round_card
from .run_info import RunInfo, is_hub_id, public_name, public_value
from .runs import Run, evaluation_names, split_name
from .tables import client_scores_table, flat_scores, megabytes, number


MAX_LISTED_CLIENTS = 20
LIMITS = (
    "The scores are for the evaluation rows above; other images, questions and wordings were not tested.",
    "Each score comes from one run with one seed.",
    "The model inherits the limits and biases of its base model and of the clients' data.",
)


class CardCallback(RoundCallback):
    """Write the model card, `README.md`, after each round, and `card.json`, from which it can be written again.

    Args:
        output_dir (`str` or `os.PathLike`):
            The folder of the run, which the model is named after.
        info (`RunInfo`):
            What the card says besides the scores.
    """

    def __init__(self, output_dir: str | os.PathLike[str], info: RunInfo):
        self.output_dir, self.info = Path(output_dir), info
        self._history: list[RoundRecord] = []

    def on_start(self, history: Sequence[RoundRecord], num_rounds: int) -> None:
        """Take over the rounds of a resumed run, and write `card.json` and the card that its last round may lack."""
        self._history = list(history)
        content = json.dumps(asdict(self.info), indent=2, default=str)
        write_atomic(self.output_dir / "card.json", f"{content}\n")
        if history:
            folder = self.output_dir / "rounds" / round_tag(history[-1].round_idx)
            if folder.is_dir() and not (folder / "README.md").exists():  # it was downloaded from the Hub
                write_atomic(folder / "README.md", f"{round_card(self.info, history[-1], self.output_dir)}\n")

    def on_round_end(self, end: RoundEnd) -> None:
        """Write the card of the rounds so far."""
        self._history.append(end.record)
        self._write()

    def on_end(self, history: Sequence[RoundRecord]) -> None:
        """Write the card of the whole run, unless it ended before its first round."""
        self._history = list(history)
        if history:
            self._write()

    def _write(self) -> None:
        name = self.output_dir.resolve().name
        card = model_card(self.info, self._history, name, folder=path_from_here(self.output_dir))
        write_atomic(self.output_dir / "README.md", f"{card}\n")


def model_card(
    info: RunInfo,
    history: Sequence[RoundRecord],
    name: str,
    *,
    is_public: bool = False,
    folder: str | None = None,
) -> ModelCard:
    """Build the card of a run. It names folders only by their paths from the current directory.

    Args:
        info (`RunInfo`):
            What the card says besides the scores. If it has a `hub_model_id`, the card loads rounds from there.
        history (`Sequence[RoundRecord]`):
            The records of the run, starting with round 0.
        name (`str`):
            Name of the model.
        is_public (`bool`, *optional*, defaults to `False`):
            Whether the card leaves the machine. A public card shows no image of the evaluation rows.
        folder (`str`, *optional*):
            Path of the run's folder from the directory in which a reader loads a round, by default `name`.
    """
    run = Run(info.method, history)
    sections = {
        f"# {name}": _summary(info, run),
        "## Results": _results(info, run, is_public),
        "## Use": _usage(info, run, folder or name),
        "## Training": _training(info, run),
        "## Limits": _limits(info),
        "## Reproduce": _reproduction(info),
    }
    text = "\n".join(f"{title}\n\n{section}" for title, section in sections.items())
    return ModelCard.from_template(_metadata(info, history, name), template_str=TEMPLATE, text=text.rstrip())


def _metadata(info: RunInfo, history: Sequence[RoundRecord], name: str) -> ModelCardData:
    """Build the metadata that the Hub links, filters by and shows, with the last scores as its `model-index`.

    Base model and data are named only if they are on the Hub: the name of a local folder would link to another
    repository that happens to have the same name.
    """
    run = Run(info.method, history)
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
    linked_data = [info.dataset] if info.dataset and is_hub_id(info.dataset) else None
    return adapter_metadata(info, datasets=linked_data, model_name=name, eval_results=results or None)


def _summary(info: RunInfo, run: Run) -> str:
    """Say what was trained, on which data, by which method."""
    lora = "a LoRA adapter of the language model"
    parts = {"connector": "the connector", "llm": lora, "two_stage": f"the connector and then {lora}"}
    trained = parts.get(info.tuning, f"{lora} and the connector")
    method = f"[{info.method}]({info.paper})" if info.paper else f"`{info.method}`"
    rows = f"{sum(info.clients.values()):,} rows{f' of {_dataset(info)}' if info.dataset else ''}"
    tasks = f" (tasks: {', '.join(info.tasks)})" if info.tasks else ""
    return (
        f"This is {trained} for {model_link(info.base_model)}, trained by {method} in "
        f"{run.history[-1].round_idx} rounds over {len(info.clients)} clients with {rows}{tasks}. It was made with "
        "fedvlm_hf, which runs each client as a Hugging Face Trainer.\n"
    )


def _results(info: RunInfo, run: Run, is_public: bool) -> str:
    """Show the scores before and after training, of all rows and of each client, and the curves."""
    parts = []
    for name in evaluation_names(run.history):
        start, last = flat_scores(run.first(name)), flat_scores(run.last(name))
        rows = [[*key, number(start.get(key)), number(value)] for key, value in last.items()]
        header = ["task", "metric", "round 0", f"round {run.last_round(name)}"]
        parts += [
            f"Evaluation set `{name}`{_num_rows(info, name)}, with greedily generated answers:\n",
            markdown_table(header, rows, num_labels=2),
        ]
        if 1 < len(run.last(name).clients) <= MAX_LISTED_CLIENTS:
            parts += [f"Scores of each client's rows of `{name}`:\n", client_scores_table(run, name)]
    if not parts:
        return "Nothing was evaluated: there was no split `test` and no other evaluation set.\n"
    parts.append("![Learning curves](report/learning_curves.png)\n")
    if not is_public:
        parts.append("![Samples](report/samples.png)\n")
    parts.append("Every round is in [report/results.md](report/results.md), every client in "
                 "[report/clients.md](report/clients.md).\n")  # fmt: skip
    return "\n".join(parts)


def _usage(info: RunInfo, run: Run, folder: str) -> str:
    """Show how to load the last round, from its repository if there is one, else from the folder of the run."""
    tag = round_tag(run.history[-1].round_idx)
    text = "Every round is a PEFT adapter that also contains the connector; round 0 is the model before training.\n\n"
    text += loading_snippet(info, f"{folder}/rounds/{tag}", tag)
    if info.is_personal:
        text += f"\n{_personal(info)}"
    if info.hub_model_id is None:
        return text
    return (
        f"{text}\n"
        f'- `pipeline("image-text-to-text", "{info.hub_model_id}")` answers with the last round.\n'
        f"- `fedvlm rounds {info.hub_model_id}` lists all rounds with their scores.\n"
        f'- `--resume_from_checkpoint "{info.hub_model_id}@{tag}"` makes the same command continue from this round.\n'
    )


def _training(info: RunInfo, run: Run) -> str:
    """List clients, hyperparameters and traffic."""
    if len(info.clients) <= MAX_LISTED_CLIENTS:
        rows = [[client_id, f"{num_rows:,}"] for client_id, num_rows in sorted(info.clients.items())]
        clients = markdown_table(["client", "training rows"], rows)
    else:
        sizes = info.clients.values()
        clients = f"{len(sizes)} clients with {min(sizes):,} to {max(sizes):,} training rows.\n"
    shown = public_value({**info.knobs, **info.hyperparameters})
    rows = [[f"`{key}`", f"`{value}`"] for key, value in shown.items()]
    parts = [
        f"Method `{info.method}`, tuning `{info.tuning}`.\n",
        clients,
        markdown_table(["hyperparameter", "value"], rows, num_labels=2) if rows else "",
        _traffic(run),
        _cost(info, run),
    ]
    return "\n".join(part for part in parts if part)


def _limits(info: RunInfo) -> str:
    """Say how the updates were protected, and what the scores do not show."""
    lines = [
        "Updates reached the server unchanged, without clipping, noise or secure aggregation: federated training "
        "alone does not prevent them from revealing training data."
    ]
    if info.transforms:
        lines = [f"Updates passed through {', '.join(info.transforms)} on their way to the server."]
    if info.is_simulated:
        lines.append("All clients were simulated by one program.")
    return "".join(f"- {line}\n" for line in [*lines, *LIMITS, *info.limits])


def _reproduction(info: RunInfo) -> str:
    """Show the command and the package versions of the run."""
    packages = ", ".join(f"{package} {version}" for package, version in info.versions.items())
    command = f"```bash\n{info.command}\n```\n\n" if info.command else ""
    return (
        f"{command}With {packages}. Bit-identical results need the same versions, the same type of CPU or GPU, and "
        "the same number of threads.\n"
    )


def _personal(info: RunInfo) -> str:
    text = (
        "Each client keeps private tensors: the scores are those of each client's own model, and a round contains "
        "only the tensors that clients share."
    )
    if info.hub_model_id and info.config.get("push_client_adapters"):
        client = min(info.clients)
        text += (
            f' For example, `PeftModel.from_pretrained(base, "{info.hub_model_id}", revision="clients/{client}")` '
            "loads the model of one client."
        )
    return f"{text}\n"


def _traffic(run: Run) -> str:
    trained = [record for record in run.history if record.clients]
    if not trained:
        return ""
    num_runs = sum(len(record.clients) for record in trained)
    down, up = (sum(getattr(record, key) for record in trained) for key in ("bytes_down", "bytes_up"))
    return (
        f"Traffic per client and round: {megabytes(down / num_runs)} MB down, {megabytes(up / num_runs)} MB up; "
        f"{megabytes(down + up)} MB in total over {len(trained)} rounds.\n"
    )


def _cost(info: RunInfo, run: Run) -> str:
    """Say how long the run took, on which hardware, and how much memory it used at its peak."""
    seconds = sum(record.seconds.get("total", 0.0) for record in run.history)
    evaluation = sum(record.seconds.get("evaluate", 0.0) for record in run.history)
    memory = max(record.peak_memory for record in run.history)
    accelerator = max(record.peak_accelerator_memory for record in run.history)
    hardware = f" on {info.hardware}" if info.hardware else ""
    text = (
        f"Time: {duration(seconds)}{hardware}, of which {duration(evaluation)} for evaluation. Peak memory: "
        f"{memory / 1e9:.2f} GB of the process"
    )
    return text + (f" and {accelerator / 1e9:.2f} GB of the accelerator.\n" if accelerator else ".\n")


def duration(seconds: float) -> str:
    """Format a time such as `45 s`, `6 min 12 s` or `3 h 20 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _num_rows(info: RunInfo, evaluation: str) -> str:
    return f" ({info.eval_rows[evaluation]:,} rows)" if evaluation in info.eval_rows else ""


def _dataset(info: RunInfo) -> str:
    name = public_name(info.dataset)
    if is_hub_id(info.dataset):
        name = f"[{name}](https://huggingface.co/datasets/{name})"
    return f"{name}, partition `{info.dataset_config}`" if info.dataset_config else name
