"""Where things are in a run's repository, what rounds and clients are called there, and where a run is pushed.

| path | content |
|---|---|
| `adapter_*` | the round's export, for `PeftModel.from_pretrained(base, repo, revision=tag)` |
| `README.md` | the model card |
| `metrics.jsonl` | one line for each round so far |
| `report/` | tables and figures without any test image |
| `federated_state/` | what resuming needs: `tensors.safetensors`, `server.safetensors`, `state.json`, `run.json` |

Each round is one commit on the run's branch, with a tag such as `round-0003`. A base model that is only a local folder
has its own repository, named after the run's with `-base`. Clients' own adapters, if they are pushed, are on branches
such as `clients/client_00`.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..config import FederatedArguments
from ..data.naming import client_name
from ..files import round_tag, write_atomic
from ..repository.requests import check_repo_id
from ..types import RoundRecord


STATE = "federated_state"
EXPORT = ("adapter_config.json", "adapter_model.safetensors")
STATES = (f"{STATE}/tensors.safetensors", f"{STATE}/server.safetensors")
ROUND_STATE, RUN, METRICS = f"{STATE}/state.json", f"{STATE}/run.json", "metrics.jsonl"
CLIENT_STATE, CLIENT_VERSION = f"{STATE}/client.safetensors", f"{STATE}/state.json"

OWNED = ("adapter_*", "base_delta.*", "README.md", "metrics.jsonl", "report/*", f"{STATE}/*")
"""Files that each commit of a round replaces as a whole. Other files, which somebody added, are left alone."""

_SOURCE = re.compile(r"(?P<repo_id>[\w.-]+/[\w.-]+)@round-(?P<round>\d{4,})")


@dataclass(frozen=True)
class RoundSource:
    """A round in a repository.

    Attributes:
        repo_id (`str`): Such as `"org/name"`.
        round_idx (`int`): The round.
    """

    repo_id: str
    round_idx: int

    @property
    def tag(self) -> str:
        """The round's revision."""
        return round_tag(self.round_idx)


def parse_source(text: str) -> RoundSource | None:
    """Parse `"org/name@round-0003"`; return `None` if the text is something else."""
    match = _SOURCE.fullmatch(text)
    return RoundSource(match["repo_id"], int(match["round"])) if match else None


def client_branch(client_id: str) -> str:
    """Return the branch of a client's own adapter: `"clients/client_00"`."""
    return f"clients/{client_id}"


@dataclass(frozen=True)
class PushTarget:
    """Where a run is pushed, and which parts of it. It is written to disk, so it holds no token.

    Args:
        repo_id (`str`):
            The run's repository, such as `"org/name"`.
        private (`bool`, *optional*, defaults to `True`):
            Whether a repository that is created is private.
        branch (`str`, *optional*, defaults to `"main"`):
            The branch of the rounds' commits.
        last_only (`bool`, *optional*, defaults to `False`):
            Whether only the last round is pushed.
        share_client_names (`bool`, *optional*, defaults to `True`):
            Whether clients keep their names, or are numbered.
        push_client_adapters (`bool`, *optional*, defaults to `False`):
            Whether each client's own adapter and state are pushed too.
        base_model (`str`, *optional*):
            Repository of the base model, if the run loads a copy of it from a folder.
    """

    repo_id: str
    private: bool = True
    branch: str = "main"
    last_only: bool = False
    share_client_names: bool = True
    push_client_adapters: bool = False
    base_model: str | None = None

    def __post_init__(self):
        check_repo_id("hub_model_id", self.repo_id)
        if self.base_model is not None:
            check_repo_id("hub_base_model", self.base_model)

    @classmethod
    def of(cls, args: FederatedArguments) -> "PushTarget":
        """Return the target that the arguments of a run name."""
        if args.hub_model_id is None:
            raise ValueError("`hub_model_id` is not set: name the repository, such as `--hub_model_id org/name`.")
        return cls(
            repo_id=args.hub_model_id,
            private=args.hub_private_repo is not False,
            branch=args.hub_revision or "main",
            last_only=args.hub_strategy == "end",
            share_client_names=args.share_client_names,
            push_client_adapters=args.push_client_adapters,
            base_model=args.hub_base_model,
        )

    @classmethod
    def read(cls, folder: Path) -> "PushTarget | None":
        """Return the target that `write` saved in a folder, if there is one."""
        path = folder / "target.json"
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def write(self, folder: Path) -> None:
        """Save the target as `target.json`."""
        write_atomic(folder / "target.json", json.dumps(asdict(self), indent=2) + "\n")

    def public_base(self, base_model: str) -> str:
        """Return the name by which others find a base model. A local folder is pushed to its own repository.

        Raises:
            `ValueError`: if the model has no name, since it was made in memory.
        """
        if not base_model and self.base_model is None:
            raise ValueError(
                "The base model was made in memory, so its rounds cannot say which model they belong to. Save it with "
                "`save_pretrained` and train from the folder, or push it yourself and name it with `hub_base_model`."
            )
        return (self.base_model or self.base_repo_id) if is_local(base_model) or not base_model else base_model

    @property
    def base_repo_id(self) -> str:
        """Repository of a base model that is only a local folder."""
        return f"{self.repo_id}-base"


def is_local(base_model: str) -> bool:
    """Return whether a base model, as `card.json` names it, is a folder on this machine."""
    return Path(base_model).is_absolute()


def number_clients(client_ids: Iterable[str], others: Iterable[str] = ()) -> dict[str, str]:
    """Give clients numbers in the order of their names, such as `{"hospital_a": "client_00"}`.

    Args:
        client_ids (`Iterable[str]`):
            The run's clients. Whoever knows their names can reverse the numbering; nobody else can.
        others (`Iterable[str]`, *optional*):
            Names in evaluation sets. Those that are not a client's become `other_00` and so on.
    """
    clients = sorted(client_ids)
    names = {name: client_name(index, len(clients)) for index, name in enumerate(clients)}
    strangers = sorted({*others} - {*names})
    return names | {name: f"other_{index:02d}" for index, name in enumerate(strangers)}


def names_in(record: RoundRecord) -> set[str]:
    """Return every client that a record names."""
    return set(record.clients).union(*(result.clients for result in record.evaluations.values()))


def rename_record(record: RoundRecord, names: Mapping[str, str]) -> RoundRecord:
    """Return a record with other names for its clients."""
    evaluations = {
        name: replace(result, clients=rename_keys(result.clients, names))
        for name, result in record.evaluations.items()
    }
    return replace(record, clients=rename_keys(record.clients, names), evaluations=evaluations)


def rename_keys(by_client: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a mapping by client with other names for the clients."""
    return {names.get(client_id, client_id): value for client_id, value in by_client.items()}
