"""The noise of DP-FedAvg: its size, what it depends on, and what it needs."""

from dataclasses import dataclass

import pytest
import torch

from fedvlm_hf.methods import Strategy, resolve_method
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.testing import scalars
from fedvlm_hf.transforms import TransformChain, resolve_transforms
from fedvlm_hf.transforms.clip import Clip
from fedvlm_hf.transforms.gaussian import Gaussian, system_noise
from fedvlm_hf.types import Aggregate


SIZE = 100_000
ZEROS = TensorDict({"w": torch.Size([SIZE])})
FEDAVG = resolve_method("fedavg")
KNOBS = {"max_norm": 2.0, "noise_multiplier": 3.0}


def noise(num_clients=4, seed=0, round_idx=1, secret=False):
    """What is added to a mean of zeros."""
    chain = TransformChain([Clip(2.0), Gaussian(3.0, 2.0, secret)], seed)
    aggregate, kept = chain.on_server(Aggregate(ZEROS, num_clients=num_clients), ZEROS, round_idx, {})
    assert kept == {}
    return aggregate.tensors.flat


@pytest.mark.parametrize("secret", [False, True])
@pytest.mark.parametrize(("num_clients", "std"), [(1, 6.0), (4, 1.5), (60, 0.1)])
def test_the_standard_deviation_is_that_of_the_paper(num_clients, std, secret):
    """noise_multiplier * max_norm / n = 3 * 2 / n. Over 100,000 values the estimate is off by 0.2% (one sigma)."""
    found = noise(num_clients, secret=secret)
    assert found.std().item() == pytest.approx(std, rel=0.02)
    assert found.mean().item() == pytest.approx(0, abs=0.02 * std)


@pytest.mark.parametrize("secret", [False, True])
def test_it_is_gaussian(secret):
    """68.3% within one sigma, 95.4% within two, and kurtosis 3."""
    found = noise(6, secret=secret)
    assert (found.abs() < 1).double().mean().item() == pytest.approx(0.6827, abs=0.01)
    assert (found.abs() < 2).double().mean().item() == pytest.approx(0.9545, abs=0.01)
    assert (found.double() ** 4).mean().item() == pytest.approx(3.0, abs=0.2)


def test_it_is_added_to_the_mean():
    chain = TransformChain([Clip(1.0), Gaussian(0.0, 1.0)])
    current, mean = scalars(w=[1.0, 2.0]), scalars(w=[1.5, 1.0])
    assert chain.on_server(Aggregate(mean, num_clients=2), current, 1, {})[0].tensors.flat.tolist() == [1.5, 1.0]
    noisy = TransformChain([Clip(1.0), Gaussian(1.0, 1.0)]).on_server(Aggregate(mean, num_clients=2), current, 1, {})
    assert (noisy[0].tensors.flat - mean.flat).abs().min().item() > 0


def test_the_same_seed_and_round_give_the_same_bits():
    assert noise().equal(noise())
    assert not noise().equal(noise(round_idx=2))
    assert not noise().equal(noise(seed=1))
    rounds = torch.stack([noise(round_idx=round_idx) for round_idx in (1, 2)])
    assert torch.corrcoef(rounds)[0, 1].item() == pytest.approx(0, abs=0.02)


def test_a_secret_noise_never_comes_twice():
    assert not noise(secret=True).equal(noise(secret=True))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_secret_noise_of_any_size_is_finite(count):
    found = system_noise(count)
    assert found.shape == (count,)
    assert found.dtype == torch.float32
    assert found.isfinite().all()


def test_current_and_aggregate_are_left_alone():
    current, mean = scalars(w=[1.0]), scalars(w=[2.0])
    TransformChain([Clip(1.0), Gaussian(1.0, 1.0)]).on_server(Aggregate(mean, num_clients=2), current, 1, {})
    assert (current.flat.item(), mean.flat.item()) == (1.0, 2.0)


@pytest.mark.parametrize("transforms", [["gaussian"], ["gaussian", "clip"], [Clip(1.0), Gaussian(3.0, 2.0)]])
def test_it_needs_a_clip_with_the_same_bound_before_it(transforms):
    kwargs = KNOBS if isinstance(transforms[0], str) else None
    with pytest.raises(ValueError, match=r"'gaussian' with `max_norm` 2, and before it (no clip|clip with 1)"):
        resolve_transforms(transforms, kwargs, FEDAVG)


def test_a_looser_bound_earlier_does_not_count():
    with pytest.raises(ValueError, match="before it clip with 1"):
        resolve_transforms([Clip(2.0), Clip(1.0), Gaussian(3.0, 2.0)], None, FEDAVG)


@pytest.mark.parametrize("order", [["clip", "gaussian", "quantize"], ["clip", "quantize", "gaussian"]])
def test_one_max_norm_goes_to_both_and_quantize_may_follow(order):
    found = resolve_transforms(order, KNOBS, resolve_method("fedprox+fedadam"))
    assert {Clip(2.0), Gaussian(3.0, 2.0)} < set(found)


@dataclass(frozen=True)
class Median(Strategy):
    def aggregate(self, updates, current, state):
        raise NotImplementedError


def test_a_method_that_does_not_average_is_refused():
    with pytest.raises(ValueError, match="`method` Median combines them in another way"):
        resolve_transforms(["clip", "gaussian"], KNOBS, resolve_method(Median()))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"noise_multiplier": -1.0, "max_norm": 1.0}, "`noise_multiplier` must be a finite number at least 0"),
        ({"noise_multiplier": 1.0, "max_norm": 0.0}, "`max_norm` must be a finite number above 0"),
        ({"noise_multiplier": "1e-3", "max_norm": 1.0}, "`noise_multiplier` must be a number, got '1e-3'"),
    ],
)
def test_a_knob_out_of_its_range_is_named(knobs, message):
    with pytest.raises(ValueError, match=message):
        Gaussian(**knobs)
