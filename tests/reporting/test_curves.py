from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from PIL import Image

from fedvlm_hf.reporting.curves import client_loss, learning_curves
from fedvlm_hf.reporting.runs import Run
from records import HISTORY, record


def colors(path) -> int:
    with Image.open(path) as image:
        return len(image.convert("RGB").getcolors(2**24))


def test_learning_curves_have_one_panel_per_task(tmp_path):
    """Two panels in one row: each is 4 inches wide and 2.8 + 0.9 inches high, at 150 dots per inch."""
    learning_curves(Run("fedavg", HISTORY), tmp_path / "curves.png", {"central": Run("central", HISTORY)})
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1200, 555)
    assert colors(tmp_path / "curves.png") > 20  # text and lines, not an empty sheet


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn."""
    figures, savefig = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **kw: figures.append(figure) or savefig(figure, *args, **kw)
    )
    return figures


def with_set(history, name, factor=1.0):
    """The history with a second evaluation set, on which each score is multiplied by a factor."""
    copies = []
    for line in history:
        evaluations = dict(line.evaluations)
        for result in line.evaluations.values():
            scores = {key: factor * value for key, value in result.scores.items()}
            evaluations[name] = replace(result, scores=scores)
        copies.append(replace(line, evaluations=evaluations))
    return copies


def lines_of(axes):
    return {line.get_label(): (line.get_color(), line.get_ydata().tolist()) for line in axes.get_lines()}


def test_evaluation_sets_have_their_own_panels_and_runs_their_own_colours(tmp_path, drawn):
    """The second set has half of the scores: 0.25 and 0.375 for vqa, of central 0.2 and 0.4."""
    own, central = with_set(HISTORY, "other", 0.5), with_set([record(0, 0.4), record(2, 0.8)], "other", 0.5)
    learning_curves(Run("fedavg", own), tmp_path / "sets.png", {"central": Run("central", central)})
    panels = {axes.get_title(loc="left"): axes for axes in drawn[0].axes}
    assert list(panels) == ["vqa, test", "grounding, test", "vqa, other", "grounding, other"]
    assert lines_of(panels["vqa, test"])["fedavg"][1] == [0.5, 0.75]
    assert lines_of(panels["vqa, other"])["fedavg"][1] == [0.25, 0.375]
    assert lines_of(panels["vqa, other"])["central"][1] == [0.2, 0.4]
    colours = [{label: colour for label, (colour, _) in lines_of(axes).items()} for axes in panels.values()]
    assert all(line == colours[0] for line in colours)
    assert colours[0]["fedavg"] != colours[0]["central"]
    assert panels["vqa, test"].get_position().y0 > panels["vqa, other"].get_position().y0


def test_runs_of_one_figure_have_different_looks(tmp_path, drawn):
    """Nine runs, and six colours: the line styles differ where a colour is used again."""
    others = {f"run {number}": Run("fedprox", HISTORY) for number in range(8)}
    learning_curves(Run("fedavg", HISTORY), tmp_path / "runs.png", others)
    looks = {(line.get_color(), line.get_linestyle()) for line in drawn[0].axes[0].get_lines()}
    assert len(looks) == 9


def test_curves_have_a_title_plain_names_and_full_axes(tmp_path, drawn):
    captions = replace(HISTORY[0].evaluations["test"], scores={"caption_cider": 3.0, "grounding_mean_iou": 0.4})
    history = [replace(HISTORY[0], evaluations={"test": captions})]
    learning_curves(Run("fedprox", history), tmp_path / "curves.png")
    assert drawn[0].get_suptitle() == "fedprox: scores by round, evaluation set test"
    caption, grounding = drawn[0].axes
    assert (caption.get_ylabel(), grounding.get_ylabel()) == ("CIDEr", "mean IoU")
    assert grounding.get_ylim() == (0.0, 1.0)
    assert caption.get_ylim()[0] == 0.0
    assert caption.get_ylim()[1] > 3.0


def test_an_unbounded_metric_has_the_same_axis_for_each_set(tmp_path, drawn):
    result = replace(HISTORY[0].evaluations["test"], scores={"caption_cider": 3.0})
    history = with_set([replace(HISTORY[0], evaluations={"test": result})], "other", 2.0)
    learning_curves(Run("fedavg", history), tmp_path / "curves.png")
    assert drawn[0].axes[0].get_ylim() == drawn[0].axes[1].get_ylim()
    assert drawn[0].axes[0].get_ylim()[1] > 6.0


def test_the_axis_of_losses_starts_at_zero(tmp_path, drawn):
    client_loss([record(1, None, losses=(2.0, 1.9)), record(2, None, losses=(1.8, 1.7))], tmp_path / "loss.png")
    assert drawn[0].axes[0].get_ylim()[0] == 0.0
    assert drawn[0].axes[0].get_title(loc="left") == "Training loss by client"


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
