import pytest

from fedvlm_hf.reporting.runs import (
    Run,
    client_mean,
    comparable_runs,
    evaluation_names,
    primary_scores,
    read_history,
    split_name,
)
from records import HISTORY, record, write_run


def test_a_run_is_read_at_round_0_and_at_its_last_evaluated_round():
    run = Run("fedavg", [*HISTORY, record(3, None, losses=(1.0, 1.0))])
    assert run.first("test").scores["vqa_accuracy"] == 0.5
    assert run.last("test").scores["vqa_accuracy"] == 0.75
    assert run.last_round("test") == 2
    assert evaluation_names(run.history) == ["test"]


def test_a_better_earlier_round_is_not_chosen():
    assert Run("fedavg", [record(0, 0.9), record(1, 0.1)]).last("test").scores["vqa_accuracy"] == 0.1


def test_a_run_without_evaluation_has_no_result():
    run = Run("fedavg", [record(1, None)])
    assert (run.first("test"), run.last("test"), run.last_round("test")) == (None, None, None)


def test_names_of_scores():
    assert split_name("grounding_mean_iou") == ("grounding", "mean_iou")
    assert split_name("ocr_exact") == ("ocr", "exact")
    scores = {"grounding_accuracy_at_50": 0.9, "grounding_mean_iou": 0.4, "vqa_accuracy": 0.5}
    assert primary_scores(scores) == {"vqa": 0.5, "grounding": 0.4}


def test_the_mean_counts_each_client_once():
    assert client_mean(HISTORY[1], "train_loss") == 1.5
    assert client_mean(HISTORY[0], "train_loss") is None


def test_comparable_runs_share_start_data_and_seed(tmp_path):
    write_run(tmp_path / "own", "fedavg", HISTORY)
    write_run(tmp_path / "pooled", "central", HISTORY)
    write_run(tmp_path / "other_seed", "local", HISTORY, seed=2)
    write_run(tmp_path / "other_data", "local", HISTORY, comparable="y")
    (tmp_path / "not_a_run").mkdir()
    found = comparable_runs(tmp_path / "own")
    assert list(found) == ["central"]
    assert found["central"].method == "central"
    assert [line.round_idx for line in found["central"].history] == [0, 1, 2]


def test_labels_of_runs_with_the_same_method_name_the_folder(tmp_path):
    for folder in ("own", "again"):
        write_run(tmp_path / folder, "fedavg", HISTORY)
    for folder in ("mu_1", "mu_2"):
        write_run(tmp_path / folder, "fedprox", HISTORY)
    assert list(comparable_runs(tmp_path / "own")) == ["fedavg (again)", "fedprox (mu_1)", "fedprox (mu_2)"]


def test_a_folder_without_run_json_is_compared_with_nothing(tmp_path):
    write_run(tmp_path / "pooled", "central", HISTORY)
    assert comparable_runs(tmp_path / "own") == {}


@pytest.mark.parametrize("damage", ["half_a_run_json", "other_fields"])
def test_an_unreadable_neighbour_does_not_stop_the_run(tmp_path, damage, caplog):
    write_run(tmp_path / "own", "fedavg", HISTORY)
    neighbour = tmp_path / f"bad_{damage}"
    write_run(neighbour, "central", HISTORY)
    if damage == "half_a_run_json":
        (neighbour / "run.json").write_text('{"method": ', encoding="utf-8")
    else:
        (neighbour / "metrics.jsonl").write_text('{"evaluations": {}, "color": 1}\n', encoding="utf-8")
    assert comparable_runs(tmp_path / "own") == {}
    assert f"leaves out the run in 'bad_{damage}'" in caplog.text


def test_a_neighbour_that_just_started_is_left_out_quietly(tmp_path, caplog):
    write_run(tmp_path / "own", "fedavg", HISTORY)
    write_run(tmp_path / "pooled", "central", HISTORY)
    (tmp_path / "pooled" / "metrics.jsonl").unlink()
    assert comparable_runs(tmp_path / "own") == {}
    assert caplog.text == ""


def test_records_read_back(tmp_path):
    write_run(tmp_path / "run", "fedavg", HISTORY)
    read = read_history(tmp_path / "run" / "metrics.jsonl")
    assert [line.to_json() for line in read] == [line.to_json() for line in HISTORY]
