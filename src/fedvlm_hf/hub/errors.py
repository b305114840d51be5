"""What can go wrong with the Hub, in three kinds: it is away, it refuses, or somebody else was faster."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,  # the root of all errors of whichever HTTP client huggingface_hub is built on
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)


RETRIED = frozenset({408, 425, 429})
"""Answers below 500 that a later attempt may not get."""

_TOKEN = re.compile(r"\bhf_\w+")


class HubRefusedError(ValueError):
    """The Hub, or this package, refuses what was asked; asking again does not help."""


class HubOutageError(OSError):
    """The Hub cannot be reached or cannot answer now; it may later."""


class HubMovedError(Exception):
    """Another commit came between: the head of the branch is not the one that was read."""


@contextmanager
def plain_errors(repo_id: str, token: str | None = None) -> Iterator[None]:
    """Turn what huggingface_hub raises into one of three errors, without any token.

    The errors are raised without their cause: a request that an exception holds has the token in its headers.

    Args:
        repo_id (`str`):
            The repository that is asked for.
        token (`str`, *optional*):
            The token in use; by default the one that huggingface_hub finds.

    Raises:
        `HubOutageError`: where no connection or answer came, or one of status 408, 425, 429 or 500 and above.
        `HubMovedError`: at status 412.
        `HubRefusedError`: at every other status, and where what is sent cannot be used.
    """
    try:
        yield
    except (HubRefusedError, HubOutageError, HubMovedError):
        raise
    except OfflineModeIsEnabled:
        raise HubRefusedError(
            f"{repo_id} was not asked for: HF_HUB_OFFLINE is set. Unset it where there is a network."
        ) from None
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise _plain(error, repo_id, token) from None


def without_tokens(text: object, token: str | None = None) -> str:
    """A text with `<token>` for what is, or looks like, a token of the Hub."""
    plain = str(text)
    for secret in (token, get_token()):
        plain = plain.replace(secret.strip(), "<token>") if secret and secret.strip() else plain
    return _TOKEN.sub("<token>", plain)


def _plain(error: Exception, repo_id: str, token: str | None) -> Exception:
    # An upload in a thread of huggingface_hub fails with a RuntimeError that says nothing but the file's name
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status == 412:
            return HubMovedError(repo_id)
        if status in RETRIED or status >= 500:
            return HubOutageError(f"the Hub answers with status {status}")
        return HubRefusedError(_refusal(status, repo_id, without_tokens(error.server_message or error, token)))
    if isinstance(error, ValueError) and not isinstance(error, LocalEntryNotFoundError):
        return HubRefusedError(f"{repo_id}: {without_tokens(error, token)}")
    reason = " ".join(without_tokens(error, token).split()) or "no answer"
    return HubOutageError(f"the Hub cannot be reached ({type(error).__name__}: {reason})")


def _refusal(status: int, repo_id: str, reason: str) -> str:
    login = "Log in with `hf auth login`, or set HF_TOKEN or `hub_token`"
    if status == 401:
        return f"The Hub knows no token, or not this one (401). {login}, with a token that may write to {repo_id}."
    if status == 403:
        return (
            f"This token may not write to {repo_id} (403): it needs the role `write`, and its owner that right there. "
            f"{login}, with one that may."
        )
    if status == 404:
        return f"There is no {repo_id} on the Hub, or this token may not see it (404). Check the name. {login}."
    return f"The Hub refuses for {repo_id} (status {status}): {' '.join(reason.split())}"
