import dataclasses
import json
import os
import sqlite3
import struct

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerCallback, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from federation import federated
from fedvlm_hf.reporting.trackers import TrackerCallback, round_logs
from records import HISTORY, drive, record
from tiny import tiny_federation


def track(output_dir, history, first=0, report_to="tensorboard", **kwargs):
    args = TrainingArguments(output_dir=str(output_dir), use_cpu=True, report_to=report_to, **kwargs)
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


LOCAL = {
    "fedavg": ["client_00_local", "client_01_local"],
    "ditto": ["client_00_global", "client_00_personal", "client_01_global", "client_01_personal"],
    "central": ["central_local"],
}


@pytest.mark.parametrize("method", LOCAL)
def test_the_loss_within_rounds_is_a_curve_of_its_client(tmp_path, method):
    """Two rounds of three steps, the second after a resume. `central` is one run over all rounds, whose Trainer counts
    on. What is logged at each step must have the mean that the record of the round has."""
    data = tiny_federation({"client_00": 4, "client_01": 3}, test_rows=1)
    kwargs = {"report_to": "tensorboard", "log_local_steps": True, "logging_steps": 1, "max_steps": 3}
    if method == "central":
        kwargs["max_steps"] = 2  # of each of the two clients whose rows are pooled
    num_steps = 4 if method == "central" else 3
    federated(tmp_path, data, method=method, **kwargs, num_rounds=1).train()
    federated(tmp_path, data, method=method, **kwargs, num_rounds=2).train(resume_from_checkpoint=True)
    scalars = read(tmp_path)
    curves = {
        tag: values
        for tag, values in scalars.items()
        if tag.endswith(("_local_loss", "_global_loss", "_personal_loss"))
    }
    assert sorted(curves) == [f"train/{name}_loss" for name in LOCAL[method]]
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for tag, values in curves.items():
        client_id, phase = tag.removeprefix("train/").removesuffix("_loss").rsplit("_", 1)
        assert [step for step, _ in values] == list(range(1, 2 * num_steps + 1))
        name = "train_loss" if phase == LOCAL[method][0].rsplit("_", 1)[1] else f"{phase}_train_loss"
        means = [sum(value for _, value in values[r : r + num_steps]) / num_steps for r in (0, num_steps)]
        assert means == pytest.approx([line["clients"][client_id][name] for line in records[1:]], rel=1e-3)
    assert {step for step, _ in scalars["train/loss"]} == {1, 2}


def test_a_client_that_was_not_sampled_leaves_a_gap_in_its_curve(tmp_path):
    data = tiny_federation({"client_00": 4, "client_01": 3}, test_rows=1)
    kwargs = {"report_to": "tensorboard", "log_local_steps": True, "logging_steps": 1, "max_steps": 2}
    federated(tmp_path, data, num_rounds=4, clients_per_round=1, **kwargs).train()
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = {}
    for line in records[1:]:
        [client_id] = line["clients"]
        steps.setdefault(client_id, []).extend([2 * line["round_idx"] - 1, 2 * line["round_idx"]])
    scalars = read(tmp_path)
    assert {name: [step for step, _ in scalars[f"train/{name}_local_loss"]] for name in steps} == steps


def test_without_the_option_nothing_is_logged_within_rounds(tmp_path):
    data = tiny_federation({"client_00": 2}, test_rows=1)
    federated(tmp_path, data, report_to="tensorboard", logging_steps=1, num_rounds=1, max_steps=1).train()
    assert not [tag for tag in read(tmp_path) if "local" in tag]


def test_the_loss_within_rounds_needs_a_tracker(tmp_path):
    with pytest.raises(ValueError, match=r"`log_local_steps` needs a tracker. Set `report_to`"):
        federated(tmp_path, log_local_steps=True)


def test_evaluation_sets_keep_their_names():
    held_out = record(2, 0.75).evaluations["test"]
    names = {"validation": "eval_validation_vqa_accuracy", "test_unseen": "test_unseen_vqa_accuracy"}
    line = record(2, None)
    line.evaluations.update(dict.fromkeys(names, held_out))
    assert round_logs(line).keys() >= set(names.values())


def test_no_tracker_no_work(tmp_path):
    drive(TrackerCallback([], TrainingArguments(output_dir=str(tmp_path), use_cpu=True)), HISTORY)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def no_project(monkeypatch):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)


NAMES = [
    ({"run_name": "fed_nature"}, None, ("fed_nature", "fedavg-seed42")),
    ({}, None, ("fedavg-seed42", "fedavg-seed42")),
    ({"run_name": "fed_nature", "project": "own"}, None, ("own", "fedavg-seed42")),
    ({"run_name": "fed_nature"}, "set", ("set", "fedavg-seed42")),
]


@pytest.mark.parametrize(("kwargs", "variable", "expected"), NAMES)
def test_the_project_is_named_after_the_run(tmp_path, monkeypatch, no_project, kwargs, variable, expected):
    """It was "huggingface" for every run. The integration of Weights & Biases takes it from a variable, which is set
    only while it opens the run."""
    if variable:
        monkeypatch.setenv("WANDB_PROJECT", variable)
    seen = []

    class Reporter(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            seen.append((os.environ["WANDB_PROJECT"], args.run_name))

    args = TrainingArguments(output_dir=str(tmp_path / "fedavg-seed42"), use_cpu=True, **kwargs)
    before = dataclasses.replace(args)
    drive(TrackerCallback([Reporter()], args), HISTORY)
    assert seen == [expected]
    assert (args.run_name, args.project) == (before.run_name, before.project)
    assert os.environ.get("WANDB_PROJECT") == variable


def wandb_records(content):
    """Yield the records of an offline run: a header of 7 bytes, then LevelDB's log in blocks of 32 KiB."""
    position, data = 7, b""
    while position + 7 <= len(content):
        left = 2**15 - position % 2**15
        if left < 7:  # too short for a record's header
            position += left
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        data += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield data
            data = b""


def test_wandb_has_the_round_as_step(tmp_path, monkeypatch, no_project):
    """Read back from the file that an offline run leaves."""
    wandb = pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    track(tmp_path / "fedavg-seed42", HISTORY, report_to="wandb", run_name="fed_nature")
    wandb.finish()  # the integration leaves this to the end of the process
    [path] = tmp_path.rglob("*.wandb")
    records = [Record.FromString(data) for data in wandb_records(path.read_bytes())]
    [run] = [record.run for record in records if record.HasField("run")]
    assert (run.project, run.display_name) == ("fed_nature", "fedavg-seed42")
    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    losses = [(row["train/global_step"], row["train/loss"]) for row in rows if "train/loss" in row]
    scores = [(row["train/global_step"], row["test/vqa_accuracy"]) for row in rows if "test/vqa_accuracy" in row]
    assert losses == [(1, 1.5), (2, 1.0)]
    assert scores == [(0, 0.5), (2, 0.75)]


def test_trackio_has_the_round_as_step(tmp_path, monkeypatch):
    """Read back from its local database."""
    pytest.importorskip("trackio")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    track(tmp_path / "fedavg-seed42", HISTORY, report_to="trackio", run_name="fed_nature")
    [path] = (tmp_path / "trackio").glob("fed_nature*.db")
    with sqlite3.connect(path) as database:
        rows = [
            (run, json.loads(metrics)) for run, metrics in database.execute("SELECT run_name, metrics FROM metrics")
        ]
    losses = [(run, row["train/global_step"], row["train/loss"]) for run, row in rows if "train/loss" in row]
    assert losses == [("fedavg-seed42", 1, 1.5), ("fedavg-seed42", 2, 1.0)]
