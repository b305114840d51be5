"""Pushing a run: each round while the next one trains, or later the rounds that were not sent."""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Thread

import tenacity
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers.utils import logging

from ..callbacks import RoundCallback, RoundEnd
from ..checkpoint import whole_rounds
from ..repository.requests import HubOutageError, HubRefusedError, wait_longer, without_tokens
from ..types import RoundRecord
from .layout import PushTarget
from .outbox import Outbox
from .sender import Sender


_SLOWEST = 100_000  # bytes per second; an upload that has not failed is given the time that it takes at this rate

logger = logging.get_logger(__name__)


class Worker:
    """Sends queued rounds in order, in one thread that ends with the process.

    It waits out outages, warns about each once, and stops when the Hub refuses. Rounds that it cannot send stay
    queued.

    Args:
        sender ([`~hub.sender.Sender`]):
            Sends one round.
        on_sent (`Callable[[int, str], None]`, *optional*):
            Called with a round and its commit when the Hub has it.
    """

    def __init__(self, sender: Sender, on_sent: Callable[[int, str], None] = lambda round_idx, commit: None):
        self.sender, self.on_sent = sender, on_sent
        self.problem: str | None = None
        self._changed = Condition()
        self._is_closed = self._is_abandoned = self.is_failing = False
        self._last_success = time.monotonic()
        self._thread = Thread(target=self._run, name="fedvlm-push", daemon=True)

    def start(self) -> None:
        """Start to send."""
        self._thread.start()

    def wake(self) -> None:
        """Say that there is more to send."""
        with self._changed:
            self._changed.notify_all()

    def finish(self, patience: float) -> list[int]:
        """Wait until everything is sent or an outage has lasted too long.

        Args:
            patience (`float`):
                Seconds to wait out an outage, counted from the last success or from this call. While no request has
                failed, the time that the queued bytes take at 100 kB/s is added.

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
        extra = 0.0 if self.is_failing else self.sender.outbox.num_bytes() / _SLOWEST
        return self._last_success + patience + extra

    def _run(self) -> None:
        try:
            while (round_idx := self._next()) is not None:
                self._send(round_idx)
        except HubRefusedError as error:
            self.problem = str(error)
            if not self._is_closed:  # otherwise whoever closed it reports the problem
                logger.warning(f"No more rounds are sent to the Hub; they stay queued on disk. {error}")
        except Exception as error:
            self.problem = f"sending crashed with {type(error).__name__}: {without_tokens(error, self.sender.token)}"
            lines = without_tokens("".join(traceback.format_exception(error)), self.sender.token)
            logger.error(f"Sending rounds to the Hub crashed; they stay queued on disk.\n{lines}")
        finally:
            self.sender.outbox.unlock()

    def _next(self) -> int | None:
        """Wait for the next round and return it, or `None` if there will be no more."""
        with self._changed:
            while self._is_wanted():
                if rounds := self.sender.outbox.waiting():
                    return rounds[0]
                if self._is_closed:
                    break
                self.sender.outbox.unlock()
                self._changed.wait()
        return None

    def _send(self, round_idx: int) -> None:
        """Send a round, and try again after an outage while the round is still wanted."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(HubOutageError),
            wait=wait_longer(),
            stop=lambda state: not self._is_wanted(),
            sleep=self._pause,
            after=lambda state: self._note_outage(str(state.outcome.exception())),
            retry_error_callback=lambda state: None,
        )
        if (commit := attempts(self._send_once, round_idx)) is not None:
            self._note_success(round_idx, commit)

    def _send_once(self, round_idx: int) -> str:
        if not self.sender.outbox.lock():  # `fedvlm push`, for example
            raise HubOutageError("another process is sending rounds of this run")
        with hidden_progress_bars():
            return self.sender.send(round_idx)

    def _is_wanted(self) -> bool:
        return not self._is_abandoned and self.sender.outbox.is_current()

    def _pause(self, seconds: float) -> None:
        """Wait, but only until the end of training, which is a moment to try once more."""
        with self._changed:
            was_closed = self._is_closed
            self._changed.wait_for(lambda: self._is_closed and not was_closed, seconds)

    def _note_outage(self, problem: str) -> None:
        self.problem = problem
        if not self.is_failing:
            logger.warning(f"A round could not be sent: {problem}. It stays queued on disk, and is tried again.")
        self.is_failing = True

    def _note_success(self, round_idx: int, commit: str) -> None:
        if self.is_failing:
            logger.warning(f"The Hub answers again; round {round_idx} was sent.")
        with self._changed:
            self.problem, self.is_failing, self._last_success = None, False, time.monotonic()
        self.on_sent(round_idx, commit)


