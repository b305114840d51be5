"""`fedvlm hub-server`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from ..files import write_atomic
from . import dedented
from .hub_client import show_steps


if TYPE_CHECKING:
    from datasets import Dataset
    from trl import ModelConfig

    from ..client.model import ClientModel
    from ..config import FederatedConfig
    from ..engines.hub.engine import HubEngine
    from ..exchange.settings import Settings
    from ..federation import Federation
    from ..methods import Method
    from ..repository import Repository


def run(argv: Sequence[str]) -> None:
    r"""Serve a federation whose clients are on other hosts, through a repository.

    Server and clients only need the Hub between them. The server announces each
    round in the repository. Clients (`fedvlm hub-client`) train on their own data
    and answer on their own branches. Their updates are checked and averaged, and
    the result is announced as the next round. If the server is killed, start it
    again with the same command: it continues after its last complete round in
    --output_dir.

    Everyone with read access to the repository sees every client's update: keep
    it private. To use a self-hosted Hub, set the variable HF_ENDPOINT.

    --config is a YAML file, as for recipes. Its arguments, and those of
    FederatedConfig and ModelConfig on the command line, are those of the run.

    examples:
        fedvlm hub-server --repo org/fed-run --client_ids site_a,site_b,site_c \
            --model_name_or_path HuggingFaceTB/SmolVLM-Instruct --num_rounds 10
      Continue a round after two hours if two clients have answered:
        fedvlm hub-server --repo org/fed-run --client_ids site_a,site_b,site_c \
            --config run.yaml --min_clients 2 --round_timeout 7200
    """
    # Imports that take seconds are in the functions, so that `fedvlm --help` does not wait for them
    from trl import ModelConfig

    from ..config import FederatedConfig
    from ..launch import use_threads
    from ..launch.checks import check_arguments
    from ..launch.parser import RecipeParser

    types = (HubServerArguments, FederatedConfig, ModelConfig)
    parser = RecipeParser(types, dedented(run.__doc__), "fedvlm hub-server")
    own, args, model_args = parser.parse(argv)
    if model_args.model_name_or_path is None:
        raise ValueError("`--model_name_or_path` is needed: the base model that every client starts from.")
    if own.round_timeout is not None and own.min_clients is None:
        raise ValueError("`--round_timeout` needs `--min_clients`: how many answers are enough once the time is over.")
    num_clients = len(own.client_ids.split(","))
    if own.min_clients is not None and not 1 <= own.min_clients <= num_clients:
        raise ValueError(f"`--min_clients` must be from 1 to {num_clients}, got {own.min_clients}.")
    check_arguments(args, model_args)
    show_steps()
    use_threads(own.num_threads)
    serve(own, args, model_args)
    print(f"All {args.num_rounds} rounds are done. They are in {args.output_dir}/rounds/.")


def serve(own: "HubServerArguments", args: "FederatedConfig", model_args: "ModelConfig") -> None:
    """Run the rounds that are left, from the last complete one in `output_dir`, then tell the clients to end.

    Raises:
        `AnotherServerError`: if another server announced rounds in the repository.
    """
    from ..engines.hub.answers import exclusive_lock
    from ..exchange.settings import make_settings
    from ..repository import Repository

    client_ids = [name.strip() for name in own.client_ids.split(",")]
    settings = make_settings(args, model_args, client_ids, model_args.model_name_or_path)
    repository = Repository(own.repo, args.hub_token, args.hub_revision or "main", first_wait=own.poll_seconds)
    repository.create()
    federation, engine = make_federation(own, args, model_args, settings, repository)
    with exclusive_lock(Path(args.output_dir), "server"):
        end = federation.run(True)
        engine.finish(end.round_idx, end.tensors)


def make_federation(
    own: "HubServerArguments",
    args: "FederatedConfig",
    model_args: "ModelConfig",
    settings: "Settings",
    repository: "Repository",
) -> tuple["Federation", "HubEngine"]:
    """Make the federation whose clients are on other hosts, with its engine.

    Raises:
        `ValueError`: on a method that cannot be used with clients on other hosts, or be evaluated without them.
    """
    from transformers.integrations import get_reporting_integration_callbacks
    from trl import get_peft_config, get_quantization_config

    from ..client.loading import load_model
    from ..client.model import ClientModel
    from ..data.clients import evaluation_datasets
    from ..engines.hub.engine import HubEngine, RunFacts, Waiting
    from ..exchange.limits import Limits
    from ..exchange.settings import Facts, base_sha256, load_arguments
    from ..federation import Federation, Roster
    from ..launch import load_federation
    from ..methods import resolve_method
    from ..transforms import TransformChain, resolve_transforms

    method = resolve_method(args.method, args.method_kwargs)
    method.client.check_config(args)
    _check_method(method, args)
    transforms = TransformChain(resolve_transforms(args.transforms, args.transform_kwargs, method), args.seed)
    name = model_args.model_name_or_path
    args.model_init_kwargs = load_arguments(model_args)
    peft_config, quantization = get_peft_config(model_args), get_quantization_config(model_args)
    model, processor = load_model(name, args, None, peft_config, quantization)
    local = ClientModel(model.to(args.device), method.client, args.tuning, args.num_rounds, args.stage_rounds)
    rows = load_federation(own.dataset_name, own.dataset_config)["test"] if own.dataset_name else {}
    evaluation_sets = evaluation_datasets({}, rows)
    _check_shared(local, args, evaluation_sets)
    config = settings.to_bytes()
    facts = Facts.of(config, base_sha256(name, model_args.model_revision), local.initial)
    server = RunFacts(_server_id(Path(args.output_dir)), args.num_rounds, settings.client_ids, config, facts)
    limits = Limits(own.max_update_norm, own.max_num_samples, args.client_weighting == "num_samples")
    engine = HubEngine(repository, server, transforms, Waiting(own.min_clients, own.round_timeout), limits)
    federation = Federation(
        args,
        method,
        local,
        Roster({}, settings.client_ids),
        engine,
        processor,
        evaluation_sets,
        transforms,
        reporters=[reporter() for reporter in get_reporting_integration_callbacks(args.report_to)],
    )
    engine.rows = federation.client_rows  # shown on the card
    return federation, engine


def _check_method(method: "Method", args: "FederatedConfig") -> None:
    if method.client.is_continuous:
        raise ValueError(
            f"`method` {args.method_name!r} trains on pooled rows, which clients on other hosts do not send."
        )
    if args.client_sampling == "weighted":
        raise ValueError("`client_sampling` 'weighted' needs the number of rows of every client in advance.")


def _check_shared(local: "ClientModel", args: "FederatedConfig", evaluation_sets: Mapping[str, "Dataset"]) -> None:
    if not local.shared:
        raise ValueError(f"`method` {args.method_name!r} shares nothing: clients need no server for it.")
    if local.is_personal and evaluation_sets:
        raise ValueError(
            f"`method` {args.method_name!r} gives each client its own model, which stays with it: the server cannot "
            "score them. Leave out `--dataset_name`."
        )


def _server_id(output_dir: Path) -> str:
    """Return a name that is kept in the run's folder."""
    path = output_dir / "server.json"
    if not path.exists():
        write_atomic(path, json.dumps({"server": uuid4().hex}) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))["server"]


