"""Every family of the table at its default size on the meta device, without memory or downloads, and tiny models."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForImageTextToText
from transformers.modeling_utils import PreTrainedModel
from trl.trainer import utils as trl_utils

from fedvlm_hf.models import VLMParts, known_model_types, lora_target_regex, register_vlm, sft_obstacle, vlm, vlm_parts
from fedvlm_hf.models.vlm import check_trainable
from tiny import tiny_llava


LLAMA = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"
DELTA = "in_proj_qkv in_proj_z in_proj_b in_proj_a out_proj"  # Qwen3.5's linear attention: 3 of 4 layers

# Per family: layers x linears per layer of transformers' default config, counted by hand from the modeling file, and
# the names of those linears.
LINEARS = {
    "aya_vision": (40 * 7, LLAMA),
    "chameleon": (32 * 7, LLAMA),
    "cohere2_vision": (40 * 7, LLAMA),
    "deepseek_vl": (32 * 7, LLAMA),
    "emu3": (32 * 7, LLAMA),
    "fed_llava": (32 * 7, LLAMA),
    "gemma3": (26 * 7, LLAMA),
    "gemma4": (30 * 9 + 1, LLAMA + " per_layer_input_gate per_layer_projection per_layer_model_projection"),
    "gemma4_unified": (30 * 7, LLAMA),
    "glm4v": (40 * 6, "q_proj k_proj v_proj o_proj gate_up_proj down_proj"),
    "idefics2": (32 * 7, LLAMA),
    "idefics3": (32 * 7, LLAMA),
    "internvl": (32 * 7, LLAMA),
    "janus": (32 * 7, LLAMA),
    # latent attention (5), and a dense or shared-expert MLP (3); the routed experts are bare parameters
    "kimi_k25": (61 * 8, "q_a_proj q_b_proj kv_a_proj_with_mqa kv_b_proj o_proj gate_proj up_proj down_proj"),
    # LFM2's short convolution and attention layers, 1 and 1 here
    "lfm2_vl": (4 + 2 + 2 * 3, "q_proj k_proj v_proj out_proj in_proj w1 w2 w3"),
    "llava": (32 * 7, LLAMA),
    "llava_next": (32 * 7, LLAMA),
    "llava_onevision": (32 * 7, LLAMA),
    "minicpmv4_6": (24 * 5 + 8 * 4 + 32 * 3, f"{DELTA} {LLAMA}"),
    "mistral3": (40 * 7, LLAMA),
    "ovis2": (32 * 7, LLAMA),
    "qwen2_5_vl": (80 * 7, LLAMA),
    "qwen2_vl": (80 * 7, LLAMA),
    "qwen3_5": (24 * 5 + 8 * 4 + 32 * 3, f"{DELTA} {LLAMA}"),
    "qwen3_vl": (32 * 7, LLAMA),
    "showo": (24 * 6, "q_proj k_proj v_proj dense fc1 fc2"),
    "smolvlm": (32 * 7, LLAMA),
    "vipllava": (32 * 7, LLAMA),
}

# What the default configs lack: image vocabularies, and towers that some of them omit
CONFIGS = {
    "aya_vision": {"vision_config": {"model_type": "siglip_vision_model"}},
    "chameleon": {"vocabulary_map": {"<image>": 3, "IMGIMGBBZ": 4}},
    "emu3": {"vocabulary_map": {"<image>": 3, "<|visual token 000000|>": 4}},
    "gemma4": {"vision_config": {}},
    "gemma4_unified": {"vision_config": {}},
    "idefics3": {"pad_token_id": 0},  # before transformers 5.20 it is not in the vocabulary
    "lfm2_vl": {
        "text_config": {"model_type": "lfm2", "num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]}
    },
    "smolvlm": {"pad_token_id": 0},
}


def meta_model(model_type: str) -> PreTrainedModel:
    if model_type not in CONFIG_MAPPING:
        pytest.skip(f"this version of transformers has no {model_type}")
    config = AutoConfig.for_model(model_type, **CONFIGS.get(model_type, {}))
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def modules_below(model: nn.Module, paths) -> set[int]:
    return {id(module) for path in paths for module in model.get_submodule(path).modules()}


def lora_bases(model: nn.Module) -> list[nn.Module]:
    return [module.get_base_layer() for module in model.modules() if isinstance(module, LoraLayer)]


# The parts of each family, by hand from its modeling file
LAYOUTS = {
    "aya_vision cohere2_vision fed_llava gemma3 internvl lfm2_vl llava llava_next llava_next_video llava_onevision "
    "mistral3 qianfan_ocr vipllava aria got_ocr2 mllama-vision_model paligemma lfm3_vl step3p7-vision_model "
    "video_llava-image_tower": ("language_model", "vision_tower", ["multi_modal_projector"]),
    "gemma4": ("language_model", "vision_tower", ["embed_vision"]),
    "gemma4_unified": ("language_model", None, ["embed_vision"]),
    "fuyu": ("language_model", None, ["vision_embed_tokens"]),
    "qwen2_vl qwen2_5_vl qwen3_5 qwen3_5_moe glm4v glm4v_moe glm46v glm_ocr exaone4_5": (
        "language_model", "visual", ["visual.merger"],
    ),
    "qwen3_vl qwen3_vl_moe": (
        "language_model", "visual", ["visual.merger", *(f"visual.deepstack_merger_list.{i}" for i in range(3))],
    ),
    "smolvlm idefics3 idefics2": ("text_model", "vision_model", ["connector"]),
    "deepseek_vl deepseek_vl_hybrid janus": ("language_model", "vision_model", ["aligner"]),
    "ovis2": ("language_model", "vision_tower", ["visual_embeddings_table"]),
    "minicpmv4_6": ("language_model", "vision_tower", ["merger"]),
    "kimi_k25": ("language_model", "vision_tower", ["mm_projector"]),
    "paddleocr_vl": ("language_model", "visual", ["projector"]),
    "video_llama_3": ("language_model", "vision_model", ["projector"]),
    "lighton_ocr": ("language_model", "vision_encoder", ["vision_projection"]),
    "chameleon": ("", None, []),
    "emu3": ("text_model", None, []),
}  # fmt: skip
PARTS = {
    name.partition("-")[0]: (decoder, name.partition("-")[2] or tower, connector)
    for names, (decoder, tower, connector) in LAYOUTS.items()
    for name in names.split()
}
# The default configuration does not build; the tests of Show-o are in a folder of its own
BUILT_ELSEWHERE = {"granite4_vision", "showo"}


@pytest.mark.parametrize("model_type", PARTS)
def test_the_parts_are_found(monkeypatch, model_type):
    """Of all former rows of the table, and of families that were never in it."""
    monkeypatch.setattr(vlm, "check_trainable", lambda config: None)  # some of them TRL cannot train
    monkeypatch.setattr(vlm, "check_connector", lambda model, parts: None)  # widths of default configs do not match
    decoder, tower, connector = PARTS[model_type]
    model = meta_model(model_type)
    assert vlm_parts(model) == VLMParts(
        f"model.{decoder}".rstrip("."),
        tower and f"model.{tower}",
        tuple(f"model.{path}" for path in connector),
        "model.vqmodel" if model_type in ("chameleon", "emu3", "janus") else None,
        "lm_head",
    )


def test_every_family_that_messages_name_is_tested():
    assert set(known_model_types()) - BUILT_ELSEWHERE <= set(PARTS)
    assert set(LINEARS) - BUILT_ELSEWHERE <= set(PARTS)


@pytest.mark.parametrize("model_type", LINEARS)
def test_lora_reaches_every_linear_of_the_language_model_and_nothing_else(model_type):
    model = meta_model(model_type)
    parts = vlm_parts(model)
    # by identity of modules, not by names: linears below the decoder that are in no other part
    foreign = modules_below(model, [path for path in (parts.tower, *parts.connector, parts.image_tokenizer) if path])
    foreign.add(id(model.get_output_embeddings()))
    decoder = [module for module in model.get_submodule(parts.decoder).modules() if type(module) is nn.Linear]
    expected = {id(module) for module in decoder if id(module) not in foreign}
    names = {id(module): name for name, module in model.named_modules()}
    count, leaves = LINEARS[model_type]

    config = LoraConfig(r=1, target_modules=lora_target_regex(model), modules_to_save=list(parts.connector) or None)
    peft_model = get_peft_model(model, config, low_cpu_mem_usage=True)

    bases = lora_bases(peft_model)
    assert len(bases) == count
    assert {id(base) for base in bases} == expected
    assert {names[id(base)].rpartition(".")[2] for base in bases} == set(leaves.split())
    wrapped = {n for n, m in model.named_modules() if isinstance(m, ModulesToSaveWrapper)}
    assert wrapped == set(parts.connector)
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    saved = tuple(f"{path}.modules_to_save.default." for path in parts.connector)
    assert all(".lora_" in name or name.startswith(saved) for name in trainable)
    assert vlm_parts(peft_model) == parts


@pytest.mark.parametrize("model_type", LINEARS)
def test_parts_exist_and_lie_apart(model_type):
    model = meta_model(model_type)
    parts = vlm_parts(model)
    encoder_free = {"chameleon", "emu3", "gemma4_unified", "showo"}
    assert (parts.tower is None) == (model_type in encoder_free)
    assert bool(parts.connector) == (model_type not in {"chameleon", "emu3", "showo"})
    assert (parts.image_tokenizer is not None) == (model_type in {"chameleon", "emu3", "janus", "showo"})
    assert model.get_submodule(parts.head) is model.get_output_embeddings()
    connector = modules_below(model, parts.connector)
    embeddings = id(model.get_input_embeddings())
    assert embeddings in modules_below(model, [parts.decoder])
    assert embeddings not in connector
    if model_type != "chameleon":  # where the decoder is the whole model
        assert not connector & modules_below(model, [parts.decoder])


def test_parts_of_llava_by_hand():
    model, _ = tiny_llava()
    expected = VLMParts(
        "model.language_model", "model.vision_tower", ("model.multi_modal_projector",), None, "lm_head"
    )
    assert vlm_parts(model) == expected


def test_deepstack_mergers_are_listed_one_by_one():
    """PEFT wraps modules that are called. A ModuleList has no forward, so wrapping it would train nothing."""
    parts = vlm_parts(meta_model("qwen3_vl"))
    deepstack = [f"model.visual.deepstack_merger_list.{index}" for index in range(3)]
    assert parts.connector == ("model.visual.merger", *deepstack)


@pytest.mark.parametrize(("targets", "reached"), [(["q_proj", "v_proj"], (4, 0)), ("all-linear", (12, 2))])
def test_the_usual_targets_reach_too_far(targets, reached):
    """The traps: CLIP's two layers have q_proj and v_proj too (2 x 2), and six linears each (q, k, v, out, fc1, fc2);
    "all-linear" takes them and both linears of the connector. Ours takes none."""
    for target_modules, expected in [(targets, reached), (None, (0, 0))]:
        model, _ = tiny_llava()
        tower = modules_below(model, ["model.vision_tower"])
        connector = modules_below(model, ["model.multi_modal_projector"])
        peft_model = get_peft_model(model, LoraConfig(target_modules=target_modules or lora_target_regex(model)))
        bases = [id(base) for base in lora_bases(peft_model)]
        assert (sum(base in tower for base in bases), sum(base in connector for base in bases)) == expected


def test_gradients_reach_lora_and_connector_only():
    model, processor = tiny_llava()
    parts = vlm_parts(model)
    config = LoraConfig(r=2, target_modules=lora_target_regex(model), modules_to_save=list(parts.connector))
    peft_model = get_peft_model(model, config)
    ids = torch.tensor([[processor.image_token_id] * 4 + [10, 11, 12]])
    peft_model(input_ids=ids, pixel_values=torch.randn(1, 3, 16, 16), labels=ids).loss.backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    linears = {name for name in moved if ".lora_" in name}
    assert len(linears) == 2 * 2 * 7  # A and B, two layers, seven linears
    projector = "model.multi_modal_projector.modules_to_save.default.linear_"
    assert moved - linears == {f"{projector}{index}.{leaf}" for index in (1, 2) for leaf in ("weight", "bias")}


def test_routers_are_not_linears(monkeypatch):
    """llama4's router subclasses nn.Linear and returns a tuple: LoRA could not add to it in the first forward."""
    monkeypatch.setattr(vlm, "_FAMILIES", {})
    register_vlm("llama4", tower="vision_model", connector="multi_modal_projector", decoder="language_model")
    model = meta_model("llama4")
    router = model.get_submodule("language_model.model.layers.1.feed_forward.router")
    assert isinstance(router, nn.Linear)
    peft_model = get_peft_model(
        model, LoraConfig(r=1, target_modules=lora_target_regex(model)), low_cpu_mem_usage=True
    )
    assert all(base is not router for base in lora_bases(peft_model))


