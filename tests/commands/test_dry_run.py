"""Counts of full-size models that are not built, computed by hand."""

import pytest
import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForImageTextToText, CLIPVisionConfig, LlamaConfig

from federation import federated
from fedvlm_hf.client.adapters import Adapter
from fedvlm_hf.commands.dry_run import dry_run
from fedvlm_hf.models.builder import assembled_config
from tiny import tiny_llava
from tiny_parts import full_size_configs


def test_lora_on_llama_3b_by_hand():
    """r (inputs + outputs) a linear, r = 8, widths 3072 (hidden), 8 x 128 = 1024 (keys and values), 8192 (MLP): q and
    o 6144 each, k and v 4096 each, gate, up and down 11264 each, which is 54,272 a layer; 28 layers; 12,156,928."""
    sizes = dry_run(assembled_config("mlp2x", *full_size_configs(), image_token_id=0))
    assert 2 * 6144 + 2 * 4096 + 3 * 11264 == 54272
    assert sizes.trainable["llm"] == 28 * 8 * 54272 == 12_156_928
    assert sizes.num_targets == 28 * 7
    assert sizes.target_names == ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")


@pytest.mark.parametrize(("connector", "further"), [("linear", 0), ("mlp2x", 1), ("mlp6x", 5)])
def test_sizes_of_the_papers_model_by_hand(connector, further):
    """Connector: 768 x 3072 + 3072 for the first layer, 3072 x 3072 + 3072 a further one.

    Tower (ViT-B/32): class token 768, patches 32 x 32 x 3 x 768, positions 50 x 768, two norms around the layers of
    2 x 768 each; a layer has 4 (768^2 + 768) for attention, 2 x 768 x 3072 + 3072 + 768 for the MLP, two norms.
    Llama: 128256 x 3072 embeddings, which the head shares; a layer has 2 x 3072^2 + 2 x 3072 x 1024 for attention,
    3 x 3072 x 8192 for the MLP and two norms of 3072; one norm at the end."""
    first, other = 768 * 3072 + 3072, 3072 * 3072 + 3072
    layer = 4 * (768**2 + 768) + 2 * 768 * 3072 + 3072 + 768 + 2 * 2 * 768
    tower = 768 + 32 * 32 * 3 * 768 + 50 * 768 + 2 * 2 * 768 + 12 * layer
    layer = 2 * 3072**2 + 2 * 3072 * 1024 + 3 * 3072 * 8192 + 2 * 3072
    llama = 128256 * 3072 + 28 * layer + 3072
    sizes = dry_run(assembled_config(connector, *full_size_configs(), image_token_id=0))
    assert sizes.parameters == {
        "vision tower": tower,
        "connector": first + further * other,
        "language model": llama,
    }
    assert (tower, llama) == (87_456_000, 3_212_749_824)
    assert sizes.total == tower + first + further * other + llama
    assert sizes.trainable["connector"] == first + further * other
    assert sizes.trainable["joint"] == sizes.trainable["connector"] + sizes.trainable["llm"]
    assert sizes.bytes_each_way("joint") == 4 * sizes.trainable["joint"]


def test_it_is_what_a_run_trains_and_sends(tmp_path):
    """The counts of the tiny model equal those of its real adapter, and the bytes equal those of a real update."""
    model, _ = tiny_llava()
    sizes = dry_run(model.config)
    for tuning, count in sizes.trainable.items():
        trainer = federated(tmp_path / tuning, tuning=tuning, num_rounds=1, max_steps=1)
        adapter: Adapter = trainer.local.adapter
        assert sum(adapter.parameters[name].numel() for name in adapter.trainable()) == count
        assert trainer.local.initial_shared().flat.nbytes == sizes.bytes_each_way(tuning)
    assert sizes.total == model.num_parameters()


def test_a_custom_adapter():
    """q and v alone: 2 layers x 2 linears x 4 (32 + 32)."""
    config = LoraConfig(r=4, target_modules=r".*language_model.*\.(q_proj|v_proj)")
    sizes = dry_run(tiny_llava()[0].config, config)
    assert sizes.trainable["llm"] == 2 * 2 * 4 * 64
    assert sizes.target_names == ("q_proj", "v_proj")
    assert "LoRA r=4" in str(sizes)


def test_families_without_a_connector():
    config = AutoConfig.for_model("chameleon", vocabulary_map={"<image>": 3, "IMGIMGBBZ": 4})
    sizes = dry_run(config)
    assert list(sizes.parameters) == ["image tokenizer", "language model"]
    assert list(sizes.trainable) == ["llm"]


def test_a_connector_inside_its_tower_counts_once():
    sizes = dry_run(AutoConfig.for_model("qwen2_5_vl"))
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model("qwen2_5_vl"))
    assert sizes.total == model.num_parameters()
    merger = sum(parameter.numel() for parameter in model.model.visual.merger.parameters())
    assert sizes.parameters["connector"] == merger
    assert sizes.parameters["vision tower"] == model.model.visual.num_parameters() - merger


def test_no_memory_is_taken():
    """A Llama of 10^15 parameters could not be built anywhere."""
    text = LlamaConfig(hidden_size=10**6, intermediate_size=10**7, num_hidden_layers=30, num_attention_heads=1000)
    assert dry_run(assembled_config("linear", CLIPVisionConfig(), text, image_token_id=0)).total > 10**15


def test_what_is_printed():
    printed = str(dry_run(assembled_config("mlp2x", *full_size_configs(), image_token_id=0)))
    assert printed == (
        """\
part               parameters
vision tower       87,456,000
connector          11,802,624
language model  3,212,749,824
all             3,312,008,448

LoRA r=8 alpha=32 on 196 linears of the language model:
down_proj gate_proj k_proj o_proj q_proj up_proj v_proj

What one client trains and sends in one round:
tuning      trainable  bytes down    bytes up
connector  11,802,624  47,210,496  47,210,496
llm        12,156,928  48,627,712  48,627,712
joint      23,959,552  95,838,208  95,838,208"""
    )
