"""Which modules are quantized, with the matching of transformers, which needs no quantization library."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, BitsAndBytesConfig, HqqConfig, QuantoConfig
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module
from transformers.utils.quantization_config import QuantizationConfigMixin

from federation import federated
from fedvlm_hf.models import vlm_parts
from fedvlm_hf.models.quantization import skip_trained_modules
from fedvlm_hf.models.vlm import model_skeleton
from tiny import save_tiny, tiny_llava


FAMILIES = ["llava", "fed_llava", "qwen3_vl", "gemma3", "idefics3", "internvl"]


def quantized(quantization_config: QuantizationConfigMixin, config) -> set[str]:
    """Return the linears that transformers would quantize, as its quantizers for bitsandbytes and quanto do."""
    model = model_skeleton(config)
    settings = vars(quantization_config)
    listed = settings.get("llm_int8_skip_modules", settings.get("modules_to_not_convert"))
    skipped = HfQuantizer.get_modules_to_not_convert(model, listed, model._keep_in_fp32_modules)
    linears = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    return {name for name in linears if should_convert_module(name, skipped)}


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("plain", [BitsAndBytesConfig(load_in_4bit=True), BitsAndBytesConfig(load_in_8bit=True)])
def test_only_the_connector_leaves_what_is_quantized(plain, model_type):
    """By default the head is not quantized, and naming the connector must not change that."""
    config = AutoConfig.for_model(model_type, pad_token_id=0)
    connector = vlm_parts(model_skeleton(config)).connector
    before, after = quantized(plain, config), quantized(skip_trained_modules(plain, config), config)
    prefixes = tuple(f"{path}." for path in connector)
    assert before - after == {name for name in before if name.startswith(prefixes) or name in connector}
    assert after < before or model_type == "gemma3"  # its projector is one bare parameter
    assert not any("lm_head" in name for name in after)
    assert plain.llm_int8_skip_modules is None


def test_modules_to_save_are_matched_as_peft_matches_them():
    """PEFT matches the ends of paths, here of one linear in each layer and of a container in the second one."""
    config = tiny_llava()[0].config
    completed = skip_trained_modules(QuantoConfig(), config, ["layers.1.mlp", "k_proj"])
    left = quantized(QuantoConfig(), config) - quantized(completed, config)
    layers = "model.language_model.layers"
    towers = "model.vision_tower.encoder.layers"
    assert left == {
        "model.multi_modal_projector.linear_1",
        "model.multi_modal_projector.linear_2",
        f"{layers}.0.self_attn.k_proj",
        f"{layers}.1.self_attn.k_proj",
        *(f"{layers}.1.mlp.{name}_proj" for name in ("gate", "up", "down")),
        f"{towers}.0.self_attn.k_proj",
        f"{towers}.1.self_attn.k_proj",
        *(f"{towers}.1.mlp.fc{index}" for index in (1, 2)),
    }


def test_the_users_list_is_kept():
    """If the user names modules but not the head, the head is quantized, as in transformers."""
    config = tiny_llava()[0].config
    plain = BitsAndBytesConfig(load_in_4bit=True, llm_int8_skip_modules=["model.vision_tower"])
    completed = skip_trained_modules(plain, config)
    assert completed.llm_int8_skip_modules == ["model.multi_modal_projector", "model.vision_tower"]
    assert plain.llm_int8_skip_modules == ["model.vision_tower"]
    assert completed.load_in_4bit


def test_hqq_names_linears_by_its_own_tags():
    """HqqConfig cannot be created without HQQ, which is not installed here, so `__init__` is skipped."""
    config = HqqConfig.__new__(HqqConfig)
    config.skip_modules = ["lm_head"]
    completed = skip_trained_modules(config, tiny_llava()[0].config)
    assert completed.skip_modules == ["lm_head", "multi_modal_projector.linear_1", "multi_modal_projector.linear_2"]


@pytest.mark.parametrize("config", [{"load_in_4bit": True}, {"load_in_8bit": True}])
def test_the_connector_trains_in_a_quantized_model(tmp_path, config):
    """This needs bitsandbytes; without it, the tests above show which modules it would quantize."""
    bnb = pytest.importorskip("bitsandbytes")
    trainer = federated(
        tmp_path / "out",
        model=save_tiny(tmp_path / "base"),
        trainer_kwargs={"quantization_config": BitsAndBytesConfig(**config)},
        max_steps=1,
    )
    model = trainer.model.get_base_model()
    layer = model.get_submodule("model.language_model.layers.0.self_attn.q_proj").get_base_layer()
    assert isinstance(layer, (bnb.nn.Linear4bit, bnb.nn.Linear8bitLt))
    assert type(model.lm_head) is nn.Linear
    connector = sorted(trainer.local.adapter.connector)
    before = trainer.local.adapter.read(connector)
    trainer.train()
    after = trainer.local.adapter.read(connector)
    assert len(connector) == 4
    assert not any(torch.equal(before[name], after[name]) for name in connector)
