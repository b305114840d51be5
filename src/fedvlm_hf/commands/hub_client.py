"""`fedvlm hub-client`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from . import HelpFormatter, dedented
from .option_parser import OptionParser


if TYPE_CHECKING:
    from datasets import Dataset


def run(argv: Sequence[str]) -> None:
    r"""Take part in a federation through a repository, as one of its clients.

    It waits for the rounds that `fedvlm hub-server` announces, trains on the rows
    of this host, and answers on the branch updates/CLIENT_ID, or in a pull request
    if the token may only read. Rows never leave this host, but everyone with read
    access to the repository sees the updates that are trained on them.

    All arguments of the training come from the server. Before it trains, the
    client checks that base model, adapter, configuration and package versions are
    the server's. If it is killed, start it again with the same command. It ends
    when the server announces that there are no more rounds.

    examples:
        fedvlm hub-client --repo org/fed-run --client_id site_a \
            --dataset_name path/to/rows --split client_00
      The base model is a folder that each site has a copy of:
        fedvlm hub-client --repo org/fed-run --client_id site_a \
            --dataset_name path/to/rows --model_name_or_path path/to/base
    """
    # Imports that take seconds are in the functions, so that `fedvlm --help` does not wait for them
    from trl import get_peft_config, get_quantization_config

    from ..engines.hub.answers import exclusive_lock
    from ..engines.hub.client import HubClient
    from ..exchange.settings import Settings, base_sha256, client_arguments
    from ..launch import use_threads
    from ..repository import Repository
    from ..trainer import FederatedTrainer

    parser = OptionParser(
        HubClientArguments,
        prog="fedvlm hub-client",
        description=dedented(run.__doc__),
        formatter_class=HelpFormatter,
    )
    (own,) = parser.parse_into_dataclasses(argv)
    show_steps()
    use_threads(own.num_threads)
    folder = Path(own.output_dir or Path("out") / own.repo.replace("/", "--") / own.client_id)
    repository = Repository(own.repo, branch=own.revision, first_wait=own.poll_seconds)

    def make_host(settings: Settings) -> tuple[FederatedTrainer, str]:
        model = own.model_name_or_path or settings.base_model
        if model is None:
            raise ValueError(
                "`--model_name_or_path` is needed: the server's base model is a folder on its own disk. Pass the "
                "folder with your copy."
            )
        args, model_args = client_arguments(
            settings,
            {"output_dir": str(folder), "use_cpu": own.use_cpu, "report_to": "none", "disable_tqdm": own.disable_tqdm},
        )
        base = base_sha256(model, model_args.model_revision)
        trainer = FederatedTrainer(
            model,
            args,
            {own.client_id: _rows(own)},
            eval_dataset={},
            client_ids=settings.client_ids,
            peft_config=get_peft_config(model_args),
            quantization_config=get_quantization_config(model_args),
        )
        return trainer, base

    with exclusive_lock(folder, f"client {own.client_id}"):
        count = HubClient(repository, own.client_id, folder / "answers", make_host, own.any_versions).run()
    print(f"The federation is finished; {own.client_id} answered {count} rounds since it was started.")


def show_steps() -> None:
    """Show on the terminal what a federation waits for, since there may be hours between rounds."""
    import logging

    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("fedvlm_hf.engines.hub").setLevel(logging.INFO)


def _rows(own: "HubClientArguments") -> "Dataset":
    """Return the rows of this client: the split that is named, the one with the client's name, or the only one."""
    from ..launch import load_federation

    dataset = load_federation(own.dataset_name, own.dataset_config)
    name = own.split or (own.client_id if own.client_id in dataset else next(iter(dataset)))
    if name not in dataset or (own.split is None and name != own.client_id and len(dataset) > 1):
        raise ValueError(
            f"`--split` must say which rows are this client's: `--dataset_name` {own.dataset_name!r} has the splits "
            f"{', '.join(dataset)}."
        )
    return dataset[name]


@dataclass
class HubClientArguments:
    """
    Arguments of `fedvlm hub-client`; all others come from the server.

    Parameters:
        repo (`str`):
            The federation's repository.
        client_id (`str`):
            This client.
        dataset_name (`str`):
            Folder or dataset with this client's rows.
        dataset_config (`str`, *optional*), split (`str`, *optional*):
            Configuration and split. By default the split named `client_id`, or the only one.
        model_name_or_path (`str`, *optional*):
            Folder with a copy of the base model. By default the repository that the server names.
        output_dir (`str`, *optional*):
            Folder for files that are needed after a restart. Below `out/` by default.
        revision (`str`, *optional*, defaults to `"main"`):
            The run's branch.
        any_versions (`bool`, *optional*, defaults to `False`):
            Take part with package versions that differ from the server's.
        use_cpu (`bool`, *optional*, defaults to `False`):
            Train on the CPU even if there is an accelerator.
        poll_seconds (`float`, *optional*, defaults to `10.0`):
            Seconds between two looks at the repository.
        num_threads (`int`, *optional*):
            Threads for torch on a CPU. All cores by default.
        disable_tqdm (`bool`, *optional*, defaults to `False`):
            Hide progress bars.
    """

    repo: str = field(metadata={"help": "The federation's repository, such as org/name."})
    client_id: str = field(metadata={"help": "This client."})
    dataset_name: str = field(metadata={"help": "Folder or dataset with this client's rows."})
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the dataset."})
    split: str | None = field(
        default=None, metadata={"help": "Split of the dataset. The one named --client_id by default."}
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Folder with a copy of the base model. The repository that the server names by default."},
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for files that are needed after a restart."}
    )
    revision: str = field(default="main", metadata={"help": "The run's branch."})
    any_versions: bool = field(
        default=False, metadata={"help": "Take part with package versions that differ from the server's."}
    )
    use_cpu: bool = field(default=False, metadata={"help": "Train on the CPU even if there is an accelerator."})
    poll_seconds: float = field(default=10.0, metadata={"help": "Seconds between two looks at the repository."})
    num_threads: int | None = field(default=None, metadata={"help": "CPU threads for torch. All cores by default."})
    disable_tqdm: bool = field(default=False, metadata={"help": "Hide progress bars."})
