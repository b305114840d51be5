"""Parse the command line of a recipe: options of dataclasses over YAML files, with help in groups."""

import argparse
import dataclasses
import json
import os
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from trl import ModelConfig, SFTConfig, TrlParser

from ..config import FederatedArguments, FederatedConfig
from ..registry import did_you_mean
from . import DataArguments, use_threads
from .errors import OneLineParser
from .help import RecipeHelp


D = TypeVar("D", bound=DataArguments)

_TRAINING = (
    "output_dir", "run_name", "seed", "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "lr_scheduler_type", "warmup_steps", "optim", "weight_decay", "max_grad_norm",
    "max_length", "bf16", "fp16", "use_cpu", "gradient_checkpointing", "per_device_eval_batch_size", "report_to",
    "resume_from_checkpoint", "push_to_hub", "hub_model_id", "hub_private_repo", "trust_remote_code",
)  # fmt: skip
_CONFIG_HELP = (
    "YAML file with options. If neither it nor the command line names a model, it overrides the recipe's default "
    "file, so a few lines are enough. The command line overrides both."
)
_HELP = {
    "debug": "Without a value: show the traceback of an error. With 'underflow_overflow' or 'tpu_metrics_debug': the "
    "debugging of transformers.",
    "output_dir": "Folder of the run. By default out/RUN_NAME/METHOD-seedSEED.",
    "run_name": "Name of the run, on the card and in trackers.",
    "resume_from_checkpoint": "'true' continues after the last complete round in --output_dir. A round on the Hub, "
    "such as 'org/name@round-0003', is downloaded and continued.",
}
"""Help in place of that of transformers, which does not know rounds."""


