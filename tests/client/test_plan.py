"""What trains when: the stages, and runs in which they switch."""

import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

from federation import federated, weights
from fedvlm_hf import RoundCallback
from fedvlm_hf.checkpoint import load_export, round_folder
from fedvlm_hf.client.plan import Plan, Stage, resolve_tuning, tuning_stages
from fedvlm_hf.exchange.tensor_files import load_state
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.types import ServerState
from tiny import save_tiny, tiny_federation, tiny_llava


class Keep(RoundCallback):
    """Notes what each round ended with; may stop the run."""

    def __init__(self, stop_after: int | None = None):
        self.ends, self.stop_after = {}, stop_after

    def on_round_end(self, end):
        self.ends[end.record.round_idx] = end
        return end.record.round_idx == self.stop_after


def two_stage(folder, callback=None, **kwargs):
    trainer_kwargs = {"callbacks": [callback]} if callback else {}
    return federated(folder, trainer_kwargs=trainer_kwargs, **{"tuning": "two_stage", "num_rounds": 4, **kwargs})


def test_half_of_the_rounds_each_and_the_odd_one_to_lora():
    """5 rounds: floor(5 / 2) = 2 of the connector, so LoRA's first is round 3."""
    assert tuning_stages("two_stage", 5) == (Stage("connector", 1), Stage("llm", 3))
    assert tuning_stages("two_stage", 5, stage_rounds=4) == (Stage("connector", 1), Stage("llm", 5))
    assert tuning_stages("joint", 5) == (Stage("joint", 1),)


def test_a_round_belongs_to_the_last_stage_that_has_begun():
    plan = Plan("two_stage", tuning_stages("two_stage", 4))
    assert [plan.stage(round_idx).trains for round_idx in range(5)] == [
        *("connector", "connector", "connector"),  # round 0, before training, too
        *("llm", "llm"),
    ]


@pytest.mark.parametrize(("num_rounds", "stage_rounds"), [(1, None), (4, 0), (4, 4), (4, -1)])
def test_a_stage_without_rounds_is_refused(num_rounds, stage_rounds):
    with pytest.raises(ValueError, match="`stage_rounds` is"):
        tuning_stages("two_stage", num_rounds, stage_rounds)


def test_stage_rounds_without_stages_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`stage_rounds` goes with `tuning='two_stage'`, got 2 with 'joint'"):
        federated(tmp_path, stage_rounds=2)


@pytest.mark.parametrize("tuning", ["connector", "joint", "two_stage"])
def test_a_connector_that_is_not_there_cannot_train(tuning):
    with pytest.raises(ValueError, match="this model has none"):
        resolve_tuning(tuning, has_connector=False)
    assert resolve_tuning(None, has_connector=False) == "llm"


def test_each_stage_moves_and_sends_its_own_tensors_and_no_others(tmp_path):
    keep = Keep()
    trainer = two_stage(tmp_path, keep)
    connector = trainer.local.adapter.connector
    trainer.train()
    exports = [load_export(tmp_path, round_idx) for round_idx in range(5)]
    for before, after, moves in zip(exports, exports[1:], ("connector", "connector", "llm", "llm"), strict=False):
        for name in before:
            is_moved = not torch.equal(before[name], after[name])
            # LoRA's gradient of A is zero while B is, so A stands still in LoRA's first step alone, not in its round
            assert is_moved == ((name in connector) == (moves == "connector")), name
    for round_idx, end in keep.ends.items():
        assert set(end.tensors) == (set(connector) if round_idx < 3 else set(exports[0]) - connector)
        sent = 2 * end.tensors.nbytes if round_idx else 0
        assert (end.record.bytes_up, end.record.bytes_down) == (sent, sent)


def test_the_first_stage_is_a_connector_run(tmp_path):
    two_stage(tmp_path / "two").train()
    federated(tmp_path / "one", tuning="connector", num_rounds=2).train()
    for round_idx in range(3):
        one, two = (load_export(tmp_path / name, round_idx).digest() for name in ("one", "two"))
        assert one == two


def test_lora_learns_over_the_connector_that_was_learned(tmp_path):
    """One client, so that a round is its update: round 2 of an llm run over round 1's connector and the base's."""
    data = tiny_federation({"client_00": 6}, test_rows=2)
    two_stage(tmp_path / "two", data=data, num_rounds=2).train()
    trainer = federated(tmp_path / "llm", data=data, tuning="llm", num_rounds=2)
    (task,) = trainer.method.strategy.configure(2, ["client_00"], trainer.local.initial_shared(), ServerState())
    over_initial = trainer.run_client(task).tensors
    learned = load_export(tmp_path / "two", 1)
    connector = {name: learned[name] for name in trainer.local.adapter.connector}
    over_learned = trainer.run_client(replace(task, fixed=TensorDict.from_tensors(connector))).tensors
    after = load_export(tmp_path / "two", 2)
    assert all(torch.equal(after[name], tensor) for name, tensor in over_learned.items())
    assert not all(torch.equal(after[name], tensor) for name, tensor in over_initial.items())


