"""Hooks on a model: a connector in fp32 under a bf16 base, and BatchNorms that no client may change."""

import pytest
import torch
from peft import get_peft_model
from torch import nn
from transformers import Ovis2Config, Ovis2ForConditionalGeneration

from federation import federated
from fedvlm_hf.client.adapters import Adapter, complete_config
from tiny import tiny_llava


def tiny_ovis2(dtype: torch.dtype):
    """Its connector is a table: called with the probabilities of visual tokens, and with token ids."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Ovis2Config(
        vision_config={**sizes, "image_size": 8, "patch_size": 4, "vocab_size": 24},
        text_config={"model_type": "qwen2", **sizes, "num_key_value_heads": 2, "vocab_size": 32},
        image_token_id=3,
        visual_indicator_token_ids=[4, 5, 6, 7, 8],
        hidden_size=16,
        vocab_size=32,
    )
    ids = torch.tensor([[4, 3, 3, 3, 3, 5, 20, 21]])
    return Ovis2ForConditionalGeneration(config).to(dtype), {"input_ids": ids, "pixel_values": torch.ones(1, 3, 8, 8)}


def tiny_llava_inputs(dtype: torch.dtype):
    model, processor = tiny_llava()
    ids = torch.tensor([[processor.image_token_id] * 4 + [10, 11]])
    return model.to(dtype), {"input_ids": ids, "pixel_values": torch.ones(1, 3, 16, 16)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("build", [tiny_ovis2, tiny_llava_inputs])
def test_a_connector_that_trains_in_fp32_can_be_disabled_and_merged(build, dtype):
    """Also under a bf16 base, and where the connector is called with integers (Ovis2)."""
    model, inputs = build(dtype)
    inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
    with torch.no_grad():
        original = model.eval()(**inputs).logits
    model = get_peft_model(model, complete_config(None, model))
    adapter = Adapter(model)
    adapter.set_trainable(adapter.names("joint"))
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert all(adapter.parameters[name].grad.abs().sum() > 0 for name in adapter.connector)
    with torch.no_grad():
        for name in adapter.connector:
            adapter.parameters[name].add_(0.1)
        own = model.eval()(**inputs).logits
        with model.disable_adapter():
            assert torch.equal(model(**inputs).logits, original)
        assert not torch.equal(own, original)
        merged = model.merge_and_unload()
        torch.testing.assert_close(merged(**inputs).logits, own)


def with_batch_norm() -> nn.Module:
    """A LLaVA with a BatchNorm in its vision tower, as FastVLM has; over 4 patches and the class token."""
    model, _ = tiny_llava()
    tower = model.model.vision_tower
    path = next(name for name, _ in tower.named_modules() if name.endswith("pre_layrnorm"))
    parent = tower.get_submodule(path.rpartition(".")[0]) if "." in path else tower
    parent.pre_layrnorm = nn.Sequential(parent.pre_layrnorm, nn.BatchNorm1d(5))
    return model


def buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.named_buffers() if "running" in name or "tracked" in name}


def test_the_batch_norms_of_a_frozen_tower_do_not_drift(tmp_path):
    """Trap: Trainer calls `model.train()` before each step, which would move frozen statistics. A batch of one row
    would even fail."""
    trainer = federated(tmp_path, model=with_batch_norm(), num_rounds=1, per_device_train_batch_size=1)
    before = buffers(trainer.model)
    assert len(before) == 3
    trainer.train()
    after = buffers(trainer.model)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_batch_norm_that_trains_uses_its_batches(tmp_path):
    """One in the connector: its statistics move with the connector, and stay where it is frozen."""
    moved = {}
    for tuning in ("joint", "llm"):
        model, _ = tiny_llava()
        model.model.multi_modal_projector.linear_1 = nn.Sequential(
            model.model.multi_modal_projector.linear_1, nn.BatchNorm1d(4)
        )
        trainer = federated(tmp_path / tuning, model=model, num_rounds=1, tuning=tuning)
        before = buffers(trainer.model)
        trainer.train()
        moved[tuning] = [
            name for name, value in buffers(trainer.model).items() if not torch.equal(value, before[name])
        ]
    assert moved["llm"] == []
    assert len(moved["joint"]) == 3
    assert all(".modules_to_save." in name for name in moved["joint"])
