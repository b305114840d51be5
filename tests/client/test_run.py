"""What a client run saves itself beside plain SFTTrainer changes nothing of what it trains."""

from dataclasses import dataclass, replace

import pytest
import torch
from transformers import Trainer, TrainerCallback
from trl import SFTTrainer

from federation import config, federated
from fedvlm_hf import FederatedTrainer
from fedvlm_hf.exchange.tensor_files import load_state
from fedvlm_hf.federated import FederatedMixin
from fedvlm_hf.methods import ClientMethod
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.types import ClientTask, LocalPhase
from tiny import tiny_federation, tiny_llava, tiny_rows


def groups(optimizer, model):
    """Names and weight decay of an optimizer's groups."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [([names[p] for p in group["params"]], group["weight_decay"]) for group in optimizer.param_groups]


def built_by(create, trainer):
    trainer.optimizer = None
    create()
    return groups(trainer.optimizer, trainer.model)


# --- the optimizer ---


@pytest.mark.parametrize("trains", ["connector", "llm", "joint"])
def test_the_optimizer_has_the_groups_that_trainer_gives_it(tmp_path, trains):
    """Also after a switch of stage, whatever was listed before. The connector has biases, which do not decay."""
    trainer = federated(tmp_path, weight_decay=0.1, tuning="joint")
    for names in ("connector" if trains != "connector" else "llm", trains):
        trainer.local.adapter.set_trainable(trainer.local.adapter.names(names))
        trainer.create_optimizer()
    own = built_by(trainer.create_optimizer, trainer)
    assert own == built_by(lambda: Trainer.create_optimizer(trainer, trainer.model), trainer)
    assert [decay for _, decay in own] == [0.1, 0.0]
    assert bool(own[1][0]) == (trains != "llm")
    assert sum(len(names) for names, _ in own) == len(trainer.local.adapter.trainable())


def test_names_that_decay_are_trainers_own(tmp_path):
    trainer = federated(tmp_path)
    expected = Trainer.get_decay_parameter_names(trainer, trainer.model)
    assert trainer.get_decay_parameter_names(trainer.model) == expected
    trainer.create_optimizer()
    decaying = {id(p) for p in trainer.optimizer.param_groups[0]["params"]}
    assert decaying == {id(p) for n, p in trainer.model.named_parameters() if n in expected and p.requires_grad}


def test_the_model_is_not_walked_for_an_optimizer(tmp_path, monkeypatch):
    trainer = federated(tmp_path)
    trainer.create_optimizer()
    trainer.optimizer = None
    walks = []
    monkeypatch.setattr(trainer.model, "named_parameters", lambda *args, **kwargs: walks.append(1), raising=True)
    monkeypatch.setattr(trainer.model, "named_children", lambda: walks.append(1), raising=True)
    trainer.create_optimizer()
    assert not walks


def test_what_a_method_freezes_at_the_start_of_a_client_is_not_optimized(tmp_path):
    @dataclass(frozen=True)
    class FreezeA(ClientMethod):
        def on_start(self, model, task):
            for name, parameter in model.named_parameters():
                if "lora_A" in name:
                    parameter.requires_grad_(False)

    trainer = federated(tmp_path, method=FreezeA(), tuning="llm")
    before = trainer.local.initial_shared()
    update = trainer.run_client(ClientTask(1, "client_00", before))
    names = [name for group, _ in groups(trainer.optimizer, trainer.model) for name in group]
    assert names
    assert all("lora_B" in name for name in names)
    assert all(("lora_B" in name) != before[name].equal(tensor) for name, tensor in update.tensors.items())


class OwnOptimizer(SFTTrainer):
    """A trainer of a user's own, whose `create_optimizer` has the signature of older versions."""

    def create_optimizer(self):
        self.built_for = self.model
        return super().create_optimizer()


class FederatedOwnOptimizer(FederatedMixin, OwnOptimizer):
    row_format, config_class = FederatedTrainer.row_format, FederatedTrainer.config_class
    collator_class = FederatedTrainer.collator_class


