"""Going on with a run: same bits, refusals, what is kept. `kill_and_resume.py` kills processes at twenty moments."""

import json
import logging
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from federation import federated, weights
from fedvlm_hf import RoundCallback
from fedvlm_hf.checkpoint import round_folder, whole_rounds
from fedvlm_hf.exchange.updates import UpdateError
from fedvlm_hf.methods.fedprox import FedProx
from fedvlm_hf.run_description import RunMismatchError
from tiny import tiny_federation


class StopAfter(RoundCallback):
    """Ends a run after a round, as a kill between two rounds would."""

    def __init__(self, round_idx: int):
        self.round_idx = round_idx

    def on_round_end(self, end):
        return end.record.round_idx == self.round_idx


@pytest.mark.parametrize("method", ["fedavg", "central", "local"])
def test_a_resumed_run_ends_in_the_same_bits(tmp_path, method):
    whole = federated(tmp_path / "whole", num_rounds=4, method=method, clients_per_round=1)
    whole.train()
    stop = {"callbacks": [StopAfter(2)]}
    federated(tmp_path / "cut", num_rounds=4, method=method, clients_per_round=1, trainer_kwargs=stop).train()
    resumed = federated(tmp_path / "cut", num_rounds=4, method=method, clients_per_round=1)
    assert resumed.train(resume_from_checkpoint=True).global_step == 4
    assert resumed.federation.tensors.digest() == whole.federation.tensors.digest()
    assert weights(resumed.local.adapter) == weights(whole.local.adapter)
    for client_id in whole.clients if method == "local" else ():
        mine, other = resumed.store.load(client_id), whole.store.load(client_id)
        assert {k: v.digest() for k, v in mine.items()} == {k: v.digest() for k, v in other.items()}


def test_a_longer_run_goes_on_under_a_constant_rate(tmp_path):
    federated(tmp_path / "a", num_rounds=1).train()
    longer = federated(tmp_path / "a", num_rounds=2)
    longer.train(resume_from_checkpoint=True)
    whole = federated(tmp_path / "b", num_rounds=2)
    whole.train()
    assert longer.federation.tensors.digest() == whole.federation.tensors.digest()


def test_a_longer_run_of_two_stages_keeps_its_first_stage(tmp_path):
    """By default the first stage is half of the rounds, so it would have other rounds in the longer run."""
    federated(tmp_path / "a", num_rounds=2, tuning="two_stage", max_steps=1).train()
    with pytest.raises(RunMismatchError, match=r"had 1 rounds: pass `--stage_rounds 1` to keep them"):
        federated(tmp_path / "a", num_rounds=4, tuning="two_stage", max_steps=1).train(resume_from_checkpoint=True)
    longer = federated(tmp_path / "a", num_rounds=4, tuning="two_stage", stage_rounds=1, max_steps=1)
    longer.train(resume_from_checkpoint=True)
    whole = federated(tmp_path / "b", num_rounds=4, tuning="two_stage", stage_rounds=1, max_steps=1)
    whole.train()
    assert weights(longer.local.adapter) == weights(whole.local.adapter)


def learning_rates(output_dir):
    lines = [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]
    return [line["clients"]["client_00"]["learning_rate"] for line in lines if line["clients"]]


def test_under_a_cosine_a_longer_run_goes_on_with_the_longer_cosine(tmp_path, caplog, monkeypatch):
    """Round 1 of 1 is at the start of its cosine; rounds 2 and 3 of 3 are at 1/3 and 2/3 of theirs."""
    cosine = {"round_lr_scheduler_type": "cosine", "max_steps": 1}
    federated(tmp_path / "a", num_rounds=1, **cosine).train()
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        longer = federated(tmp_path / "a", num_rounds=3, **cosine)
        longer.train(resume_from_checkpoint=True)
    assert (
        "`num_rounds` was 1, and is 3 now. From round 2 on, the learning rate is that of a cosine over 3"
        in caplog.text
    )
    assert "not the same as that of one run of 3 rounds" in caplog.text
    assert learning_rates(tmp_path / "a") == pytest.approx([0.01, 0.0075, 0.0025])
    assert json.loads((tmp_path / "a" / "run.json").read_text())["config"]["num_rounds"] == 3


