"""Terminal output of a run: what is loaded, a bar for the rounds, a bar for the current client, and each round."""

import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerControl, TrainerState, TrainingArguments

from .callbacks import RoundCallback, RoundEnd
from .client.run import ClientCallback
from .models.parts import VLMParts
from .reporting.runs import client_mean, evaluation_names, primary_scores
from .types import ClientTask, RoundRecord


BAR = "{desc} |{bar:16}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left{postfix}]"
WIDTH = 80
"""Columns of the lines, the width of most terminals and of log viewers."""


def print_loading(what: str) -> None:
    """Say on standard error what is loaded or checked next, because it can take a while.

    Args:
        what (`str`):
            What happens, such as `loading data`.
    """
    print(f"{what} ...", file=sys.stderr, flush=True)


def print_parts(parts: VLMParts) -> None:
    """Say on standard error which modules of the model are its parts, since a rule found them."""
    lines = textwrap.wrap(f"model parts: {parts}", WIDTH, subsequent_indent="  ", break_long_words=False)
    print("\n".join(lines), file=sys.stderr, flush=True)


def round_line(record: RoundRecord, num_rounds: int, before: RoundRecord | None = None) -> str:
    """Summarize a round, such as `round  3/10 | vqa 0.612 +0.034 | loss 1.204 | 2.8 MB up | 14.1 s`.

    What does not fit into 80 columns is continued on the next lines, below the first score. Each evaluation set then
    starts a line.

    Args:
        record (`RoundRecord`):
            The round.
        num_rounds (`int`):
            Number of rounds of the run.
        before (`RoundRecord`, *optional*):
            The last earlier round that was evaluated. Changes of scores are relative to it.
    """
    groups = []
    for name in evaluation_names([record]):
        old = primary_scores(before.evaluations[name].scores) if before and name in before.evaluations else {}
        scores = [
            f"{task} {value:.3f}" + (f" {value - old[task]:+.3f}" if task in old else "")
            for task, value in primary_scores(record.evaluations[name].scores).items()
        ]
        groups.append([f"{name}:", *scores] if len(record.evaluations) > 1 else scores)
    rest = []
    loss = client_mean(record, "train_loss")
    if loss is not None:
        rest += [f"loss {loss:.3f}", f"{record.bytes_up / 1e6:.1f} MB up"]
    if record.absent:
        rest.append(f"without {', '.join(sorted(record.absent))}")
    groups.append([*rest, f"{record.seconds.get('total', 0.0):.1f} s"])
    return _fit(f"round {record.round_idx:>{len(str(num_rounds))}}/{num_rounds}", groups)


def _fit(head: str, groups: Sequence[Sequence[str]]) -> str:
    """Join the parts of all groups with bars, on one line if it fits, otherwise on several lines."""
    line = " | ".join([head, *(part for group in groups for part in group)])
    if len(line) <= WIDTH:
        return line
    room = WIDTH - len(head) - len(" | ")
    lines: list[str] = []
    for group in filter(None, groups):
        lines.append("")
        for part in (piece for whole in group for piece in textwrap.wrap(whole, room)):
            if not lines[-1]:
                lines[-1] = part
            elif len(lines[-1]) + len(" | ") + len(part) <= room:
                lines[-1] += f" | {part}"
            else:
                lines.append(part)
    return "\n".join(f"{'' if index else head:<{len(head)}} | {line}" for index, line in enumerate(lines))


class RoundProgress(RoundCallback):
    """Show a bar over the rounds with the remaining time, and print one line per round.

    If standard error is not a terminal, there are no bars, so that a log file contains only the lines.

    Args:
        disable (`bool`, *optional*, defaults to `False`):
            Whether to hide the bar. The lines are printed anyway.
    """

    def __init__(self, disable: bool = False):
        self.disable = disable
        self._bar: tqdm | None = None
        self._evaluated: RoundRecord | None = None

    def on_start(self, history: Sequence[RoundRecord], num_rounds: int) -> None:
        """Open the bar at the round from which the run continues."""
        self._evaluated = next((record for record in reversed(history) if record.evaluations), None)
        done = history[-1].round_idx if history else 0
        self._bar = tqdm(
            total=num_rounds, initial=done, desc="rounds", position=0, smoothing=0.0, dynamic_ncols=True,
            bar_format=BAR, disable=_disable(self.disable),
        )  # fmt: skip

    def on_round_end(self, end: RoundEnd) -> None:
        """Print the line of the round and advance the bar."""
        tqdm.write(round_line(end.record, end.num_rounds, self._evaluated))
        sys.stdout.flush()  # so that a log file shows the round as soon as it ends
        if end.record.evaluations:
            self._evaluated = end.record
        if end.record.round_idx:
            self._bar.update()
        else:
            self._bar.reset()  # round 0 trains nothing and must not count in the remaining time

    def on_end(self, history: Sequence[RoundRecord]) -> None:
        """Close the bar and leave it on the screen."""
        self._bar.close()


class ClientProgress(ClientCallback):
    """Show a bar for the current client below the bar of the rounds, and remove it when the client is done.

    Args:
        disable (`bool`, *optional*, defaults to `False`):
            Whether to show nothing.
    """

    def __init__(self, disable: bool = False):
        self.disable = disable
        self._name = "client"
        self._bar: tqdm | None = None

    def on_client_begin(self, task: ClientTask) -> None:
        """Name the bar after the client."""
        self._name = f"round {task.round_idx}, {task.client_id}"

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar. A client that continues one long run starts at the step that it had reached."""
        self._close()
        self._first_step = state.global_step
        self._bar = tqdm(
            total=state.max_steps - state.global_step, desc=self._name, position=1, leave=False, dynamic_ncols=True,
            bar_format=BAR, disable=_disable(self.disable or not state.is_world_process_zero),
        )  # fmt: skip

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Advance the bar."""
        self._bar.update(state.global_step - self._first_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the loss that was logged last."""
        if self._bar is not None and logs and "loss" in logs:
            self._bar.set_postfix_str(f"loss {float(logs['loss']):.3f}", refresh=False)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remove the bar from the screen."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def evaluation_bar(num_rows: int, disable: bool = False) -> tqdm:
    """Return a bar over the rows of an evaluation, which is shown only if the evaluation takes more than a second.

    Args:
        num_rows (`int`):
            Number of rows to answer.
        disable (`bool`, *optional*, defaults to `False`):
            Whether to show nothing.
    """
    return tqdm(
        total=num_rows, desc="evaluation", position=1, leave=False, delay=1, dynamic_ncols=True, bar_format=BAR,
        disable=_disable(disable),
    )  # fmt: skip


def _disable(disable: bool) -> bool | None:
    """Return the argument `disable` of tqdm: `None` shows the bar on terminals only."""
    return True if disable else None
