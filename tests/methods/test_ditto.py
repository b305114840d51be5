"""Ditto (Li et al., 2021): personal copies by hand on scalars, and in real training."""

from dataclasses import dataclass

import pytest
import torch
from peft import LoraConfig
from torch import nn

from federation import federated
from fedvlm_hf.methods.ditto import Ditto
from fedvlm_hf.testing import scalars
from fedvlm_hf.types import ClientTask, LocalPhase
from tiny import tiny_federation, tiny_rows


PERSONAL = LocalPhase("personal", is_personal=True)
SIZES = {"client_00": 6, "client_01": 4, "client_02": 2}


def ditto(folder, data=None, **kwargs):
    """Three clients, two steps in each phase."""
    return federated(
        folder, data or tiny_federation(SIZES, test_rows=1), **{"method": "ditto", "max_steps": 2, **kwargs}
    )


def test_two_steps_by_hand():
    """F(v) = (v - 4)^2 / 2, lambda = 1/2, w_t = 1, rate 1/2, v from 0. A step goes along (v - 4) + (v - 1) / 2:
    -4.5 at 0, so v = 2.25; there -1.75 + 0.625 = -1.125, so v = 2.8125. It rests at 3, where 4 - v = (v - 1) / 2."""
    method, values = Ditto(lam=0.5), []
    weight = nn.Parameter(torch.tensor([0.0]))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        (0.5 * (weight - 4.0) ** 2).sum().backward()
        method.adjust_gradients({"w": weight}, ClientTask(1, "a", scalars(w=[1.0]), phase=PERSONAL))
        optimizer.step()
        values.append(weight.item())
    assert values[:2] == [2.25, 2.8125]
    assert values[-1] == pytest.approx(3.0)


def test_the_global_phase_is_left_alone_and_what_the_loss_does_not_reach_is_not():
    """Nothing is added in the global phase. In the personal one a tensor without a gradient gets 2 (3 - 1) = 4."""
    weight = nn.Parameter(torch.tensor([3.0]))
    for phase, expected in ((LocalPhase("global"), None), (PERSONAL, 4.0)):
        Ditto(lam=2.0).adjust_gradients({"w": weight}, ClientTask(1, "a", scalars(w=[1.0]), phase=phase))
        assert (weight.grad if expected is None else weight.grad.item()) == expected


def test_the_global_half_is_fedavg_to_the_bit(tmp_path):
    """Also with AdamW and dropout, whose random numbers the personal phase must not shift."""
    runs = {method: ditto(tmp_path / method, method=method) for method in ("ditto", "fedavg")}
    for trainer in runs.values():
        trainer.train()
    assert runs["ditto"].federation.tensors.digest() == runs["fedavg"].federation.tensors.digest()
    metrics = runs["ditto"].federation.end.history[-1].clients["client_00"]
    assert metrics["num_steps"] == metrics["personal_num_steps"] == 2
    assert metrics["train_loss"] == runs["fedavg"].federation.end.history[-1].clients["client_00"]["train_loss"]


