"""Publishing announcements so that of two servers only one can."""

from collections.abc import Mapping
from pathlib import Path

from ..errors import HubMovedError
from .documents import DocumentError, sha256_of
from .protocol import ANNOUNCEMENT, FINISHED, Announcement, announcement_tag
from .remote import Remote


class AnotherServerError(ValueError):
    """The repository is another server's, or this server's at a later round."""


def read_announcement(remote: Remote, commit: str) -> tuple[Announcement, str] | None:
    """The newest announcement of a commit and the hash of its file; `None` where nothing was announced yet.

    Raises:
        `ValueError`: if there is one that cannot be read.
    """
    content = remote.read(ANNOUNCEMENT, commit)
    if content is None:
        return None
    try:
        return Announcement.from_bytes(content), sha256_of(content)
    except DocumentError as error:
        raise ValueError(f"{ANNOUNCEMENT} of {remote.repo_id} cannot be used: {error}.") from None


def publish(remote: Remote, announcement: Announcement, files: Mapping[str, bytes | Path]) -> tuple[Announcement, str]:
    """Commit an announcement under the lock of its parent commit, and tag it.

    What is announced already is not announced again: a server that was killed after it finds its own.

    Args:
        remote ([`Remote`]):
            The repository.
        announcement ([`Announcement`]):
            What to say.
        files (`Mapping[str, bytes | Path]`):
            What belongs to it, by path.

    Returns:
        `tuple`: what is announced now, which may have been before, with its deadline; the hash of its file.

    Raises:
        `AnotherServerError`: if another server has announced something in this repository.
    """
    while True:
        head = remote.head()
        found = read_announcement(remote, head)
        if found:
            _check_owner(found[0], announcement, remote.repo_id)
            if announcement.is_same_round(found[0]):
                _tag(remote, found[0], head)
                return found
        content = announcement.to_bytes()
        try:
            commit = remote.commit({**files, ANNOUNCEMENT: content}, _message(announcement), remote.branch, head)
        except HubMovedError:  # by another server, which the next look finds, or by a push of a round, or by itself
            continue
        _tag(remote, announcement, commit)
        return announcement, sha256_of(content)


def _check_owner(found: Announcement, announcement: Announcement, repo_id: str) -> None:
    if found.server != announcement.server:
        raise AnotherServerError(
            f"`repo` {repo_id!r} is served by another server, which announced round {found.round_idx}. Two servers "
            "would confuse the clients, so this one stops. To go on with that federation, start the server in its own "
            "`output_dir`; for a new federation, use another repository."
        )
    if found.round_idx > announcement.round_idx:
        raise AnotherServerError(
            f"`repo` {repo_id!r} stands at round {found.round_idx}, but `output_dir` only at round "
            f"{announcement.round_idx}: it is an older copy, or rounds were deleted. Use the folder that the server "
            "last ran in."
        )


def _tag(remote: Remote, announcement: Announcement, commit: str) -> None:
    if announcement.status != FINISHED:
        remote.tag(announcement_tag(announcement.round_idx), commit)


def _message(announcement: Announcement) -> str:
    if announcement.status == FINISHED:
        return f"The federation is finished after round {announcement.round_idx}"
    return f"Round {announcement.round_idx} of {announcement.num_rounds}: {len(announcement.cohort)} clients are asked"