def test_a_trainer_that_builds_its_optimizer_itself_may(tmp_path):
    base = federated(tmp_path / "a")
    trainer = FederatedOwnOptimizer(
        base.model, config(tmp_path / "b"), base.clients, processing_class=tiny_llava()[1], eval_dataset={}
    )
    trainer.run_client(ClientTask(1, "client_00", trainer.local.initial_shared()))
    assert trainer.built_for is trainer.model
    assert sum(map(len, (names for names, _ in groups(trainer.optimizer, trainer.model)))) == len(trainer.local.shared)


# --- the rows ---


def test_columns_are_dropped_once_for_each_client(tmp_path):
    data = tiny_federation({"client_00": 4, "client_01": 6}, test_rows=2)
    trainer = federated(tmp_path, data, max_steps=1)
    seen = []
    for client_id in ("client_00", "client_01", "client_00"):
        trainer.run_client(ClientTask(1, client_id, trainer.local.initial_shared()))
        seen.append(trainer.callback_handler.train_dataloader.dataset)
    assert set(seen[0].column_names) == {"images", "prompt", "completion"}
    assert [len(rows) for rows in seen] == [4, 6, 4]
    assert seen[2] is seen[0]
    assert "references" in trainer.federation.roster.datasets["client_00"].column_names


def test_rows_that_were_changed_since_are_taken(tmp_path):
    """Exchanged, or given a transform in place, after the trainer was built."""
    trainer = federated(tmp_path, max_steps=1)
    trainer.clients["client_00"] = tiny_rows(3, seed=5)
    trainer.run_client(ClientTask(1, "client_00", trainer.local.initial_shared()))
    assert len(trainer.callback_handler.train_dataloader.dataset) == 3
    transformed = []
    trainer.clients["client_01"].set_transform(lambda rows: transformed.append(rows) or rows)
    trainer.run_client(ClientTask(1, "client_01", trainer.local.initial_shared()))
    assert transformed


# --- callbacks ---


