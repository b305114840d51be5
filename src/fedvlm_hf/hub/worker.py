"""The thread that sends rounds beside training."""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Thread

from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers.utils import logging

from .backoff import waits
from .errors import HubOutageError, HubRefusedError, without_tokens
from .sender import Sender


SLOWEST = 100_000
"""Bytes a second at which an upload that has not failed is still waited for."""

logger = logging.get_logger(__name__)


class Worker:
    """Sends what is queued, in order, in one thread, which ends with the process.

    It waits out outages, says so once, and stops at a refusal. What it cannot send stays queued.

    Args:
        sender ([`~hub.sender.Sender`]):
            Sends one round.
        on_sent (`Callable[[int, str], None]`, *optional*):
            Called with a round and its commit when it has arrived.
    """

    def __init__(self, sender: Sender, on_sent: Callable[[int, str], None] = lambda round_idx, commit: None):
        self.sender, self.on_sent = sender, on_sent
        self.problem: str | None = None
        self._changed = Condition()
        self._is_closed = self._is_abandoned = self.is_failing = False
        self._last_success = time.monotonic()
        self._thread = Thread(target=self._run, name="fedvlm-push", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def wake(self) -> None:
        """Say that there is more to send."""
        with self._changed:
            self._changed.notify_all()

    def finish(self, patience: float) -> list[int]:
        """Wait until all is sent, for as long as that is to be hoped for.

        Args:
            patience (`float`):
                Seconds after the last success, or after now, for which an outage is waited out. While nothing has
                failed, there is as much more as the queued bytes take at 100 kB/s.

        Returns:
            `list[int]`: the rounds that are still queued; `problem` says why.
        """
        with self._changed:
            self._is_closed, self._last_success = True, time.monotonic()
            self._changed.notify_all()
            while self._thread.is_alive() and time.monotonic() < self._deadline(patience):
                self._changed.wait(0.2)
            self._is_abandoned = True
        return self.sender.outbox.waiting()

    def _deadline(self, patience: float) -> float:
        extra = 0.0 if self.is_failing else self.sender.outbox.num_bytes() / SLOWEST
        return self._last_success + patience + extra

    def _run(self) -> None:
        try:
            self._send_all()
        except HubRefusedError as error:
            self.problem = str(error)
            if not self._is_closed:  # else whoever closed it says so
                logger.warning(f"No round is sent to the Hub any more; they stay queued on disk. {error}")
        except Exception as error:
            self.problem = f"sending crashed with {type(error).__name__}: {without_tokens(error, self.sender.token)}"
            lines = without_tokens("".join(traceback.format_exception(error)), self.sender.token)
            logger.error(f"Sending rounds to the Hub crashed; they stay queued on disk.\n{lines}")
        finally:
            self.sender.outbox.unlock()

    def _send_all(self) -> None:
        pauses = waits()
        while (round_idx := self._next()) is not None:
            try:
                if not self.sender.outbox.lock():  # such as `fedvlm push` does
                    raise HubOutageError("another process is sending rounds of this run")
                with quiet():
                    commit = self.sender.send(round_idx)
            except HubOutageError as error:
                self._note_outage(error)
                self._pause(next(pauses))
                continue
            pauses = waits()
            self._note_success(round_idx, commit)

    def _next(self) -> int | None:
        """The next round, which may take a while to come; `None` when there will be no more."""
        with self._changed:
            while not self._is_abandoned and self.sender.outbox.is_current():
                if rounds := self.sender.outbox.waiting():
                    return rounds[0]
                if self._is_closed:
                    break
                self.sender.outbox.unlock()
                self._changed.wait()
        return None

    def _pause(self, seconds: float) -> None:
        """Wait, but not over the end of training: that is a moment to try once more."""
        with self._changed:
            was_closed = self._is_closed
            self._changed.wait_for(lambda: self._is_closed and not was_closed, seconds)

    def _note_outage(self, error: HubOutageError) -> None:
        self.problem = str(error)
        if not self.is_failing:
            logger.warning(f"A round could not be sent: {error}. It stays queued on disk, and is tried again.")
        self.is_failing = True

    def _note_success(self, round_idx: int, commit: str) -> None:
        if self.is_failing:
            logger.warning(f"The Hub answers again; round {round_idx} was sent.")
        with self._changed:
            self.problem, self.is_failing, self._last_success = None, False, time.monotonic()
        self.on_sent(round_idx, commit)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep huggingface_hub's bars of uploads from being drawn across those of training."""
    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
