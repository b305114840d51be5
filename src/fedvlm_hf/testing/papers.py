"""Worked examples of the methods that come with the package, computed from their papers and not from their code.

In the server examples client a has one sample and client b three. With `_clients(w=[m])` they send m + 3 and m - 1:
their mean weighted by samples is m, and their plain mean is m + 1. Tensor `u` mirrors `w`, with the other sign.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from ..lora import lora_pairs
from ..methods import Method
from ..types import ClientTask, ClientUpdate, LocalPhase
from .examples import ClientExample, ServerExample, WorkedExample, scalars, sent, step
from .tiny import tiny_rows


def _clients(**means: Sequence[float]) -> list[ClientUpdate]:
    """Return updates of 1 and 3 samples with the given weighted mean."""
    return [
        sent("a", 1, **{name: [mean + 3 for mean in values] for name, values in means.items()}),
        sent("b", 3, **{name: [mean - 1 for mean in values] for name, values in means.items()}),
    ]


def _plain_clients(**means: Sequence[float]) -> list[ClientUpdate]:
    """Return updates of 1 and 3 samples with the given plain mean; the weighted mean is 1 less."""
    return [
        sent("a", 1, **{name: [mean + 2 for mean in values] for name, values in means.items()}),
        sent("b", 3, **{name: [mean - 2 for mean in values] for name, values in means.items()}),
    ]


def _controlled(client_id: str, weight: float, w: float) -> ClientUpdate:
    """An update of SCAFFOLD, whose control variates do not move the tensors of the same round."""
    return sent(client_id, weight, {"control": scalars(w=[8.0])}, w=[w])


def _server(
    derivation: str, knobs: dict, means: Sequence[float], weights: Sequence[float], clients=_clients
) -> ServerExample:
    """Return rounds with the given means of the clients, from `weights[0]` to the other weights; `u` is the negative.

    The mean of a round is `w + Delta`, with the Delta of the derivation.
    """
    rounds = [
        (clients(w=[mean], u=[-mean]), scalars(w=[after], u=[-after]))
        for mean, (_, after) in zip(means, pairwise(weights), strict=True)
    ]
    return ServerExample(derivation, scalars(w=[weights[0]], u=[-weights[0]]), rounds, knobs)


FEDAVG = ServerExample(
    """McMahan et al., Algorithm 1: w = sum_k n_k w_k / n. With n = (1, 3): w = ((4 + 3 * 0) / 4, (0 + 3 * 4) / 4) =
    (1, 3) and u = (-2 + 3 * 6) / 4 = 4. In round 2 w = ((1 + 3 * 5) / 4, (3 - 3 * 1) / 4) = (4, 0) and u =
    (0 + 3 * 8) / 4 = 6: the old values have no influence.""",
    scalars(w=[10.0, 20.0], u=[30.0]),
    [
        ([sent("a", 1, w=[4.0, 0.0], u=[-2.0]), sent("b", 3, w=[0.0, 4.0], u=[6.0])], scalars(w=[1.0, 3.0], u=[4.0])),
        ([sent("a", 1, w=[1.0, 3.0], u=[0.0]), sent("b", 3, w=[5.0, -1.0], u=[8.0])], scalars(w=[4.0, 0.0], u=[6.0])),
    ],
)

FEDPROX = ClientExample(
    """Li et al., equation 2: h(w) = F(w) + mu/2 |w - w_t|^2, so the gradient is F'(w) + mu (w - w_t). With mu = 0.5:
    w: 0.25 + 0.5 (3 - 1) = 1.25, and 1 + 0.5 (-1 + 1) = 1; u: -1 + 0.5 (2 - 6) = -3.""",
    parameters=scalars(w=[3.0, -1.0], u=[2.0]),
    gradients=scalars(w=[0.25, 1.0], u=[-1.0]),
    global_tensors=scalars(w=[1.0, -1.0], u=[6.0]),
    expected=scalars(w=[1.25, 1.0], u=[-3.0]),
    knobs={"mu": 0.5},
)

FEDAVGM = _server(
    """Hsu et al., section 4.2: v = beta v + Delta, w = w + eta v, undamped. With beta = 0.5 and eta = 0.5, w from 1:
    Delta = 5 - 1 = 4, v = 4, w = 3; Delta = 5 - 3 = 2, v = 2 + 2 = 4, w = 5; Delta = -1 - 5 = -6, v = 2 - 6 = -4,
    w = 3.""",
    {"server_lr": 0.5, "server_momentum": 0.5, "variant": "paper"},
    means=[5.0, 5.0, -1.0],
    weights=[1.0, 3.0, 5.0, 3.0],
)
FEDAVGM_FEDVLMBENCH = _server(
    """v = Delta in round 1, then v = beta v + (1 - beta) Delta, w = w + v. With beta = 0.5, w from 1: Delta = 4,
    v = 4, w = 5; Delta = 7 - 5 = 2, v = 2 + 1 = 3, w = 8; Delta = 3 - 8 = -5, v = 1.5 - 2.5 = -1, w = 7.""",
    {"server_lr": 1.0, "server_momentum": 0.5, "variant": "fedvlmbench"},
    means=[5.0, 7.0, 3.0],
    weights=[1.0, 5.0, 8.0, 7.0],
)

FEDADAGRAD = _server(
    """Reddi et al., Algorithm 2: m = beta1 m + (1 - beta1) Delta, v = v + Delta^2, w = w + eta m / (sqrt(v) + tau).
    With eta = 2, beta1 = 0.5, tau = 3, v0 = 16, w from 1: Delta = 3, m = 1.5, v = 25, w = 1 + 2 * 1.5 / 8 = 1.375;
    Delta = 13.375 - 1.375 = 12, m = 0.75 + 6 = 6.75, v = 25 + 144 = 169, w = 1.375 + 2 * 6.75 / 16 = 2.21875.""",
    {"server_lr": 2.0, "beta1": 0.5, "tau": 3.0, "v0": 16.0, "variant": "paper"},
    means=[4.0, 13.375],
    weights=[1.0, 1.375, 2.21875],
)
FEDADAGRAD_DEFAULTS = _server(
    """No momentum and v0 = tau^2 by default. With eta = 1 and tau = 3, w from 1: Delta = 4, v = 9 + 16 = 25,
    w = 1 + 4 / (5 + 3) = 1.5.""",
    {"server_lr": 1.0, "tau": 3.0, "v0": None, "beta1": 0.0, "variant": "paper"},
    means=[5.0],
    weights=[1.0, 1.5],
)
FEDADAGRAD_FEDVLMBENCH = _server(
    "As with the default knobs of the paper's variant, but Delta is the plain mean's.",
    {"server_lr": 1.0, "tau": 3.0, "v0": None, "beta1": 0.0, "variant": "fedvlmbench"},
    means=[5.0],
    weights=[1.0, 1.5],
    clients=_plain_clients,
)

FEDADAM = _server(
    """Reddi et al., Algorithm 2, without bias correction: v = beta2 v + (1 - beta2) Delta^2. With eta = 0.5,
    beta1 = 0.5, beta2 = 0.75, tau = 3, v0 = 12, w from 1: Delta = 8, m = 4, v = 9 + 16 = 25, w = 1 + 0.5 * 4 / 8 =
    1.25; Delta = 12.25 - 1.25 = 11, m = 2 + 5.5 = 7.5, v = 18.75 + 30.25 = 49, w = 1.25 + 0.5 * 7.5 / 10 = 1.625.""",
    {"server_lr": 0.5, "beta1": 0.5, "beta2": 0.75, "tau": 3.0, "v0": 12.0, "variant": "paper"},
    means=[9.0, 12.25],
    weights=[1.0, 1.25, 1.625],
)
FEDADAM_DEFAULT_V0 = _server(
    """v0 = tau^2 by default. With eta = 1, beta1 = 0.5, beta2 = 0.75, tau = 2, w from 1: Delta = 2, m = 1,
    v = 0.75 * 4 + 0.25 * 4 = 4, w = 1 + 1 / (2 + 2) = 1.25.""",
    {"server_lr": 1.0, "beta1": 0.5, "beta2": 0.75, "tau": 2.0, "v0": None, "variant": "paper"},
    means=[3.0],
    weights=[1.0, 1.25],
)
FEDADAM_FEDVLMBENCH = _server(
    """m = Delta in round 1, v from m^2, Delta from the plain mean. Knobs as for the paper, w from 1: Delta = 8, m = 8,
    v = 9 + 16 = 25, w = 1 + 0.5 * 8 / 8 = 1.5; Delta = 15.5 - 1.5 = 14, m = 4 + 7 = 11, v = 18.75 + 30.25 = 49,
    w = 1.5 + 0.5 * 11 / 10 = 2.05.""",
    {"server_lr": 0.5, "beta1": 0.5, "beta2": 0.75, "tau": 3.0, "v0": 12.0, "variant": "fedvlmbench"},
    means=[9.0, 15.5],
    weights=[1.0, 1.5, 2.05],
    clients=_plain_clients,
)

FEDYOGI = _server(
    """Reddi et al., Algorithm 2: v = v - (1 - beta2) Delta^2 sign(v - Delta^2). With eta = 0.5, beta1 = 0.5,
    beta2 = 0.75, tau = 1, v0 = 10, w from 1: Delta = 2, m = 1, v = 10 - 0.25 * 4 = 9 (10 is above 4), w = 1 + 0.5 *
    1 / 4 = 1.125; Delta = 9.125 - 1.125 = 8, m = 0.5 + 4 = 4.5, v = 9 + 0.25 * 64 = 25 (9 is below 64), w = 1.125 +
    0.5 * 4.5 / 6 = 1.5.""",
    {"server_lr": 0.5, "beta1": 0.5, "beta2": 0.75, "tau": 1.0, "v0": 10.0, "variant": "paper"},
    means=[3.0, 9.125],
    weights=[1.0, 1.125, 1.5],
)
FEDYOGI_DEFAULT_V0 = _server(
    """v0 = tau^2 by default. With eta = 1, beta1 = 0.5, beta2 = 0.75, tau = 3, w from 1: Delta = 8, m = 4,
    v = 9 + 0.25 * 64 = 25, w = 1 + 4 / (5 + 3) = 1.5.""",
    {"server_lr": 1.0, "beta1": 0.5, "beta2": 0.75, "tau": 3.0, "v0": None, "variant": "paper"},
    means=[9.0],
    weights=[1.0, 1.5],
)
FEDYOGI_FEDVLMBENCH = _server(
    """m = Delta in round 1, v from m^2, Delta from the plain mean. Knobs as for the paper, w from 1: Delta = 2, m = 2,
    v = 10 - 0.25 * 4 = 9, w = 1 + 0.5 * 2 / 4 = 1.25; Delta = 15.25 - 1.25 = 14, m = 1 + 7 = 8, v = 9 + 0.25 * 64 =
    25, w = 1.25 + 0.5 * 8 / 6 = 1.25 + 2/3.""",
    {"server_lr": 0.5, "beta1": 0.5, "beta2": 0.75, "tau": 1.0, "v0": 10.0, "variant": "fedvlmbench"},
    means=[3.0, 15.25],
    weights=[1.0, 1.25, 1.25 + 2 / 3],
    clients=_plain_clients,
)


SCAFFOLD_STEP = ClientExample(
    """Karimireddy et al., Algorithm 1: a step goes along g - c_k + c. w: 0.25 - 0.5 + 2 = 1.75 and 1 + 1 - 3 = -1;
    u: -1 - 4 + 0 = -5.""",
    parameters=scalars(w=[3.0, -1.0], u=[2.0]),
    gradients=scalars(w=[0.25, 1.0], u=[-1.0]),
    global_tensors=scalars(w=[1.0, -1.0], u=[6.0]),
    expected=scalars(w=[1.75, -1.0], u=[-5.0]),
    control={"control": scalars(w=[2.0, -3.0], u=[0.0])},
    state={"control": scalars(w=[0.5, -1.0], u=[4.0])},
)
SCAFFOLD_SERVER = ServerExample(
    """x = x + eta_g mean_k(y_k - x), the mean plain. With eta_g = 0.5 and w from 1: y = 3 and 7, so w = 1 + 0.5 * 4 =
    3; y = 1 and -3, so w = 3 + 0.5 * -4 = 1. Weighted by 1 and 3 samples the first would be 3.5.""",
    scalars(w=[1.0]),
    [
        ([_controlled("a", 1, 3.0), _controlled("b", 3, 7.0)], scalars(w=[3.0])),
        ([_controlled("a", 1, 1.0), _controlled("b", 3, -3.0)], scalars(w=[1.0])),
    ],
    {"server_lr": 0.5},
)


def moves_the_controls(method: Method) -> None:
    """Option II: c_k = c_k - c + (x - y) / (K eta), and c = c + (1/N) sum of the changes of c_k.

    With c_k = 5, c = 2, x = 4, y = 1, K = 3 and eta = 0.5: the change is -2 + 3 / 1.5 = 0, so c_k stays 5. With
    y = -2 it is -2 + 6 / 1.5 = 2, so c_k = 7. Four clients, of which two take part: c = 0 + (0 + 2) / 4 = 0.5.
    """
    task = ClientTask(
        1, "a", scalars(w=[4.0]), {"control": scalars(w=[2.0])}, state={"control": scalars(w=[5.0])}
    )  # fmt: skip
    metrics = {"num_steps": 3, "learning_rate": 0.5}
    updates = [
        method.client.on_finish(
            replace(sent(client_id, 1, w=[y]), metrics=metrics), replace(task, client_id=client_id)
        )
        for client_id, y in (("a", 1.0), ("b", -2.0))
    ]
    kept = [update.state["control"].flat.item() for update in updates]
    assert kept == [5.0, 7.0], f"the clients keep {kept}"
    _, state = step(method.strategy, updates, task.tensors, method.strategy.init(task.tensors, 4))
    (next_task,) = method.strategy.configure(2, ["a"], task.tensors, state)
    assert next_task.control["control"].flat.item() == 0.5, f"the server sends {next_task.control}"
    assert list(next_task.expected.control) == ["control"], "the server does not ask for the change of c_k"


DITTO = ClientExample(
    """Li et al., Algorithm 1: a step of the personal copy goes along g + lambda (v - w_t). With lambda = 0.5:
    w: 0.25 + 0.5 (3 - 1) = 1.25, and 1 + 0.5 (-1 + 1) = 1; u: -1 + 0.5 (2 - 6) = -3.""",
    parameters=scalars(w=[3.0, -1.0], u=[2.0]),
    gradients=scalars(w=[0.25, 1.0], u=[-1.0]),
    global_tensors=scalars(w=[1.0, -1.0], u=[6.0]),
    expected=scalars(w=[1.25, 1.0], u=[-3.0]),
    phase=LocalPhase("personal", is_personal=True),
    knobs={"lam": 0.5},
)
DITTO_GLOBAL = replace(
    DITTO,
    derivation="The global tensors train as in FedAvg: no term is added.",
    expected=DITTO.gradients,
    phase=LocalPhase("global"),
)

_A, _B = "q.lora_A.weight", "q.lora_B.weight"
_LORA_CLIENTS = [
    sent("a", 1, **{_A: [[1.0, 2.0]], _B: [[4.0], [0.0]], "w": [4.0]}),
    sent("b", 3, **{_A: [[0.0, 4.0]], _B: [[0.0], [4.0]], "w": [0.0]}),
]
"""B A is [[4, 8], [0, 0]] for a and [[0, 0], [0, 16]] for b. With p = 1/4 and 3/4 the sum of the products is
[[1, 2], [0, 12]], the mean of A is [0.25, 3.5], that of B [1, 3] and that of w 1."""


def _lora_round(method: Method) -> tuple[list, dict[str, list]]:
    """The change of the base model after a round of these clients, and the tensors after it."""
    start = scalars(**{_A: [[3.0, 5.0]], _B: [[0.0], [0.0]], "w": [7.0]})
    tensors, state = step(method.strategy, _LORA_CLIENTS, start, method.strategy.init(start, 2))
    pair = lora_pairs(method.strategy.base_change(state))["q"]
    return pair.delta().tolist(), {name: tensor.tolist() for name, tensor in tensors.items()}


def stacks_the_products(method: Method) -> None:
    """Wang et al., equation 3: the base changes by sum_k p_k B_k A_k = [[1, 2], [0, 12]], and adapters start anew.

    B = 0, A holds the values 3 and 5 of the last one, and w is the mean 1.
    """
    change, tensors = _lora_round(replace(method, strategy=replace(method.strategy, ranks=None)))
    assert change == [[1.0, 2.0], [0.0, 12.0]], f"the base changes by {change}"
    assert tensors[_B] == [[0.0], [0.0]], f"B is {tensors[_B]}"
    assert sorted(tensors[_A][0]) == [3.0, 5.0], f"A is {tensors[_A]}"
    assert tensors["w"] == [1.0], f"w is {tensors['w']}"


def adds_the_residual(method: Method) -> None:
    """Singhal et al.: A and B are averaged, and the base changes by sum_k p_k B_k A_k - B A.

    B A = [[0.25, 3.5], [0.75, 10.5]], so the residual is [[0.75, -1.5], [-0.75, 1.5]].
    """
    change, tensors = _lora_round(method)
    assert change == [[0.75, -1.5], [-0.75, 1.5]], f"the base changes by {change}"
    expected = {_A: [[0.25, 3.5]], _B: [[1.0], [3.0]], "w": [1.0]}
    assert tensors == expected, f"the tensors are {tensors}"


def pools_every_row(method: Method) -> None:
    """The baseline `central` has no formula: one client has every row once, clients in sorted order."""
    a, b = tiny_rows(2, seed=1), tiny_rows(3, seed=2)
    clients = method.client.clients({"b": b, "a": a})
    found = {name: list(rows["id"]) for name, rows in clients.items()}
    if found != {"central": [*a["id"], *b["id"]]}:
        raise AssertionError(f"the rows of {found}")
    if not method.client.is_continuous:
        raise AssertionError("a run with a new optimizer in each round, where plain training keeps its optimizer")


def shares_nothing(method: Method) -> None:
    """The baseline `local` has no formula: no tensor travels."""
    names = ["language_model.layers.0.q_proj.lora_A.weight", "multi_modal_projector.linear_1.bias", "w"]
    if shared := [name for name in names if method.client.is_shared(name)]:
        raise AssertionError(f"tensors that travel: {shared}")


WORKED_EXAMPLES: dict[str, tuple[WorkedExample, ...]] = {
    "central": (pools_every_row,),
    "ditto": (DITTO, DITTO_GLOBAL),
    "fedadagrad": (FEDADAGRAD, FEDADAGRAD_DEFAULTS, FEDADAGRAD_FEDVLMBENCH),
    "fedadam": (FEDADAM, FEDADAM_DEFAULT_V0, FEDADAM_FEDVLMBENCH),
    "fedavg": (FEDAVG,),
    "fedavgm": (FEDAVGM, FEDAVGM_FEDVLMBENCH),
    "fedex": (adds_the_residual,),
    "fedprox": (FEDPROX,),
    "fedyogi": (FEDYOGI, FEDYOGI_DEFAULT_V0, FEDYOGI_FEDVLMBENCH),
    "flora": (stacks_the_products,),
    "local": (shares_nothing,),
    "scaffold": (SCAFFOLD_STEP, SCAFFOLD_SERVER, moves_the_controls),
}
"""Examples of the built-in methods, by registered name."""
