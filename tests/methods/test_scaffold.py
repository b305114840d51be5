"""SCAFFOLD against numbers worked by hand from Karimireddy et al. (2020), and in real training."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig
from torch import nn

from federation import config, federated
from fedvlm_hf.checkpoint import load_last_round
from fedvlm_hf.methods import ClientMethod, Method, resolve_method
from fedvlm_hf.methods.fedavg import FedAvg
from fedvlm_hf.methods.scaffold import Scaffold, ScaffoldServer
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.testing.examples import scalars, sent, step
from fedvlm_hf.types import ClientTask, ServerState
from tiny import tiny_rows


SGD = {"optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.0}
QUADRATICS = {"a": (1.0, 0.0), "b": (0.5, 3.0)}
"""Curvature and minimum of each client's F_k(w) = curvature (w - minimum)^2 / 2. The mean of both is least at 1."""


def local_run(method: Method, task: ClientTask, num_steps: int = 2, rate: float = 0.5):
    """Steps of SGD on a client's quadratic, with the method's hooks."""
    curvature, minimum = QUADRATICS[task.client_id]
    weight = nn.Parameter(task.tensors["w"].clone())
    optimizer = torch.optim.SGD([weight], lr=rate)
    for _ in range(num_steps):
        optimizer.zero_grad()
        (0.5 * curvature * (weight - minimum) ** 2).sum().backward()
        method.client.adjust_gradients({"w": weight}, task)
        optimizer.step()
    update = sent(task.client_id, 1, w=weight.tolist())
    return method.client.on_finish(replace(update, metrics={"num_steps": num_steps, "learning_rate": rate}), task)


def rounds(method: Method, count: int, cohorts=None) -> list[tuple[float, ServerState, dict]]:
    """The weight, the server's state and the clients' states after each round, from w = 0."""
    current, kept, after = scalars(w=[0.0]), {}, []
    state = method.strategy.init(current, len(QUADRATICS))
    for index in range(count):
        cohort = cohorts[index] if cohorts else list(QUADRATICS)
        tasks = method.strategy.configure(index + 1, cohort, current, state)
        updates = [local_run(method, replace(task, state=kept.get(task.client_id, {}))) for task in tasks]
        kept = {**kept, **{update.client_id: update.state for update in updates}}
        current, state = step(method.strategy, updates, current, state)
        after.append((current["w"].item(), state, kept))
    return after


def test_two_rounds_by_hand():
    """F_a = w^2 / 2, F_b = (w - 3)^2 / 4, rate 1/2, K = 2, so K eta = 1; x = c = c_a = c_b = 0.

    Round 1: a: 0 -> 0.                     c_a = (0 - 0) / 1 = 0
             b: 0 -> 0.75 -> 1.3125.        c_b = (0 - 1.3125) / 1 = -1.3125
             x = 0.65625, c = (0 - 1.3125) / 2 = -0.65625
    Round 2: a: a step goes along w - 0 - 0.65625, which is 0 at x: it stays at 0.65625.
                c_a = 0 + 0.65625 + 0 = 0.65625
             b: along (w - 3) / 2 + 1.3125 - 0.65625: -0.515625 at x, so 0.9140625; there -0.38671875, so 1.107421875
                c_b = -1.3125 + 0.65625 + (0.65625 - 1.107421875) = -1.107421875
             x = (0.65625 + 1.107421875) / 2 = 0.8818359375, c = (0.65625 - 1.107421875) / 2 = -0.2255859375
    """
    first, second = rounds(resolve_method("scaffold"), 2)
    for (weight, state, kept), expected in [
        (first, (0.65625, -0.65625, 0.0, -1.3125)),
        (second, (0.8818359375, -0.2255859375, 0.65625, -1.107421875)),
    ]:
        controls = [kept[client_id]["control"].flat.item() for client_id in QUADRATICS]
        assert (weight, state.tensors["control"].flat.item(), *controls) == expected


def test_a_client_that_sits_out_keeps_its_control():
    """Both, then b alone. The sum over the cohort is divided by both clients: in round 2 c_b changes by
    0.65625 + (0.65625 - 1.107421875) = 0.205078125, and c by half of it, to -0.5537109375. x is b's 1.107421875."""
    _, (weight, state, kept) = rounds(resolve_method("scaffold"), 2, [["a", "b"], ["b"]])
    assert weight == 1.107421875
    assert state.tensors["control"].flat.item() == -0.5537109375
    assert kept["a"]["control"].flat.item() == 0.0