def test_under_a_cosine_a_shorter_run_is_another_run(tmp_path):
    federated(tmp_path, num_rounds=2, round_lr_scheduler_type="cosine", max_steps=1).train()
    with pytest.raises(RunMismatchError, match=r"config.num_rounds: 2 in `output_dir`, 1 now"):
        federated(tmp_path, num_rounds=1, round_lr_scheduler_type="cosine", max_steps=1).train(True)


FAILS = {"learning_rate": 1e38, "max_grad_norm": 0.0, "optim": "sgd"}


@pytest.mark.parametrize("resume", [None, True])
def test_round_0_alone_is_replaced_by_a_run_with_other_arguments(tmp_path, resume, caplog, monkeypatch):
    with pytest.raises(UpdateError):
        federated(tmp_path / "a", num_rounds=1, **FAILS).train()
    assert whole_rounds(tmp_path / "a") == [0]
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        corrected = federated(tmp_path / "a", num_rounds=1, seed=7)
        corrected.train(resume_from_checkpoint=resume)
    assert "holds only round 0, the evaluation before training" in caplog.text
    assert "It is replaced." in caplog.text
    fresh = federated(tmp_path / "b", num_rounds=1, seed=7)
    fresh.train()
    assert corrected.federation.tensors.digest() == fresh.federation.tensors.digest()
    assert whole_rounds(tmp_path / "a") == [0, 1]
    start = [round_folder(tmp_path / run, 0) / "adapter_model.safetensors" for run in "ab"]
    assert start[0].read_bytes() == start[1].read_bytes()
    assert json.loads((tmp_path / "a" / "run.json").read_text())["seed"] == 7


def test_round_0_of_the_same_run_is_kept_on_resume(tmp_path, caplog, monkeypatch):
    federated(tmp_path, num_rounds=1, trainer_kwargs={"callbacks": [StopAfter(0)]}).train()
    before = round_folder(tmp_path, 0).stat().st_mtime_ns
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        federated(tmp_path, num_rounds=1).train(resume_from_checkpoint=True)
    assert "replaced" not in caplog.text
    assert round_folder(tmp_path, 0).stat().st_mtime_ns == before


def test_a_finished_run_has_nothing_to_do(tmp_path):
    federated(tmp_path).train()
    before = (tmp_path / "metrics.jsonl").read_text()
    assert federated(tmp_path).train(resume_from_checkpoint=True).global_step == 2
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_resuming_where_nothing_is_starts(tmp_path):
    assert federated(tmp_path / "a").train(resume_from_checkpoint=True).global_step == 2
    assert federated(tmp_path / "b", resume_from_checkpoint="true").train().global_step == 2


@pytest.mark.parametrize("resume", [None, False, "false"])
def test_a_folder_with_rounds_is_not_overwritten(tmp_path, resume):
    federated(tmp_path, num_rounds=1).train()
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"`output_dir` .* holds a run, up to round 1"):
        federated(tmp_path, num_rounds=1).train(resume_from_checkpoint=resume)
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"learning_rate": 0.5}, "config.learning_rate: 0.01 in `output_dir`, 0.5 now"),
        ({"method": "local"}, "method: 'fedavg' in `output_dir`, 'local' now"),
        ({"seed": 7}, "seed: 42 in `output_dir`, 7 now"),
        ({"tuning": "llm"}, "config.tuning: 'joint' in `output_dir`, 'llm' now"),
        ({"data": tiny_federation({"client_00": 6, "client_01": 3}, test_rows=4)}, "clients.client_01:"),
        ({"data": tiny_federation({"client_00": 6}, test_rows=4)}, "clients.client_01:"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_run_is_refused_and_the_difference_named(tmp_path, changed, difference):
    federated(tmp_path, num_rounds=1).train()
    with pytest.raises(RunMismatchError) as error:
        federated(tmp_path, **{"num_rounds": 1, **changed}).train(resume_from_checkpoint=True)
    assert difference in str(error.value)


def test_what_changes_no_bit_may_change(tmp_path):
    federated(tmp_path, num_rounds=1).train()
    federated(tmp_path, num_rounds=2, eval_every=2, logging_steps=1).train(resume_from_checkpoint=True)
    assert whole_rounds(tmp_path) == [0, 1, 2]


def test_another_number_of_threads_is_said(tmp_path, caplog, monkeypatch):
    federated(tmp_path, num_rounds=1).train()
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["environment"]["num_threads"] == torch.get_num_threads()
    run["environment"]["num_threads"] = 77
    (tmp_path / "run.json").write_text(json.dumps(run))
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        federated(tmp_path, num_rounds=2).train(resume_from_checkpoint=True)
    assert f"num_threads was 77, and is {torch.get_num_threads()} now" in caplog.text


def test_a_path_elsewhere_is_refused(tmp_path):
    federated(tmp_path / "a", num_rounds=1).train()
    trainer = federated(tmp_path / "b", num_rounds=1)
    with pytest.raises(ValueError, match="its own `output_dir`"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "a"))
    last = str(round_folder(tmp_path / "a", 1))
    assert federated(tmp_path / "a", num_rounds=2).train(resume_from_checkpoint=last).global_step == 2


