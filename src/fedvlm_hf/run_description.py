"""What a run is: its method, arguments, data and starting point, by name and value, to tell other runs from it."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib.metadata import version
from typing import Any

import torch

from .client.plan import Plan
from .config import FederatedArguments
from .methods import CLIENT_METHODS, STRATEGIES, Method, resolve_method
from .registry import Registry
from .transforms import TRANSFORMS, Transform


FORMAT = 2
"""Of `run.json`. The first format had no such number."""


class RunMismatchError(ValueError):
    """`output_dir` holds another run than the one that was started."""


def environment() -> dict[str, Any]:
    """What "the same bits" depends on besides configuration and data."""
    return {
        **{package: version(package) for package in ("torch", "transformers", "trl", "peft")},
        "num_threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "arch": platform.machine(),
    }


def describe_method(method: Method) -> dict[str, dict[str, Any]]:
    """The two halves of a method by name, with the values of their knobs."""
    halves = {"client": (CLIENT_METHODS, method.client), "server": (STRATEGIES, method.strategy)}
    return {half: _describe(registry, value) for half, (registry, value) in halves.items()}


def _describe(registry: Registry[Any], value: Any) -> dict[str, Any]:
    """A frozen dataclass of knobs: its registered name, or else that of its class, and its fields."""
    names = [name for name in registry.names() if registry.get(name) is type(value)]
    knobs = {f.name: getattr(value, f.name) for f in fields(value)} if is_dataclass(value) else {}
    name = names[0] if names else f"{type(value).__module__}.{type(value).__qualname__}"
    return {"name": name, "knobs": _json(knobs)}


def _knob_defaults(value: Any) -> dict[str, Any]:
    defaults = {f.name: f.default for f in fields(value) if f.default is not MISSING} if is_dataclass(value) else {}
    return _json(defaults)


def _json(value: Any) -> Any:
    """A value as it comes back from a JSON file; what JSON does not know, as text."""
    return json.loads(json.dumps(value, default=str))


@dataclass(frozen=True)
class RunDescription:
    """What a run is: everything that a bit of a round depends on, so that another run is told from it.

    Args:
        args ([`FederatedArguments`]):
            The run's arguments.
        method ([`Method`]), transforms (`Sequence[Transform]`):
            What clients and server do.
        plan ([`~fedvlm_hf.client.plan.Plan`]):
            What trains in which rounds.
        base_model (`str`):
            Name or folder of the base model.
        base_fingerprint (`str`):
            Of the base model's weights: a copy in another folder has the same.
        adapter (`str`):
            Digest of the adapter before training.
        clients (`Mapping[str, str]`), evaluations (`Mapping[str, str]`):
            Digests of the clients' datasets and of the evaluation sets, by name.
    """

    args: FederatedArguments
    method: Method
    transforms: Sequence[Transform]
    plan: Plan
    base_model: str
    base_fingerprint: str
    adapter: str
    clients: Mapping[str, str]
    evaluations: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Content of `run.json`.

        It has `comparable`, a digest that runs of different methods share where they started from the same adapter and
        have the same data.
        """
        comparable = {"adapter": self.adapter, "clients": dict(self.clients), "evaluations": dict(self.evaluations)}
        content = {
            "format": FORMAT,
            "method": self.args.method_name,
            "seed": self.args.seed,
            "base_model": self.base_model,
            "base_fingerprint": self.base_fingerprint,
            "comparable": hashlib.sha256(json.dumps(comparable, sort_keys=True).encode()).hexdigest(),
            "config": {**self._arguments(), **self._plan()},
            "halves": describe_method(self.method),
            "transforms": [_describe(TRANSFORMS, transform) for transform in self.transforms],
            "deciding": self._deciding(),
            "environment": environment(),
            **comparable,
        }
        return _json(content)

    def _arguments(self) -> dict[str, Any]:
        """Every argument but where the run lies and where it is pushed."""
        left_out = ("output_dir", "hub_", "push_to_hub")
        return {name: value for name, value in self.args.to_dict().items() if not name.startswith(left_out)}

    def _plan(self) -> dict[str, Any]:
        return {"tuning": self.plan.tuning, "stage_rounds": [stage.first_round - 1 for stage in self.plan.stages[1:]]}

    def _deciding(self) -> dict[str, Any]:
        """What decides the bits of a round, with its defaults: what an earlier version did not know had them."""
        args = {f.name: f.default for f in fields(self.args) if f.default is not MISSING}
        return {
            "config": {name: _json(args.get(name)) for name in self.args.deciding},
            "client": _knob_defaults(self.method.client),
            "server": _knob_defaults(self.method.strategy),
            "transforms": [_knob_defaults(transform) for transform in self.transforms],
        }


