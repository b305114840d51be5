"""Families that nobody named: their parts are found, or the message says how to name them."""

import json
import re

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, LlamaConfig, LlamaForCausalLM
from transformers.modeling_utils import PreTrainedModel
from trl import ModelConfig

from federation import config
from fedvlm_hf.client.adapters import complete_config
from fedvlm_hf.launch import check_arguments
from fedvlm_hf.models import VLMParts, lora_target_regex, register_vlm, vlm, vlm_parts
from fedvlm_hf.models.vlm import register_vlm_option
from tiny import save_tiny, tiny_llava


@pytest.fixture(autouse=True)
def families_as_before(monkeypatch):
    monkeypatch.setattr(vlm, "_FAMILIES", dict(vlm._FAMILIES))


def renamed_llava(model_type: str) -> PreTrainedModel:
    model, _ = tiny_llava()
    model.config.model_type = model_type
    return model


def test_the_parts_of_an_unknown_family_are_found():
    stock, _ = tiny_llava()
    model = renamed_llava("strange")
    assert vlm_parts(model) == vlm_parts(stock)
    assert vlm_parts(get_peft_model(model, complete_config(None, model))) == vlm_parts(stock)


def without_connector(model: PreTrainedModel) -> None:
    del model.model.multi_modal_projector


def with_another_width(model: PreTrainedModel) -> None:
    model.model.multi_modal_projector = nn.Linear(7, 5)


def without_images(model: PreTrainedModel) -> None:
    del model.model.multi_modal_projector, model.model.vision_tower


@pytest.mark.parametrize(
    ("change", "problem", "tower"),
    [
        (without_connector, "no connector was found between its vision tower 'model.vision_tower'", "vision_tower"),
        (with_another_width, "no weight of model.multi_modal_projector has the width", "vision_tower"),
        (without_images, "no part of it takes images", None),
    ],
)
def test_where_the_parts_are_not_found_the_message_has_the_call_to_complete(change, problem, tower):
    model = renamed_llava("strange")
    change(model)
    with pytest.raises(ValueError, match="'strange'") as error:
        vlm_parts(model)
    message, path = str(error.value), tower and f"model.{tower}"
    assert problem in message
    call = f"register_vlm('strange', decoder='model.language_model', tower={path!r}, connector=...)"
    assert call in message
    option = json.dumps({"decoder": "model.language_model", "tower": path})
    assert f"--vlm_parts '{option[:-1]}, \"connector\": ...}}'" in message
    assert "model.language_model, lm_head" in message


def test_other_towers_and_parts_of_other_modalities_are_no_connector():
    model = renamed_llava("strange")
    for name in ("video_tower", "high_res_vision_model", "audio_embed", "generation_head", "vqmodel", "action_head"):
        setattr(model.model, name, nn.Linear(8, 32))
    model.model.vision_tower.aligner = nn.ModuleList([nn.Linear(8, 32), nn.Linear(8, 32)])
    parts = vlm_parts(model)
    assert parts.connector == (
        "model.multi_modal_projector",
        "model.vision_tower.aligner.0",
        "model.vision_tower.aligner.1",
    )
    assert parts.image_tokenizer == "model.vqmodel"


def test_a_registered_family_works_like_a_row():
    model = renamed_llava("strange")
    register_vlm(
        "strange",
        tower="model.vision_tower",
        connector="model.multi_modal_projector",
        decoder="model.language_model",
    )
    stock, _ = tiny_llava()
    assert vlm_parts(model) == vlm_parts(stock)
    assert lora_target_regex(model) == lora_target_regex(stock)


@pytest.mark.parametrize("role", ["tower", "image_tokenizer"])
def test_parts_inside_the_decoder_are_not_of_it(role):
    """As in Chameleon, where the decoder is all of `model`; here tower and connector, with linears, are inside it."""
    stock, _ = tiny_llava()
    register_vlm(
        "strange",
        **{"tower": None, "connector": "model.multi_modal_projector", "decoder": "model", role: "model.vision_tower"},
    )
    pattern = lora_target_regex(renamed_llava("strange"))
    names = [name for name, _ in stock.named_modules()]
    ours = re.compile(lora_target_regex(stock))
    assert [n for n in names if re.fullmatch(pattern, n)] == [n for n in names if ours.fullmatch(n)]


def test_a_registered_family_without_tower_and_connector():
    register_vlm("strange", tower=None, connector=None, decoder="model.language_model")
    parts = vlm_parts(renamed_llava("strange"))
    assert parts == VLMParts("model.language_model", head="lm_head")


