"""What a client run saves itself beside plain SFTTrainer changes nothing of what it trains."""

from dataclasses import dataclass

import pytest
from transformers import Trainer
from trl import SFTTrainer

from federation import config, federated
from fedvlm_hf import FederatedTrainer
from fedvlm_hf.federated import FederatedMixin
from fedvlm_hf.methods import ClientMethod
from fedvlm_hf.types import ClientTask
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
    from transformers import TrainerCallback

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
