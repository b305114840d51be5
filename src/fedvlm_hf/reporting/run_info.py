"""What a model card says about a run besides its scores, and where each part comes from.

Cards are published, so they must not contain a path of the machine, a token or another secret.
"""

import json
import os
import platform
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from datasets import Dataset
from huggingface_hub import ModelCard
from huggingface_hub.utils import HFValidationError, validate_repo_id
from peft import PeftModel
from transformers import TrainingArguments

from ..methods import ClientMethod, Method, Strategy
from ..methods.fedavg import FedAvg
from ..metrics import PRIMARY
from ..registry import paper_link


PACKAGES = ("fedvlm_hf", "torch", "transformers", "trl", "peft", "datasets")

ALWAYS_SHOWN = (
    "num_rounds", "clients_per_round", "client_sampling", "client_weighting", "num_train_epochs", "max_steps",
    "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "round_lr_scheduler_type",
    "lr_scheduler_type", "optim", "weight_decay", "max_grad_norm", "bf16", "seed",
)  # fmt: skip
# Shown elsewhere on the card, or about the machine and the display, or never at its default after parsing
NEVER_SHOWN = {
    "method", "tuning", "output_dir", "run_name", "project", "report_to", "disable_tqdm", "debug", "use_cpu",
    "resume_from_checkpoint", "accelerator_config", "activation_checkpointing", "fsdp", "fsdp_config", "eos_token",
    "pad_token", "pad_to_multiple_of", "push_client_adapters", "share_client_names",
}  # fmt: skip
NEVER_SHOWN_PREFIXES = (
    "hub_", "push_to_hub", "trackio_", "logging_", "log_", "save_", "dataloader_", "ddp_", "per_device_eval_",
)  # fmt: skip

_ADAPTER = ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora")
_LEFT_OUT = ("--resume_from_checkpoint", "--hub_token")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a run depends on most."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


@dataclass(frozen=True)
class RunInfo:
    """What a card says besides the scores. Every field is JSON: a run saves it as `card.json`.

    Args:
        base_model (`str`):
            Hub id or folder of the base model. Only the last part of a folder's path is shown.
        method (`str`):
            Name of the method.
        tuning (`str`):
            What was trained: `connector`, `llm`, `joint` or `two_stage`.
        clients (`Mapping[str, int]`):
            Number of training rows of each client.
        config (`Mapping[str, Any]`, *optional*):
            All arguments of the run, as `to_dict()` of its configuration returns them.
        hyperparameters (`Mapping[str, Any]`, *optional*):
            The arguments that the card shows, from [`hyperparameters`].
        knobs (`Mapping[str, Any]`, *optional*):
            The hyperparameters of the method and of the adapter, including those at their defaults.
        dataset (`str`, *optional*), dataset_config (`str`, *optional*):
            Hub id, folder or name of the data, and its configuration.
        hub_model_id (`str`, *optional*):
            The repository that the run is pushed to.
        license (`str`, *optional*), license_name (`str`, *optional*), license_link (`str`, *optional*):
            License of the trained weights, such as `apache-2.0`, or `other` with a name and a link.
        paper (`str`, *optional*):
            Link to the paper of the method.
        transforms (`Sequence[str]`, *optional*):
            Descriptions of the transforms that the updates went through.
        limits (`Sequence[str]`, *optional*):
            Sentences about limits of the model or its data, in addition to the general ones.
        command (`str`, *optional*):
            The command that started the run.
        versions (`Mapping[str, str]`, *optional*):
            Versions of packages, by default of those that are installed.
        objective (`str`, *optional*, defaults to `"sft"`):
            What clients train on, as the Hub tags it: `sft` or `dpo`.
        is_our_class (`bool`, *optional*, defaults to `False`):
            Whether the class of the base model comes with this package and has to be imported before loading.
        is_personal (`bool`, *optional*, defaults to `False`):
            Whether clients keep private tensors, so that each is scored with a model that no saved round contains.
        changes_base (`bool`, *optional*, defaults to `False`):
            Whether the method changes the weights of the base model, which loading has to repeat.
        is_simulated (`bool`, *optional*, defaults to `True`):
            Whether all clients ran on one host.
        tasks (`Sequence[str]`, *optional*):
            Tasks of the rows, such as `vqa`.
        eval_rows (`Mapping[str, int]`, *optional*):
            Number of rows of each evaluation set.
        hardware (`str`, *optional*):
            The processor or accelerator that the run used, from [`hardware`].
    """

    base_model: str
    method: str
    tuning: str
    clients: Mapping[str, int]
    config: Mapping[str, Any] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    knobs: Mapping[str, Any] = field(default_factory=dict)
    dataset: str | None = None
    dataset_config: str | None = None
    hub_model_id: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    paper: str | None = None
    transforms: Sequence[str] = ()
    limits: Sequence[str] = ()
    command: str | None = None
    versions: Mapping[str, str] = field(default_factory=versions)
    objective: str = "sft"
    is_our_class: bool = False
    is_personal: bool = False
    changes_base: bool = False
    is_simulated: bool = True
    tasks: Sequence[str] = ()
    eval_rows: Mapping[str, int] = field(default_factory=dict)
    hardware: str | None = None