@pytest.mark.parametrize("part", ["tower", "connector", "decoder"])
def test_a_wrong_path_names_argument_and_path(part):
    paths = {"tower": "model.vision_tower", "connector": None, "decoder": "model.language_model"}
    register_vlm("strange", **{**paths, part: "model.nowhere"})
    with pytest.raises(ValueError, match=f"`{part}`: .*'model.nowhere'.*model.vision_tower"):
        vlm_parts(renamed_llava("strange"))


def test_a_tower_that_the_config_leaves_out():
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model("gemma4"))
    with pytest.raises(ValueError, match=r"'gemma4'.* no part of it takes images"):
        vlm_parts(model)
    register_vlm("gemma4", tower="model.vision_tower", connector=None, decoder="model.language_model")
    with pytest.raises(ValueError, match=r"`tower`: .*'model.vision_tower'.*config leaves that part out"):
        vlm_parts(model)


def test_no_regex_for_a_model_that_has_an_adapter():
    model, _ = tiny_llava()
    peft_model = get_peft_model(model, LoraConfig(target_modules=lora_target_regex(model)))
    with pytest.raises(ValueError, match="`model` is a PeftModel already"):
        lora_target_regex(peft_model)


def test_no_regex_without_linears():
    register_vlm("strange", tower=None, connector=None, decoder="model.language_model.norm")
    with pytest.raises(ValueError, match=r"no linear below 'model.language_model.norm'.*register_vlm\('strange'"):
        lora_target_regex(renamed_llava("strange"))


def test_regex_is_exact_where_a_sequential_mixes_linears_and_activations():
    """A trailing number is a position in a Sequential, not a layer: `mlp.0` is a linear, `mlp.1` an activation."""
    model = LlamaForCausalLM(LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_attention_heads=1))
    model.model.layers[0].mlp = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
    model.config.model_type = "mixed"
    register_vlm("mixed", tower=None, connector=None, decoder="model.layers.0")
    assert lora_target_regex(model) == (
        r"model\.layers\.0\.(?:mlp\.0|mlp\.2|self_attn\.k_proj|self_attn\.o_proj|self_attn\.q_proj|self_attn\.v_proj)"
    )


# --- from the command line, and from an installed package ---


PATHS = {
    "decoder": "model.language_model",
    "tower": "model.vision_tower",
    "connector": ["model.multi_modal_projector"],
}


def test_the_option_names_the_parts_of_a_model_that_are_not_found(tmp_path, capsys):
    """`fedvlm inspect` and the recipes take it; here the connector of a LLaVA with a name that no rule knows."""
    register_vlm_option("strange", json.dumps({**PATHS, "connector": "model.multi_modal_projector.*"}))
    parts = vlm_parts(renamed_llava("strange"))
    assert parts.connector == tuple(f"model.multi_modal_projector.{name}" for name in ("linear_1", "act", "linear_2"))
    register_vlm_option("strange", PATHS)  # as YAML has it
    assert vlm_parts(renamed_llava("strange")).connector == ("model.multi_modal_projector",)
    register_vlm_option("strange", '{"decoder": "model.language_model"}')
    assert vlm_parts(renamed_llava("strange")) == VLMParts("model.language_model", head="lm_head")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("{decoder: x}", "must be JSON"),
        ("[1]", "must be a JSON dictionary"),
        ('{"tower": "model.vit"}', "with `decoder`"),
        ('{"decoder": "model.llm", "conector": "x"}', "no other keys than decoder, tower, connector"),
        ('{"decoder": "model.llm", "connector": [1]}', "paths as texts"),
        ('{"decoder": 1}', "paths as texts"),
    ],
)
def test_an_option_that_cannot_be_used(value, problem):
    with pytest.raises(ValueError, match="`--vlm_parts` must") as error:
        register_vlm_option("strange", value)
    assert problem in str(error.value)


def test_the_option_reaches_a_recipe(tmp_path):
    save_tiny(tmp_path / "model")
    args, model_args = config(tmp_path / "out"), ModelConfig(model_name_or_path=str(tmp_path / "model"))
    check_arguments(args, model_args, json.dumps({**PATHS, "connector": None}))
    assert vlm_parts(tiny_llava()[0]).connector == ()
    with pytest.raises(ValueError, match="`--vlm_parts` is about the model that `--model_name_or_path` names"):
        check_arguments(args, ModelConfig(), json.dumps(PATHS))


def test_a_plugin_registers_families(tmp_path, monkeypatch):
    code = "import fedvlm_hf\nfedvlm_hf.register_vlm('strange', tower=None, connector=None, decoder='model')\n"
    (tmp_path / "strange_plugin.py").write_text(code)
    distribution = tmp_path / "strange_plugin-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-plugin\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text("[fedvlm_hf.models]\nstrange = strange_plugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    vlm._load_plugins.cache_clear()
    try:
        assert vlm_parts(renamed_llava("strange")).decoder == "model"
    finally:
        vlm._load_plugins.cache_clear()