@contextmanager
def hidden_progress_bars() -> Iterator[None]:
    """Hide huggingface_hub's progress bars, which would be drawn across those of training."""
    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


class HubCallback(RoundCallback):
    """Packs each round and sends it while the next one trains. It comes after what writes report and card.

    An outage, a refusal or a crash while sending never reaches training: rounds stay queued in `output_dir/outbox`,
    and a warning at the end names those that were not sent and the command that sends them.

    Args:
        output_dir (`str`):
            The run's folder.
        target ([`~hub.layout.PushTarget`]):
            Where the run is pushed, and which parts of it.
        token (`str`, *optional*):
            By default the one that huggingface_hub finds. It is kept in memory only.
        patience (`float`, *optional*, defaults to 600.0):
            Seconds to wait out an outage at the end of training, counted from the last success.
    """

    def __init__(self, output_dir: str, target: PushTarget, token: str | None = None, patience: float = 600.0):
        self.target, self.patience = target, patience
        self.outbox = Outbox(Path(output_dir), target)
        self.worker = Worker(Sender(self.outbox, token))

    def on_start(self, history: Sequence[RoundRecord], num_rounds: int) -> None:
        """First send the rounds that an earlier process saved and did not send."""
        self.outbox.set_back(history[-1].round_idx if history else -1)
        self.outbox.prepare()
        if not self.target.last_only:
            self.outbox.catch_up()
        self.worker.start()

    def on_round_end(self, end: RoundEnd) -> None:
        """Queue the round."""
        if not self.target.last_only:
            self.outbox.pack(end.record.round_idx)
            self.worker.wake()

    def on_end(self, history: Sequence[RoundRecord]) -> None:
        """Wait until everything is sent, or warn about the rest."""
        self.outbox.catch_up()
        if left := self.worker.finish(self.patience):
            logger.warning(_not_sent(self.outbox, left, self.worker.problem))


def push_run(
    output_dir: str,
    target: PushTarget,
    token: str | None = None,
    patience: float = 600.0,
    on_sent: Callable[[int, str], None] = lambda round_idx, commit: None,
) -> str:
    """Send the rounds of a run that are not sent yet, in order, without loading any model.

    Args:
        output_dir (`str`):
            Folder of a run, finished or killed, pushed before or not.
        target ([`~hub.layout.PushTarget`]), token (`str`, *optional*), patience (`float`, *optional*):
            As for [`HubCallback`].
        on_sent (`Callable[[int, str], None]`, *optional*):
            Called with each round and its commit when the Hub has it.

    Returns:
        `str`: the repository's address.

    Raises:
        `HubRefusedError`: if the folder holds no run, or the Hub or its repository refuses.
        `HubOutageError`: if the Hub was away for longer than `patience`.
    """
    rounds = whole_rounds(output_dir)
    if not rounds:
        raise HubRefusedError(f"'{output_dir}' holds no round to push. Name a run's `output_dir`, or train first.")
    outbox = Outbox(Path(output_dir), target)
    if not outbox.lock():
        raise HubRefusedError(f"Another process is sending the rounds in '{outbox.folder}'. Wait until it ends.")
    outbox.prepare()
    outbox.catch_up()
    worker = Worker(Sender(outbox, token), on_sent)
    worker.start()
    if left := worker.finish(patience):
        error = HubOutageError if worker.is_failing else HubRefusedError
        raise error(_not_sent(outbox, left, worker.problem))
    return worker.sender.repository.url


def _not_sent(outbox: Outbox, left: Sequence[int], problem: str | None) -> str:
    rounds = f"Round {left[0]} was" if len(left) == 1 else f"Rounds {', '.join(map(str, left))} were"
    reason = problem or "sending takes long"
    return (
        f"{rounds} not sent to {outbox.target.repo_id}: {reason.rstrip('.')}. Rounds that are not sent stay in "
        f"'{outbox.folder}'; `fedvlm push {outbox.output_dir}` sends them."
    )
