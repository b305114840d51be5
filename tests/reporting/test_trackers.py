from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from fedvlm_hf.reporting.trackers import TrackerCallback, round_logs
from records import HISTORY, drive, record


def track(output_dir, history, first=0):
    args = TrainingArguments(output_dir=str(output_dir), use_cpu=True, report_to="tensorboard")
    reporters = [reporter() for reporter in get_reporting_integration_callbacks(args.report_to)]
    drive(TrackerCallback(reporters, args), history, first)


def read(output_dir):
    events = EventAccumulator(str(output_dir / "runs"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_rounds_are_the_steps_of_one_tensorboard_run(tmp_path):
    track(tmp_path, HISTORY)
    scalars = read(tmp_path)
    assert scalars["test/vqa_accuracy"] == [(0, 0.5), (2, 0.75)]
    assert scalars["test/a_vqa_accuracy"] == [(0, 0.5), (2, 0.75)]
    assert scalars["test/open_vqa_accuracy"] == [(0, 0.25), (2, 0.375)]
    assert scalars["train/loss"] == [(1, 1.5), (2, 1.0)]
    assert scalars["train/a_loss"] == [(1, 2.0), (2, 1.5)]
    assert scalars["train/bytes_up"] == [(0, 0.0), (1, 4e6), (2, 4e6)]
    assert all(tag.count("/") == 1 for tag in scalars)


def test_a_resumed_run_goes_on_in_the_same_place(tmp_path):
    """Round 1 is logged twice with the same value, since it may have been saved but not logged before the kill."""
    history = [*HISTORY, record(3, 0.8, losses=(1.0, 0.5))]
    track(tmp_path, history[:2])
    track(tmp_path, history, first=2)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert read(tmp_path)["train/loss"] == [(1, 1.5), (1, 1.5), (2, 1.0), (3, 0.75)]


def test_evaluation_sets_keep_their_names():
    held_out = record(2, 0.75).evaluations["test"]
    names = {"validation": "eval_validation_vqa_accuracy", "test_unseen": "test_unseen_vqa_accuracy"}
    line = record(2, None)
    line.evaluations.update(dict.fromkeys(names, held_out))
    assert round_logs(line).keys() >= set(names.values())


def test_no_tracker_no_work(tmp_path):
    drive(TrackerCallback([], TrainingArguments(output_dir=str(tmp_path), use_cpu=True)), HISTORY)
    assert list(tmp_path.iterdir()) == []
