"""Where things are in a run's repository, and how a round is named.

| path | what |
|---|---|
| `adapter_*` | the round's export, for `PeftModel.from_pretrained(base, repo, revision=tag)` |
| `README.md` | the model card |
| `metrics.jsonl` | a line for each round so far |
| `report/` | tables and figures without any test image |
| `federated_state/` | what resume needs: `tensors.safetensors`, `server.safetensors`, `state.json`, `run.json` |

One commit a round on the run's branch, with the tag `round-0003`. A local base model is in a repository of its own,
named after the run's with `-base`. Clients' own adapters, where they are pushed, are on branches `clients/client_00`.
"""

import re
from dataclasses import dataclass

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..files import round_tag


STATE = "federated_state"
BASE_SUFFIX = "-base"

_SOURCE = re.compile(r"(?P<repo_id>[\w.-]+/[\w.-]+)@round-(?P<round>\d{4,})")


@dataclass(frozen=True)
class RoundSource:
    """A round of a repository.

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
    """`"org/name@round-0003"`, or `None` where the text is no such thing."""
    match = _SOURCE.fullmatch(text)
    return RoundSource(match["repo_id"], int(match["round"])) if match else None


def check_repo_id(argument: str, name: str) -> None:
    """Refuse what is no `OWNER/NAME`.

    Args:
        argument (`str`):
            What the error calls it.
        name (`str`):
            What may be a repository's name.

    Raises:
        `ValueError`: saying what a repository is called.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"`{argument}` {name!r} cannot be the name of a repository: {error}") from None
    if "/" not in name:
        raise ValueError(f"`{argument}` {name!r} does not say whose repository it is. Write 'OWNER/{name}'.")
