"""`fedvlm hub-server`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from . import dedented


def run(argv: Sequence[str]) -> None:
    r"""Serve a federation whose clients are elsewhere, through a repository.

    Nothing but the Hub is between server and clients. The server announces each
    round in the repository; clients (`fedvlm hub-client`) train on their own data
    and answer on branches of their own; what they send is checked, averaged and
    announced as the next round. Killed at any moment, start it again with the
    same command: it goes on from its last whole round in --output_dir.

    Everyone with read access to the repository sees every client's update: make
    it private. A self-hosted Hub is named by the variable HF_ENDPOINT.

    --config is a YAML file as recipes take it; its arguments, and those of
    FederatedConfig and ModelConfig on the command line, are the run's.

    examples:
        fedvlm hub-server --repo org/fed-run --client_ids site_a,site_b,site_c \
            --model_name_or_path HuggingFaceTB/SmolVLM-Instruct --num_rounds 10
      A round goes on after two hours if two have answered:
        fedvlm hub-server --repo org/fed-run --client_ids site_a,site_b,site_c \
            --config run.yaml --min_clients 2 --round_timeout 7200
    """
    # Imports that take seconds are in the functions, so that `fedvlm --help` does not wait for them
    from trl import ModelConfig, TrlParser, get_peft_config, get_quantization_config

    from ..config import FederatedConfig
    from ..engines.hub.engine import Waiting
    from ..engines.hub.server import HubFederation
    from ..exchange.limits import Limits
    from ..exchange.settings import load_arguments, make_settings
    from ..launch import load_federation, use_threads
    from ..repository import Repository
    from .hub_client import show_steps

    parser = TrlParser((HubServerArguments, FederatedConfig, ModelConfig), description=dedented(run.__doc__))
    own, args, model_args = parser.parse_args_and_config(list(argv))
    if model_args.model_name_or_path is None:
        raise ValueError("`--model_name_or_path` is needed: the base model that every client starts from.")
    if own.round_timeout is not None and own.min_clients is None:
        raise ValueError("`--round_timeout` needs `--min_clients`: how many answers are enough when time is over.")
    client_ids = [name.strip() for name in own.client_ids.split(",")]
    if own.min_clients is not None and not 1 <= own.min_clients <= len(client_ids):
        raise ValueError(f"`--min_clients` must be from 1 to {len(client_ids)}, got {own.min_clients}.")
    show_steps()
    use_threads(own.num_threads)
    settings = make_settings(args, model_args, client_ids, model_args.model_name_or_path)
    args.model_init_kwargs = load_arguments(model_args)
    repository = Repository(own.repo, args.hub_token, args.hub_revision or "main", first_wait=own.poll_seconds)
    repository.create()
    server = HubFederation(
        model_args.model_name_or_path,
        args,
        settings,
        repository,
        Waiting(own.min_clients, own.round_timeout),
        Limits(own.max_update_norm, own.max_num_samples, args.client_weighting == "num_samples"),
        eval_dataset=load_federation(own.dataset_name, own.dataset_config)["test"] if own.dataset_name else None,
        peft_config=get_peft_config(model_args),
        quantization_config=get_quantization_config(model_args),
    )
    server.train()
    print(f"All {args.num_rounds} rounds are done. They are in {args.output_dir}/rounds/.")


@dataclass
class HubServerArguments:
    """
    What `fedvlm hub-server` takes beside the arguments of a run.

    Parameters:
        repo (`str`):
            The repository, such as `org/name`. It is made, private, if it is not there.
        client_ids (`str`):
            Every client, separated by commas.
        dataset_name (`str`, *optional*), dataset_config (`str`, *optional*):
            What to evaluate on, here at the server: the split `test` of a dataset. No evaluation by default.
        min_clients (`int`, *optional*):
            Answers that a round needs. All of its clients' by default.
        round_timeout (`float`, *optional*):
            Seconds after which a round goes on without those who are late, if it has `min_clients`.
        max_update_norm (`float`, *optional*):
            Longest change by one client in L2 norm; 100 times the global tensors' norm by default.
        max_num_samples (`int`, *optional*, defaults to `10_000_000`):
            Most rows that a client may claim.
        poll_seconds (`float`, *optional*, defaults to `10.0`):
            Seconds between two looks at the repository.
        num_threads (`int`, *optional*):
            Threads for torch on a CPU. All cores by default.
    """

    repo: str = field(metadata={"help": "The repository, such as org/name. It is made, private, if it is not there."})
    client_ids: str = field(metadata={"help": "Every client, separated by commas."})
    dataset_name: str | None = field(
        default=None, metadata={"help": "Dataset whose split test is evaluated on, at the server. None by default."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Its configuration."})
    min_clients: int | None = field(default=None, metadata={"help": "Answers that a round needs. All by default."})
    round_timeout: float | None = field(
        default=None, metadata={"help": "Seconds after which a round goes on without those who are late."}
    )
    max_update_norm: float | None = field(
        default=None,
        metadata={"help": "Longest change by a client, in L2 norm. 100 times the global tensors' by default."},
    )
    max_num_samples: int = field(default=10_000_000, metadata={"help": "Most rows that a client may claim."})
    poll_seconds: float = field(default=10.0, metadata={"help": "Seconds between two looks at the repository."})
    num_threads: int | None = field(default=None, metadata={"help": "CPU threads for torch. All cores by default."})