@pytest.mark.parametrize("model_type", LINEARS)
def test_every_row_can_be_trained(model_type):
    model = meta_model(model_type)
    assert sft_obstacle(model) is None
    check_trainable(model.config)


@pytest.mark.parametrize(
    ("model_type", "reason", "has_obstacle"),
    [
        ("paligemma", "needs images with every text", False),
        ("mllama", "`cross_attention_mask`", False),
        ("got_ocr2", "the pages of one document", False),
        ("fuyu", "fails on every image", False),
        ("llama4", "its `base_model` is itself", True),
        ("blip-2", "its `base_model` is itself", True),
        ("instructblip", "its `base_model` is itself", True),
        ("florence2", "is an encoder-decoder", True),
    ],
)
def test_families_that_cannot_be_trained_are_refused_with_the_reason(monkeypatch, model_type, reason, has_obstacle):
    """From the configuration alone. A registered family is only refused if TRL is certain to fail."""
    model = meta_model(model_type)
    with pytest.raises(ValueError, match=f"'{model_type}' .*{reason}.*another family: aya_vision, ") as error:
        check_trainable(model.config)
    with pytest.raises(ValueError, match="cannot be trained") as same:
        vlm_parts(model)
    assert str(error.value) == str(same.value)
    assert (sft_obstacle(model) is not None) == has_obstacle
    monkeypatch.setattr(vlm, "_FAMILIES", dict(vlm._FAMILIES))
    register_vlm(model_type, tower=None, connector=None, decoder="")
    check_trainable(model.config)