def test_the_server_optimizer_starts_afresh_at_the_switch(tmp_path):
    """v = 0.9 v + (mean - w) with v = 0 at the switch, so v_3 = mean_3 - w_2, and w_3 = w_2 + v_3 with server_lr 1."""
    keep = Keep()
    trainer = two_stage(tmp_path, keep, method="fedavgm", method_kwargs={"server_momentum": 0.9})
    trainer.train()
    velocity = keep.ends[3].state.tensors["momentum"]
    assert set(velocity) == set(keep.ends[3].tensors)
    start = load_export(tmp_path, 2)
    for name, tensor in keep.ends[3].tensors.items():
        torch.testing.assert_close(velocity[name], tensor - start[name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("stop_after", [1, 2, 3])
@pytest.mark.parametrize("method", ["fedavg", "central", "local"])
def test_a_resumed_run_ends_in_the_same_bits(tmp_path, method, stop_after):
    def run(folder, callback=None):
        return two_stage(folder, callback, method=method, clients_per_round=1)

    whole = run(tmp_path / "whole")
    whole.train()
    run(tmp_path / "cut", Keep(stop_after)).train()
    resumed = run(tmp_path / "cut")
    resumed.train(resume_from_checkpoint=True)
    assert load_export(tmp_path / "cut", 4).digest() == load_export(tmp_path / "whole", 4).digest()
    assert weights(resumed.local.adapter) == weights(whole.local.adapter)
    for client_id in whole.clients if method == "local" else ():
        states = [trainer.store.load(client_id)["private"].digest() for trainer in (resumed, whole)]
        assert states[0] == states[1]


def test_a_connector_over_a_bf16_base_keeps_its_bits_into_the_second_stage(tmp_path):
    def model():
        return tiny_llava()[0].to(torch.bfloat16)

    def run(folder, callback=None):
        trainer_kwargs = {"callbacks": [callback]} if callback else {}
        return federated(folder, model=model(), trainer_kwargs=trainer_kwargs, tuning="two_stage", num_rounds=4)

    run(tmp_path / "whole").train()
    run(tmp_path / "cut", Keep(3)).train()
    run(tmp_path / "cut").train(resume_from_checkpoint=True)
    whole, cut = (load_export(tmp_path / name, 4) for name in ("whole", "cut"))
    assert cut.digest() == whole.digest()
    connector = whole["base_model.model.model.multi_modal_projector.linear_1.weight"]
    assert not torch.equal(connector, connector.bfloat16().float())


def test_local_clients_keep_their_connectors_in_the_second_stage(tmp_path):
    trainer = two_stage(tmp_path, method="local")
    trainer.train()
    connector = trainer.local.adapter.connector
    for client_id in trainer.clients:
        first, last = (load_private(trainer, client_id, round_idx) for round_idx in (2, 4))
        for name in first["private"]:
            assert torch.equal(first["private"][name], last["private"][name]) == (name in connector), name


def load_private(trainer, client_id, round_idx):
    """A client's state as a round left it."""
    return load_state(trainer.store.folder(client_id, round_idx) / "state.safetensors")


def test_central_is_two_runs_and_counts_its_steps_anew(tmp_path):
    """3 steps and 2 clients make 6 central steps a round, so rounds end at 6, 12, 6, 12 of their stage."""
    trainer = two_stage(tmp_path, method="central", save_total_limit=None)
    trainer.train()
    ends = [
        json.loads((trainer.store.folder("central", round_idx) / "trainer_state.json").read_text())["global_step"]
        for round_idx in (1, 2, 3, 4)
    ]
    assert ends == [6, 12, 6, 12]


def test_every_rounds_export_loads_in_stock_peft(tmp_path):
    base = save_tiny(tmp_path / "base")
    federated(tmp_path / "run", model=base, tuning="two_stage", num_rounds=2).train()
    for round_idx in range(3):
        model = AutoModelForImageTextToText.from_pretrained(base)
        loaded = PeftModel.from_pretrained(model, round_folder(tmp_path / "run", round_idx))
        assert loaded.active_adapter == "default"


def test_another_split_of_rounds_is_another_run(tmp_path):
    two_stage(tmp_path, Keep(1)).train()
    with pytest.raises(ValueError, match=r"config.stage_rounds: \[2\] in `output_dir`, \[3\] now"):
        two_stage(tmp_path, stage_rounds=3).train(resume_from_checkpoint=True)


def test_the_card_says_what_trained(tmp_path):
    two_stage(tmp_path, num_rounds=2).train()
    assert "the connector and then a LoRA adapter of the language model" in (tmp_path / "README.md").read_text()
