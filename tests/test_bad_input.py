"""Bad arguments and bad updates: a clear error, before any training and before anything is overwritten."""

from pathlib import Path

import pytest
import torch
from datasets import DatasetDict
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from federation import config, federated
from fedvlm_hf import FederatedTrainer
from fedvlm_hf.client.adapters import complete_config
from fedvlm_hf.exchange.updates import UpdateError
from fedvlm_hf.models import vlm_parts
from tiny import tiny_llava, tiny_rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "fedavgg"}, "`method` 'fedavgg' is unknown. Did you mean 'fedavg'"),
        ({"method": "central+local"}, "more than one client method"),
        ({"method_kwargs": {"mu": 1}}, "method 'fedavg' has no knobs"),
        ({"tuning": "vision"}, "`tuning` must be one of connector, llm, joint, two_stage, got 'vision'"),
        ({"num_rounds": 0}, "`num_rounds` must be at least 1, got 0"),
        ({"eval_every": 0}, "`eval_every` must be at least 1"),
        ({"learning_rate": 0.0}, "`learning_rate` must be a finite number above 0, got 0.0"),
        ({"learning_rate": -1e-4}, "`learning_rate` must be a finite number above 0, got -0.0001"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be a finite number above 0, got nan"),
        ({"max_steps": 0}, "Clients would do nothing"),
        ({"max_steps": -1, "num_train_epochs": 0}, "Clients would do nothing"),
        ({"clients_per_round": 3}, "there are only 2 clients"),
        ({"clients_per_round": 0}, "`clients_per_round` must be"),
        ({"client_sampling": "best"}, "`client_sampling` must be one of uniform, weighted, got 'best'"),
        ({"client_weighting": "loss"}, "`client_weighting` must be one of"),
        ({"round_lr_scheduler_type": "linear"}, "`round_lr_scheduler_type` must be one of"),
        ({"engine": "ray"}, "`engine` must be one of in_process, got 'ray'"),
        ({"load_best_model_at_end": True, "save_strategy": "best"}, "`load_best_model_at_end` cannot be set"),
        ({"auto_find_batch_size": True}, "`auto_find_batch_size` cannot be set"),
        ({"save_strategy": "steps"}, "`save_strategy` cannot be set"),
        ({"eval_strategy": "steps", "eval_steps": 1}, "`eval_strategy` cannot be set"),
        ({"push_to_hub": True}, "`push_to_hub` needs `hub_model_id`"),
        ({"hub_model_id": "my-run"}, "`hub_model_id` 'my-run' does not say who owns the repository"),
        ({"hub_model_id": "me/my run"}, "`hub_model_id` 'me/my run' cannot be the name of a repository"),
        ({"push_to_hub": True, "hub_model_id": "me/run"}, "The base model was made in memory"),
        (
            {"push_to_hub": True, "hub_model_id": "a/b", "hub_base_model": "a/c", "push_client_adapters": True},
            "with `method` 'fedavg' clients keep nothing",
        ),
        ({"method": "central", "lr_scheduler_type": "linear"}, "`lr_scheduler_type` must be constant"),
        ({"method": "fedprox", "fp16": True}, "`fp16` cannot be used with `method` 'fedprox'"),
        ({"tuning": "two_stage", "num_rounds": 1}, "one of the two stages would have none"),
        ({"stage_rounds": 1}, "`stage_rounds` goes with `tuning='two_stage'`"),
        ({"method": "local+fedadam"}, "`method` joins Local and FedAdam"),
        ({"method": "fedyogi", "method_kwargs": {"tau": 0}}, "`tau` must be a finite number above 0, got 0"),
        ({"max_length": 12}, "would cut the answer of 10 rows"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError) as error:
        federated(tmp_path / "out", **arguments).train()
    assert message in str(error.value)
    assert not (tmp_path / "out" / "rounds").exists()


def test_trainer_arguments(tmp_path):
    model, _ = tiny_llava()
    optimizer = torch.optim.SGD(model.parameters(), lr=1)
    for given, message in [
        ({"optimizers": (optimizer, None)}, "`optimizers` cannot be passed"),
        ({"compute_metrics": lambda _: {}}, "`compute_metrics` cannot be passed"),
    ]:
        with pytest.raises(ValueError, match=message):
            federated(tmp_path, trainer_kwargs=given)


def test_a_model_of_an_unknown_family_is_told_which_paths_to_give():
    model = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))
    with pytest.raises(ValueError) as error:
        vlm_parts(model)
    for word in ("register_vlm", "tower", "connector", "decoder"):
        assert word in str(error.value)


def test_data_errors_come_before_the_model_is_loaded(tmp_path):
    with pytest.raises(ValueError, match="no client"):
        FederatedTrainer("no/such-model", config(tmp_path), DatasetDict())
    with pytest.raises(ValueError, match="no client"):
        FederatedTrainer("no/such-model", config(tmp_path), {})


def test_an_undecodable_image_is_named(tmp_path):
    rows = tiny_rows(3, seed=0)
    broken = rows.with_format("arrow")[:].to_pylist()
    broken[1]["images"][0] = {"bytes": b"not an image", "path": None}
    bad = type(rows).from_list(broken, features=rows.features)
    with pytest.raises(ValueError, match=r"client 'client_01', row 1, column `images`: .*does not decode"):
        federated(tmp_path, {"client_00": rows, "client_01": bad})


def test_a_diverging_client_stops_the_run_before_the_sum(tmp_path):
    with pytest.raises(UpdateError, match=r"client 'client_0\d' in round 1 .* not finite"):
        federated(tmp_path, learning_rate=1e38, max_grad_norm=0.0, optim="sgd").train()
    assert [path.name for path in Path(tmp_path, "rounds").iterdir()] == ["round-0000"]


def test_an_adapter_whose_name_hides_tensors_is_refused(tmp_path):
    """Trap: PEFT drops every key that holds another adapter's name, so that "0" removes layer 0 from "default"."""
    model, _ = tiny_llava()
    peft_config = complete_config(None, model)
    model = get_peft_model(model, peft_config)
    model.add_adapter("0", LoraConfig(target_modules=peft_config.target_modules))
    model.set_adapter("default")
    with pytest.raises(ValueError, match=r"lacks .* tensors"):
        federated(tmp_path, model=model)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"target_modules": ["q_prj"]}, "`lora_target_modules`, which is .* has 'q_prj', but no module .* q_proj"),
        ({"target_modules": ["q_proj", "nope"]}, "`lora_target_modules`, which is .* has 'nope', but no module"),
        ({"target_modules": "llm.*"}, "`lora_target_modules`, which is .* has 'llm.\\*', but no module"),
        ({"modules_to_save": ["nope"]}, "`lora_modules_to_save`, which is .* has 'nope', but no module"),
    ],
    ids=str,
)
def test_a_lora_target_that_the_model_does_not_have(tmp_path, lora, message):
    """Trap: PEFT leaves a name out without a word where another one is found."""
    with pytest.raises(ValueError, match=message):
        federated(tmp_path, trainer_kwargs={"peft_config": LoraConfig(**lora)})
    assert not list(tmp_path.iterdir())


def test_a_text_only_model_is_refused_with_the_reason(tmp_path):
    model = LlamaForCausalLM(
        LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8)
    )
    LlamaConfig().save_pretrained(tmp_path)  # no weights: they are not looked for
    for given in (model, str(tmp_path)):
        with pytest.raises(
            ValueError, match="`model` cannot be trained: 'llama' is a language model that takes no im"
        ):
            FederatedTrainer(given, config(tmp_path / "out"), {"a": tiny_rows(2)}, {})
