"""Where a run is pushed and what of it: the arguments of FederatedConfig that `fedvlm push` needs later."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..config import FederatedConfig
from ..files import write_atomic
from .layout import BASE_SUFFIX, check_repo_id


@dataclass(frozen=True)
class PushTarget:
    """Where a run is pushed, and what of it. The token is no part: this is written to disk.

    Args:
        repo_id (`str`):
            The run's repository, such as `"org/name"`.
        private (`bool`, *optional*, defaults to `True`):
            Of a repository that is made.
        branch (`str`, *optional*, defaults to `"main"`):
            The branch of the rounds' commits.
        last_only (`bool`, *optional*, defaults to `False`):
            Whether only the last round is pushed.
        share_client_names (`bool`, *optional*, defaults to `True`):
            Whether clients keep their names, or become numbers.
        push_client_adapters (`bool`, *optional*, defaults to `False`):
            Whether each client's own adapter and state are pushed too.
        base_model (`str`, *optional*):
            Repository of the base model, where the run takes a copy of it from a folder.
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
    def of(cls, args: FederatedConfig) -> "PushTarget":
        """What the arguments of a run say."""
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
        """The one that `write` left in a folder, if it did."""
        path = folder / "target.json"
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def write(self, folder: Path) -> None:
        """Keep it as `target.json`."""
        write_atomic(folder / "target.json", json.dumps(asdict(self), indent=2) + "\n")

    def public_base(self, base_model: str) -> str:
        """The name by which others find a base model: that of a folder is a repository of its own.

        Raises:
            `ValueError`: if it has no name, since it was made in memory.
        """
        if not base_model and self.base_model is None:
            raise ValueError(
                "The base model was made in memory, so its rounds cannot say which model they belong to. Save it with "
                "`save_pretrained` and train from the folder, or push it yourself and name it with `hub_base_model`."
            )
        return (self.base_model or self.base_repo_id) if is_local(base_model) or not base_model else base_model

    @property
    def base_repo_id(self) -> str:
        """Where a base model goes that is only local."""
        return f"{self.repo_id}{BASE_SUFFIX}"


def is_local(base_model: str) -> bool:
    """Whether a base model is a folder here, by the name that `card.json` has of it."""
    return Path(base_model).is_absolute()
