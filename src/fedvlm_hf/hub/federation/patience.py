"""Asking the Hub again until it answers."""

import time
from collections.abc import Callable
from typing import TypeVar

from transformers.utils import logging

from ..backoff import LONGEST, waits
from ..errors import HubOutageError, HubRefusedError, plain_errors


logger = logging.get_logger(__name__)

T = TypeVar("T")


def patiently(repo_id: str, pause: float, call: Callable[[], T]) -> T:
    """Call until there is an answer, however long an outage lasts.

    Args:
        repo_id (`str`):
            The repository that is asked for.
        pause (`float`):
            Seconds of the first wait; each further one is twice as long, up to a minute.
        call (`Callable[[], T]`):
            A request. It is repeated as it is, so it must do no harm twice.

    Raises:
        `HubRefusedError`: if the Hub refuses, or this machine cannot store what came.
        `HubMovedError`: if the head of a branch is not what the request says.
    """
    for number, wait in enumerate(waits(pause, max(pause, LONGEST))):
        try:
            with plain_errors(repo_id):
                return _without_disk_errors(call)
        except HubOutageError as error:
            if number == 0:
                logger.warning(f"{repo_id}: {error}. It is asked again until it answers.")
        time.sleep(wait)
    raise AssertionError("waits() never ends")


def _without_disk_errors(call: Callable[[], T]) -> T:
    try:
        return call()
    except OSError as error:
        if error.errno is None or isinstance(error, ConnectionError | TimeoutError):
            raise
        raise HubRefusedError(f"This machine cannot store what came from the Hub: {error.strerror}.") from None