def test_the_personal_phase_is_the_loop_of_the_paper(tmp_path):
    """One batch for each client, so that gradients do not depend on the order of rows; SGD with rate 1. The gradient
    is measured: w - y after one step of plain SGD. Round 2 goes on from the copy of round 1, held to the new w_t."""
    sgd = {"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0, "tuning": "llm"}
    rows = {"client_00": tiny_rows(2, seed=3), "client_01": tiny_rows(2, seed=4)}
    peft = {"trainer_kwargs": {"peft_config": LoraConfig(r=2)}}
    trainer = ditto(tmp_path / "run", rows, method_kwargs={"lam": 0.25, "personal_steps": 3}, **sgd, **peft)
    oracle = ditto(tmp_path / "oracle", rows, method="fedavg", **{**sgd, "max_steps": 1}, **peft)
    start = trainer.local.initial_shared()
    trainer.train()
    fedavg = ditto(tmp_path / "fedavg", rows, method="fedavg", num_rounds=1, **sgd, **peft)
    fedavg.train()
    for client_id in rows:
        v = start.flat
        for w in (start.flat, fedavg.federation.tensors.flat):
            for _ in range(3):
                update = oracle.run_client(ClientTask(1, client_id, start.with_flat(v)))
                v = v - (v - update.tensors.flat + 0.25 * (v - w))
        copy = trainer.store.load(client_id)["personal"]
        moved = (v - start.flat).abs().max().item()
        assert moved > 1e-3
        torch.testing.assert_close(copy.flat, v, rtol=0, atol=1e-4 * moved)


def test_a_partial_cohort_resumes_to_the_bit_with_its_copies(tmp_path):
    whole = ditto(tmp_path / "whole", num_rounds=3, clients_per_round=2, client_weighting="uniform")
    whole.train()
    ditto(tmp_path / "cut", num_rounds=1, clients_per_round=2, client_weighting="uniform").train()
    resumed = ditto(tmp_path / "cut", num_rounds=3, clients_per_round=2, client_weighting="uniform")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.federation.tensors.digest() == whole.federation.tensors.digest()
    assert resumed.store.versions == whole.store.versions
    for client_id in whole.store.versions:
        assert resumed.store.load(client_id)["personal"].digest() == whole.store.load(client_id)["personal"].digest()


def test_clients_are_evaluated_with_their_copies_or_the_first_tensors(tmp_path):
    trainer = ditto(tmp_path, num_rounds=1, clients_per_round=1, trainer_kwargs={"eval_dataset": None})
    initial, loaded, asked = trainer.local.initial_shared(), {}, []
    load, load_personal = trainer.store.load, trainer.local.load_personal
    trainer.store.load = lambda client_id: asked.append(client_id) or load(client_id)

    def note(state):
        load_personal(state)
        loaded[asked[-1]] = trainer.local.shared_tensors().digest()

    trainer.local.load_personal = note
    trainer.train()
    ((trained, _),) = trainer.store.versions.items()
    assert sorted(loaded) == sorted(SIZES)
    for client_id, digest in loaded.items():
        copy = trainer.store.load(client_id)["personal"] if client_id == trained else initial
        assert digest == copy.digest()
    assert loaded[trained] not in (initial.digest(), trainer.federation.tensors.digest())


@dataclass(frozen=True)
class KeepsLoraA(Ditto):
    """Ditto over B alone, where each client also has an A of its own."""

    def is_shared(self, name):
        return "lora_A" not in name


def test_private_tensors_survive_the_personal_phase(tmp_path):
    """They train in the global phase, and the personal phase uses them as they are then."""
    trainer = ditto(tmp_path, method=KeepsLoraA(), num_rounds=1)
    plain = ditto(tmp_path / "plain", method=KeepsA(), num_rounds=1)
    for one in (trainer, plain):
        one.train()
    for client_id in SIZES:
        assert trainer.store.load(client_id)["private"].digest() == plain.store.load(client_id)["private"].digest()
        assert not any("lora_A" in name for name in trainer.store.load(client_id)["personal"])


@dataclass(frozen=True)
class KeepsA(KeepsLoraA):
    """The same without a personal phase."""

    @property
    def phases(self):
        return (LocalPhase("global"),)


def test_it_goes_with_a_server_half(tmp_path):
    trainer = ditto(tmp_path, method="ditto+fedadam", num_rounds=1)
    trainer.train()
    assert set(trainer.store.load("client_00")) == {"personal"}


@pytest.mark.parametrize("tuning", ["connector", "llm"])
def test_copies_are_of_what_trains(tmp_path, tuning):
    trainer = ditto(tmp_path, tuning=tuning, num_rounds=1)
    trainer.train()
    assert list(trainer.store.load("client_00")["personal"]) == trainer.local.shared


def test_two_stages_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`tuning` 'two_stage' trains other tensors in each stage"):
        ditto(tmp_path, tuning="two_stage")


@pytest.mark.parametrize(
    ("knobs", "message"),
    [({"lam": -0.1}, "`lam` must be a finite"), ({"lam": "0.1"}, "`lam` must be a number"),
     ({"personal_steps": 0}, "`personal_steps` must be a finite number at least 1")],
)  # fmt: skip
def test_knobs_out_of_range_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        Ditto(**knobs)
