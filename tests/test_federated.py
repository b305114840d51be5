"""The invariants of a federated run, on a tiny LLaVA trained for real."""

import json
import weakref
from dataclasses import dataclass

import pytest
import torch
from datasets import DatasetDict, concatenate_datasets
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import TrainerCallback

from deep_images import MODES, deep_rows, in_8_bit_files
from federation import config, federated, plain_sft, weights
from fedvlm_hf import FederatedTrainer, RoundCallback
from fedvlm_hf.checkpoint import round_folder
from fedvlm_hf.client.adapters import complete_config
from fedvlm_hf.methods import ClientMethod
from fedvlm_hf.methods.fedprox import FedProx
from fedvlm_hf.models.vlm import lora_target_regex
from fedvlm_hf.sampling import client_seed
from fedvlm_hf.tensors import WeightedMean
from fedvlm_hf.types import ClientTask
from tiny import tiny_federation, tiny_llava, tiny_rows


def one_client(rows: int = 5) -> DatasetDict:
    return tiny_federation({"client_00": rows}, test_rows=2)


# --- one client is SFTTrainer ---


@pytest.mark.parametrize("tuning", ["connector", "llm", "joint"])
def test_one_client_and_one_round_is_sft_trainer_to_the_bit(tmp_path, tuning):
    data = one_client()
    trainer = federated(tmp_path / "fed", data, num_rounds=1, max_steps=5, tuning=tuning)
    trainer.train()
    assert weights(trainer.local.adapter) == weights(plain_sft(tmp_path, data["client_00"], tuning, max_steps=5))


@pytest.mark.parametrize(
    "local",
    [
        {"max_steps": -1, "num_train_epochs": 2},
        {"gradient_accumulation_steps": 2},
        {"bf16": True},
        {"gradient_checkpointing": True},
        {"dataloader_num_workers": 1},
        {"optim": "sgd", "max_grad_norm": 0.0, "weight_decay": 0.1},
    ],
    ids=lambda local: next(iter(local)),
)
def test_it_is_so_whatever_the_local_arguments(tmp_path, local):
    data = one_client()
    local = {"max_steps": 3, **local}
    trainer = federated(tmp_path / "fed", data, num_rounds=1, **local)
    trainer.train()
    assert weights(trainer.local.adapter) == weights(plain_sft(tmp_path, data["client_00"], **local))


@pytest.mark.parametrize("mode", MODES)
def test_deep_images_train_as_their_8_bit_copies_to_the_bit(tmp_path, mode):
    """Plain SFTTrainer on the deep images ends elsewhere: it trains on white pictures."""
    rows = deep_rows(5, mode)
    trainer = federated(tmp_path / "fed", {"client_00": rows}, num_rounds=1)
    trainer.train()
    assert weights(trainer.local.adapter) == weights(plain_sft(tmp_path, in_8_bit_files(rows), max_steps=3))
    assert weights(trainer.local.adapter) != weights(plain_sft(tmp_path, rows, max_steps=3))


@pytest.mark.parametrize(
    "local", [{"max_steps": 4}, {"max_steps": -1, "num_train_epochs": 1}], ids=["steps", "epochs"]
)
def test_central_in_three_rounds_is_one_run_of_sft_trainer_to_the_bit(tmp_path, local):
    """Two clients of 6 and 4 rows: 3 rounds x 2 clients x 4 steps = 24 steps, or 3 epochs of the 10 pooled rows."""
    data = tiny_federation({"client_00": 6, "client_01": 4}, test_rows=2)
    trainer = federated(tmp_path / "fed", data, num_rounds=3, method="central", **local)
    trainer.train()
    whole = {"max_steps": 24} if local["max_steps"] > 0 else {"num_train_epochs": 3}
    assert weights(trainer.local.adapter) == weights(plain_sft(tmp_path, trainer.clients["central"], **whole))
    assert trainer.state.global_step == (24 if local["max_steps"] > 0 else 15)