def test_old_rounds_and_states_are_deleted_on_request(tmp_path):
    federated(tmp_path, num_rounds=3, method="local", clients_per_round=1, save_total_limit=2).train()
    assert whole_rounds(tmp_path) == [2, 3]
    kept = {
        (client_id, version)
        for round_idx in (2, 3)
        for client_id, version in json.loads(
            (round_folder(tmp_path, round_idx) / "federated_state" / "state.json").read_text()
        )["client_versions"].items()
    }
    found = {(p.parent.name, int(p.name[6:])) for p in (tmp_path / "client_state").glob("*/round-*")}
    assert found == kept
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


def test_killed_runs_end_in_the_same_bits():
    """One kill of each kind; the script alone does all twenty-one, and those of the baselines."""
    script = Path(__file__).parent / "kill_and_resume.py"
    command = [sys.executable, str(script), "--quick", "fedavg"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "8 of 8 killed runs ended in the same bits" in result.stdout


def edit_run(folder, change):
    path = folder / "run.json"
    run = json.loads(path.read_text())
    change(run)
    path.write_text(json.dumps(run))


def test_other_versions_of_packages_are_a_warning_with_both(tmp_path, caplog, monkeypatch):
    federated(tmp_path, num_rounds=1).train()
    edit_run(tmp_path, lambda run: run["environment"].update(transformers="4.0.0", trl="0.1.0"))
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        assert federated(tmp_path, num_rounds=2).train(resume_from_checkpoint=True).global_step == 2
    assert f"transformers was 4.0.0, and is {version('transformers')} now" in caplog.text
    assert f"trl was 0.1.0, and is {version('trl')} now" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda run: run["config"].pop("adam_beta2"),  # an argument that the earlier version did not have
        lambda run: run["halves"]["client"]["knobs"].pop("mu"),  # a knob, likewise
        lambda run: run["config"].update(dataloader_num_workers=3),  # changes no bit
        lambda run: run["config"].update(an_argument_that_is_gone=1),
        lambda run: run.update(base_model="moved/elsewhere"),  # the weights are known by their content
    ],
)
def test_what_changes_no_bit_does_not_forbid_resuming(tmp_path, change):
    federated(tmp_path, num_rounds=1, method="fedprox").train()
    edit_run(tmp_path, change)
    assert federated(tmp_path, num_rounds=2, method="fedprox").train(resume_from_checkpoint=True).global_step == 2


@pytest.mark.parametrize(
    ("change", "kwargs", "message"),
    [
        (lambda run: run["config"].pop("adam_beta2"), {"adam_beta2": 0.9}, "config.adam_beta2: 0.999 in"),
        (lambda run: run["halves"]["client"]["knobs"].pop("mu"), {"method_kwargs": {"mu": 1}}, "client.mu: 0.01 in"),
        (lambda run: run.update(base_fingerprint="x"), {}, "base_fingerprint: 'x' in"),
    ],
)
def test_what_changes_bits_does(tmp_path, change, kwargs, message):
    federated(tmp_path, num_rounds=1, method="fedprox").train()
    edit_run(tmp_path, change)
    with pytest.raises(RunMismatchError, match=message):
        federated(tmp_path, num_rounds=2, method="fedprox", **kwargs).train(resume_from_checkpoint=True)


def test_a_method_is_compared_by_value_however_it_was_given(tmp_path):
    federated(tmp_path, num_rounds=1, method="fedprox", method_kwargs={"mu": 0.5}).train()
    resumed = federated(tmp_path, num_rounds=2, method=FedProx(0.5))
    assert resumed.train(resume_from_checkpoint=True).global_step == 2
