"""FedAvgM against numbers worked by hand from Hsu et al. (2019), section 4.2."""

import pytest
import torch

from fedvlm_hf.exchange.tensor_files import load_state, save_state
from fedvlm_hf.methods.fedavg import FedAvg
from fedvlm_hf.methods.fedavgm import FedAvgM
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.testing import scalars
from fedvlm_hf.types import Aggregate, ServerState
from server_steps import state_after, weights_after


CLIENTS = [[(1, 4.0), (3, 0.0)], [(1, 7.0), (3, -1.0)], [(1, -4.0), (3, -4.0)]]
"""Rounds of two clients, samples and change: Delta = (1 a + 3 b) / 4 is 1, 1, -4."""


def test_the_paper_by_hand():
    """beta = 1/2, eta = 2, from w = 1. v <- v/2 + Delta and w <- w + 2 v:

    Delta =  1: v = 1,                w = 1 + 2 = 3
    Delta =  1: v = 1/2 + 1 = 3/2,    w = 3 + 3 = 6
    Delta = -4: v = 3/4 - 4 = -13/4,  w = 6 - 13/2 = -1/2
    """
    method = FedAvgM(server_lr=2.0, server_momentum=0.5)
    assert weights_after(method, CLIENTS, start=1.0) == [3.0, 6.0, -0.5]
    assert state_after(method, CLIENTS, "momentum") == [1.0, 1.5, -3.25]


def test_the_defaults_by_hand():
    """beta = 0.9, eta = 1, and two rounds that change by 1: v = 1, then 0.9 + 1; w = 1, then 1 + 1.9. Then by -4:
    v = 0.9 * 1.9 - 4 = -2.29 and w = 2.9 - 2.29. Damped momentum would have v = 0.1 * 1 at the first."""
    assert weights_after(FedAvgM(), CLIENTS) == pytest.approx([1.0, 2.9, 0.61])


def test_the_variant_of_fedvlmbench_by_hand():
    """beta = 1/2, eta = 2, from w = 1. v starts from the first Delta; then v <- v/2 + Delta/2:

    Delta =  1: v = 1,                 w = 1 + 2 = 3
    Delta =  1: v = 1/2 + 1/2 = 1,     w = 3 + 2 = 5
    Delta = -4: v = 1/2 - 2 = -3/2,    w = 5 - 3 = 2

    The mean stays weighted by samples: with equal weights the first Delta would be 2.
    """
    method = FedAvgM(server_lr=2.0, server_momentum=0.5, variant="fedvlmbench")
    assert weights_after(method, CLIENTS, start=1.0) == [3.0, 5.0, 2.0]
    assert state_after(method, CLIENTS, "momentum") == [1.0, 1.0, -1.5]


@pytest.mark.parametrize("variant", ["paper", "fedvlmbench"])
def test_without_momentum_it_is_fedavg_to_the_bit(variant):
    """Though w + (mean - w) is not the mean in fp32: the step goes from w to the mean before it adds old momentum."""
    generator = torch.Generator().manual_seed(0)
    method, state = FedAvgM(server_momentum=0.0, variant=variant), ServerState()
    current = TensorDict.from_tensors({"w": torch.randn(10_000, generator=generator)})
    for _ in range(3):
        mean = current.with_flat(torch.randn(10_000, generator=generator))
        assert not torch.equal(current.flat + (mean.flat - current.flat), mean.flat)
        after, state = method.apply(Aggregate(mean), current, state)
        assert torch.equal(after.flat, FedAvg().apply(Aggregate(mean), current, ServerState())[0].flat)
        current = after


def test_nothing_that_goes_in_is_changed_or_comes_out_again():
    """Trap: a peer's FedAvgM aliased its input, so that the change was 0 and it was FedAvg."""
    mean, current = scalars(w=[3.0]), scalars(w=[1.0])
    state = FedAvgM().apply(Aggregate(mean), current, FedAvgM().init(current, 2))[1]
    digests = [t.digest() for t in (mean, current, state.tensors["momentum"])]
    after, new_state = FedAvgM().apply(Aggregate(mean), current, state)
    assert [t.digest() for t in (mean, current, state.tensors["momentum"])] == digests
    pointers = [
        t.flat.data_ptr() for t in (mean, current, after, state.tensors["momentum"], new_state.tensors["momentum"])
    ]
    assert len(set(pointers)) == 5


@pytest.mark.parametrize("variant", ["paper", "fedvlmbench"])
def test_momentum_survives_saving(tmp_path, variant):
    method = FedAvgM(variant=variant)
    mean, current = scalars(w=[0.1, -0.3]), scalars(w=[0.7, 0.2])
    after, state = method.apply(Aggregate(mean), current, method.init(current, 2))
    save_state(tmp_path / "server.safetensors", state.tensors)
    loaded = ServerState(load_state(tmp_path / "server.safetensors"), dict(state.scalars))
    for going_on in (state, loaded):
        assert (
            method.apply(Aggregate(mean), after, going_on)[0].digest()
            == method.apply(Aggregate(mean), after, state)[0].digest()
        )
    assert (
        method.apply(Aggregate(mean), after, method.init(after, 2))[0].digest()
        != method.apply(Aggregate(mean), after, state)[0].digest()
    )


def test_where_nothing_is_shared_nothing_breaks():
    nothing = TensorDict({})
    after, state = FedAvgM().apply(Aggregate(nothing), nothing, FedAvgM().init(nothing, 2))
    assert (len(after), len(FedAvgM().apply(Aggregate(nothing), after, state)[0])) == (0, 0)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"server_lr": 0}, "`server_lr` must be a finite number above 0, got 0"),
        ({"server_lr": float("inf")}, "`server_lr` must be a finite number"),
        ({"server_momentum": 1.0}, "`server_momentum` must be a finite number at least 0 and below 1, got 1.0"),
        ({"server_momentum": -0.1}, "`server_momentum` must be"),
        ({"variant": "openfedllm"}, "`variant` 'openfedllm' is unknown. Valid are: paper, fedvlmbench"),
    ],
)
def test_knobs_out_of_their_range_are_refused(knobs, message):
    with pytest.raises(ValueError) as error:
        FedAvgM(**knobs)
    assert message in str(error.value)