def test_the_cosine_over_rounds_reaches_a_continuous_run(tmp_path):
    """Rates 0.01 * (1 + cos(0)) / 2 = 0.01 and 0.01 * (1 + cos(pi / 2)) / 2 = 0.005."""
    rates = []

    class Rates(TrainerCallback):
        def on_step_end(self, args, state, control, optimizer=None, **kwargs):
            rates.append(optimizer.param_groups[0]["lr"])

    federated(
        tmp_path,
        one_client(),
        method="central",
        max_steps=2,
        round_lr_scheduler_type="cosine",
        trainer_kwargs={"callbacks": [Rates()]},
    ).train()
    assert rates == pytest.approx([0.01, 0.01, 0.005, 0.005])


# --- clients and their mean ---


def test_identical_clients_are_one_client(tmp_path):
    """In file order and without dropout their seeds play no part; three rounds, so server state would show."""
    rows = tiny_rows(4, seed=1)
    runs = []
    for clients in (["client_00"], ["client_00", "client_01", "client_02"]):
        trainer = federated(
            tmp_path / str(len(clients)),
            dict.fromkeys(clients, rows),
            num_rounds=3,
            train_sampling_strategy="sequential",
            trainer_kwargs={"peft_config": LoraConfig(r=4)},
        )
        trainer.train()
        runs.append(weights(trainer.local.adapter))
    assert runs[0] == runs[1]


def test_a_round_is_the_mean_of_client_runs_weighted_by_rows(tmp_path):
    """Each client's run is redone by plain SFTTrainer with the seed of its place; 6 and 4 rows weigh 6 and 4."""
    data = tiny_federation({"client_00": 6, "client_01": 4}, test_rows=2)
    trainer = federated(tmp_path / "fed", data, num_rounds=1)
    trainer.train()
    mean = WeightedMean()
    for position, name in enumerate(["client_00", "client_01"]):
        # the adapter starts from the run's seed, only data order and dropout from the client's
        adapter = run_alone(tmp_path / name, data[name], client_seed(42, 1, position))
        mean.add(adapter.read(adapter.trainable()), len(data[name]))
    assert mean.result().digest() == weights(trainer.local.adapter)


def run_alone(output_dir, rows, seed):
    trainer = federated(output_dir, {"client_00": rows}, num_rounds=1)
    trainer.run_args.seed = seed
    trainer.train()
    return trainer.local.adapter


def test_the_order_of_clients_does_not_matter(tmp_path):
    data = tiny_federation({"client_00": 6, "client_01": 4, "client_02": 5}, test_rows=2)
    runs = []
    for names in (sorted(data), sorted(data, reverse=True)):
        trainer = federated(tmp_path / names[0], DatasetDict({name: data[name] for name in names}))
        trainer.train()
        runs.append(weights(trainer.local.adapter))
    assert runs[0] == runs[1]


def test_uniform_weights_differ_from_weights_by_rows(tmp_path):
    runs = []
    for weighting in ("num_samples", "uniform"):
        trainer = federated(tmp_path / weighting, client_weighting=weighting)
        trainer.train()
        runs.append(weights(trainer.local.adapter))
    assert runs[0] != runs[1]


def test_nothing_leaks_from_client_to_client(tmp_path):
    """A client's update is the same whoever ran before it: moments, random state, connector, token count."""
    data = tiny_federation({"client_00": 6, "client_01": 4}, test_rows=2)
    trainer = federated(tmp_path, data)
    task = ClientTask(1, "client_01", trainer.local.initial_shared())
    alone = trainer.run_client(task)
    alone_log = trainer.state.log_history[-1]
    trainer.run_client(ClientTask(1, "client_00", trainer.local.initial_shared()))
    after = trainer.run_client(task)
    assert alone.tensors.digest() == after.tensors.digest()
    assert alone.metrics["train_loss"] == after.metrics["train_loss"]
    assert alone_log["num_tokens"] == trainer.state.log_history[-1]["num_tokens"]


def test_keeping_the_optimizer_would_leak(tmp_path):
    """The trap behind the test above: Trainer builds an optimizer only where there is none."""
    trainer = federated(tmp_path)
    trainer.run_client(ClientTask(1, "client_00", trainer.local.initial_shared()))
    steps = {int(state["step"]) for state in trainer.optimizer.state.values()}
    trainer.local.adapter.write(trainer.local.initial_shared())
    trainer._task = None
    super(type(trainer).__mro__[2], trainer).train()  # SFTTrainer.train, without the reset of a client run
    assert steps == {3}
    assert {int(state["step"]) for state in trainer.optimizer.state.values()} == {6}


