"""Pushing a run: each round while the next one trains, or later what was not sent."""

from collections.abc import Callable, Sequence
from pathlib import Path

from transformers.utils import logging

from ..callbacks import RoundCallback, RoundEnd
from ..checkpoint import whole_rounds
from ..types import RoundRecord
from .errors import HubOutageError, HubRefusedError
from .outbox import Outbox
from .sender import Sender
from .target import PushTarget
from .worker import Worker


logger = logging.get_logger(__name__)


class HubCallback(RoundCallback):
    """Packs each round and lets it be sent beside the next one. It comes last, after what writes report and card.

    An outage, a refusal or a crash of sending never reaches training: rounds stay queued in `output_dir/outbox`, and a
    warning at the end names those that were not sent and the command that sends them.

    Args:
        output_dir (`str`):
            The run's folder.
        target ([`~hub.target.PushTarget`]):
            Where the run is pushed, and what of it.
        token (`str`, *optional*):
            By default the one that huggingface_hub finds. It is kept in memory only.
        patience (`float`, *optional*, defaults to 600.0):
            Seconds for which an outage is waited out at the end of training, after the last success.
    """

    def __init__(self, output_dir: str, target: PushTarget, token: str | None = None, patience: float = 600.0):
        self.target, self.patience = target, patience
        self.outbox = Outbox(Path(output_dir), target)
        self.worker = Worker(Sender(self.outbox, token))

    def on_start(self, history: Sequence[RoundRecord], num_rounds: int) -> None:
        """Send first what an earlier process saved and did not send."""
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
        """Wait until all is sent, or say what was not."""
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
    """Send what of a run is not sent yet, every round in order, without loading any model.

    Args:
        output_dir (`str`):
            Folder of a run, finished or killed, pushed before or not.
        target ([`~hub.target.PushTarget`]), token (`str`, *optional*), patience (`float`, *optional*):
            As for [`HubCallback`].
        on_sent (`Callable[[int, str], None]`, *optional*):
            Called with each round and its commit when it has arrived.

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
        raise HubRefusedError(f"Another process is sending what is in '{outbox.folder}'. Wait for its end.")
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
        f"{rounds} not sent to {outbox.target.repo_id}: {reason.rstrip('.')}. What is not sent stays in "
        f"'{outbox.folder}'; `fedvlm push {outbox.output_dir}` sends it."
    )
