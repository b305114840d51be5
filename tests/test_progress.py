import contextlib
import io
import time
from dataclasses import replace

import pytest
from tqdm import tqdm
from transformers import TrainerControl, TrainerState

from federation import federated
from fedvlm_hf.progress import BAR, ClientProgress, RoundProgress, evaluation_bar, round_line
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.types import ClientTask
from records import HISTORY, drive, record


LINES = [
    "round 0/2 | vqa 0.500 | grounding 0.250 | 4.5 s",
    "round 1/2 | loss 1.500 | 4.0 MB up | 4.5 s",
    "round 2/2 | vqa 0.750 +0.250 | grounding 0.500 +0.250",
    "          | loss 1.000 | 4.0 MB up | 4.5 s",
]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_terminal(function, *args, **kwargs) -> str:
    """Return what a call writes to standard error of a terminal."""
    with contextlib.redirect_stderr(Terminal()) as terminal:
        function(*args, **kwargs)
    return terminal.getvalue()


def task(client_id):
    return ClientTask(3, client_id, TensorDict({}))


def train(callback, num_steps=30, first_step=0):
    state, control = TrainerState(max_steps=num_steps, global_step=first_step), TrainerControl()
    callback.on_train_begin(None, state, control)
    for step in range(first_step, num_steps):
        state.global_step = step + 1
        callback.on_step_end(None, state, control)
        callback.on_log(None, state, control, logs={"loss": 1.25, "grad_norm": 3.0})
    callback.on_train_end(None, state, control)
    callback.on_log(None, state, control, logs={"train_loss": 1.25})


def test_a_log_file_has_the_lines_of_the_rounds_and_nothing_else(capsys):
    drive(RoundProgress(), HISTORY)
    captured = capsys.readouterr()
    assert captured.out.splitlines() == LINES
    assert captured.err == ""


def test_lines_remain_without_bars(capsys):
    assert on_terminal(drive, RoundProgress(disable=True), HISTORY) == ""
    assert capsys.readouterr().out.splitlines() == LINES


def test_the_bar_counts_rounds(capsys):
    shown = on_terminal(drive, RoundProgress(), HISTORY)
    assert "| 0/2 [" in shown
    assert "| 2/2 [" in shown
    assert "left]" in shown
    assert capsys.readouterr().out.splitlines() == LINES


def test_a_resumed_bar_continues(capsys):
    shown = on_terminal(drive, RoundProgress(), HISTORY, first=2)
    assert "| 0/2 [" not in shown
    assert "| 1/2 [" in shown
    assert "| 2/2 [" in shown
    assert capsys.readouterr().out.splitlines() == LINES[2:]


def test_evaluation_sets_start_their_own_lines():
    line = record(12, 0.75)
    line.evaluations["held_out"] = HISTORY[0].evaluations["test"]
    assert round_line(line, 100, HISTORY[0]) == (
        "round  12/100 | test: | vqa 0.750 +0.250 | grounding 0.250 +0.000\n"
        "              | held_out: | vqa 0.500 | grounding 0.250\n"
        "              | 4.5 s"
    )


FOUR_TASKS = {
    "vqa_accuracy": 0.898,
    "classification_accuracy": 0.952,
    "caption_cider": 6.384,
    "grounding_mean_iou": 0.575,
}


def test_a_round_with_four_tasks_fits_80_columns():
    """It was one line of 130 columns, which terminals and log viewers cut or wrap anywhere."""
    before, line = record(4, 0.5), record(8, 0.5, losses=(0.2, 0.18))
    for part, factor in ((before, 0.5), (line, 1.0)):
        part.evaluations["test"].scores.clear()
        part.evaluations["test"].scores.update({name: value * factor for name, value in FOUR_TASKS.items()})
    assert round_line(line, 12, before) == (
        "round  8/12 | vqa 0.898 +0.449 | classification 0.952 +0.476\n"
        "            | caption 6.384 +3.192 | grounding 0.575 +0.287\n"
        "            | loss 0.190 | 4.0 MB up | 4.5 s"
    )


@pytest.mark.parametrize("name", ["held_out_hospital_" * 12, "a held out set " * 20])
def test_long_names_are_wrapped_and_nothing_is_lost(name):
    line = replace(record(12, 0.75, losses=(1.0,)), absent={name: "no answer", "site_a": "late"})
    line.evaluations[name] = line.evaluations["test"]
    shown = round_line(line, 100)
    assert max(map(len, shown.splitlines())) <= 80
    joined = "".join(row[16:] for row in shown.splitlines()).replace(" ", "")
    assert joined.count(name.replace(" ", "")) == 2
    assert "site_a" in joined


def test_the_bar_of_a_client_fits_80_columns():
    """The loss is at its end, where terminals of 80 columns cut it."""
    texts = {"prefix": "round 12, client_00", "postfix": "loss 12.250", "bar_format": BAR}
    shown = tqdm.format_meter(100, 300, elapsed=100, ncols=200, **texts)
    assert shown.endswith("loss 12.250]")
    assert len(shown) <= 80


def test_the_bar_of_the_current_client_appears_and_disappears():
    callback = ClientProgress()
    callback.on_client_begin(task("client_07"))
    shown = on_terminal(train, callback)
    assert "round 3, client_07 |" in shown
    assert "| 0/30 [" in shown
    bar, wiped = shown.replace("\x1b[A", "").split("\r")[-2:]
    assert wiped == " " * len(bar.rstrip("\n"))


def test_a_continuous_client_counts_this_round_only():
    """Its trainer is at step 20 of 30 when the round starts, so ten steps remain."""
    callback = ClientProgress()
    callback.on_client_begin(task("central"))
    assert "| 0/10 [" in on_terminal(train, callback, first_step=20)


def test_the_client_bar_can_be_off(capsys):
    callback = ClientProgress(disable=True)
    callback.on_client_begin(task("client_07"))
    assert on_terminal(train, callback) == ""
    assert capsys.readouterr().out == ""


def test_an_evaluation_of_more_than_a_second_counts_its_rows():
    def evaluate(seconds, disable=False):
        with evaluation_bar(40, disable) as bar:
            time.sleep(seconds)
            bar.update(32)

    assert "| 32/40 [" in on_terminal(evaluate, 1.1)
    assert "/40" not in on_terminal(evaluate, 0.0)
    assert on_terminal(evaluate, 1.1, disable=True) == ""


def test_a_line_names_the_clients_that_the_round_went_on_without():
    missed = replace(HISTORY[1], absent={"b": "no answer in time", "a": "its file cannot be read"})
    assert " | without a, b | " in round_line(missed, 2)


def test_the_parts_of_the_model_are_shown_at_the_start(tmp_path, capsys):
    federated(tmp_path)
    printed = capsys.readouterr().err
    assert (
        "model parts: vision tower model.vision_tower; connector\n  model.multi_modal_projector; language model "
        "model.language_model, lm_head\n"
    ) in printed