def test_updates_do_not_alias_the_model(tmp_path):
    trainer = federated(tmp_path)
    update = trainer.run_client(ClientTask(1, "client_00", trainer.local.initial_shared()))
    before = update.tensors.digest()
    trainer.local.adapter.write(trainer.local.initial_shared())
    assert update.tensors.digest() == before


def test_rounds_differ_in_data_order(tmp_path):
    seen = []

    class Order(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            seen.append((args.seed, args.learning_rate))

    federated(
        tmp_path, num_rounds=2, round_lr_scheduler_type="cosine", trainer_kwargs={"callbacks": [Order()]}
    ).train()
    assert [seed for seed, _ in seen] == [client_seed(42, r, k) for r in (1, 2) for k in (0, 1)]
    assert len(set(seen)) == 4


def test_sampled_clients_alone_train(tmp_path):
    data = tiny_federation({f"client_{k:02d}": 3 for k in range(5)}, test_rows=2)
    federated(tmp_path, data, num_rounds=3, clients_per_round=2, max_steps=1).train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    cohorts = [sorted(line["clients"]) for line in lines]
    assert [len(cohort) for cohort in cohorts] == [0, 2, 2, 2]
    assert len({tuple(cohort) for cohort in cohorts[1:]}) > 1


# --- tuning ---


@pytest.mark.parametrize(("tuning", "lora", "connector"), [("connector", 0, 1), ("llm", 1, 0), ("joint", 1, 1)])
def test_what_is_tuned_moves_and_nothing_else(tmp_path, tuning, lora, connector):
    trainer = federated(tmp_path, tuning=tuning)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert any("lora_B" in name for name in moved) == bool(lora)
    assert any("multi_modal_projector.modules_to_save" in name for name in moved) == bool(connector)
    assert not [n for n in moved if "lora_" not in n and "modules_to_save" not in n]


def test_a_bf16_base_trains_its_connector_in_fp32(tmp_path):
    """Trap: PEFT upcasts LoRA but copies the connector in bf16, where steps of 1e-4 on weights of 0.1 vanish."""
    model, _ = tiny_llava()
    trainer = federated(tmp_path, model=model.to(torch.bfloat16), learning_rate=1e-5, num_rounds=1)
    before = trainer.local.initial_shared().clone()
    trainer.train()
    assert all(trainer.local.adapter.parameters[name].dtype == torch.float32 for name in trainer.local.shared)
    for name in sorted(n for n in trainer.local.adapter.connector if n.endswith("weight")):
        old, new = before[name], trainer.federation.tensors[name]
        assert (new != old).float().mean() > 0.9, name
        assert (new.bfloat16() != old.bfloat16()).float().mean() < 0.5, name  # most would have been lost in bf16


def test_bf16_autocast_holds_for_every_client(tmp_path):
    """Trap: a second SFTTrainer on a model loses autocast without a word; here one trainer serves all clients."""
    dtypes = []
    trainer = federated(tmp_path, bf16=True, tuning="connector", num_rounds=1, max_steps=1)
    layer = trainer.model.get_base_model().model.language_model.layers[0].mlp.down_proj
    layer.register_forward_hook(lambda module, args, output: dtypes.append(output.dtype))
    for client_id in ("client_00", "client_01"):
        trainer.run_client(ClientTask(1, client_id, trainer.local.initial_shared()))
    assert dtypes == [torch.bfloat16, torch.bfloat16]


def test_the_trainer_wraps_the_models_forward_once(tmp_path):
    """Trap: each SFTTrainer adds one more wrapper to `base.forward`, until generation hits the recursion limit."""
    trainer = federated(tmp_path)
    forward = trainer.model.get_base_model().forward
    trainer.train()
    assert trainer.model.get_base_model().forward == forward


# --- exports ---


@pytest.mark.parametrize("tuning", ["connector", "llm", "joint"])
def test_stock_peft_loads_every_round_with_the_same_keys(tmp_path, tuning):
    from safetensors.torch import load_file

    trainer = federated(tmp_path, tuning=tuning)
    trainer.train()
    rounds = [round_folder(tmp_path, r) for r in range(3)]
    keys = [sorted(load_file(folder / "adapter_model.safetensors")) for folder in rounds]
    assert keys[0] == keys[1] == keys[2]
    assert {"lora_A", "lora_B", "multi_modal_projector"} <= {part for key in keys[0] for part in key.split(".")}
    base, processor = tiny_llava()
    loaded = PeftModel.from_pretrained(base, rounds[2]).eval()
    row = tiny_rows(1, seed=9)[0]
    inputs = processor(images=row["images"], text="<image>what?", return_tensors="pt")
    with torch.no_grad():
        expected = trainer.model.eval()(**inputs).logits
        assert torch.equal(loaded(**inputs).logits, expected)


def test_round_0_is_the_base_model(tmp_path):
    federated(tmp_path, num_rounds=1).train()
    base, processor = tiny_llava()
    inputs = processor(images=tiny_rows(1, seed=9)[0]["images"], text="<image>what?", return_tensors="pt")
    with torch.no_grad():
        expected = base(**inputs).logits
        loaded = PeftModel.from_pretrained(base, round_folder(tmp_path, 0)).eval()
        assert torch.equal(loaded(**inputs).logits, expected)


# --- the baselines ---


def test_local_clients_go_on_from_their_own_weights(tmp_path):
    """Two rounds of local equal two FedAvg rounds of that client alone, with its own seeds."""
    data = tiny_federation({"client_00": 6, "client_01": 4}, test_rows=4)
    trainer = federated(tmp_path / "local", data, method="local")
    trainer.train()
    for name in ("client_00", "client_01"):
        private = trainer.store.load(name)["private"]
        assert all(
            not torch.equal(tensor, trainer.local.initial[key]) for key, tensor in private.items() if "B" in key
        )
    alone = federated(tmp_path / "alone", {"client_00": data["client_00"]}, method="fedavg")
    alone.train()
    assert alone.federation.tensors.digest() == trainer.store.load("client_00")["private"].digest()
    assert [json.loads(x)["bytes_up"] for x in (tmp_path / "local/metrics.jsonl").read_text().splitlines()] == [0] * 3


def test_a_personalised_method_needs_to_know_whose_the_rows_are(tmp_path):
    data = tiny_federation({"client_00": 6, "client_01": 4}, test_rows=4)
    if "client_id" in data["test"].column_names:
        data["test"] = data["test"].remove_columns("client_id")
    with pytest.raises(ValueError, match="client_id"):
        federated(tmp_path, data, method="local", trainer_kwargs={"eval_dataset": None})


# --- what else a user does ---


def test_trainer_and_round_callbacks_are_called(tmp_path):
    calls = []

    class Steps(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            calls.append(("step", state.global_step))

    class Rounds(RoundCallback):
        def on_round_end(self, end):
            calls.append(("round", end.record.round_idx))
            return end.record.round_idx == 1

    federated(tmp_path, num_rounds=5, max_steps=2, trainer_kwargs={"callbacks": [Steps(), Rounds()]}).train()
    assert calls == [("round", 0), ("step", 1), ("step", 2), ("step", 1), ("step", 2), ("round", 1)]


def test_the_callers_arguments_are_left_alone(tmp_path):
    args = config(tmp_path)
    before = args.to_dict()
    model, processor = tiny_llava()
    data = tiny_federation({"client_00": 4, "client_01": 4}, test_rows=2)
    FederatedTrainer(model, args, data, processing_class=processor).train()
    assert args.to_dict() == before


def test_a_peft_model_keeps_its_adapter(tmp_path):
    model, _ = tiny_llava()
    model = get_peft_model(model, complete_config(None, model))
    trainer = federated(tmp_path, model=model)
    assert trainer.model is model
    assert trainer.local.plan.tuning == "joint"


def test_a_peft_model_without_connector_tunes_the_llm(tmp_path):
    model, _ = tiny_llava()
    model = get_peft_model(model, LoraConfig(target_modules=lora_target_regex(model)))
    assert federated(tmp_path / "a", model=model).local.plan.tuning == "llm"
    with pytest.raises(ValueError, match="modules_to_save"):
        federated(tmp_path / "b", model=model, tuning="joint")


def test_no_telemetry_is_sent(tmp_path, monkeypatch):
    """TRL reports trainer and model names at construction unless it runs in CI."""
    from trl.trainer import base_trainer

    sent = []
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(base_trainer, "send_telemetry", lambda *args, **kwargs: sent.append(args))
    plain_sft(tmp_path, tiny_rows(2, seed=0), max_steps=1)
    assert sent
    sent.clear()
    federated(tmp_path)
    assert not sent


def test_export_does_not_ask_the_hub(tmp_path, monkeypatch):
    """Trap: PEFT's `save_embedding_layers="auto"` looks the base model up on the Hub at every save."""
    import huggingface_hub

    asked = []
    trainer = federated(tmp_path)
    trainer.model.peft_config["default"].base_model_name_or_path = "nobody/nothing"
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: asked.append(a))
    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", lambda *a, **k: asked.append(a))
    trainer.local.adapter.export(tmp_path / "x")
    assert (tmp_path / "x" / "adapter_model.safetensors").exists()
    assert not asked


def test_trackers_see_one_run_with_the_round_as_step(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    federated(tmp_path, report_to="tensorboard", trainer_kwargs={"eval_dataset": None}).train()
    events = list(tmp_path.rglob("events.out.tfevents*"))
    assert len(events) == 1
    log = EventAccumulator(str(events[0])).Reload()
    assert [event.step for event in log.Scalars("test/vqa_accuracy")] == [0, 1, 2]
    assert [event.step for event in log.Scalars("train/client_01_loss")] == [1, 2]


def test_updates_are_summed_one_by_one_and_the_model_is_never_copied(tmp_path):
    """Invariant 7: when a client begins, the update of the one before the last is gone, whatever their number."""
    data = tiny_federation({f"client_{k:02d}": 2 for k in range(8)}, test_rows=2)
    alive, most = [], []

    @dataclass(frozen=True)
    class Watch(ClientMethod):
        def on_start(self, model, task):
            most.append((sum(ref() is not None for ref in alive), id(model), id(task.tensors.flat)))

        def on_finish(self, update, task):
            alive.append(weakref.ref(update.tensors))
            return update

    trainer = federated(tmp_path, data, method=Watch(), num_rounds=1, max_steps=1)
    trainer.train()
    assert len(most) == 8
    assert max(count for count, _, _ in most) <= 1
    assert {model for _, model, _ in most} == {id(trainer.model)}
    assert len({flat for _, _, flat in most}) == 1


def test_rows_of_a_client_that_is_not_there_are_refused(tmp_path):
    """Under a personalised method they would be scored with untrained tensors and mixed into the total."""
    data = tiny_federation({"client_00": 6, "client_01": 4}, test_rows=2)
    strange = concatenate_datasets([data["test"], tiny_rows(1).add_column("client_id", ["client_07"])])
    with pytest.raises(ValueError, match="`eval_dataset` 'test' has rows of client 'client_07', which does not take"):
        federated(tmp_path, data, method="local", trainer_kwargs={"eval_dataset": strange})
    federated(tmp_path, data, method="fedavg", trainer_kwargs={"eval_dataset": strange})  # one model for all


def test_a_method_that_is_an_object_reaches_trackers_as_text(tmp_path):
    """TensorBoard stores the arguments as JSON."""
    trainer = federated(tmp_path, method=FedProx(0.5), report_to="tensorboard", num_rounds=1)
    trainer.train()
    assert list((tmp_path / "runs").iterdir())
    assert json.loads(trainer.run_args.to_json_string())["method"] == "FedProx(mu=0.5)"
    assert json.loads((tmp_path / "run.json").read_text())["halves"]["client"] == {
        "name": "fedprox",
        "knobs": {"mu": 0.5},
    }
