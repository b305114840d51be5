"""Reading and writing the adapter, to the bit."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from fedvlm_hf.client.adapters import Adapter, ListedParameters, complete_config
from fedvlm_hf.lora import LoraPair, at_rank, pair_tensors
from fedvlm_hf.tensors import TensorDict
from tiny import tiny_llava


def adapter(dtype: torch.dtype = torch.float32, device: str = "cpu") -> Adapter:
    model, _ = tiny_llava()
    model = model.to(dtype)
    return Adapter(get_peft_model(model, complete_config(None, model)).to(device))


def noise_like(tensors: TensorDict) -> TensorDict:
    return tensors.with_flat(torch.randn(tensors.flat.shape, generator=torch.Generator().manual_seed(0)))


def changed(adapter: Adapter, action) -> set[str]:
    """Names of all parameters of the model that an action changes."""
    before = {name: parameter.detach().clone() for name, parameter in adapter.model.named_parameters()}
    action()
    return {name for name, parameter in adapter.model.named_parameters() if not torch.equal(parameter, before[name])}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("trains", ["connector", "llm", "joint"])
def test_what_is_written_is_read_and_nothing_else_changes(dtype, trains):
    one = adapter(dtype)
    one.set_trainable(one.names(trains))
    values = noise_like(one.read(one.trainable()))
    moved = changed(one, lambda: one.write(values))
    assert one.read(one.trainable()).digest() == values.digest()
    assert moved == {name for name, parameter in one.model.named_parameters() if parameter.requires_grad}
    for name, value in values.items():
        assert torch.equal(one.parameters[name], value)


def test_a_frozen_bf16_tensor_survives_reading_and_writing():
    """The bf16 base's copy of the connector is bf16 until it trains: to fp32 and back it keeps its bits."""
    one = adapter(torch.bfloat16)
    one.set_trainable(one.names("llm"))
    everything = one.read(one.parameters)
    assert {one.parameters[name].dtype for name in one.connector} == {torch.bfloat16}
    assert not changed(one, lambda: one.write(everything))
    assert all(torch.equal(everything[name], p.float()) for name, p in one.parameters.items())


def test_what_a_stage_trained_survives_the_next_stage_to_the_bit():
    """A connector that trained under a bf16 base is fp32, and stays so when LoRA trains."""
    one = adapter(torch.bfloat16)
    one.set_trainable(one.names("connector"))
    connector = one.trainable()
    trained = noise_like(one.read(connector))
    one.write(trained)
    one.set_trainable(one.names("llm"))
    assert not set(one.trainable()) & set(connector)
    one.write(noise_like(one.read(one.trainable())))
    assert one.read(connector).digest() == trained.digest()


def test_reading_copies():
    one = adapter()
    before = one.read(one.parameters)
    digest = before.digest()
    one.write(noise_like(before))
    assert before.digest() == digest


def test_a_listed_model_is_the_model():
    model = adapter().model
    listed = ListedParameters(model)
    for (name, parameter), (listed_name, listed_parameter) in zip(
        model.named_parameters(), listed.named_parameters(), strict=True
    ):
        assert listed_name == name
        assert listed_parameter is parameter
    assert list(listed.modules()) == list(model.modules())
    assert listed.config is model.config


@pytest.mark.gpu
def test_a_model_on_an_accelerator_or_in_two_places_reads_and_writes_the_same():
    reference = adapter()
    values = noise_like(reference.read(reference.parameters))
    one = adapter(device="cuda")
    for _ in range(2):
        one.write(values)
        assert one.read(one.parameters).digest() == values.digest()
        name = next(iter(one.connector))
        one.parameters[name].data = one.parameters[name].data.cpu()


def test_names_that_the_adapter_does_not_have_cannot_train():
    with pytest.raises(ValueError, match="`names` has 'connector'"):
        adapter().set_trainable(["connector"])


# --- a second trainer on the same model ---


