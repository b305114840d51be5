"""FedAdagrad, FedAdam and FedYogi against numbers worked by hand from Reddi et al. (2021), Algorithm 2."""

import math

import pytest
import torch

from fedvlm_hf.exchange.tensor_files import load_state, save_state
from fedvlm_hf.methods.fedopt import FedAdagrad, FedAdam, FedOpt, FedYogi
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.testing import scalars
from fedvlm_hf.types import Aggregate, ServerState
from server_steps import state_after, steps, updates, weights_after


METHODS = [FedAdagrad, FedAdam, FedYogi]
CLIENTS = [[(1, 10.0), (3, 2.0)], [(1, 8.0), (3, 0.0)], [(1, -8.0), (3, -8.0)]]
"""Rounds of two clients, samples and change: Delta = (1 a + 3 b) / 4 is 4, 2, -8; the plain mean is 6, 4, -8."""


def test_fedadagrad_by_hand():
    """eta = tau = 1, v0 = 0, no momentum. v sums the squares and w <- w + Delta / (sqrt(v) + 1). Delta = 3, 4, 12:

    v = 9,            sqrt 3,   w = 3/4
    v = 9 + 16 = 25,  sqrt 5,   w = 3/4 + 4/6
    v = 25 + 144,     sqrt 13,  w = 3/4 + 4/6 + 12/14
    """
    method = FedAdagrad(server_lr=1.0, tau=1.0, v0=0.0)
    clients = [[(1, 9.0), (3, 1.0)], [(1, 7.0), (3, 3.0)], [(1, 24.0), (3, 8.0)]]
    assert state_after(method, clients, "v") == pytest.approx([9.0, 25.0, 169.0])
    assert weights_after(method, clients) == pytest.approx([3 / 4, 3 / 4 + 4 / 6, 3 / 4 + 4 / 6 + 12 / 14])


def test_fedadagrad_with_momentum_by_hand():
    """As above with beta1 = 1/2: m = 3/2, then 3/4 + 4/2 = 11/4, then 11/8 + 12/2 = 59/8. v is the same: it takes the
    square of the change, not of the momentum."""
    method = FedAdagrad(server_lr=1.0, beta1=0.5, tau=1.0, v0=0.0)
    clients = [[(1, 9.0), (3, 1.0)], [(1, 7.0), (3, 3.0)], [(1, 24.0), (3, 8.0)]]
    assert state_after(method, clients, "m") == pytest.approx([1.5, 2.75, 7.375])
    assert state_after(method, clients, "v") == pytest.approx([9.0, 25.0, 169.0])
    first, second, third = 1.5 / 4, 2.75 / 6, 7.375 / 14
    assert weights_after(method, clients) == pytest.approx([first, first + second, first + second + third])


def test_fedadam_by_hand():
    """eta = tau = 1, beta1 = 1/2, beta2 = 3/4, v0 = 0. m <- m/2 + Delta/2, v <- 3/4 v + 1/4 Delta^2. Delta = 4, 2, -8:

    m = 2,           v = 4,           w = 2 / (2 + 1)
    m = 1 + 1 = 2,   v = 3 + 1 = 4,   w = 2/3 + 2/3
    m = 1 - 4 = -3,  v = 3 + 16 = 19, w = 4/3 - 3 / (sqrt(19) + 1) = 0.773517
    """
    method = FedAdam(server_lr=1.0, beta1=0.5, tau=1.0, v0=0.0, beta2=0.75)
    assert state_after(method, CLIENTS, "m") == pytest.approx([2.0, 2.0, -3.0])
    assert state_after(method, CLIENTS, "v") == pytest.approx([4.0, 4.0, 19.0])
    assert weights_after(method, CLIENTS) == pytest.approx([2 / 3, 4 / 3, 0.773517], rel=1e-6)


def test_fedyogi_by_hand():
    """As above but v0 = 12 and v <- v - 1/4 Delta^2 sign(v - Delta^2). Delta = 4, 2, -8:

    16 > 12: v = 12 + 4 = 16,   m = 2,   w = 2 / (4 + 1) = 0.4
     4 < 16: v = 16 - 1 = 15,   m = 2,   w = 0.4 + 2 / (sqrt(15) + 1) = 0.810426
    64 > 15: v = 15 + 16 = 31,  m = -3,  w = 0.810426 - 3 / (sqrt(31) + 1) = 0.353650

    Adam's v would be 9 + 4 = 13 after the first round.
    """
    method = FedYogi(server_lr=1.0, beta1=0.5, tau=1.0, v0=12.0, beta2=0.75)
    assert state_after(method, CLIENTS, "v") == pytest.approx([16.0, 15.0, 31.0])
    assert state_after(method, CLIENTS, "m") == pytest.approx([2.0, 2.0, -3.0])
    assert weights_after(method, CLIENTS) == pytest.approx([0.4, 0.810426, 0.353650], rel=1e-6)


