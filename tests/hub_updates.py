"""Shared by tests of the Hub engine's checks: a round of two tensors, and a client's answer in a folder."""

import json
import struct
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fedvlm_hf.engines.hub.protocol import OPEN, REPLY, TENSORS, Announcement, Reply, TaskFile
from fedvlm_hf.exchange.documents import sha256_of
from fedvlm_hf.exchange.tensor_files import expected_layout, layout_of, save_state
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.types import ClientTask


# The second name sorts before the first, so that safetensors stores them in another order than they were sent in
CURRENT = TensorDict.from_tensors({"w": torch.tensor([[3.0, 0.0], [0.0, 4.0]]), "b": torch.zeros(3)})
"""Global tensors of L2 norm 5."""

TASKS = {client_id: ClientTask(3, client_id, CURRENT) for client_id in ("site_a", "site_b")}
TASK_FILE = TaskFile("2" * 64, layout_of({"tensors": CURRENT}), expected_layout(TASKS["site_a"].expected))
ANNOUNCEMENT = Announcement(
    server="s",
    status=OPEN,
    round_idx=3,
    num_rounds=5,
    client_ids=["site_a", "site_b", "site_c"],
    cohort={"site_a": 0, "site_b": 0},
    tasks=[TASK_FILE],
    deadline=None,
    config_sha256="c" * 64,
    base_sha256="b" * 64,
    adapter=layout_of({"adapter": CURRENT})["adapter"],
    adapter_sha256="a" * 64,
    fixed={"fixed": {}, "base": {}},
    fixed_sha256="3" * 64,
    versions={"torch": "2.13.0"},
    refused={},
)
SHA256 = sha256_of(ANNOUNCEMENT.to_bytes())

REPLY_OF_A = Reply(
    client_id="site_a",
    round_idx=3,
    announcement_commit="d" * 40,
    announcement_sha256=SHA256,
    base_sha256="b" * 64,
    config_sha256="c" * 64,
    weight=7,
    metrics={"train_loss": 0.5, "num_steps": 3},
    tensors_sha256="",
)


@dataclass
class Answer:
    """A client's two files in a folder, to be changed and then offered: the `Candidate` that a server looks at."""

    folder: Path
    client_id: str = "site_a"
    source: str = "updates/site_a"

    @classmethod
    def good(cls, folder: Path, step: float = 1.0, client_id: str = "site_a") -> "Answer":
        """An answer that counts: every weight moved by `step`."""
        answer = cls(folder, client_id, f"updates/{client_id}")
        folder.mkdir(parents=True, exist_ok=True)
        answer.save({"tensors": CURRENT.with_flat(CURRENT.flat + step)}, client_id=client_id)
        return answer

    def save(self, state: Any, **changes: Any) -> None:
        """Write other tensors, and the reply that names them."""
        save_state(self.folder / TENSORS, state)
        self.reply(**changes)

    def reply(self, **changes: Any) -> None:
        """Write a reply that names the file as it is now, with other fields where they are given."""
        sha256 = sha256_of((self.folder / TENSORS).read_bytes())
        reply = replace(REPLY_OF_A, client_id=self.client_id, tensors_sha256=sha256)
        self.raw(asdict(reply) | changes)

    def raw(self, reply: Any) -> None:
        """Write a reply as it is given, also one that no client writes."""
        (self.folder / REPLY).write_text(json.dumps(reply))

    def header(self, change: Any) -> None:
        """Change the header of the tensors' file, and let the reply name the result."""
        content = (self.folder / TENSORS).read_bytes()
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + length])
        text = change(header)
        new = (json.dumps(header) if text is None else text).encode()
        (self.folder / TENSORS).write_bytes(struct.pack("<Q", len(new)) + new + content[8 + length :])
        self.reply()

    def sizes(self) -> dict[str, int]:
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): path.stat().st_size for path in files}

    def download(self, name: str) -> Path:
        return self.folder / name