@dataclass
class HubServerArguments:
    """
    Arguments of `fedvlm hub-server`, besides those of a run.

    Parameters:
        repo (`str`):
            The repository, such as `org/name`. It is created as a private one if it does not exist.
        client_ids (`str`):
            Every client, separated by commas.
        dataset_name (`str`, *optional*), dataset_config (`str`, *optional*):
            Dataset and configuration whose split `test` is evaluated on at the server. No evaluation by default.
        min_clients (`int`, *optional*):
            Number of answers that a round needs. Those of all its clients by default.
        round_timeout (`float`, *optional*):
            Seconds after which a round continues without clients that are late, if it has `min_clients`.
        max_update_norm (`float`, *optional*):
            Longest change by one client in L2 norm; 100 times the global tensors' norm by default.
        max_num_samples (`int`, *optional*, defaults to `10_000_000`):
            Largest weight that a client may claim, which is its number of rows by default.
        poll_seconds (`float`, *optional*, defaults to `10.0`):
            Seconds between two looks at the repository.
        num_threads (`int`, *optional*):
            Threads for torch on a CPU. All cores by default.
    """

    repo: str = field(
        metadata={"help": "The repository, such as org/name. It is created as a private one if it does not exist."}
    )
    client_ids: str = field(metadata={"help": "Every client, separated by commas."})
    dataset_name: str | None = field(
        default=None, metadata={"help": "Dataset whose split test is evaluated on at the server. None by default."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the dataset."})
    min_clients: int | None = field(
        default=None, metadata={"help": "Number of answers that a round needs. All by default."}
    )
    round_timeout: float | None = field(
        default=None, metadata={"help": "Seconds after which a round continues without clients that are late."}
    )
    max_update_norm: float | None = field(
        default=None,
        metadata={"help": "Longest change by a client, in L2 norm. 100 times the global tensors' by default."},
    )
    max_num_samples: int = field(
        default=10_000_000,
        metadata={"help": "Largest weight that a client may claim, which is its number of rows by default."},
    )
    poll_seconds: float = field(default=10.0, metadata={"help": "Seconds between two looks at the repository."})
    num_threads: int | None = field(default=None, metadata={"help": "CPU threads for torch. All cores by default."})
