"""Where what a card says of a run comes from: the arguments, the method's file, the rows, the command line."""

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets import Dataset
from huggingface_hub import ModelCard
from peft import PeftModel

from ..config import FederatedConfig
from ..methods import ClientMethod, Method, Strategy
from ..methods.fedavg import FedAvg
from .public import public_value
from .run_info import RunInfo


_PAPER = re.compile(r"https://huggingface\.co/papers/[\w.]+")
_ADAPTER = ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora")
_LEFT_OUT = ("--resume_from_checkpoint", "--hub_token")


def run_info(
    run: Mapping[str, Any],
    args: FederatedConfig,
    tuning: str,
    method: Method,
    model: PeftModel,
    datasets: Mapping[str, Dataset],
    **kwargs: Any,
) -> RunInfo:
    """Gather what a card says.

    Args:
        run (`Mapping[str, Any]`):
            What `describe_run` returned.
        args ([`FederatedConfig`]), tuning (`str`), method ([`Method`]), model ([`~peft.PeftModel`]):
            What trains.
        datasets (`Mapping[str, Dataset]`):
            The clients' rows.
        kwargs:
            The other arguments of [`RunInfo`].
    """
    base_model = run["base_model"]
    adapter = model.peft_config[model.active_adapter]
    lora = {f"lora_{name.removeprefix('lora_')}": getattr(adapter, name) for name in _ADAPTER}
    data = next((rows.info for rows in datasets.values()), None)
    return RunInfo(
        base_model=os.path.abspath(base_model) if os.path.isdir(base_model) else base_model,
        method=run["method"],
        tuning=tuning,
        config=args.to_dict(),
        knobs={**asdict(method.client), **asdict(method.strategy), **{k: v for k, v in lora.items() if v}},
        dataset=data.dataset_name if data else None,
        dataset_config=data.config_name if data and data.config_name != "default" else None,
        hub_model_id=args.hub_model_id if args.push_to_hub else None,
        paper=_paper(method),
        transforms=run["transforms"],
        command=public_command(sys.argv),
        is_our_class=type(model.get_base_model()).__module__.startswith("fedvlm_hf."),
        **_license(base_model),
        **kwargs,
    )


def public_command(argv: Sequence[str]) -> str | None:
    """A command line without paths of the machine, tokens, or where it went on from.

    Returns:
        `str`, *optional*: `None` where it was no script, so that nothing can be repeated with it.
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


def _public_argument(argument: str) -> str:
    if not argument.startswith(("{", "[")):
        return public_value(argument)
    try:
        return json.dumps(public_value(json.loads(argument)))
    except ValueError:
        return argument


def _paper(method: Method) -> str | None:
    """The paper that the file of a method names, where it is one."""
    halves = [half for half in (method.client, method.strategy) if type(half) not in (ClientMethod, Strategy, FedAvg)]
    modules = [sys.modules[type(half).__module__] for half in halves or [method.strategy]]
    links = [link for module in modules for link in _PAPER.findall(module.__doc__ or "")[:1]]
    return links[0] if len(links) == 1 else None


def _license(base_model: str) -> dict[str, str]:
    """The license that the card of a base model in a folder names; what is trained over it is not freer."""
    path = Path(base_model) / "README.md"
    if not base_model or not path.is_file():
        return {}
    data = ModelCard.load(path, ignore_metadata_errors=True).data.to_dict()
    return {key: data[key] for key in ("license", "license_name", "license_link") if isinstance(data.get(key), str)}