def test_drift_is_corrected_where_fedavg_is_biased():
    """The mean of F_a and F_b is least where w + (w - 3) / 2 = 0, at 1. Two steps of rate 1/2 bring client k
    q_k = 1 - (1 - a_k / 2)^2 of the way to its minimum: 3/4 and 7/16. FedAvg rests where
    3/4 (0 - w) + 7/16 (3 - w) = 0, at 21/19."""
    fedavg, _, _ = rounds(Method(ClientMethod(), FedAvg()), 60)[-1]
    scaffold, _, kept = rounds(resolve_method("scaffold"), 60)[-1]
    assert fedavg == pytest.approx(21 / 19, abs=1e-5)
    assert scaffold == pytest.approx(1.0, abs=1e-5)
    gradients = {client_id: group["control"].flat.item() for client_id, group in kept.items()}
    assert gradients == pytest.approx({"a": 1.0, "b": -1.0}, abs=1e-4)  # of F_a and F_b at 1


def test_half_a_server_step_by_hand():
    """eta_g = 1/2: the first round goes half of the way to 0.65625; c is as with a whole step."""
    ((weight, state, _),) = rounds(resolve_method("scaffold", {"server_lr": 0.5}), 1)
    assert (weight, state.tensors["control"].flat.item()) == (0.328125, -0.65625)


# --- in training ---


def scaffold_run(tmp_path, rows, name="run", **kwargs):
    return federated(
        tmp_path / name, rows,
        **{"method": "scaffold", "tuning": "llm", "max_steps": 2, "num_rounds": 3, **SGD, **kwargs},
        trainer_kwargs={"peft_config": LoraConfig(r=2)},
    )  # fmt: skip


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_training_is_the_loop_of_the_paper(tmp_path, weight_decay):
    """Two clients with one batch each, so that a gradient does not depend on the order of rows. The gradient is
    measured: w - y after one step of plain SGD with rate 1. Weight decay adds its share to it."""
    rows = {"client_00": tiny_rows(2, seed=3), "client_01": tiny_rows(2, seed=4)}
    trainer = scaffold_run(tmp_path, rows, weight_decay=weight_decay)
    oracle = scaffold_run(
        tmp_path, rows, "oracle", method="fedavg", max_steps=1, learning_rate=1.0, weight_decay=weight_decay
    )
    x = trainer.local.initial_shared()
    trainer.train()

    def gradient(client_id, flat):
        update = oracle.run_client(ClientTask(1, client_id, x.with_flat(flat)))
        return flat - update.tensors.flat

    flat, c = x.flat, torch.zeros_like(x.flat)
    own = {client_id: torch.zeros_like(c) for client_id in rows}
    for _ in range(3):
        ends, old = [], dict(own)
        for client_id in rows:
            y = flat
            for _ in range(2):
                y = y - 0.5 * (gradient(client_id, y) - old[client_id] + c)
            own[client_id] = old[client_id] - c + (flat - y) / (2 * 0.5)
            ends.append(y)
        flat, c = sum(ends) / 2, c + sum(own[k] - old[k] for k in rows) / 2
    moved = (flat - x.flat).abs().max()
    assert moved > 1e-3
    torch.testing.assert_close(trainer.federation.tensors.flat, flat, rtol=0, atol=1e-4 * moved.item())
    assert c.abs().max() > 1e-3
    state = trainer.federation.end.state
    torch.testing.assert_close(state.tensors["control"].flat, c, rtol=0, atol=1e-3 * c.abs().max().item())


def test_one_client_is_fedavg_to_rounding(tmp_path):
    """c_k = c, so the correction is 0 but for the last bits."""
    ends = {}
    for method in ("scaffold", "fedavg"):
        trainer = scaffold_run(tmp_path, {"client_00": tiny_rows(4, seed=3)}, method, method=method)
        start = trainer.local.initial_shared().flat
        trainer.train()
        ends[method] = trainer.federation.tensors.flat
    moved = (ends["fedavg"] - start).norm()
    assert moved > 0
    assert (ends["scaffold"] - ends["fedavg"]).norm() < 1e-5 * moved


