"""Where answers are found: branches of clients that may write, pull requests of those that may only read."""

from dataclasses import dataclass
from itertools import count
from pathlib import Path

from .protocol import BRANCHES, TITLE
from .remote import Remote


@dataclass(frozen=True)
class Place:
    """An answer in the repository, at one commit of a branch or pull request."""

    remote: Remote
    client_id: str
    source: str
    commit: str
    folder: Path

    def sizes(self) -> dict[str, int]:
        """Bytes of each file below the client's folder, as the Hub lists them."""
        return self.remote.sizes(f"{BRANCHES}{self.client_id}", self.commit)

    def fetch(self, name: str) -> Path:
        """Download one of them."""
        path = f"{BRANCHES}{self.client_id}/{name}"
        return self.remote.download(path, self.commit, self.folder)


class Sources:
    """Looks for what changed.

    Args:
        remote ([`Remote`]):
            The repository.
    """

    def __init__(self, remote: Remote):
        self.remote = remote
        self._seen: dict[str, str] = {}
        self._numbers = count()

    def changed(self, folder: Path) -> list[Place]:
        """Places with a commit that was not there at the last look.

        A branch goes before pull requests, and of those the oldest: nobody takes a client's name after it.

        Args:
            folder (`Path`):
                What is fetched from them goes below it.
        """
        heads = self.remote.heads()
        new = {name for name, commit in heads.items() if self._seen.get(name) != commit}
        self._seen = heads
        sources: dict[str, str] = {}
        if any(name.startswith("refs/pr/") for name in new):
            for pull in reversed(self.remote.pulls()):
                if pull.title.startswith(TITLE) and pull.ref in heads:
                    sources[pull.title.removeprefix(TITLE)] = pull.ref
        sources |= {name.removeprefix(BRANCHES): name for name in heads if name.startswith(BRANCHES)}
        return [
            Place(self.remote, client_id, source, heads[source], folder / str(next(self._numbers)))
            for client_id, source in sorted(sources.items())
            if source in new
        ]