def test_fedyogi_stays_where_the_square_is_v():
    """sign(0) = 0: v0 = 16 and Delta = 4 leave v at 16."""
    assert state_after(FedYogi(v0=16.0), CLIENTS[:1], "v") == pytest.approx([16.0])


def test_the_defaults_by_hand():
    """eta = tau = 1e-3, v0 = 1e-6, and a change of 4: there is no bias correction.

    FedAdagrad: m = 4, sqrt(1e-6 + 16) = 4, w = 1e-3 * 4 / 4.001.
    FedAdam: m = 0.4, v = 0.99e-6 + 0.16, w = 1e-3 * 0.4 / 0.401. FedYogi: v = 1e-6 + 0.16, the same to 6 digits.
    """
    for method, expected in [(FedAdagrad(), 4 / 4001), (FedAdam(), 0.4 / 401), (FedYogi(), 0.4 / 401)]:
        (weight, _), *_ = steps(method, CLIENTS)
        assert weight == pytest.approx(expected, rel=1e-5)
        assert method.init(scalars(w=[0.0]), 2).tensors["v"].flat.item() == pytest.approx(1e-6)


class TestFedVLMBench:
    """OpenFedLLM's `fed_global.py`, which FedVLMBench builds on. The mean is plain: Delta = 6, 4, -8."""

    def test_fedadagrad_by_hand(self):
        """No momentum there, so only the mean differs: v = 36, 52, 116 and w = 6/7, + 4 / (sqrt(52) + 1),
        - 8 / (sqrt(116) + 1)."""
        method = FedAdagrad(server_lr=1.0, tau=1.0, v0=0.0, variant="fedvlmbench")
        assert state_after(method, CLIENTS, "v") == pytest.approx([36.0, 52.0, 116.0])
        second = 6 / 7 + 4 / (math.sqrt(52) + 1)
        assert weights_after(method, CLIENTS) == pytest.approx([6 / 7, second, second - 8 / (math.sqrt(116) + 1)])

    def test_fedadam_by_hand(self):
        """beta1 = 1/2, beta2 = 3/4, v0 = 0; m starts from the first Delta and v <- 3/4 v + 1/4 m^2:

        m = 6,              v = 9,                         w = 6 / (3 + 1) = 1.5
        m = 3 + 2 = 5,      v = 6.75 + 6.25 = 13,          w = 1.5 + 5 / (sqrt(13) + 1) = 2.585646
        m = 2.5 - 4 = -1.5, v = 9.75 + 0.5625 = 10.3125,   w = 2.585646 - 1.5 / (sqrt(10.3125) + 1) = 2.229462
        """
        method = FedAdam(server_lr=1.0, beta1=0.5, tau=1.0, v0=0.0, variant="fedvlmbench", beta2=0.75)
        assert state_after(method, CLIENTS, "m") == pytest.approx([6.0, 5.0, -1.5])
        assert state_after(method, CLIENTS, "v") == pytest.approx([9.0, 13.0, 10.3125])
        assert weights_after(method, CLIENTS) == pytest.approx([1.5, 2.585646, 2.229462], rel=1e-6)

    def test_fedyogi_by_hand(self):
        """As FedAdam, but v <- v - 1/4 m^2 sign(v - m^2):

        36 > 0:        v = 9,                        w = 1.5
        25 > 9:        v = 9 + 6.25 = 15.25,         w = 1.5 + 5 / (sqrt(15.25) + 1) = 2.519343
        2.25 < 15.25:  v = 15.25 - 0.5625 = 14.6875, w = 2.519343 - 1.5 / (sqrt(14.6875) + 1) = 2.208941
        """
        method = FedYogi(server_lr=1.0, beta1=0.5, tau=1.0, v0=0.0, variant="fedvlmbench", beta2=0.75)
        assert state_after(method, CLIENTS, "v") == pytest.approx([9.0, 15.25, 14.6875])
        assert weights_after(method, CLIENTS) == pytest.approx([1.5, 2.519343, 2.208941], rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_with_a_coarse_tau_it_is_fedavg(method):
    """beta1 = 0, v0 = 0 and eta = tau -> infinity: tau Delta / (sqrt(v) + tau) -> Delta. Not to the bit."""
    weights = weights_after(method(server_lr=1e8, beta1=0.0, tau=1e8, v0=0.0), CLIENTS)
    assert weights == pytest.approx([4.0, 6.0, -2.0], rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_that_goes_in_is_changed_or_comes_out_again(method):
    """The state of an earlier round stays what it was: a round that is saved late must be the round that it was."""
    mean, current = scalars(w=[3.0]), scalars(w=[1.0])
    state = method().apply(Aggregate(mean), current, method().init(current, 2))[1]
    before = [mean, current, *state.tensors.values()]
    digests = [tensors.digest() for tensors in before]
    after, new_state = method().apply(Aggregate(mean), current, state)
    assert [tensors.digest() for tensors in before] == digests
    assert len({tensors.flat.data_ptr() for tensors in [*before, after, *new_state.tensors.values()]}) == 7


@pytest.mark.parametrize("variant", ["paper", "fedvlmbench"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("current", [scalars(w=[0.7, 0.2]), TensorDict({})], ids=["two weights", "nothing is shared"])
def test_moments_survive_saving(tmp_path, method, variant, current):
    """After none, one and two rounds; a method that shares nothing has moments without a tensor."""
    method, state = method(variant=variant), method(variant=variant).init(current, 2)
    for _ in range(3):
        mean = current.with_flat(current.flat * 0.9 + 0.1)
        save_state(tmp_path / "server.safetensors", state.tensors)
        loaded = ServerState(load_state(tmp_path / "server.safetensors"), dict(state.scalars))
        assert sorted(loaded.tensors) == sorted(state.tensors)
        resumed = method.apply(Aggregate(mean), current, loaded)[0]
        current, state = method.apply(Aggregate(mean), current, state)
        assert resumed.digest() == current.digest()
    assert sorted(state.tensors) == ["m", "v"]


@pytest.mark.parametrize("method", METHODS)
def test_the_mean_follows_the_samples_unless_the_variant_says_otherwise(method):
    """1 and 3 samples, 10 and 2: (10 + 6) / 4 = 4, or (10 + 2) / 2 = 6. An iterator is enough."""
    current = scalars(w=[0.0, 0.0])
    for variant, expected in [("paper", 4.0), ("fedvlmbench", 6.0)]:
        mean = method(variant=variant).aggregate(iter(updates(current, CLIENTS[0])), current, ServerState()).tensors
        assert mean.flat[0].item() == expected


@pytest.mark.parametrize(
    ("method", "knobs", "message"),
    [
        (FedAdam, {"server_lr": 0.0}, "`server_lr` must be a finite number above 0, got 0.0"),
        (FedYogi, {"server_lr": "1e-3"}, "`server_lr` must be a number, got '1e-3'. In YAML"),
        (FedAdagrad, {"beta1": 1}, "`beta1` must be a finite number at least 0 and below 1, got 1"),
        (FedAdam, {"beta2": 1.5}, "`beta2` must be a finite number at least 0 and below 1, got 1.5"),
        (FedYogi, {"beta2": -0.1}, "`beta2` must be"),
        (FedAdagrad, {"tau": 0}, "`tau` must be a finite number above 0, got 0"),
        (FedAdam, {"v0": -1.0}, "`v0` must be a finite number at least 0, got -1.0"),
        (FedAdam, {"tau": float("nan")}, "`tau` must be a finite number above 0, got nan"),
        (FedYogi, {"variant": "Paper"}, "`variant` 'Paper' is unknown. Did you mean 'paper'"),
    ],
)
def test_knobs_out_of_their_range_are_refused(method, knobs, message):
    with pytest.raises(ValueError) as error:
        method(**knobs)
    assert message in str(error.value)


def test_the_shared_half_is_no_method_of_its_own():
    with pytest.raises(TypeError, match="abstract"):
        FedOpt()
    assert torch.equal(FedAdam().second_moment(torch.tensor(0.0), torch.tensor(1.0)), torch.tensor(0.01))