def test_a_partial_cohort_resumes_to_the_bit_and_weights_play_no_part(tmp_path):
    """One client of three in each round: who sat out comes back with its old control."""
    rows = {f"client_{index:02d}": tiny_rows(2 + 2 * index, seed=index) for index in range(3)}
    whole = scaffold_run(tmp_path, rows, "whole", clients_per_round=2, num_rounds=4)
    whole.train()
    scaffold_run(tmp_path, rows, "cut", clients_per_round=2, num_rounds=2).train()
    resumed = scaffold_run(tmp_path, rows, "cut", clients_per_round=2, num_rounds=4)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.federation.tensors.digest() == whole.federation.tensors.digest()
    state = load_last_round(tmp_path / "cut", resumed.store).state
    assert state.tensors["control"].digest() == whole.federation.end.state.tensors["control"].digest()
    assert state.scalars == {"num_clients": 3}
    uniform = scaffold_run(tmp_path, rows, "u", clients_per_round=2, num_rounds=4, client_weighting="uniform")
    uniform.train()
    assert uniform.federation.tensors.digest() == whole.federation.tensors.digest()


def test_both_stages_have_controls_of_their_own(tmp_path):
    trainer = scaffold_run(tmp_path, None, tuning="two_stage", num_rounds=4, learning_rate=0.05)
    trainer.train()
    control = trainer.federation.end.state.tensors["control"]
    assert list(control) == trainer.local.shared
    assert all("lora" in name for name in control)
    assert control.flat.norm() > 0
    assert list(trainer.store.load("client_00")["control"]) == list(control)


# --- what is refused ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optim": "adamw_torch"}, "`optim` must be 'sgd', got 'adamw_torch'"),
        ({"optim_args": "momentum=0.9"}, "`optim_args` must be None, got 'momentum=0.9'"),
        ({"lr_scheduler_type": "cosine"}, "`lr_scheduler_type` must be 'constant', got 'cosine'"),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2}, "got 'constant_with_warmup'"),
        ({"max_grad_norm": 1.0}, "`max_grad_norm` must be 0, got 1.0"),
        ({"learning_rate": 0.0}, "`learning_rate` must be a finite number above 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_where_it_would_not_be_exact_it_is_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError) as error:
        Scaffold().check_config(config(tmp_path, **{**SGD, **arguments}))
    assert message in str(error.value)


def test_the_defaults_of_a_run_are_refused_all_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"'scaffold' is exact [\s\S]*`optim` must[\s\S]*`max_grad_norm` must be 0"):
        federated(tmp_path, method="scaffold")
    Scaffold().check_config(config(tmp_path, **SGD, weight_decay=0.1, warmup_steps=3))  # no warm-up at a constant rate


def test_a_half_alone_is_refused(tmp_path):
    with pytest.raises(ValueError, match="more than one strategy: scaffold, fedadam"):
        resolve_method("scaffold+fedadam")
    with pytest.raises(ValueError, match="without its server half"):
        scaffold_run(tmp_path, None, "client", method=Scaffold()).train()
    with pytest.raises(ValueError, match=r"client 'client_00' in round 1 lacks the control group 'control'"):
        scaffold_run(tmp_path, None, "server", method=ScaffoldServer()).train()


@pytest.mark.parametrize("server_lr", [0, -1.0, "1"])
def test_a_server_rate_that_is_none_is_refused(server_lr):
    with pytest.raises(ValueError, match="`server_lr` must be a"):
        ScaffoldServer(server_lr)


def test_what_the_loss_does_not_reach_is_corrected_too():
    """g = 0 there: 0 - 5 + 2. A tensor that stays with its client has no control."""
    named = {name: nn.Parameter(torch.tensor([3.0])) for name in ("unreached", "private")}
    task = ClientTask(
        1, "a", scalars(unreached=[1.0]), {"control": scalars(unreached=[2.0])},
        state={"control": scalars(unreached=[5.0])},
    )  # fmt: skip
    Scaffold().adjust_gradients(named, task)
    assert named["unreached"].grad.item() == -3.0
    assert named["private"].grad is None
    assert isinstance(task.tensors, TensorDict)
