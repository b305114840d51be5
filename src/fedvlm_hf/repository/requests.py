"""Requests to the Hub: their errors, the limit on silence, how they are repeated, and names of repositories."""

import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TypeVar

import httpx2
import tenacity
from huggingface_hub import HfApi, constants, get_token, set_client_factory
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # the root of all errors of whichever HTTP client huggingface_hub is built on
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import _http, validate_repo_id
from transformers.utils import logging


logger = logging.get_logger(__name__)

T = TypeVar("T")

SILENCE = 120.0
"""Seconds without a byte from the Hub after which a request fails. Downloads have a shorter limit of their own, which
huggingface_hub takes from HF_HUB_DOWNLOAD_TIMEOUT."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before the first retry, and the longest time between two."""

# The global generator belongs to training, whose bits an outage must not change; tenacity's own jitter draws from it
_chance = random.Random()

_PATIENCE = 10.0
"""Seconds that the Hub may take to say whether there is a repository."""
_RETRIED = frozenset({408, 425, 429})  # statuses below 500 that a later attempt may not get
_TOKEN = re.compile(r"\bhf_\w+")


class HubRefusedError(ValueError):
    """The Hub, or this package, refuses the request; asking again does not help."""


class HubReadError(HubRefusedError):
    """A repository, or a file in it, cannot be used."""


class HubOutageError(OSError):
    """The Hub cannot be reached or cannot answer now; it may later."""


class HubMovedError(Exception):
    """Another commit came first: the head of the branch is not the one that was read."""


@contextmanager
def plain_errors(repo_id: str, token: str | None = None) -> Iterator[None]:
    """Turn errors of huggingface_hub into one of three errors, without any token.

    The errors are raised without their cause: a request that an exception holds has the token in its headers.

    Args:
        repo_id (`str`):
            The repository of the request.
        token (`str`, *optional*):
            The token in use; by default the one that huggingface_hub finds.

    Raises:
        `HubOutageError`: if no connection or answer came, or an answer of status 408, 425, 429 or 500 and above.
        `HubMovedError`: at status 412.
        `HubRefusedError`: at every other status, and if the request is not valid.
        `OSError`: if this machine failed, such as its disk.
    """
    try:
        yield
    except (HubRefusedError, HubOutageError, HubMovedError):
        raise
    except OfflineModeIsEnabled:
        raise HubRefusedError(
            f"No request for {repo_id} was made: HF_HUB_OFFLINE is set. Unset it where there is a network."
        ) from None
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        if _is_local(error):
            raise
        raise _plain(error, repo_id, token) from None


def ask(
    request: Callable[[], T],
    repo_id: str,
    token: str | None = None,
    first_wait: float | None = None,
    is_over: Event | None = None,
) -> T:
    """Make a request, and repeat it after an outage if that is asked for.

    Args:
        request (`Callable[[], T]`):
            Asks the Hub. If it is repeated, it must do no harm twice.
        repo_id (`str`), token (`str`, *optional*):
            As of `plain_errors`.
        first_wait (`float`, *optional*):
            Seconds before the first repetition. By default an outage is an error at once.
        is_over (`threading.Event`, *optional*):
            Once it is set, nothing is repeated any more.
    """

    def attempt() -> T:
        with plain_errors(repo_id, token):
            return request()

    def warn(state: tenacity.RetryCallState) -> None:
        if state.attempt_number == 1:
            error = state.outcome.exception() if state.outcome else None
            logger.warning(f"{repo_id}: {error}. The request is repeated until it is answered.")

    if first_wait is None:
        return attempt()
    is_over = is_over or Event()
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(HubOutageError),
        wait=wait_longer(first_wait),
        stop=tenacity.stop_when_event_set(is_over),
        sleep=tenacity.sleep_using_event(is_over),
        before_sleep=warn,
        reraise=True,
    )(attempt)


def wait_longer(
    first: float = FIRST_WAIT, longest: float = LONGEST_WAIT
) -> Callable[[tenacity.RetryCallState], float]:
    """Return a waiting time for tenacity: it doubles with each attempt, and chance takes up to half of it away.

    Chance keeps many runs from coming back at the same moment.

    Args:
        first (`float`, *optional*), longest (`float`, *optional*):
            Seconds after the first attempt, and at most.
    """

    def wait(state: tenacity.RetryCallState) -> float:
        seconds = min(first * 2 ** min(state.attempt_number - 1, 30), max(first, longest))
        return seconds * _chance.uniform(0.5, 1.0)

    return wait


def limit_silence() -> None:
    """Give every request of huggingface_hub that has no time limit one of `SILENCE` seconds without a byte.

    huggingface_hub 2.4 sets no limit on anything but downloads, and passes `timeout=None` with many requests, so that
    a default of the HTTP client would not hold. It is set for the process when a repository is first used, and not at
    import. A client that the user configured with `set_client_factory` keeps its proxies and certificates: its factory
    is wrapped, which takes a private name, since there is no public one (read in huggingface_hub 2.4.0; a test fails
    if it is renamed). Uploads over xet do not pass here; they have time limits of their own.
    """
    factory = _http._GLOBAL_CLIENT_FACTORY
    if not isinstance(factory, _LimitedFactory):
        set_client_factory(_LimitedFactory(factory))


