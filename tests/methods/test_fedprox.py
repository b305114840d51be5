"""FedProx against numbers worked by hand from Li et al. (2020), and its penalty in real training."""

import pytest
import torch
from peft import LoraConfig
from torch import nn

from federation import federated
from fedvlm_hf.methods.fedavg import FedAvg
from fedvlm_hf.methods.fedprox import FedProx
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.types import ClientTask, ClientUpdate, ServerState
from tiny import tiny_rows


def task(**tensors: float) -> ClientTask:
    return ClientTask(1, "a", TensorDict.from_tensors({name: torch.tensor([x]) for name, x in tensors.items()}))


def two_local_steps(method: FedProx, start: TensorDict, centre: float) -> TensorDict:
    """Two SGD steps of rate 1/2 on F(w) = (w - centre)^2 / 2."""
    weight = nn.Parameter(start["w"].clone())
    optimizer = torch.optim.SGD([weight], lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        (0.5 * (weight - centre) ** 2).sum().backward()
        method.adjust_gradients({"w": weight}, ClientTask(1, "a", start))
        optimizer.step()
    return TensorDict.from_tensors({"w": weight})


@pytest.mark.parametrize(
    ("mu", "expected"), [(0.0, [-0.375, -0.46875]), (0.5, [-0.3125, -0.4296875])], ids=["fedavg", "fedprox"]
)
def test_two_rounds_by_hand(mu, expected):
    """Two clients with F_k = (w - c_k)^2 / 2, c = 4 and -2, 1 and 3 samples, rate 1/2, two steps, mu = 1/2, w_0 = 0.
    A step is w - ((w - c) + (w - w_t) / 2) / 2.

    Round 1: a: 0 -> 2 -> 2 - (-2 + 1) / 2 = 2.5;  b: 0 -> -1 -> -1 - (1 - 1/2) / 2 = -1.25
             w_1 = (2.5 - 3 * 1.25) / 4 = -0.3125
    Round 2: a: -0.3125 -> 1.84375 -> 1.84375 - (-2.15625 + 1.078125) / 2 = 2.3828125
             b: -0.3125 -> -1.15625 -> -1.15625 - (0.84375 - 0.421875) / 2 = -1.3671875
             w_2 = (2.3828125 - 3 * 1.3671875) / 4 = -0.4296875

    With mu = 0 it is FedAvg: w_1 = (3 - 3 * 1.5) / 4 = -0.375; from there a ends in -0.375 / 4 + 3 and b in
    -0.375 / 4 - 1.5, so w_2 = -0.09375 - 0.375 = -0.46875.
    """
    weights = TensorDict.from_tensors({"w": torch.zeros(1)})
    for value in expected:
        clients = [(1, 4.0), (3, -2.0)]
        updates = [ClientUpdate(1, "", two_local_steps(FedProx(mu), weights, centre), n) for n, centre in clients]
        weights = FedAvg().aggregate(updates, weights, ServerState()).tensors
        assert weights["w"].item() == value


def test_only_what_travels_is_held_to_its_global_value():
    """mu = 2, w = 3, w_t = 1: 2 (3 - 1) = 4 more than the gradient 10. A private tensor has no w_t. What the loss did
    not reach in this step has the penalty's gradient alone: what the penalty in the loss would give it."""
    named = {name: nn.Parameter(torch.tensor([3.0])) for name in ("shared", "private", "unreached")}
    named["shared"].grad, named["private"].grad = torch.tensor([10.0]), torch.tensor([10.0])
    FedProx(2.0).adjust_gradients(named, sent := task(shared=1.0, unreached=1.0))
    assert {name: parameter.grad.item() for name, parameter in named.items()} == {
        "shared": 14.0, "private": 10.0, "unreached": 4.0
    }  # fmt: skip
    assert sent.tensors.flat.tolist() == [1.0, 1.0]
    assert [parameter.item() for parameter in named.values()] == [3.0, 3.0, 3.0]


@pytest.mark.parametrize("mu", [-0.01, float("nan"), float("inf"), "0.1"])
def test_a_penalty_that_is_none_is_refused(mu):
    with pytest.raises(ValueError, match=r"`mu` must be a"):
        FedProx(mu)


def after(tmp_path, method, max_steps: int, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights of one client before and after some steps of SGD at rate 1, without dropout."""
    trainer = federated(
        tmp_path / f"{method}{max_steps}{len(list(tmp_path.iterdir()))}", {"client_00": tiny_rows(4, seed=3)},
        **{"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0, **kwargs}, method=method, max_steps=max_steps,
        num_rounds=1, trainer_kwargs={"peft_config": LoraConfig(r=2)},
    )  # fmt: skip
    start = trainer.local.initial_shared().flat.clone()
    trainer.train()
    return start, trainer.federation.tensors.flat


def test_the_penalty_in_training_by_hand(tmp_path):
    """The first step starts at w_0, where the penalty is 0, so FedProx and FedAvg both reach w_1. The second takes
    mu (w_1 - w_0) more off, rate 1. With mu = 0 the bits are FedAvg's."""
    start, first = after(tmp_path, "fedavg", 1)
    _, second = after(tmp_path, "fedavg", 2)
    _, prox = after(tmp_path, FedProx(0.25), 2)
    torch.testing.assert_close(second - prox, 0.25 * (first - start), rtol=1e-4, atol=1e-7)
    assert (second - prox).abs().max() > 1e-3
    assert torch.equal(after(tmp_path, FedProx(0.0), 2)[1], second)


def test_the_penalty_counts_once_whatever_the_accumulation(tmp_path):
    """Two rows at once and two rows one by one. Added in each micro-batch it would count twice."""
    _, at_once = after(tmp_path, FedProx(0.25), 2)
    _, one_by_one = after(tmp_path, FedProx(0.25), 2, per_device_train_batch_size=1, gradient_accumulation_steps=2)
    _, twice = after(tmp_path, FedProx(0.5), 2)
    torch.testing.assert_close(one_by_one, at_once, rtol=1e-4, atol=1e-5)
    assert (twice - at_once).abs().max() > 1e-3


def test_the_penalty_is_clipped_with_the_gradient(tmp_path):
    """Gradients are clipped to norm 0.01 and the rate is 1, so the second step is 0.01 long, whatever mu. The penalty
    alone is 100 * 0.01 = 1 long there: added after clipping, the step would be."""
    limit = {"max_grad_norm": 0.01}
    _, first = after(tmp_path, FedProx(100.0), 1, **limit)
    _, second = after(tmp_path, FedProx(100.0), 2, **limit)
    assert (second - first).norm().item() == pytest.approx(0.01, rel=1e-3)