def test_every_event_of_a_client_run_is_fired(tmp_path):
    fired = []

    class Note(TrainerCallback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                fired.append(name)
            return super().__getattribute__(name)

    trainer = federated(tmp_path, max_steps=1, logging_steps=1, trainer_kwargs={"callbacks": [Note()]})
    fired.clear()
    for client_id in ("client_00", "client_01"):
        trainer.run_client(ClientTask(1, client_id, trainer.local.initial_shared()))
    one = [
        *("on_train_begin", "on_epoch_begin", "on_step_begin", "on_pre_optimizer_step", "on_optimizer_step"),
        *("on_step_end", "on_log", "on_epoch_end", "on_log", "on_train_end"),
    ]
    assert fired == one * 2


# --- seeds, and what the run keeps ---


def rows_seen(tmp_path, monkeypatch, **kwargs):
    """Digests of the images of the first batch of each client run, by round and client."""
    trainer = federated(
        tmp_path, tiny_federation({"client_00": 8, "client_01": 8}, test_rows=2), max_steps=2, **kwargs
    )
    seen, collate = {}, trainer.data_collator

    def note(rows):
        task = trainer._task
        seen.setdefault((task.round_idx, task.client_id), []).append(
            [position[row["images"][0].tobytes()] for row in rows]
        )
        return collate(rows)

    rows = {name: [row["images"][0].tobytes() for row in data] for name, data in trainer.clients.items()}
    position = {image: index for images in rows.values() for index, image in enumerate(images)}
    monkeypatch.setattr(trainer, "data_collator", note)
    trainer.train()
    return seen


def test_a_data_seed_orders_each_client_and_round_anew(tmp_path, monkeypatch):
    """Otherwise, with `max_steps` below an epoch, the same rows train in every round and the others never do."""
    seen = rows_seen(tmp_path / "a", monkeypatch, data_seed=7)
    assert len(seen) == 4
    assert len({repr(batches) for batches in seen.values()}) == 4
    assert seen == rows_seen(tmp_path / "b", monkeypatch, data_seed=7)
    assert seen != rows_seen(tmp_path / "c", monkeypatch, data_seed=8)


def test_the_order_of_rows_follows_the_data_seed_alone(tmp_path, monkeypatch):
    one = rows_seen(tmp_path / "a", monkeypatch, data_seed=7, seed=1)
    assert one == rows_seen(tmp_path / "b", monkeypatch, data_seed=7, seed=2)


@dataclass(frozen=True)
class KeepsANote(ClientMethod):
    """A's stay private, and the method keeps something of its own."""

    group: str = "note"

    def is_shared(self, name):
        return "lora_A" not in name

    def on_finish(self, update, task):
        assert update.state == {}
        note = TensorDict.from_tensors({"rounds": torch.tensor(float(task.round_idx))})
        return replace(update, state={self.group: note})


def test_a_methods_own_state_does_not_replace_the_private_tensors(tmp_path):
    """A client of two rounds goes on from its own A: round 2 of the run is the client run from what round 1 kept."""
    data = {"client_00": tiny_rows(6)}
    trainer = federated(tmp_path / "two", data, method=KeepsANote(), num_rounds=2)
    trainer.train()
    kept = trainer.store.load("client_00")
    assert set(kept) == {"private", "note"}
    assert kept["note"].flat.tolist() == [2.0]
    assert any(not kept["private"][name].equal(trainer.local.initial[name]) for name in kept["private"])
    after_one = load_state(trainer.store.folder("client_00", 1) / "state.safetensors")["private"]
    assert after_one.digest() != kept["private"].digest()


def test_the_runs_own_groups_cannot_be_returned(tmp_path):
    with pytest.raises(ValueError, match="`on_finish` of `method` returns the state group 'private'"):
        federated(tmp_path, method=KeepsANote("private"), num_rounds=1).train()


@dataclass(frozen=True)
class FreezesA(ClientMethod):
    """FFA-LoRA's rule: A is frozen at its initial value and never sent."""

    def is_trained(self, name):
        return "lora_A" not in name


def test_what_a_method_freezes_neither_moves_nor_travels_nor_stays(tmp_path):
    trainer = federated(tmp_path, method=FreezesA(), num_rounds=2)
    trainer.train()
    assert not any("lora_A" in name for name in trainer.federation.tensors)
    assert not trainer.store.load("client_00")
    frozen = [name for name in trainer.local.adapter.parameters if "lora_A" in name]
    assert frozen
    assert all(trainer.local.adapter.parameters[name].equal(trainer.local.initial[name]) for name in frozen)


@dataclass(frozen=True)
class TwoPhases(ClientMethod):
    """FedRep's rule: B, which stays, trains for two steps under a fixed A; then A, which travels, for one."""

    @property
    def phases(self):
        return LocalPhase("head", trains="private", steps=2), LocalPhase("body", trains="shared", steps=1)

    def is_shared(self, name):
        return "lora_B" not in name


def test_phases_train_what_they_say_for_as_long_as_they_say(tmp_path):
    trainer = federated(tmp_path, method=TwoPhases(), num_rounds=1, tuning="llm")
    moved = []

    class Note(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            moved.append((state.max_steps, {n.split(".")[-2] for n in trainer.local.adapter.trainable()}))

    trainer.add_callback(Note())
    trainer.train()
    assert moved == [(2, {"lora_B"}), (1, {"lora_A"})] * 2
    metrics = trainer.federation.end.history[-1].clients["client_00"]
    assert (metrics["num_steps"], metrics["body_num_steps"]) == (2, 1)


def test_frozen_parameters_are_frozen_again_for_the_next_client(tmp_path):
    @dataclass(frozen=True)
    class Unfreezes(ClientMethod):
        def on_start(self, model, task):
            for name, parameter in model.named_parameters():
                if "lora_A" in name:
                    parameter.requires_grad_(task.client_id == "client_00")

    trainer = federated(tmp_path, method=Unfreezes(), tuning="connector", num_rounds=1)
    start = trainer.local.initial_shared()
    trainer.run_client(ClientTask(1, "client_00", start))
    update = trainer.run_client(ClientTask(1, "client_01", start))
    names = [name for name in trainer.local.adapter.parameters if "lora_A" in name]
    assert all(trainer.local.adapter.parameters[name].equal(trainer.local.initial[name]) for name in names)
    alone = federated(tmp_path / "b", tuning="connector").run_client(ClientTask(1, "client_01", start))
    assert update.tensors.digest() == alone.tensors.digest()