def run_info(
    run: Mapping[str, Any],
    args: TrainingArguments,
    tuning: str,
    method: Method,
    model: PeftModel,
    datasets: Mapping[str, Dataset],
    evaluation_sets: Mapping[str, Dataset],
    **kwargs: Any,
) -> RunInfo:
    """Collect what a card says about a run.

    Args:
        run (`Mapping[str, Any]`):
            The content of `run.json`.
        args ([`~transformers.TrainingArguments`]), tuning (`str`), method ([`Method`]), model ([`~peft.PeftModel`]):
            The configuration, the tuning mode, the method and the model of the run.
        datasets (`Mapping[str, Dataset]`):
            Training rows of each client.
        evaluation_sets (`Mapping[str, Dataset]`):
            Evaluation sets by name.
        kwargs:
            The other arguments of [`RunInfo`].
    """
    base_model = run["base_model"]
    adapter = vars(model.peft_config[model.active_adapter])
    lora = {f"lora_{name.removeprefix('lora_')}": adapter[name] for name in _ADAPTER if adapter.get(name)}
    data = next((rows.info for rows in datasets.values()), None)
    return RunInfo(
        base_model=os.path.abspath(base_model) if os.path.isdir(base_model) else base_model,
        method=run["method"],
        tuning=tuning,
        config=args.to_dict(),
        hyperparameters=hyperparameters(args),
        knobs={**asdict(method.client), **asdict(method.strategy), **lora},
        dataset=data.dataset_name if data else None,
        dataset_config=data.config_name if data and data.config_name != "default" else None,
        hub_model_id=args.hub_model_id if args.push_to_hub else None,
        paper=method_paper(method),
        transforms=[_described(transform) for transform in run["transforms"]],
        changes_base=method.strategy.changes_base,
        command=public_command(sys.argv),
        objective=args.objective,
        is_our_class=type(model.get_base_model()).__module__.startswith("fedvlm_hf."),
        tasks=_tasks([*datasets.values(), *evaluation_sets.values()]),
        eval_rows={name: len(rows) for name, rows in evaluation_sets.items()},
        hardware=hardware(),
        **_license(base_model),
        **kwargs,
    )


