"""Clipping against numbers worked by hand from McMahan et al. (2018), Algorithm 1."""

from dataclasses import replace

import pytest
import torch

from fedvlm_hf.engines.in_process import InProcessEngine
from fedvlm_hf.exchange.updates import UpdateError
from fedvlm_hf.methods import resolve_method
from fedvlm_hf.methods.fedavg import FedAvg
from fedvlm_hf.rounds import RoundStart, run_rounds
from fedvlm_hf.testing import scalars, sent
from fedvlm_hf.transforms import TransformChain, resolve_transforms
from fedvlm_hf.transforms.clip import Clip
from fedvlm_hf.transforms.quantize import Quantize
from fedvlm_hf.types import ClientTask, ServerState


START = scalars(w=[1.0, 1.0], u=[2.0])
TASK = ClientTask(1, "a", START)
FEDAVG = resolve_method("fedavg")


def clipped(max_norm, weight=5, **values):
    """What a client with these weights sends, as a change."""
    return TransformChain([Clip(max_norm)]).encode(sent("a", weight, **values), TASK, {})[0]


def test_all_tensors_are_scaled_together():
    """The change of w is (2, 3) and of u 6: its norm is sqrt(4 + 9 + 36) = 7. At most 3.5 is half of it."""
    update = clipped(3.5, w=[3.0, 4.0], u=[8.0])
    assert update.tensors["w"].tolist() == [1.0, 1.5]
    assert update.tensors["u"].tolist() == [3.0]
    assert update.weight == 1


@pytest.mark.parametrize("max_norm", [7.0, 8.0])
def test_a_change_within_the_bound_stays(max_norm):
    update = clipped(max_norm, w=[3.0, 4.0], u=[8.0])
    assert update.tensors.flat.tolist() == [2.0, 3.0, 6.0]
    assert update.weight == 1


def test_no_change_stays_no_change():
    assert clipped(1.0, w=[1.0, 1.0], u=[2.0]).tensors.flat.tolist() == [0.0, 0.0, 0.0]


def test_the_norm_of_huge_changes_does_not_overflow():
    """(3e38)^2 is past fp32. The change is (3e38, 2e38, 0), so clipped to sqrt(13) it is (3, 2, 0)."""
    update = clipped(13**0.5, w=[3e38, 2e38], u=[2.0])
    assert update.tensors.flat.tolist() == pytest.approx([3.0, 2.0, 0.0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_hidden(value):
    """inf * 0 is not a number, which the check of updates refuses."""
    chain = TransformChain([Clip(1.0)])
    engine = InProcessEngine(lambda task: chain.encode(sent("a", 1, w=[1.0, value], u=[2.0]), task, {})[0])
    with pytest.raises(UpdateError, match="'w' with values that are not finite"):
        one_round(engine, chain)


def one_round(engine, chain, cohort=("a",)):
    return run_rounds(
        start=RoundStart(START, ServerState(), round_idx=0),
        num_rounds=1,
        strategy=FedAvg(),
        engine=engine,
        cohort=lambda _: list(cohort),
        evaluate=lambda *_: {},
        transforms=chain,
    )


def test_the_server_bounds_a_client_that_does_not_clip():
    """a sends its whole change (2, 3, 6) with a weight of 1,000; b changes nothing. The mean is half of the change
    clipped to 3.5: (1, 1.5, 3) / 2."""
    changes = {"a": scalars(w=[2.0, 3.0], u=[6.0]), "b": scalars(w=[0.0, 0.0], u=[0.0])}
    engine = InProcessEngine(
        lambda task: replace(sent(task.client_id, 1000, w=[0.0]), tensors=changes[task.client_id])
    )
    end = one_round(engine, TransformChain([Clip(3.5)]), "ab")
    assert end.tensors.flat.tolist() == [1.5, 1.75, 3.5]
    assert [client["num_samples"] for client in end.history[-1].clients.values()] == [1, 1]


def test_the_bound_holds_after_stochastic_rounding():
    """4,096 values of 1 and one of 100: rounded to steps of 100 / 127 they become longer than the bound in most draws.
    What the server takes is never longer."""
    start = scalars(w=[0.0] * 4097)
    task = ClientTask(1, "a", start)
    update = sent("a", 1, w=[1.0] * 4096 + [100.0])
    too_long = 0
    for seed in range(20):
        chain = TransformChain([Clip(10.0), Quantize()], seed)
        raw = TransformChain([Quantize()], seed)
        travelled, _ = chain.encode(update, task, {})
        too_long += raw.decode(travelled, task).tensors.flat.norm().item() > 10.001
        assert chain.decode(travelled, task).tensors.flat.norm().item() <= 10.0001
    assert too_long > 10


def test_metrics_are_sent_as_they_are():
    update = replace(sent("a", 5, w=[3.0, 4.0], u=[8.0]), metrics={"train_loss": 0.5})
    assert TransformChain([Clip(1.0)]).encode(update, TASK, {})[0].metrics == {"train_loss": 0.5}


def test_control_groups_are_refused():
    task = replace(TASK, expects=replace(TASK.expected, control={"change": TASK.expected.tensors}))
    with pytest.raises(ValueError, match="`transforms` has 'clip', but clients also send the control group 'change'"):
        TransformChain([Clip(1.0)]).layout(task)


def test_after_a_change_of_format_it_is_refused():
    with pytest.raises(ValueError, match="'clip' after a transform that changes the format"):
        resolve_transforms(["quantize", "clip"], {"max_norm": 1.0}, FEDAVG)
    assert resolve_transforms(["clip", "quantize"], {"max_norm": 1.0}, FEDAVG) == (Clip(1.0), Quantize())


@pytest.mark.parametrize("max_norm", [0, -1.0, float("nan"), float("inf"), "1"])
def test_the_bound_must_be_a_positive_number(max_norm):
    with pytest.raises(ValueError, match="`max_norm` must be a"):
        Clip(max_norm)


def test_small_steps_of_rounding_do_not_accumulate():
    """A change that was clipped at the client stays, up to one rounding, when the server applies the bound again."""
    tensors = scalars(w=torch.linspace(-1, 1, 1000).tolist())
    context_task = ClientTask(1, "a", tensors.with_flat(torch.zeros(1000)))
    chain = TransformChain([Clip(0.1)])
    travelled, _ = chain.encode(replace(sent("a", 1, w=[0.0]), tensors=tensors), context_task, {})
    received = chain.decode(travelled, context_task)
    torch.testing.assert_close(received.tensors.flat, travelled.tensors.flat, rtol=2e-7, atol=0)
