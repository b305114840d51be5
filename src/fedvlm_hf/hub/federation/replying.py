"""Writing and sending a client's answer."""

from dataclasses import dataclass
from pathlib import Path

from ...files import file_sha256
from ...state import save_state
from ...tensors import TensorDict
from ...types import ClientUpdate
from .answers import Answer
from .checks import Limits, check_reply, check_tensors, update_layout
from .documents import to_json
from .protocol import BRANCHES, REPLY, TENSORS, TITLE, Announcement, Reply
from .remote import Remote
from .tensorfile import layout_of


@dataclass(frozen=True)
class Question:
    """What a client answers.

    Attributes:
        announcement ([`Announcement`]): The round.
        sha256 (`str`), commit (`str`): Hash of its file, and the commit that it was read from.
        current (`TensorDict`): The global tensors that the round started from.
    """

    announcement: Announcement
    sha256: str
    commit: str
    current: TensorDict


def write_update(update: ClientUpdate, folder: Path, question: Question, base_sha256: str) -> None:
    """Write the two files that are sent, and check them as the server will.

    Args:
        update (`ClientUpdate`):
            What the client trained.
        folder (`Path`):
            Where they go.
        question ([`Question`]):
            What is answered.
        base_sha256 (`str`):
            Of the base model that was trained.

    Raises:
        `ValueError`: if the server would refuse it.
    """
    announcement = question.announcement
    state = {"update": update.tensors, **update.control}
    if to_json(layout_of(state)) != to_json(update_layout(announcement)):  # with its order
        raise ValueError(
            f"`method` answers with the tensors {sorted(state)}, but a server takes answers in the tensors that it "
            f"sent alone, here {sorted(update_layout(announcement))}. Simulate this method with `FederatedTrainer`."
        )
    save_state(folder / TENSORS, state)
    reply = Reply(
        client_id=update.client_id,
        round_idx=announcement.round_idx,
        announcement_commit=question.commit,
        announcement_sha256=question.sha256,
        base_sha256=base_sha256,
        config_sha256=announcement.config_sha256,
        num_samples=update.num_samples,
        metrics=dict(update.metrics),
        tensors_sha256=file_sha256(folder / TENSORS),
    )
    try:
        content = reply.to_bytes()
        check_reply(content, update.client_id, announcement, question.sha256, Limits())
        check_tensors(folder / TENSORS, reply, announcement, question.current, Limits())
    except ValueError as error:
        raise ValueError(
            f"Round {announcement.round_idx} cannot be answered, since the server would refuse it: {error}. The "
            "training diverged, or the rows are not what they should be."
        ) from None
    (folder / REPLY).write_bytes(content)


def send(answer: Answer, client_id: str, remote: Remote, source: str | None = None) -> str:
    """Commit an answer to the client's branch, or to its pull request where it may only read.

    Args:
        answer ([`Answer`]):
            What is sent.
        client_id (`str`):
            Whose.
        remote ([`Remote`]):
            The repository.
        source (`str`, *optional*):
            Where the client answered before. Looked for by default.

    Returns:
        `str`: the branch or pull request.
    """
    files = answer.files(client_id)
    source = source or _place(client_id, remote)
    if source is None:
        remote.open_pull(files, f"{TITLE}{client_id}")
        source = own_pull(client_id, remote)
        assert source is not None
        return source
    remote.commit(files, f"Round {answer.round_idx} of {client_id}", source)
    return source


def _place(client_id: str, remote: Remote) -> str | None:
    """A branch, or the pull request that was opened before a kill; `None` where one is to be opened."""
    if remote.make_branch(f"{BRANCHES}{client_id}"):
        return f"{BRANCHES}{client_id}"
    return own_pull(client_id, remote)


def own_pull(client_id: str, remote: Remote) -> str | None:
    """The oldest pull request of this client: the one that the server looks at."""
    user = remote.user()
    own = [pull.ref for pull in remote.pulls() if pull.title == f"{TITLE}{client_id}" and pull.author == user]
    return own[0] if own else None