def hardware() -> str:
    """Return the accelerators of this process, such as `"1 x NVIDIA H200"`, or what is known of its CPU."""
    if not torch.cuda.is_available():
        return f"a CPU ({platform.machine()}, {os.cpu_count()} cores, torch threads: {torch.get_num_threads()})"
    names = Counter(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return ", ".join(f"{count} x {name}" for name, count in names.items())


def _tasks(datasets: Sequence[Dataset]) -> list[str]:
    """Return the tasks of the rows in the order of `PRIMARY`."""
    found = {task for rows in datasets if "task" in rows.column_names for task in rows.unique("task")}
    return [task for task in PRIMARY if task in found]


def _described(transform: Mapping[str, Any]) -> str:
    """Return the name and the knobs of a transform, such as `clip (max_norm=1.0)`."""
    knobs = ", ".join(f"{name}={value}" for name, value in transform["knobs"].items())
    return f"{transform['name']} ({knobs})" if knobs else transform["name"]


def hyperparameters(args: TrainingArguments) -> dict[str, Any]:
    """Return the arguments of a run that matter for its result.

    Args:
        args ([`~transformers.TrainingArguments`]):
            All arguments. Those at the default of their class are left out, except the ones in `ALWAYS_SHOWN`, and so
            are those about logging, saving and the Hub. Absolute paths are cut to their last part.
    """
    config = args.to_dict()
    defaults = {
        entry.name: entry.default_factory() if entry.default_factory is not MISSING else entry.default
        for entry in fields(args)
    }
    names = [name for name in ALWAYS_SHOWN if name in config]
    for name in sorted(config.keys() & defaults.keys() - NEVER_SHOWN - set(names)):
        if config[name] != defaults[name] and not name.startswith(NEVER_SHOWN_PREFIXES):
            names.append(name)
    return {name: public_value(config[name]) for name in names}


def method_paper(method: Method) -> str | None:
    """Return the link to the paper that the file of a method names, or `None` if it names none or several."""
    halves = [half for half in (method.client, method.strategy) if type(half) not in (ClientMethod, Strategy, FedAvg)]
    links = {paper_link(type(half)) for half in halves or [method.strategy]} - {None}
    return links.pop() if len(links) == 1 else None


def public_command(argv: Sequence[str]) -> str | None:
    """Return a command line without paths of the machine, tokens, and the round it resumed from.

    Returns:
        `str`, *optional*: `None` if the program was not a script, so that there is no command to repeat.
    """
    program = Path(argv[0])
    if program.suffix == ".py" and not program.name.startswith(("__", "ipykernel")):
        words = ["accelerate", "launch", public_value(argv[0])]
    elif program.name == "fedvlm":
        words = ["fedvlm"]
    else:
        return None
    arguments = iter(argv[1:])
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in _LEFT_OUT:
            if not equals:
                next(arguments, None)
            continue
        words.append(f"{name}={_public_argument(value)}" if equals else _public_argument(argument))
    return shlex.join(words)


def is_hub_id(name: str) -> bool:
    """Return whether `name` can only be a repository on the Hub: `owner/name`, and not an existing path."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name and not Path(name).exists()


def public_name(name: str) -> str:
    """Return a Hub id or a plain name unchanged, and the last part of the path of a folder."""
    return name if is_hub_id(name) else PureWindowsPath(name).name  # splits at both kinds of slashes


def public_value(value: Any) -> Any:
    """Return a value with each absolute path in it cut to its last part."""
    if isinstance(value, Mapping):
        return {key: public_value(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [public_value(part) for part in value]
    if isinstance(value, str) and (
        value.startswith("~") or PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()
    ):
        return PureWindowsPath(value).name
    return value


def _public_argument(argument: str) -> str:
    if not argument.startswith(("{", "[")):
        return public_value(argument)
    try:
        return json.dumps(public_value(json.loads(argument)))
    except ValueError:
        return argument


def _license(base_model: str) -> dict[str, str]:
    """Read the license from the card of a base model in a folder: it also restricts what is trained from it."""
    path = Path(base_model) / "README.md"
    if not base_model or not path.is_file():
        return {}
    data = ModelCard.load(path, ignore_metadata_errors=True).data.to_dict()
    return {key: data[key] for key in ("license", "license_name", "license_link") if isinstance(data.get(key), str)}
