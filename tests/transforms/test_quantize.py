"""Stochastic rounding to 8 bits: by hand, without bias, and a quarter of the bytes."""

from dataclasses import replace

import pytest
import torch

from fedvlm_hf.exchange.updates import UpdateError, check_update
from fedvlm_hf.methods import resolve_method
from fedvlm_hf.testing import scalars, sent
from fedvlm_hf.transforms import TransformChain, resolve_transforms
from fedvlm_hf.transforms.quantize import Quantize
from fedvlm_hf.types import ClientTask, TensorSpec


FEDAVG = resolve_method("fedavg")


def task_of(**values):
    start = scalars(**values)
    return ClientTask(1, "a", start.with_flat(torch.zeros_like(start.flat)))


def travelled(seed=0, bits=8, client_id="a", round_idx=1, **values):
    """What a client sends whose weights these are, from zeros."""
    task = replace(task_of(**values), client_id=client_id, round_idx=round_idx)
    update = replace(sent(client_id, 3, **values), round_idx=round_idx)
    return TransformChain([Quantize(bits)], seed).encode(update, task, {})[0]


def received(seed=0, bits=8, **values):
    """What the server takes it for."""
    update = travelled(seed, bits, **values)
    return TransformChain([Quantize(bits)], seed).decode(update, task_of(**values)).tensors


def test_codes_by_hand():
    """The largest magnitude is 127, so a code is the value itself, rounded up or down: 127 and -64 stay, 0.5 becomes
    0 or 1, -2.25 becomes -3 or -2. In `u` it is 2, so that 1 is 63.5 steps of 2 / 127."""
    seen = {"w": [set(), set(), set(), set()], "u": [set(), set()]}
    for seed in range(100):
        update = travelled(seed, w=[127.0, -64.0, 0.5, -2.25], u=[-2.0, 1.0])
        for name, codes in update.tensors.items():
            assert codes.dtype == torch.int8
            for place, code in zip(seen[name], codes.tolist(), strict=True):
                place.add(code)
    assert seen == {"w": [{127}, {-64}, {0, 1}, {-3, -2}], "u": [{-127}, {63, 64}]}
    assert {name: scale.item() for name, scale in update.control["quantize"].items()} == {"w": 127.0, "u": 2.0}


@pytest.mark.parametrize(("bits", "step"), [(8, 1 / 127), (16, 1 / 32767)])
def test_it_has_no_bias(bits, step):
    """The mean over 400 draws comes within 5 standard errors of each value: at most 5 * step / 2 / 20."""
    values = [1.0, 0.3, -0.7, 0.001, -1e-6, 0.999]
    draws = torch.stack([received(seed, bits, w=values)["w"] for seed in range(400)])
    assert (draws.double().mean(0) - torch.tensor(values)).abs().max().item() < 5 * step / 40
    assert (draws - torch.tensor(values)).abs().max().item() < step * 1.001  # one draw is off by less than a step
    assert draws[:, 1].unique().numel() == 2


def test_zeros_constants_and_extremes_survive():
    """A tensor of zeros, of one value, of one element, of the smallest and of the largest fp32 numbers."""
    tiny, huge = 1e-45, 3.4028234663852886e38
    values = {"z": [0.0, 0.0], "c": [0.1, 0.1], "o": [-7.7], "t": [tiny, -tiny], "h": [huge, -huge, 0.0]}
    for seed in range(5):
        tensors = received(seed, **values)
        assert tensors.flat.equal(scalars(**values).flat)


def test_a_quarter_of_the_bytes_travels():
    """1,000 codes of one byte, and one fp32 scale for each of the two tensors."""
    values = {"w": torch.randn(900).tolist(), "u": torch.randn(100).tolist()}
    assert sent("a", 1, **values).nbytes == 4000
    assert travelled(**values).nbytes == 1000 + 2 * 4
    assert travelled(bits=16, **values).nbytes == 2000 + 2 * 4


def test_random_numbers_depend_on_seed_round_and_client():
    values = {"w": torch.linspace(-1, 1, 200).tolist()}
    codes = [
        travelled(**kwargs, **values).tensors["w"]
        for kwargs in ({}, {"seed": 1}, {"round_idx": 2}, {"client_id": "b"})
    ]
    assert codes[0].equal(travelled(**values).tensors["w"])
    assert not any(codes[0].equal(other) for other in codes[1:])


def test_what_travels_is_what_the_layout_says():
    update = travelled(w=[1.0, 2.0], u=[3.0])
    task = task_of(w=[1.0, 2.0], u=[3.0])
    layout = TransformChain([Quantize()]).layout(task)
    assert layout.tensors == {"w": TensorSpec((2,), torch.int8), "u": TensorSpec((1,), torch.int8)}
    assert layout.control == {"quantize": {"w": TensorSpec(()), "u": TensorSpec(())}}
    check_update(update, layout)
    with pytest.raises(UpdateError, match="lacks the control group 'quantize'"):
        check_update(replace(update, control={}), layout)
    with pytest.raises(UpdateError, match=r"'w' in torch.uint8; it must be torch.int8"):
        check_update(replace(update, tensors={k: v.to(torch.uint8) for k, v in update.tensors.items()}), layout)
    check_update(TransformChain([Quantize()]).decode(update, task), task.expected)


def test_control_groups_of_a_method_travel_beside_it():
    task = task_of(w=[1.0])
    update = sent("a", 1, control={"change": scalars(w=[0.3])}, w=[1.0])
    chain = TransformChain([Quantize()])
    there, _ = chain.encode(update, task, {})
    assert set(there.control) == {"change", "quantize"}
    back = chain.decode(there, task)
    assert {name: group.flat.tolist() for name, group in back.control.items()} == {"change": [pytest.approx(0.3)]}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_before_it_becomes_a_code(value):
    with pytest.raises(UpdateError, match=r"client 'a' in round 1 has tensor 'w' with values that are not finite"):
        travelled(w=[1.0, value])


@pytest.mark.parametrize("bits", [4, 32, "8", None])
def test_other_numbers_of_bits_are_refused(bits):
    with pytest.raises(ValueError, match=f"`bits` must be 8 or 16, got {bits!r}"):
        Quantize(bits)


def test_twice_is_refused():
    with pytest.raises(ValueError, match="'quantize' after a transform that changes the format"):
        resolve_transforms(["quantize", "quantize"], None, FEDAVG)