def test_the_connectors_output_keeps_the_dtype_of_the_base_whatever_the_number_of_trainers():
    """Hooks that stack would note fp32 as the dtype that came in, and hand fp32 to a bf16 language model."""
    model, _ = tiny_llava()
    model = get_peft_model(model.to(torch.bfloat16), complete_config(None, model))
    connector = model.get_base_model().model.multi_modal_projector
    copy = connector.modules_to_save["default"]
    for _ in range(3):
        one = Adapter(model)
        one.set_trainable(one.names("joint"))
        assert connector(torch.ones(2, 16, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert copy.linear_1.weight.dtype == torch.float32
    assert len(copy._forward_hooks) == len(copy._forward_pre_hooks) == 1


# --- LoRA pairs, lower ranks, a changed base ---


def test_a_lower_rank_fills_the_leading_block_and_is_read_back():
    one = adapter()
    names = [name for name in one.parameters if "lora_" in name]
    whole = noise_like(one.read(names))
    low = at_rank(whole, 3)
    one.write(whole)
    one.write(low)
    shapes = {name: low[name].shape for name in low}
    assert one.read(names, shapes).digest() == low.digest()
    for name in names:
        rest = one.parameters[name][3:] if "lora_A" in name else one.parameters[name][:, 3:]
        assert rest.count_nonzero() == 0


def test_a_rank_above_the_adapters_is_refused():
    one = adapter()
    name = next(name for name in one.parameters if "lora_A" in name)
    with pytest.raises(ValueError, match="the highest rank of any client"):
        one.write(TensorDict({name: torch.Size([9, one.parameters[name].shape[1]])}))


def test_pairs_carry_the_scale_of_their_module():
    """LoRA's default here: alpha 32 over r 8 is 4."""
    one = adapter()
    pairs = one.lora_pairs(one.read(one.parameters))
    assert pairs
    assert {pair.scale for pair in pairs.values()} == {4.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_base_changes_by_scale_b_a_and_back(dtype):
    """W + 4 B A in fp32, rounded once; from the original each time, so that two changes do not add up."""
    one = adapter(dtype)
    pairs = one.lora_pairs(noise_like(one.read([n for n in one.parameters if "lora_" in n])))
    module, pair = next(iter(pairs.items()))
    weight = one.model.get_submodule(module).get_base_layer().weight
    original = weight.detach().clone()
    for factor in (1.0, 2.0):
        change = TensorDict.from_tensors(pair_tensors({module: LoraPair(pair.a * factor, pair.b)}))
        assert changed(one, lambda change=change: one.change_base(change)) == {
            next(name for name, p in one.model.named_parameters() if p is weight)
        }
        expected = (original.float() + 4 * (pair.b @ (pair.a * factor))).to(dtype)
        assert torch.allclose(weight.float(), expected.float(), rtol=1e-6, atol=1e-6)
    one.change_base(TensorDict({}))
    assert torch.equal(weight, original)


def test_dora_cannot_take_a_change_of_its_base():
    model, _ = tiny_llava()
    one = Adapter(get_peft_model(model, complete_config(LoraConfig(r=2, use_dora=True), model)))
    change = TensorDict.from_tensors(
        {n: one.parameters[n] for n in one.parameters if "lora_" in n and "magn" not in n}
    )
    with pytest.raises(ValueError, match="uses DoRA, so that no low-rank change can be added"):
        one.change_base(change)


def test_one_lora_target_by_its_name():
    """Trap: TRL unpacks a list of one name, and PEFT takes a text for a regular expression of whole paths."""
    from trl import ModelConfig, get_peft_config

    model, _ = tiny_llava()
    peft_config = get_peft_config(ModelConfig(use_peft=True, lora_target_modules=["gate_proj"]))
    adapted = get_peft_model(model, complete_config(peft_config, model))
    assert {name.split(".")[-4] for name, _ in adapted.named_parameters() if "lora_A" in name} == {"gate_proj"}
