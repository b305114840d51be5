"""Replacing a connector: what stays the same, what is drawn, and when a connector counts as untrained."""

import pytest
import torch
from peft import get_peft_model
from transformers import AutoConfig, LlavaForConditionalGeneration

from federation import federated
from fedvlm_hf.client.adapters import complete_config
from fedvlm_hf.models import FedLlavaForConditionalGeneration, replace_connector, untrained_connector
from fedvlm_hf.models.connectors import connector_of, reset_connector
from tiny import save_tiny, tiny_llava, tiny_rows


def weights(model) -> dict[str, torch.Tensor]:
    return dict(model.model.multi_modal_projector.named_parameters())


def test_all_connectors_of_a_seed_share_their_first_layers():
    """So a comparison of depths compares depths: `linear` is the first layer of `mlp2x`, which is two of `mlp6x`."""
    models = {name: replace_connector(tiny_llava()[0], name, seed=7) for name in ("linear", "mlp2x", "mlp6x")}
    deep = weights(models["mlp6x"])
    assert len(deep) == 12
    for name in ("linear", "mlp2x"):
        found = weights(models[name])
        assert len(found) == {"linear": 2, "mlp2x": 4}[name]
        assert all(torch.equal(tensor, deep[key]) for key, tensor in found.items())
    other = weights(replace_connector(tiny_llava()[0], "linear", seed=8))
    assert not torch.equal(other["linear_1.weight"], deep["linear_1.weight"])


def test_weights_are_uniform_between_one_over_the_root_of_the_inputs():
    """1600 draws from U(-1/4, 1/4), 16 inputs: standard deviation 1/4/sqrt(3) = 0.1443, its error 0.1443/sqrt(3200)
    times about 0.9, so 3 % is more than four of them. PyTorch's own start of a linear is as wide."""
    linear = torch.nn.Linear(16, 100)
    reset_connector(linear, seed=0)
    for parameter in linear.parameters():
        assert parameter.abs().max() <= 0.25
    assert linear.weight.abs().max() > 0.249
    assert linear.weight.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.03)
    assert linear.weight.mean().item() == pytest.approx(0, abs=0.015)
    own = torch.nn.Linear(16, 100)
    assert own.weight.std().item() == pytest.approx(linear.weight.std().item(), rel=0.06)


def test_the_global_random_state_is_left_alone():
    model, _ = tiny_llava()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    replace_connector(model, "mlp6x", seed=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("connector", ["linear", "mlp2x", "mlp6x"])
def test_only_the_connector_changes(connector):
    base, processor = tiny_llava()
    text = processor(text="what?", return_tensors="pt")
    image = processor(images=tiny_rows(1, seed=9)[0]["images"], text="<image>what?", return_tensors="pt")
    with torch.no_grad():
        blind, seeing = base(**text).logits, base(**image).logits
        model = replace_connector(base, connector, seed=1)
        assert torch.equal(model(**text).logits, blind)
        assert not torch.allclose(model(**image).logits, seeing)
        assert torch.equal(base(**image).logits, seeing)  # and the base is as it was
    assert model.model.language_model is base.model.language_model
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert not any(parameter.is_meta for parameter in [*model.parameters(), *model.buffers()])
    assert not model.training


def test_a_bfloat16_base_gets_the_same_draws_rounded(tmp_path):
    base, _ = tiny_llava()
    expected = weights(replace_connector(base, "linear", seed=1))
    base.to(torch.bfloat16).save_pretrained(tmp_path)
    model = replace_connector(str(tmp_path), "linear", seed=1)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert all(torch.equal(tensor, expected[name].bfloat16()) for name, tensor in weights(model).items())


def test_mlp2x_is_a_stock_llava_again():
    deep = replace_connector(tiny_llava()[0], "mlp6x", seed=1)
    assert type(deep) is FedLlavaForConditionalGeneration
    assert connector_of(deep.config) == "mlp6x"
    shallow = replace_connector(deep, "mlp2x", seed=1)
    assert type(shallow) is LlavaForConditionalGeneration
    assert connector_of(shallow.config) == "mlp2x"
    assert "connector" not in shallow.config.to_dict()


def test_a_base_keeps_its_own_connector_if_asked_to(tmp_path):
    folder = save_tiny(tmp_path)
    model = replace_connector(folder, "mlp2x", seed=1, pretrained=True)
    expected = weights(tiny_llava()[0])
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(model).items())
    assert not untrained_connector(model)
    with pytest.raises(ValueError, match=r"`pretrained` keeps .* 'mlp2x', but `connector` is 'linear'"):
        replace_connector(folder, "linear", seed=1, pretrained=True)


def test_other_families_are_refused():
    config = AutoConfig.for_model("llava_next")
    with pytest.raises(ValueError, match=r"'llava' and 'fed_llava', but this one has the type 'llava_next'"):
        connector_of(config)


def test_which_connectors_are_untrained():
    base, _ = tiny_llava()
    assert not untrained_connector(base)
    assert all(untrained_connector(replace_connector(base, name, seed=1)) for name in ("linear", "mlp2x", "mlp6x"))


def test_a_base_says_so_after_it_was_saved(tmp_path):
    for connector in ("linear", "mlp2x"):
        replace_connector(tiny_llava()[0], connector, seed=1).save_pretrained(tmp_path / connector)
        assert AutoConfig.from_pretrained(tmp_path / connector).untrained_connector is True


def test_an_adapter_with_a_trained_connector_is_no_longer_untrained(tmp_path):
    """The base of a run stays as it was; what counts is the connector that the adapter puts in its place."""
    trainer = federated(tmp_path, model=replace_connector(tiny_llava()[0], "mlp6x", seed=1), tuning="connector")
    assert untrained_connector(trainer.model)
    trainer.train()
    assert not untrained_connector(trainer.model)


def test_an_adapter_without_a_connector_leaves_it_untrained():
    model = replace_connector(tiny_llava()[0], "linear", seed=1)
    config = complete_config(None, model)
    config.modules_to_save = None
    assert untrained_connector(get_peft_model(model, config))
