"""Kinds of adapters: those that are accepted survive export and stock PEFT, the others are refused with the reason."""

import re

import peft
import pytest
import torch
from peft import AdaLoraConfig, IA3Config, LoHaConfig, LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.utils import logging as transformers_logging

from federation import federated
from fedvlm_hf.client.adapters import Adapter, complete_config
from fedvlm_hf.client.peft_config import AVERAGED, check_peft_type
from fedvlm_hf.models import lora_target_regex
from tiny import tiny_llava


LORA = {
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "eva": {"init_lora_weights": "eva"},
    "embeddings": {"target_modules": ["embed_tokens", "down_proj"]},
    "head": {"modules_to_save": ["lm_head"]},
}
# Of the other kinds: what they need to fit the widths 32 and 64 of the tiny model
OTHERS = {
    "OFT": {"r": 2, "oft_block_size": 0},
    "FOURIERFT": {"n_frequency": 4},
    "LN_TUNING": {"target_modules": r"model\.language_model\..*norm"},
    "C3A": {"block_size": 16},
    "VBLORA": {"num_vectors": 8, "vector_length": 16},
    "ROAD": {"group_size": 16},
    "MISS": {"r": 2},
}


def configs() -> dict[str, PeftConfig]:
    others = {kind.value: PEFT_TYPE_TO_CONFIG_MAPPING[kind](**OTHERS.get(kind.value, {})) for kind in AVERAGED[1:]}
    return {**{name: LoraConfig(r=2, **options) for name, options in LORA.items()}, **others}


@pytest.fixture
def warned(caplog):
    """Warnings, although each is shown once per process."""
    transformers_logging.warning_once.cache_clear()
    return caplog


@pytest.mark.parametrize("name", configs())
def test_an_adapter_that_is_accepted_is_read_written_and_exported(tmp_path, name):
    """As after a round: the values of another client, then the logits of stock PEFT with the export."""
    config = configs()[name]
    model, processor = tiny_llava()
    model = get_peft_model(model, complete_config(config, model))
    adapter = Adapter(model)
    adapter.set_trainable(adapter.names("joint"))
    tensors = adapter.read(adapter.trainable())
    noise = torch.randn(tensors.flat.shape, generator=torch.Generator().manual_seed(0))
    adapter.write(tensors.with_flat(tensors.flat + 0.05 * noise))
    adapter.export(tmp_path)
    ids = torch.tensor([[processor.image_token_id] * 4 + [10, 11, 12]])
    inputs = {"input_ids": ids, "pixel_values": torch.ones(1, 3, 16, 16)}
    with torch.no_grad():
        before = tiny_llava()[0](**inputs).logits
        own = model.eval()(**inputs).logits
        loaded = PeftModel.from_pretrained(tiny_llava()[0], tmp_path).eval()(**inputs).logits
    assert torch.equal(own, loaded)
    assert not torch.allclose(own, before)
    moved = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(".language_model." in name or ".multi_modal_projector." in name or "lm_head" in name for name in moved)


@pytest.mark.parametrize("config", [IA3Config(), LoHaConfig(r=2)], ids=lambda config: config.peft_type.value)
def test_the_mean_of_other_adapters_is_exact(tmp_path, config):
    trainer = federated(tmp_path, num_rounds=1, trainer_kwargs={"peft_config": config})
    updates = []
    run_client = trainer.federation.engine.run_client
    trainer.federation.engine.run_client = lambda task: updates.append(run_client(task)) or updates[-1]
    trainer.train()
    assert [update.weight for update in updates] == [6, 4]
    mean = sum(update.weight * update.tensors.flat.double() for update in updates) / 10
    assert torch.equal(trainer.federation.tensors.flat, mean.float())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("AdaLoraConfig", "ADALORA cannot be used: it moves rank between layers"),
        ("PromptTuningConfig", "PROMPT_TUNING cannot be used: it puts trained tokens into the prompt"),
        ("PrefixTuningConfig", "PREFIX_TUNING cannot be used: it puts trained tokens"),
        ("TrainableTokensConfig", "TRAINABLE_TOKENS cannot be used: it has no `modules_to_save`.*LoraConfig"),
        ("ShiraConfig", "SHIRA cannot be used: it does not export which weights"),
        ("XLoraConfig", "XLORA cannot be used: it mixes adapters"),
        ("WaveFTConfig", "WAVEFT cannot be used: it has not been tried here"),
    ],
)
def test_a_kind_that_cannot_be_averaged_is_refused_with_the_reason(name, reason):
    options = {"AdaLoraConfig": {"total_step": 10}}.get(name, {})
    model, _ = tiny_llava()
    with pytest.raises(ValueError, match=f"`peft_config` of type {reason}.*LORA, IA3, LOHA"):
        complete_config(getattr(peft, name)(**options), model)


