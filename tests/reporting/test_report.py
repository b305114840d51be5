import json
from dataclasses import replace

from matplotlib.figure import Figure
from PIL import Image

from fedvlm_hf.callbacks import RoundEnd
from fedvlm_hf.reporting.report import ReportCallback, write_pages
from fedvlm_hf.reporting.runs import Run
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.types import ServerState
from records import HISTORY, ROWS, drive, record, write_run


FILES = ["client_loss.png", "clients.md", "generations.jsonl", "learning_curves.png", "results.md", "samples.png"]


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / "report").iterdir()}


def test_a_run_leaves_its_report(tmp_path):
    drive(ReportCallback(tmp_path, "fedavg", {"test": ROWS}), HISTORY)
    assert sorted(contents(tmp_path)) == FILES
    for name in FILES:
        if name.endswith(".png"):
            with Image.open(tmp_path / "report" / name) as image:
                low, high = image.convert("L").getextrema()
                assert min(image.size) > 400
                assert high - low > 100


def test_results_show_the_runs_beside(tmp_path):
    write_run(tmp_path / "own", "fedavg", HISTORY)
    write_run(tmp_path / "pooled", "central", [record(0, 0.5), record(2, 0.9, 0.625)])
    drive(ReportCallback(tmp_path / "own", "fedavg", {"test": ROWS}), HISTORY)
    page = (tmp_path / "own" / "report" / "results.md").read_text(encoding="utf-8")
    assert "| vqa        | accuracy       |   0.500 |      0.750 |   0.900 |              83% |\n" in page
    assert "There is no run of `local` with the same base model" in page
    assert "| 2     |        0.750 |" in page


def test_answers_are_those_of_the_latest_evaluated_round(tmp_path):
    drive(ReportCallback(tmp_path, "fedavg", {"test": ROWS}), [*HISTORY, record(3, None, losses=(1.0, 1.0))])
    lines = [json.loads(line) for line in (tmp_path / "report" / "generations.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "round_idx": 2, "evaluation": "test", "row": 0, "task": "vqa", "prediction": "red 2", "references": ["red"],
        "id": "row-0", "question": "What color is it?", "score": 1.0,
    }  # fmt: skip
    assert len(lines) == 2


def test_answers_of_each_evaluation_set_are_kept_and_drawn(tmp_path):
    history = [replace(HISTORY[0], evaluations={"test": HISTORY[0].evaluations["test"]})]
    drive(ReportCallback(tmp_path / "one", "fedavg", {"test": ROWS}), history)
    both = dict.fromkeys(("test", "other"), HISTORY[0].evaluations["test"])
    history = [replace(HISTORY[0], evaluations=both)]
    drive(ReportCallback(tmp_path / "two", "fedavg", {"test": ROWS, "other": ROWS}), history)
    lines = [json.loads(line) for line in (tmp_path / "two" / "report" / "generations.jsonl").read_text().splitlines()]
    assert [line["evaluation"] for line in lines] == ["test", "test", "other", "other"]
    with (
        Image.open(tmp_path / "one/report/samples.png") as one,
        Image.open(tmp_path / "two/report/samples.png") as two,
    ):
        assert two.height > 1.7 * one.height


def test_rounds_between_evaluations_leave_the_curves_alone(tmp_path):
    callback = ReportCallback(tmp_path, "fedavg", {"test": ROWS})
    drive(callback, HISTORY[:1])
    before = contents(tmp_path)
    drive(callback, HISTORY[:2], first=1)
    assert "client_loss.png" not in before
    after = contents(tmp_path)
    assert after["samples.png"] == before["samples.png"]
    assert after["results.md"] != before["results.md"]


def test_a_resumed_run_leaves_the_same_report(tmp_path):
    """Killed after round 0, 1 or 2 (the last one), before the report of that round was written."""
    history = [*HISTORY[:2], record(2, 0.75, 0.5, losses=(1.5, 0.5))]
    drive(ReportCallback(tmp_path / "whole", "fedavg", {"test": ROWS}), history)
    for first in (1, 2, 3):
        drive(ReportCallback(tmp_path / f"{first}", "fedavg", {"test": ROWS}), history, first)
        assert contents(tmp_path / f"{first}") == contents(tmp_path / "whole")


def test_an_unevaluated_run_still_reports_its_clients(tmp_path):
    drive(ReportCallback(tmp_path, "fedavg", {}), [record(1, None, losses=(2.0, 1.0))])
    assert sorted(contents(tmp_path)) == ["client_loss.png", "clients.md", "results.md"]


def test_a_pushed_round_draws_each_figure_once(tmp_path, monkeypatch):
    """The pushed folder has the same pages as the folder of the run, and drawing a figure takes about a second."""
    drawn = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda *args, **kwargs: drawn.append(args[0]) or savefig(*args, **kwargs))
    callback = ReportCallback(tmp_path / "run", "fedavg", {"test": ROWS})
    callback.on_start([], 2)
    for number, line in enumerate(HISTORY):
        del drawn[:]
        callback.on_round_end(RoundEnd(line, TensorDict({}), ServerState(), 2))
        by_report = len(drawn)
        pushed = tmp_path / f"pushed-{number}"
        write_pages(pushed, Run("fedavg", HISTORY[: number + 1]), {})
        assert len(drawn) == by_report
        for figure in pushed.glob("*.png"):
            assert figure.read_bytes() == (tmp_path / "run" / "report" / figure.name).read_bytes()
    assert {path.name for path in pushed.iterdir()} == set(FILES) - {"generations.jsonl", "samples.png"}
    renamed = replace(HISTORY[2], clients={"client_00": {"train_loss": 1.0}})
    write_pages(tmp_path / "renamed", Run("fedavg", [renamed]), {})
    assert len(drawn) == by_report + 1 + 1  # figures with other client names or other scores are drawn