def run_differences(saved: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What decides the bits of a round and differs between two runs.

    An argument or a knob that the saved run does not know is equal where it has its default now. What is only
    written, shown or pushed does not count, nor does the number of rounds under a constant rate. Under another
    schedule a run may get more rounds, whose rates are then those of the longer schedule: see [`schedule_change`].

    Args:
        saved (`Mapping[str, Any]`), run (`Mapping[str, Any]`):
            What `run.json` of the saved run says, and what that of this run would say.

    Returns:
        `dict[str, tuple[Any, Any]]`: by name, the saved value and this run's.
    """
    if run.get("format") != FORMAT:  # a run of an earlier version that is only pushed by this one
        pairs = {name: (saved.get(name), run.get(name)) for name in {*saved, *run} - {"environment"}}
        return _different(pairs)
    pairs = {
        f"config.{name}": (saved["config"].get(name, default), run["config"].get(name, default))
        for name, default in run["deciding"]["config"].items()
    }
    if run["config"]["round_lr_scheduler_type"] == "constant" or _is_extended(saved, run):
        del pairs["config.num_rounds"]
    pairs |= _start_pairs(saved, run)
    pairs["adapter"] = (saved["adapter"], run["adapter"])
    for group in ("clients", "evaluations"):
        for name in sorted({*saved[group], *run[group]}):
            pairs[f"{group}.{name}"] = (saved[group].get(name), run[group].get(name))
    return _different(pairs)


def _is_extended(saved: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    default = run["deciding"]["config"]["num_rounds"]
    return run["config"]["num_rounds"] > saved["config"].get("num_rounds", default)


def schedule_change(saved: Mapping[str, Any], run: Mapping[str, Any], last_round: int) -> str | None:
    """Say how the rate goes on where a run gets more rounds than it was started with, under a schedule over rounds.

    Args:
        saved (`Mapping[str, Any]`), run (`Mapping[str, Any]`):
            What `run.json` of the saved run says, and what that of this run would say.
        last_round (`int`):
            The last round that is saved.

    Returns:
        `str`, *optional*: `None` if the rate of no round changes.
    """
    schedule = run["config"]["round_lr_scheduler_type"]
    if schedule == "constant" or not _is_extended(saved, run):
        return None
    before, now = saved["config"]["num_rounds"], run["config"]["num_rounds"]
    return (
        f"`num_rounds` was {before}, and is {now} now. From round {last_round + 1} on, the learning rate is that of a "
        f"{schedule} over {now} rounds, so it rises first; the rounds before were trained with one over {before} "
        f"rounds. The result is not the same as that of one run of {now} rounds."
    )


def _start_pairs(saved: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Method, transforms and base model of two runs."""
    if saved.get("format") == FORMAT:
        return {
            "base_fingerprint": (saved["base_fingerprint"], run["base_fingerprint"]),
            **_method_pairs(saved["method"], saved["halves"], run),
            **_transform_pairs(saved["transforms"], run),
        }
    # The first format has the method by name and arguments, transforms as text, and no fingerprint
    pairs = {
        "base_model": (saved["base_model"], run["base_model"]),
        "transforms": (saved["transforms"], run["transforms"]),
    }
    try:
        method = resolve_method(saved["method"], saved["config"]["method_kwargs"])
    except ValueError:  # it was an object, of which there is only the text
        return pairs | {"method": (saved["config"]["method"], run["method"])}
    return pairs | _method_pairs(saved["method"], describe_method(method), run)


def _method_pairs(name: str, halves: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    if name != run["method"] and any(halves[half]["name"] != run["halves"][half]["name"] for half in halves):
        return {"method": (name, run["method"])}
    pairs = {}
    for half in ("client", "server"):
        pairs |= _knob_pairs(half, halves[half], run["halves"][half], run["deciding"][half])
    return pairs


def _transform_pairs(saved: Sequence[Any], run: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = [transform["name"] for transform in saved], [transform["name"] for transform in run["transforms"]]
    if names[0] != names[1]:
        return {"transforms": names}
    pairs = {}
    for old, new, defaults in zip(saved, run["transforms"], run["deciding"]["transforms"], strict=True):
        pairs |= _knob_pairs(f"transforms.{new['name']}", old, new, defaults)
    return pairs


def _different(pairs: Mapping[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _knob_pairs(
    what: str, saved: Mapping[str, Any], run: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    if saved["name"] != run["name"]:
        return {f"method.{what}": (saved["name"], run["name"])}
    knobs = sorted({*saved["knobs"], *run["knobs"]})
    return {f"{what}.{k}": (saved["knobs"].get(k, defaults.get(k)), run["knobs"].get(k)) for k in knobs}


def compare_runs(saved: Mapping[str, Any], run: Mapping[str, Any], what: str, place: str) -> list[str]:
    """Compare a saved run with the one that is to continue it.

    Args:
        saved (`Mapping[str, Any]`), run (`Mapping[str, Any]`):
            What `run.json` of the saved run says, and what that of this run would say.
        what (`str`), place (`str`):
            What holds the saved run, at length and in short.

    Returns:
        `list[str]`: differences of the environment, which do not forbid resuming but may change the last bits.

    Raises:
        `RunMismatchError`: if what decides the bits of a round differs; it lists how.
    """
    if differences := run_differences(saved, run):
        lines = [f"{name}: {old!r} in {place}, {new!r} now" for name, (old, new) in sorted(differences.items())]
        raise RunMismatchError(
            f"{what} holds another run, so it cannot be resumed with these arguments:\n  "
            + "\n  ".join(lines)
            + f"\n{_stage_hint(differences)}Use the arguments of that run, or another `output_dir`."
        )
    known, now = saved["environment"], environment()
    return [
        f"{name} was {known[name]}, and is {now[name]} now" for name in now if known.get(name, now[name]) != now[name]
    ]


def _stage_hint(differences: Mapping[str, tuple[Any, Any]]) -> str:
    """Say how a run of two stages gets more rounds: by default the first stage is half of them, so it would grow."""
    saved, now = differences.get("config.stage_rounds", ([], []))
    if not saved or not now:
        return ""
    return f"The first stage of that run had {saved[0]} rounds: pass `--stage_rounds {saved[0]}` to keep them. "