def without_tokens(text: object, token: str | None = None) -> str:
    """Return a text with `<token>` in place of anything that is, or looks like, a token of the Hub."""
    plain = str(text)
    for secret in (token, get_token()):
        plain = plain.replace(secret.strip(), "<token>") if secret and secret.strip() else plain
    return _TOKEN.sub("<token>", plain)


def check_repo_id(argument: str, name: str) -> None:
    """Check that a repository's name is `OWNER/NAME`.

    Args:
        argument (`str`):
            The argument that the error names.
        name (`str`):
            The name to check.

    Raises:
        `ValueError`: if no repository can have this name.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"`{argument}` {name!r} cannot be the name of a repository: {error}") from None
    if "/" not in name:
        raise ValueError(f"`{argument}` {name!r} does not say who owns the repository. Write 'OWNER/{name}'.")


def is_repo_id(name: str) -> bool:
    """Return whether a name can be that of a repository, and not only that of a folder."""
    try:
        check_repo_id("name", name)
    except ValueError:
        return False
    return True


def check_on_hub(option: str, name: str, kind: str, revision: str | None = None) -> None:
    """Check that a name which is no folder is that of a repository on the Hub, or of one in the cache.

    This is one request with a time limit, where the libraries that load models and datasets would retry for half a
    minute.

    Args:
        option (`str`):
            How an error names the option.
        name (`str`):
            The name that the user gave.
        kind (`str`):
            `"model"` or `"dataset"`.
        revision (`str`, *optional*):
            Branch, tag or commit.

    Raises:
        `ValueError`: if the name is that of a missing folder, or the repository cannot be read.
    """
    missing = f"`{option}` {name!r} is not a folder in {Path.cwd()}"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"{missing}, and it cannot be a name on the Hub, such as 'org/name'.") from error
    if Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type=kind)).exists():
        return
    try:
        with plain_errors(name):
            HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=_PATIENCE)
    except (HubOutageError, HubRefusedError) as error:
        raise ValueError(
            f"{missing}, and it is not in the cache of the Hub's files. It cannot be read from {constants.ENDPOINT}: "
            f"{str(error).rstrip('.')}. Check the spelling and the connection."
        ) from None


@dataclass(frozen=True)
class _LimitedFactory:
    """Makes HTTP clients as another factory does, with a limit on silence."""

    factory: Callable[[], httpx2.Client]

    def __call__(self) -> httpx2.Client:
        client = self.factory()
        client.event_hooks = {**client.event_hooks, "request": [*client.event_hooks["request"], _limit]}
        return client


def _limit(request: httpx2.Request) -> None:
    given = request.extensions.get("timeout") or {}
    names = ("connect", "read", "write", "pool")
    request.extensions["timeout"] = {name: SILENCE if given.get(name) is None else given[name] for name in names}


def _plain(error: Exception, repo_id: str, token: str | None) -> Exception:
    # An upload in a thread of huggingface_hub fails with a RuntimeError that only names the file
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, RepositoryNotFoundError):
        return HubRefusedError(
            f"There is no repository {repo_id}, or this token may not read it. If it is private, log in with "
            "`hf auth login`, or set HF_TOKEN or `hub_token`."
        )
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status == 412:
            return HubMovedError(repo_id)
        if status in _RETRIED or status >= 500:
            return HubOutageError(f"the Hub answers with status {status}")
        return HubRefusedError(_refusal(status, repo_id, without_tokens(error.server_message or error, token)))
    if isinstance(error, ValueError) and not isinstance(error, LocalEntryNotFoundError):
        return HubRefusedError(f"{repo_id}: {without_tokens(error, token)}")
    reason = " ".join(without_tokens(error, token).split()) or "no answer"
    return HubOutageError(f"the Hub cannot be reached ({type(error).__name__}: {reason})")


def _is_local(error: Exception) -> bool:
    """Return whether this machine failed, such as its disk."""
    is_network = isinstance(error, HTTPError | ConnectionError | TimeoutError)
    return isinstance(error, OSError) and error.errno is not None and not is_network


def _refusal(status: int, repo_id: str, reason: str) -> str:
    login = "Log in with `hf auth login`, or set HF_TOKEN or `hub_token`"
    if status == 401:
        return (
            f"The Hub does not accept the token, or got none (401). {login}, with a token that may write to {repo_id}."
        )
    if status == 403:
        return (
            f"This token may not write to {repo_id} (403): it needs the role `write`, and its owner needs that right "
            f"in the repository. {login}, with one that may."
        )
    if status == 404:
        return f"There is no {repo_id} on the Hub, or this token may not see it (404). Check the name. {login}."
    return f"The Hub refuses the request for {repo_id} (status {status}): {' '.join(reason.split())}"
