from dataclasses import replace

import pytest
from PIL import Image

from fedvlm_hf.reporting.curves import client_loss, learning_curves
from fedvlm_hf.reporting.runs import Run
from records import HISTORY, record


def colors(path) -> int:
    with Image.open(path) as image:
        return len(image.convert("RGB").getcolors(2**24))


def test_learning_curves_have_one_panel_per_task(tmp_path):
    """Two panels in one row: each is 4 inches wide and 2.8 + 0.6 inches high, at 150 dots per inch."""
    learning_curves(Run("fedavg", HISTORY), tmp_path / "curves.png", {"central": Run("central", HISTORY)})
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1200, 510)
    assert colors(tmp_path / "curves.png") > 20  # text and lines, not an empty sheet


def test_learning_curves_follow_from_the_records(tmp_path):
    changed = [*HISTORY[:2], record(2, 0.8, 0.5, losses=(1.5, 0.5))]
    for name, history in {"one": HISTORY, "same": HISTORY, "other": changed}.items():
        learning_curves(Run("fedavg", history), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "same").read_bytes()
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("change", ["clients", "evaluation", "other_run"])
def test_learning_curves_draw_clients_sets_and_other_runs(tmp_path, change):
    """Each of them adds lines, so the image changes."""
    history, others = HISTORY, {}
    if change == "clients":
        result = replace(HISTORY[2].evaluations["test"], clients={k: {"vqa_accuracy": 0.7} for k in "ab"})
        history = [*HISTORY[:2], replace(HISTORY[2], evaluations={"test": result})]
    elif change == "evaluation":
        result = HISTORY[0].evaluations["test"]
        history = [*HISTORY[:2], replace(HISTORY[2], evaluations={**HISTORY[2].evaluations, "held_out": result})]
    else:
        others = {"central": Run("central", HISTORY[2:])}
    learning_curves(Run("fedavg", HISTORY), tmp_path / "plain.png")
    learning_curves(Run("fedavg", history), tmp_path / "more.png", others)
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "more.png").read_bytes()


def test_nothing_to_draw(tmp_path):
    learning_curves(Run("fedavg", HISTORY[1:2]), tmp_path / "curves.png")
    client_loss(HISTORY[:1], tmp_path / "loss.png")
    assert list(tmp_path.iterdir()) == []


def test_client_loss(tmp_path):
    client_loss(HISTORY, tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as image:
        assert image.size == (960, 570)
    assert colors(tmp_path / "loss.png") > 20


def test_client_loss_with_more_clients_than_names(tmp_path):
    """Nine clients share a color and an entry in the legend."""
    metrics = {f"client_{i:02d}": {"train_loss": 1.0 + i} for i in range(9)}
    for num_clients in (9, 8):
        clients = dict(list(metrics.items())[:num_clients])
        history = [replace(HISTORY[1], round_idx=i, clients=clients) for i in (1, 2)]
        client_loss(history, tmp_path / f"{num_clients}.png")
    with Image.open(tmp_path / "9.png") as nine, Image.open(tmp_path / "8.png") as eight:
        blue = (0, 114, 178)  # the color of the first client
        assert blue not in [color for _, color in nine.convert("RGB").getcolors(2**24)]
        assert blue in [color for _, color in eight.convert("RGB").getcolors(2**24)]
