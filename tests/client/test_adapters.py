"""Reading and writing the adapter, to the bit."""

import pytest
import torch
from peft import get_peft_model

from fedvlm_hf.client.adapters import Adapter, ListedParameters, complete_config
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
    one.set_trainable(trains)
    values = noise_like(one.read(one.trainable()))
    moved = changed(one, lambda: one.write(values))
    assert one.read(one.trainable()).digest() == values.digest()
    assert moved == {name for name, parameter in one.model.named_parameters() if parameter.requires_grad}
    for name, value in values.items():
        assert torch.equal(one.parameters[name], value)


def test_a_frozen_bf16_tensor_survives_reading_and_writing():
    """The bf16 base's copy of the connector is bf16 until it trains: to fp32 and back it keeps its bits."""
    one = adapter(torch.bfloat16)
    one.set_trainable("llm")
    everything = one.read(one.parameters)
    assert {one.parameters[name].dtype for name in one.connector} == {torch.bfloat16}
    assert not changed(one, lambda: one.write(everything))
    assert all(torch.equal(everything[name], p.float()) for name, p in one.parameters.items())


def test_what_a_stage_trained_survives_the_next_stage_to_the_bit():
    """A connector that trained under a bf16 base is fp32, and stays so when LoRA trains."""
    one = adapter(torch.bfloat16)
    one.set_trainable("connector")
    connector = one.trainable()
    trained = noise_like(one.read(connector))
    one.write(trained)
    one.set_trainable("llm")
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