LLAMA4 = {
    "text_config": {
        "vocab_size": 16,
        "hidden_size": 8,
        "intermediate_size": 8,
        "intermediate_size_mlp": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "num_local_experts": 2,
        "pad_token_id": 0,
    },
    "vision_config": {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 1, "intermediate_size": 64},
    "image_token_index": 9,
}
FLORENCE2 = {
    "text_config": {
        "model_type": "bart",
        "vocab_size": 16,
        "d_model": 8,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 1,
        "decoder_attention_heads": 1,
        "encoder_ffn_dim": 8,
        "decoder_ffn_dim": 8,
    },
    "vision_config": {"depths": [1, 1, 1, 1], "projection_dim": 8},
    "image_token_id": 9,
}


@pytest.mark.skipif(not hasattr(trl_utils, "add_fused_lm_head"), reason="TRL has this head from 1.15 on")
@pytest.mark.parametrize(
    ("model_type", "overrides", "error"),
    [("llama4", LLAMA4, AttributeError), ("florence2", FLORENCE2, RuntimeError)],
)
def test_trl_really_fails_where_sft_obstacle_says_so(model_type, overrides, error):
    """The loss of the model works, TRL's fused head does not. If this fails, TRL supports it: drop the obstacle."""
    model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(model_type, **overrides))
    assert sft_obstacle(model) is not None
    ids = torch.tensor([[1, 2, 3, 4]])
    assert model(input_ids=ids, labels=ids).loss.isfinite()
    trl_utils.add_fused_lm_head(model)
    with pytest.raises(error):
        model(input_ids=ids, labels=ids, fused_lm_head=True)


def test_sft_obstacle_looks_below_peft():
    model, _ = tiny_llava()
    assert sft_obstacle(get_peft_model(model, LoraConfig(target_modules=lora_target_regex(model)))) is None