def test_every_kind_of_peft_is_accepted_or_refused():
    for kind, config_class in PEFT_TYPE_TO_CONFIG_MAPPING.items():
        config = config_class.__new__(config_class)
        config.peft_type = kind
        if kind in AVERAGED:
            check_peft_type(config)
        else:
            with pytest.raises(ValueError, match=f"{kind.value} cannot be used: it "):
                check_peft_type(config)


def test_a_model_with_an_adapter_of_a_refused_kind(tmp_path):
    model, _ = tiny_llava()
    config = AdaLoraConfig(target_modules=lora_target_regex(model), total_step=10)
    with pytest.raises(ValueError, match="ADALORA cannot be used"):
        federated(tmp_path, model=get_peft_model(model, config))


@pytest.mark.parametrize("method", ["flora", "fedex"])
def test_methods_that_change_the_base_need_lora(tmp_path, method):
    with pytest.raises(ValueError, match="no LoRA pair is shared in this run"):
        federated(tmp_path, method=method, trainer_kwargs={"peft_config": LoHaConfig(r=2)})


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"target_modules": "all-linear"}, "24 tensors .*: 24 in the vision tower"),
        ({"target_modules": ["q_proj", "v_proj"]}, "8 tensors .*: 8 in the vision tower"),
        ({"bias": "all"}, "tensors outside .* in the vision tower"),
        ({}, None),
        ({"target_modules": ["o_proj"], "modules_to_save": ["lm_head"]}, None),
    ],
    ids=str,
)
def test_what_trains_outside_the_language_model_is_counted(tmp_path, warned, options, warning):
    """CLIP's 2 layers have 6 linears each, with A and B; of them q_proj and v_proj."""
    federated(tmp_path, trainer_kwargs={"peft_config": LoraConfig(r=2, **options)})
    found = [record.message for record in warned.records if "outside the language model" in record.message]
    assert bool(found) == bool(warning)
    if warning:
        assert re.search(warning, found[0])


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "linear_1", "linear_2"]], ids=str)
def test_lora_inside_the_connector_is_left_out_with_a_warning(warned, targets):
    model, _ = tiny_llava()
    config = complete_config(LoraConfig(target_modules=targets), model)
    messages = [record.message for record in warned.records]
    assert any("2 linears of the connector, such as model.multi_modal_projector.linear_1" in m for m in messages)
    adapted = get_peft_model(model, config)
    assert not [name for name, _ in adapted.named_parameters() if "multi_modal_projector" in name and "lora" in name]


def test_trained_tokens_need_an_untied_head(tmp_path):
    model, _ = tiny_llava()
    config = LoraConfig(r=2, trainable_token_indices=[3, 5])
    with pytest.raises(ValueError, match=r"`trainable_token_indices` cannot be used .* head is tied"):
        federated(tmp_path / "tied", model=model, trainer_kwargs={"peft_config": config})
    config = LoraConfig(r=2, trainable_token_indices={"embed_tokens": [3, 5]})
    stock, _ = tiny_llava()
    settings = stock.config.to_dict()
    settings["tie_word_embeddings"] = settings["text_config"]["tie_word_embeddings"] = False
    model = type(stock)(type(stock.config).from_dict(settings))
    trainer = federated(tmp_path / "untied", model=model, num_rounds=1, trainer_kwargs={"peft_config": config})
    trainer.train()
    assert any("trainable_tokens" in name for name in trainer.federation.tensors)


# --- experts ---


def glm4v_moe():
    text = {"hidden_size": 32, "intermediate_size": 16, "moe_intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 64}
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": 1}
    vision = {"hidden_size": 16, "depth": 1, "num_heads": 2, "out_hidden_size": 32, "intermediate_size": 16}
    config = AutoConfig.for_model("glm4v_moe", text_config={**text, **heads, **experts}, vision_config=vision)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def test_where_peft_turns_linears_into_experts_the_default_is_the_attention():
    """Trap: PEFT would put LoRA on the stacked experts, which takes no dropout, and on other modules of that name."""
    model = glm4v_moe()
    adapted = get_peft_model(model, complete_config(None, model), low_cpu_mem_usage=True)
    reached = {name.partition(".lora_A")[0] for name, _ in adapted.named_parameters() if ".lora_A" in name}
    layers = "base_model.model.model.language_model.layers"
    assert reached == {f"{layers}.{layer}.self_attn.{own}_proj" for layer in range(2) for own in "qkvo"}


def test_dropout_on_experts_is_refused_in_our_words():
    model = glm4v_moe()
    targets = ["gate_proj", "up_proj", "down_proj"]
    with pytest.raises(ValueError, match=r"`lora_dropout` must be 0, got 0.1: .* the experts of 'glm4v_moe'"):
        complete_config(LoraConfig(target_modules=targets, lora_dropout=0.1), model)
    complete_config(LoraConfig(target_modules=targets), model)
