"""What a model card tells, section by section."""

from pathlib import Path

from ..files import round_tag
from ..markdown import markdown_table
from .public import hyperparameters, is_hub_id, public_name, public_value
from .run_info import RunInfo
from .runs import Run, evaluation_names
from .tables import flat_scores, megabytes, number


MAX_LISTED_CLIENTS = 20
LIMITS = (
    "The scores hold for the evaluation rows above; other images, questions and wordings were not tested.",
    "Each score is of one run with one seed.",
    "The model inherits the limits and biases of its base model and of the clients' data.",
)


def summary(info: RunInfo, run: Run) -> str:
    """What was trained on what, by whom, how."""
    lora = "a LoRA adapter of the language model"
    parts = {"connector": "the connector", "llm": lora, "two_stage": f"the connector and then {lora}"}
    trained = parts.get(info.tuning, f"{lora} and the connector")
    base = f"`{public_name(info.base_model)}`"
    if is_hub_id(info.base_model):
        base = f"[{info.base_model}](https://huggingface.co/{info.base_model})"
    method = f"[{info.method}]({info.paper})" if info.paper else f"`{info.method}`"
    rows = f"{sum(info.clients.values()):,} rows{f' of {_dataset(info)}' if info.dataset else ''}"
    return (
        f"This is {trained} for {base}, trained by {method} in {run.history[-1].round_idx} rounds over "
        f"{len(info.clients)} clients with {rows}. It was made with fedvlm_hf, which runs each client as a Hugging "
        "Face Trainer.\n"
    )


def results(run: Run, is_public: bool) -> str:
    """Scores before and after, and the curves; images of the evaluation rows only on the machine that has them."""
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
    parts.append("![Learning curves](report/learning_curves.png)\n")
    if not is_public:
        parts.append("![Samples](report/samples.png)\n")
    parts.append("Every round is in [report/results.md](report/results.md), every client in "
                 "[report/clients.md](report/clients.md).\n")  # fmt: skip
    return "\n".join(parts)


def usage(info: RunInfo, run: Run, name: str) -> str:
    """How to load a round: from the repository where there is one, or from the run's folder."""
    imports, base = "", f'"{public_name(info.base_model)}"'
    if Path(info.base_model).parent == Path(__file__).parents[1] / "mini":
        imports, base = "from fedvlm_hf.mini import base_model\n", f"base_model({base})"
    elif info.is_our_class:
        imports = "import fedvlm_hf.models  # registers the base model's class\n"
    tag = round_tag(run.history[-1].round_idx)
    place = f'"{info.hub_model_id}", revision="{tag}"' if info.hub_model_id else f'"{name}/rounds/{tag}"'
    text = (
        "Every round is a PEFT adapter that holds the connector too; round 0 is the model before training.\n\n"
        f"```python\n{imports}from peft import PeftModel\nfrom transformers import AutoModelForImageTextToText\n\n"
        f"base = AutoModelForImageTextToText.from_pretrained({base})\n"
        f"model = PeftModel.from_pretrained(base, {place})\n```\n"
    )
    if info.is_personal:
        text += f"\n{_personal(info)}"
    if info.hub_model_id is None:
        return text
    return (
        f"{text}\n"
        f'- `pipeline("image-text-to-text", "{info.hub_model_id}")` answers with the last round.\n'
        f"- `fedvlm rounds {info.hub_model_id}` lists all rounds with their scores.\n"
        f'- `--resume_from_checkpoint "{info.hub_model_id}@{tag}"` lets the same command go on from this round.\n'
    )


def training(info: RunInfo, run: Run) -> str:
    """Clients, hyper-parameters, traffic."""
    if len(info.clients) <= MAX_LISTED_CLIENTS:
        rows = [[client_id, f"{num_rows:,}"] for client_id, num_rows in sorted(info.clients.items())]
        clients = markdown_table(["client", "training rows"], rows)
    else:
        sizes = info.clients.values()
        clients = f"{len(sizes)} clients with {min(sizes):,} to {max(sizes):,} training rows.\n"
    shown = {**public_value(info.knobs), **hyperparameters(info.config)}
    rows = [[f"`{key}`", f"`{value}`"] for key, value in shown.items()]
    parts = [
        f"Method `{info.method}`, tuning `{info.tuning}`.\n",
        clients,
        markdown_table(["hyper-parameter", "value"], rows, num_labels=2) if rows else "",
        _traffic(run),
    ]
    return "\n".join(part for part in parts if part)


def limits(info: RunInfo) -> str:
    """What the updates went through, and what the scores do not say."""
    lines = [
        "Updates reached the server as they were, without clipping, noise or secure aggregation: federated training "
        "by itself does not keep them from revealing training data."
    ]
    if info.transforms:
        lines = [f"Updates passed through {', '.join(info.transforms)} on their way to the server."]
    if info.is_simulated:
        lines.append("All clients were simulated by one program.")
    return "".join(f"- {line}\n" for line in [*lines, *LIMITS, *info.limits])


def reproduction(info: RunInfo) -> str:
    """The command, and the versions it was run with."""
    packages = ", ".join(f"{package} {version}" for package, version in info.versions.items())
    command = f"```bash\n{info.command}\n```\n\n" if info.command else ""
    return (
        f"{command}With {packages}. The same bits need the same versions, type of CPU or GPU, and number of threads.\n"
    )


def _personal(info: RunInfo) -> str:
    text = (
        "Clients keep tensors of their own: the scores are of each client's model, and a round holds what they share."
    )
    if info.hub_model_id and info.config.get("push_client_adapters"):
        client = min(info.clients)
        text += (
            f' `PeftModel.from_pretrained(base, "{info.hub_model_id}", revision="clients/{client}")` is one of them.'
        )
    return f"{text}\n"


def _traffic(run: Run) -> str:
    trained = [record for record in run.history if record.clients]
    if not trained:
        return ""
    num_runs = sum(len(record.clients) for record in trained)
    down, up = (sum(getattr(record, key) for record in trained) for key in ("bytes_down", "bytes_up"))
    return (
        f"Traffic of a client and round: {megabytes(down / num_runs)} MB down, {megabytes(up / num_runs)} MB up; "
        f"{megabytes(down + up)} MB in all over {len(trained)} rounds.\n"
    )


def _dataset(info: RunInfo) -> str:
    name = public_name(info.dataset)
    if is_hub_id(info.dataset):
        name = f"[{name}](https://huggingface.co/datasets/{name})"
    return f"{name}, partition `{info.dataset_config}`" if info.dataset_config else name
