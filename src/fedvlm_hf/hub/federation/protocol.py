"""What passes between server and clients: the announcement of a round, and a client's reply.

| where | file | what |
|---|---|---|
| the run's branch | `federation/round.json` | the newest [`Announcement`]; one commit each, tagged `announced-0003` |
| | `federation/config.json` | what every client trains with |
| | `federation/global.safetensors` | what the round starts from: the group `global`, and what else the method sends |
| | `federation/fixed.safetensors` | what an earlier stage trained and this one does not |
| `updates/CLIENT_ID` | `updates/CLIENT_ID/update.json` | the client's [`Reply`] |
| | `updates/CLIENT_ID/update.safetensors` | its tensors: the group `update`, and what else the method sends |

A reply in a pull request has the same two files and the title `Update of CLIENT_ID`.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version

from .documents import Document


PROTOCOL = 1

FOLDER = "federation"
ANNOUNCEMENT = f"{FOLDER}/round.json"
CONFIG = f"{FOLDER}/config.json"
GLOBAL = f"{FOLDER}/global.safetensors"
FIXED = f"{FOLDER}/fixed.safetensors"

BRANCHES = "updates/"
REPLY, TENSORS = "update.json", "update.safetensors"
TITLE = "Update of "

OPEN, FINISHED = "open", "finished"
# Whose versions both sides must share: what a step's arithmetic and the adapter's layout come from
PACKAGES = ("fedvlm_hf", "torch", "transformers", "trl", "peft", "accelerate")


def announcement_tag(round_idx: int) -> str:
    """`"announced-0003"`."""
    return f"announced-{round_idx:04d}"


def package_versions() -> dict[str, str]:
    """The versions that are installed here, without what follows a `+`: the build for a device."""
    return {name: version(name).partition("+")[0] for name in PACKAGES}


@dataclass(frozen=True)
class Announcement(Document):
    """What the server says of a round.

    Attributes:
        server (`str`): Names the one server that may announce; a server that is started again keeps it.
        status (`str`): `"open"` while a round waits for replies, `"finished"` after the last.
        round_idx (`int`), num_rounds (`int`): The round, and the last one.
        client_ids (`list[str]`), cohort (`list[str]`): Every client in sorted order, and those who are asked now.
        deadline (`str`, *optional*): When the server may go on without those who are late, in UTC.
        config_sha256 (`str`): Of `federation/config.json`.
        base_sha256 (`str`): Of the SHA-256 sums of the base model's weight files.
        adapter_sha256 (`str`): Of the whole adapter before training: its names, shapes and bits.
        layout (`dict`): Names and shapes of the tensors that travel, in order, all fp32, by group.
        layout_sha256 (`str`), tensors_sha256 (`str`): Of the layout, and of `federation/global.safetensors`.
        fixed (`dict`), fixed_sha256 (`str`): The same of `federation/fixed.safetensors`; empty without such tensors.
        versions (`dict[str, str]`): Of the packages that both sides must share.
        refused (`dict[str, str]`): Why the update of a client was refused in the round before.
    """

    server: str
    status: str
    round_idx: int
    num_rounds: int
    client_ids: list[str]
    cohort: list[str]
    deadline: str | None
    config_sha256: str
    base_sha256: str
    adapter_sha256: str
    layout: dict[str, dict[str, list[int]]]
    layout_sha256: str
    tensors_sha256: str
    fixed: dict[str, dict[str, list[int]]]
    fixed_sha256: str
    versions: dict[str, str]
    refused: dict[str, str]
    protocol: int = PROTOCOL

    def is_over(self, now: datetime) -> bool:
        """Whether the deadline has passed; there may be none."""
        return self.deadline is not None and datetime.fromisoformat(self.deadline) <= now

    def is_same_round(self, other: "Announcement") -> bool:
        """Whether another announcement asks for the same, whenever it was made."""
        return self == replace(other, deadline=self.deadline, refused=self.refused)


@dataclass(frozen=True)
class Reply(Document):
    """What a client says of its update.

    Attributes:
        client_id (`str`), round_idx (`int`): Who answers, and which round.
        announcement_commit (`str`): The commit that the client read the announcement from.
        announcement_sha256 (`str`): Of the announcement that it answers.
        base_sha256 (`str`), config_sha256 (`str`): Of what the client trained.
        num_samples (`int`): Weight in the mean.
        metrics (`dict[str, float]`): Local numbers, such as `train_loss`.
        tensors_sha256 (`str`): Of `update.safetensors`.
    """

    client_id: str
    round_idx: int
    announcement_commit: str
    announcement_sha256: str
    base_sha256: str
    config_sha256: str
    num_samples: int
    metrics: dict[str, float]
    tensors_sha256: str
    protocol: int = PROTOCOL