class RecipeParser(OneLineParser, TrlParser):
    """A `TrlParser` with options in groups, errors in one line, and a YAML file over the recipe's defaults.

    Args:
        dataclass_types (`Sequence[type]`):
            Dataclass of the program's own arguments, [`FederatedConfig`] and [`~trl.ModelConfig`].
        description (`str`):
            First text of `--help`.
        prog (`str`):
            Name of the program in `--help`.
    """

    def __init__(self, dataclass_types: Sequence[type], description: str, prog: str):
        self._own = {field.name for field in dataclasses.fields(dataclass_types[0])}
        self._groups: dict[str, Any] = {}
        super().__init__(
            dataclass_types,
            description=description,
            prog=prog,
            usage=f"{prog} [--config FILE] [OPTIONS]",
            formatter_class=RecipeHelp,
        )
        for action in self._actions:
            action.help = self._hint(action)

    def parse(self, argv: Sequence[str], defaults: str | os.PathLike[str] | None = None) -> tuple[Any, ...]:
        """Return one instance of each dataclass.

        Args:
            argv (`Sequence[str]`):
                Arguments without the name of the program.
            defaults (`str` or `os.PathLike`, *optional*):
                YAML file below that of `--config`, which is used if neither `argv` nor `--config` names a model.

        Raises:
            `ValueError`: on an option, a value or a YAML file that cannot be used.
        """
        finder = OneLineParser(add_help=False, allow_abbrev=False)
        finder.add_argument("--config")
        found, argv = finder.parse_known_args(list(argv))
        given = self._read_config(found.config) if found.config else {}
        has_model = "model_name_or_path" in given or any(
            word.split("=")[0] in ("--model_name_or_path", "--model-name-or-path") for word in argv
        )
        if defaults and not has_model:
            given = self._read_config(defaults) | given
        self._set_defaults(given)
        namespace, unknown = self.parse_known_args(argv)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        self._check_dictionaries(namespace)
        try:
            return self.parse_args_into_dataclasses(argv, look_for_args_file=False)[: len(self.dataclass_types)]
        except ValueError as error:
            raise ValueError(_with_option(str(error), namespace)) from error

    def format_help(self) -> str:
        """Return the help, with the installed methods and their knobs at the end."""
        self.epilog = _methods_text()
        return super().format_help()

    def _parse_dataclass_field(self, parser: argparse.ArgumentParser, field: dataclasses.Field) -> None:
        # HfArgumentParser calls this for each field of the dataclasses
        super()._parse_dataclass_field(self._group(self._kind(field.name)), field)

    def _kind(self, name: str) -> str:
        if name in self._own or name in ("config", "debug"):
            return "own"
        if name in _TRAINING:
            return "training"
        if name in FederatedArguments.__annotations__ and name not in SFTConfig.__dataclass_fields__:
            return "rounds"
        return "model" if name in ModelConfig.__dataclass_fields__ else "rest"

    def _group(self, kind: str) -> Any:
        if not self._groups:
            self._groups = {
                "own": self.add_argument_group("data and machine"),
                "rounds": self.add_argument_group("rounds, method, evaluation and Hub"),
                "training": self.add_argument_group("training of one client in one round"),
                "model": self.add_argument_group("model and LoRA"),
                "rest": self.add_argument_group("other arguments of transformers and TRL"),
            }
            self._groups["own"].add_argument("--config", metavar="FILE", help=_CONFIG_HELP)
        return self._groups[kind]

    def _hint(self, action: argparse.Action) -> str:
        """Shorten a help text of a library to its first sentence, and hide the opposite of an option."""
        text = " ".join(_HELP.get(action.dest, action.help or "").split())
        if action.nargs == 0 and action.option_strings[0].startswith("--no_"):
            return argparse.SUPPRESS
        if self._kind(action.dest) in ("own", "rounds") or action.dest in _HELP:
            return text
        return re.split(r"(?<=[^.][.])\s+(?=[A-Z])", text, maxsplit=1)[0]

    def _read_config(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Read the options of a YAML file, and set the variables that it has under `env`."""
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"`--config`: {path} cannot be read: {error.strerror or error}.") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"`--config`: {path} is not valid YAML: {error}") from error
        values = {} if values is None else values
        if not isinstance(values, dict):
            raise ValueError(
                f"`--config`: {path} must have lines such as `num_rounds: 5`, not a {type(values).__name__}."
            )
        environment = values.pop("env", {})
        if not isinstance(environment, dict):
            raise ValueError(f"`--config`: `env` in {path} must have lines such as `NAME: value`.")
        known = {action.dest for action in self._actions} - {"help", "config"}
        for key in values:
            if key not in known:
                hint = did_you_mean(str(key), sorted(known), quote="`", most=1)
                raise ValueError(f"`--config`: `{key}` in {path} is not an option.{hint} `--help` lists the options.")
        os.environ.update({name: str(value) for name, value in environment.items()})
        return values

    def _set_defaults(self, values: Mapping[str, Any]) -> None:
        """Make values of a YAML file the defaults; `argparse` checks those that are text, so numbers become text."""
        types = {action.dest: action.type for action in self._actions if action.nargs is None}
        self.set_defaults_with_config(
            **{
                key: str(value) if value is not None and types.get(key) in (int, float) else value
                for key, value in values.items()
            }
        )

    def _check_dictionaries(self, namespace: argparse.Namespace) -> None:
        for name, hint in get_type_hints(FederatedConfig).items():
            value = getattr(namespace, name, None)
            if "dict" not in str(hint) or not isinstance(value, str):
                continue
            if name not in ("method_kwargs", "transform_kwargs") and not value.startswith("{"):
                continue  # some options of transformers also take the path of a JSON file
            try:
                content = json.loads(value)
            except ValueError as error:
                raise ValueError(
                    f"`--{name}` must be JSON in single quotes, such as '{{\"name\": 0.1}}', got {value!r} ({error})."
                ) from error
            if not isinstance(content, dict):
                raise ValueError(f"`--{name}` must be a JSON dictionary such as '{{\"name\": 0.1}}', got {value!r}.")


def parse_recipe(
    argv: Sequence[str], data_class: type[D], description: str, defaults: str | os.PathLike[str]
) -> tuple[D, FederatedConfig, ModelConfig]:
    """Parse the command line of a recipe, and set the number of torch's threads.

    Args:
        argv (`Sequence[str]`):
            Arguments without the name of the program. `--config file.yaml` sets defaults, which other arguments
            override.
        data_class (`type`):
            Dataclass of the recipe's own arguments.
        description (`str`):
            First text of `--help`.
        defaults (`str` or `os.PathLike`):
            Configuration for the embedded model, below that of `--config`. It is left out if a model is given.

    Returns:
        `tuple`: The arguments of the recipe, those of the run, with `model_init_kwargs` set from the model arguments,
        and those of the model.
    """
    parser = RecipeParser((data_class, FederatedConfig, ModelConfig), description, f"accelerate launch {sys.argv[0]}")
    data_args, args, model_args = parser.parse(argv, defaults)
    use_threads(data_args.num_threads)
    args.model_init_kwargs = args.model_init_kwargs or {
        "revision": model_args.model_revision,
        "dtype": model_args.dtype,
        "attn_implementation": model_args.attn_implementation,
    }
    return data_args, args, model_args


def _with_option(message: str, namespace: argparse.Namespace) -> str:
    """Name the option whose value a library refused without naming it, such as that of an enumeration."""
    refused = re.match(r"'?([^']*)'? is not a valid ", message)
    names = [name for name, value in vars(namespace).items() if refused and str(value) == refused[1]]
    return f"`--{names[0]}`: {message}" if names else message


def _methods_text() -> str:
    """Return a paragraph with the installed methods and their knobs."""
    from ..methods import method_halves

    knobs = {
        name: dict.fromkeys(field.name for half in halves.values() for field in dataclasses.fields(half) if field.init)
        for name, halves in method_halves().items()
    }
    listed = ", ".join(f"{name} ({', '.join(own)})" if own else name for name, own in knobs.items())
    text = f"{listed}. Knobs go into --method_kwargs. `fedvlm methods` explains them."
    return "methods and their knobs:\n" + textwrap.fill(text, 78, initial_indent="  ", subsequent_indent="  ")
