"""FLoRA (Wang et al., 2024): stacking by hand, and clients of ranks 4, 8 and 16 in real training."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from federation import check_export_changes_base, federated
from fedvlm_hf.client.adapters import Adapter, complete_config
from fedvlm_hf.engines.in_process import InProcessEngine
from fedvlm_hf.lora import at_rank, is_lora, is_lora_a, is_lora_b, lora_pairs, pair_tensors
from fedvlm_hf.methods import ClientMethod, Method
from fedvlm_hf.methods.ditto import Ditto
from fedvlm_hf.methods.fedex import FedEx
from fedvlm_hf.methods.flora import FLoRA
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.testing import check_method
from fedvlm_hf.testing.examples import scalars, sent, step
from fedvlm_hf.types import ClientTask, ClientUpdate
from tiny import save_tiny, tiny_federation, tiny_llava


RANKS = {"client_00": 4, "client_01": 8, "client_02": 16}
SIZES = {"client_00": 6, "client_01": 4, "client_02": 2}
A, B = "q.lora_A.weight", "q.lora_B.weight"


def flora(folder, model=None, peft_config=None, data=None, **kwargs):
    """Three clients of ranks 4, 8 and 16 on an adapter of rank 16, two steps in each round."""
    return federated(
        folder,
        data or tiny_federation(SIZES, test_rows=2),
        model,
        {"peft_config": peft_config or LoraConfig(r=16, lora_alpha=32)},
        **{"method": "flora", "method_kwargs": {"ranks": RANKS}, "max_steps": 2, **kwargs},
    )


def watched(trainer) -> list[ClientUpdate]:
    """The updates that the clients of a trainer will send."""
    updates, run = [], trainer.run_client
    trainer.federation.engine = InProcessEngine(lambda task: updates.append(run(task)) or updates[-1])
    return updates


def dense(updates) -> dict[str, torch.Tensor]:
    """sum_k p_k B_k A_k of each module in fp64."""
    total = sum(update.weight for update in updates)
    change = {}
    for update in updates:
        for module, pair in lora_pairs(update.tensors).items():
            product = update.weight / total * (pair.b.double() @ pair.a.double())
            change[module] = change.get(module, 0) + product
    return change


def error(pair, exact) -> float:
    return ((pair.b.double() @ pair.a.double() - exact).norm() / exact.norm()).item()


# --- the formula ---


def test_clients_of_ranks_one_and_two_by_hand():
    """p = 1/4 and 3/4 of B_1 A_1 = [[4, 8], [0, 0]] and B_2 A_2 = 4 times the identity:
    [[1, 2], [0, 0]] + [[3, 0], [0, 3]] = [[4, 2], [0, 3]]. In round 2 both send a quarter of that rank 1 product
    [[4, 8], [0, 0]] in all: the base has [[5, 4], [0, 3]]. What is not LoRA is (4 + 3 * 0) / 4 = 1."""
    start = scalars(**{A: [[3.0, 5.0], [6.0, 7.0]], B: [[0.0, 0.0], [0.0, 0.0]], "w": [9.0]})
    method, small = FLoRA(), {A: [[1.0, 2.0]], B: [[4.0], [0.0]]}
    first = [
        sent("a", 1, **small, w=[4.0]),
        sent("b", 3, **{A: [[4.0, 0.0], [0.0, 4.0]], B: [[1.0, 0.0], [0.0, 1.0]], "w": [0.0]}),
    ]
    tensors, state = step(method, first, start, method.init(start, 2))
    assert lora_pairs(method.base_change(state))["q"].delta().tolist() == [[4.0, 2.0], [0.0, 3.0]]
    assert tensors["w"].tolist() == [1.0]
    assert tensors[B].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    second = [sent("a", 1, **small, w=[1.0]), sent("b", 3, **{A: [[1.0, 2.0]], B: [[0.0], [0.0]]}, w=[1.0])]
    _, state = step(method, second, tensors, state)
    assert lora_pairs(method.base_change(state))["q"].delta().tolist() == [[5.0, 4.0], [0.0, 3.0]]


def test_nothing_is_lost_where_a_mean_of_factors_loses_most():
    """Random pairs of ranks 4, 8 and 16: stacked, the sum of products is exact to rounding. The product of the means
    of zero-padded factors, which is FedIT for such clients, is another matrix."""
    generator = torch.Generator().manual_seed(0)
    updates, padded = [], []
    for (client_id, rank), weight in zip(RANKS.items(), (1, 2, 5), strict=True):
        a, b = torch.randn(rank, 48, generator=generator), torch.randn(64, rank, generator=generator)
        updates.append(sent(client_id, weight, **{A: a.tolist(), B: b.tolist()}))
        rest = 16 - rank
        padded.append((weight / 8, torch.nn.functional.pad(a, (0, 0, 0, rest)), torch.nn.functional.pad(b, (0, rest))))
    start = TensorDict.from_tensors({A: torch.randn(16, 48, generator=generator), B: torch.zeros(64, 16)})
    method = FLoRA(RANKS)
    _, state = step(method, updates, start, method.init(start, 3))
    exact = dense(updates)["q"]
    pair = lora_pairs(method.base_change(state))["q"]
    assert pair.rank == 4 + 8 + 16
    assert error(pair, exact) < 4 * torch.finfo(torch.float32).eps
    mean = sum(p * b for p, _, b in padded) @ sum(p * a for p, a, _ in padded)
    assert (mean - exact).norm() / exact.norm() > 0.3


def test_the_change_of_many_rounds_grows_no_larger_than_the_weight():
    """Three rounds of ranks 2 + 2 on a weight of 5 x 6: 4, then 8 and 12, which are multiplied out to rank 5."""
    generator = torch.Generator().manual_seed(0)
    tensors = TensorDict.from_tensors({A: torch.randn(2, 6, generator=generator), B: torch.zeros(5, 2)})
    method, exact, ranks = FLoRA(), 0, []
    state = method.init(tensors, 2)
    for _ in range(3):
        updates = [
            sent(name, 1, **{A: torch.randn(2, 6, generator=generator).tolist(),
                             B: torch.randn(5, 2, generator=generator).tolist()})
            for name in "ab"
        ]  # fmt: skip
        exact = exact + dense(updates)["q"]
        tensors, state = step(method, updates, tensors, state)
        pair = lora_pairs(method.base_change(state))["q"]
        ranks.append(pair.rank)
        assert error(pair, exact) < 1e-6
    assert ranks == [4, 5, 5]


def test_adapters_start_anew_with_values_of_the_same_distribution():
    """The columns of A in another order in each round, the same in each run; rows keep their scale."""
    start = TensorDict.from_tensors({A: torch.arange(600.0).view(2, 300), B: torch.zeros(5, 2)})
    method, seen = FLoRA(), []
    for _ in range(2):
        tensors, state = start, method.init(start, 1)
        for _ in range(2):
            tensors, state = step(method, [sent("a", 1, **{A: [[1.0] * 300] * 2, B: [[1.0] * 2] * 5})], tensors, state)
            seen.append(tensors[A])
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert (seen[0] == start[A]).float().mean() < 0.05
    assert (seen[1] == seen[0]).float().mean() < 0.05
    for a in seen:
        assert torch.equal(a.sort(dim=1).values, start[A])
        assert torch.equal(a[1] - a[0], torch.full((300,), 300.0))  # columns stay whole


# --- in training ---


def test_ranks_4_8_and_16_in_training(tmp_path):
    """Each client gets and sends its rank, and the base becomes W + scale sum_k p_k B_k A_k to rounding."""
    trainer = flora(tmp_path, num_rounds=1, client_weighting="num_samples")
    modules = lora_pairs(trainer.local.initial)
    before = {m: trainer.model.get_submodule(m).get_base_layer().weight.clone() for m in modules}
    updates = watched(trainer)
    trainer.train()
    assert {u.client_id: {pair.rank for pair in lora_pairs(u.tensors).values()} for u in updates} == {
        client_id: {rank} for client_id, rank in RANKS.items()
    }
    assert {u.client_id: u.weight for u in updates} == SIZES
    exact, pairs = dense(updates), lora_pairs(trainer.federation.base_change)
    assert pairs.keys() == exact.keys() == modules.keys()
    for module, pair in pairs.items():
        assert error(pair, exact[module]) < 1e-6
        weight = trainer.model.get_submodule(module).get_base_layer().weight
        torch.testing.assert_close(weight, (before[module].double() + 2.0 * exact[module]).float(), rtol=0, atol=1e-6)
        assert not torch.equal(weight, before[module])
    assert not any(trainer.federation.tensors[name].any() for name in trainer.federation.tensors if is_lora_b(name))
    connector = sorted(trainer.local.adapter.connector)
    for name in connector:
        mean = sum(u.weight * u.tensors[name].double() for u in updates) / 12
        assert torch.equal(trainer.federation.tensors[name], mean.float())
    trainer.local.reset()
    for module, weight in before.items():
        assert torch.equal(trainer.model.get_submodule(module).get_base_layer().weight, weight)


def test_the_rest_of_a_larger_adapter_stays_zero(tmp_path):
    """Under AdamW with weight decay and dropout, and also after a client that filled all of it."""
    trainer = flora(
        tmp_path, peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.1), weight_decay=0.5, max_steps=5
    )
    shared = trainer.local.initial_shared()
    trainer.run_client(ClientTask(1, "client_02", shared))
    cut = at_rank(shared, 4)
    update = trainer.run_client(ClientTask(1, "client_00", cut))
    for name, parameter in trainer.local.adapter.parameters.items():
        if is_lora(name):
            inside, rest = (parameter[:4], parameter[4:]) if is_lora_a(name) else (parameter[:, :4], parameter[:, 4:])
            assert torch.equal(rest, torch.zeros_like(rest))
            assert not torch.equal(inside, cut[name])
            assert torch.equal(inside, update.tensors[name])


def test_a_client_of_rank_4_trains_what_an_adapter_of_rank_4_does(tmp_path):
    """With the same scale lora_alpha / r and the same dropout, to rounding."""
    large = flora(tmp_path / "16", weight_decay=0.1, peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.1))
    small = flora(
        tmp_path / "4", weight_decay=0.1, peft_config=LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1), method="fedavg",
        method_kwargs=None,
    )  # fmt: skip
    task = ClientTask(1, "client_00", at_rank(large.local.initial_shared(), 4))
    one, other = large.run_client(task).tensors, small.run_client(task).tensors
    assert one.shapes == other.shapes
    assert (one.flat - other.flat).norm() < 1e-3 * (other.flat - task.tensors.flat).norm()


def test_the_export_is_the_model_of_the_run(tmp_path):
    """Stock PEFT, after one call that puts the change on the base model."""
    base = save_tiny(tmp_path / "base")
    trainer = flora(tmp_path / "run", base)
    trainer.train()
    check_export_changes_base(trainer, base, tolerance=1e-6, change=1e-3)


def test_clients_of_unequal_ranks_conform():
    """The checks that make updates of their own give all clients one layout; the others hold for any ranks."""
    ranks = {"client_00": 2, "client_01": 4, "client_02": 8}
    checks = ["runs", "resumes_to_the_bit", "leaks_nothing_between_clients", "holds_nothing_on_self"]
    check_method("flora", {"ranks": ranks}, checks=checks)


@pytest.mark.parametrize("weighting", ["num_samples", "uniform"])
def test_a_partial_cohort_resumes_to_the_bit(tmp_path, weighting):
    settings = {"clients_per_round": 2, "client_weighting": weighting}
    whole = flora(tmp_path / "whole", num_rounds=3, **settings)
    updates = watched(whole)
    whole.train()
    flora(tmp_path / "cut", num_rounds=1, **settings).train()
    resumed = flora(tmp_path / "cut", num_rounds=3, **settings)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.federation.tensors.digest() == whole.federation.tensors.digest()
    assert resumed.federation.base_change.digest() == whole.federation.base_change.digest()
    exact = {}
    for start in (0, 2, 4):
        for module, change in dense(updates[start : start + 2]).items():
            exact[module] = exact.get(module, 0) + change
    for module, pair in lora_pairs(whole.federation.base_change).items():
        assert error(pair, exact[module]) < 1e-6


def test_two_stages_average_the_connector_and_stack_after_it(tmp_path):
    trainer = flora(tmp_path, tuning="two_stage", num_rounds=4)
    fedavg = flora(tmp_path / "fedavg", tuning="two_stage", num_rounds=4, method="fedavg", method_kwargs=None)
    for one in (trainer, fedavg):
        one.train()
    assert all(is_lora(name) for name in trainer.federation.tensors)
    assert trainer.federation.base_change
    connector = {name: trainer.local.fixed[name] for name in sorted(trainer.local.adapter.connector)}
    assert all(torch.equal(tensor, fedavg.local.fixed[name]) for name, tensor in connector.items())


def test_a_penalty_of_another_client_half_sees_tensors_of_its_rank(tmp_path):
    """FedProx's mu (w - w_t): the rest of a larger adapter is 0 and has no w_t."""
    trainer = flora(tmp_path, num_rounds=1, method="fedprox+flora", method_kwargs={"mu": 1.0, "ranks": RANKS})
    plain = flora(tmp_path / "plain", num_rounds=1)
    for one in (trainer, plain):
        one.train()
    assert trainer.federation.base_change.digest() != plain.federation.base_change.digest()


# --- what is refused ---


@pytest.mark.parametrize("ranks", [[4, 8], {}, {"a": 0}, {"a": 4.0}, {"a": True}, {"a": "4"}, 4])
def test_ranks_that_are_none_are_refused(ranks):
    with pytest.raises(ValueError, match="`ranks` must give each client a whole number of at least 1"):
        FLoRA(ranks)


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ({**RANKS, "client_01": 32}, "gives client 'client_01' the rank 32, but the adapter of the run has 16"),
        ({**RANKS, "client_03": 4}, "'client_03' is not one of them. The clients are client_00, client_01, client_02"),
        ({"client_00": 4, "client_02": 8}, "'client_01' is missing"),
    ],
    ids=["too high", "unknown client", "missing client"],
)
def test_ranks_that_do_not_fit_the_run_are_refused_before_it(tmp_path, ranks, message):
    with pytest.raises(ValueError) as error:
        flora(tmp_path, method_kwargs={"ranks": ranks}, clients_per_round=1)
    assert message in str(error.value)


@pytest.mark.parametrize("method", ["flora", "fedex"])
def test_a_run_without_lora_pairs_is_refused(tmp_path, method):
    with pytest.raises(ValueError, match="no LoRA pair is shared in this run: it would be FedAvg"):
        flora(tmp_path, method=method, method_kwargs=None, tuning="connector")


class KeepsLoraA(ClientMethod):
    def is_shared(self, name):
        return not is_lora_a(name)


@pytest.mark.parametrize("strategy", [FLoRA(), FedEx()])
def test_half_a_pair_is_refused(tmp_path, strategy):
    with pytest.raises(ValueError, match="its client half must share both"):
        flora(tmp_path, method=Method(KeepsLoraA(), strategy), method_kwargs=None)


@pytest.mark.parametrize("strategy", [FLoRA(), FedEx()])
def test_personal_copies_over_a_changing_base_are_refused(strategy):
    with pytest.raises(ValueError, match="joins Ditto, whose clients keep a personal copy"):
        Method(Ditto(), strategy)


@pytest.mark.parametrize("method", ["flora", "fedex"])
def test_a_base_that_cannot_take_a_change_is_refused_before_training(tmp_path, method):
    with pytest.raises(ValueError, match="uses DoRA, so that no low-rank change can be added"):
        flora(tmp_path, method=method, method_kwargs=None, peft_config=LoraConfig(r=4, use_dora=True))


def test_a_tied_weight_cannot_take_a_change():
    """LoRA on the head alone would change the embeddings, too."""
    model, _ = tiny_llava()
    adapter = Adapter(get_peft_model(model, LoraConfig(r=4, target_modules=["lm_head"])))
    with pytest.raises(ValueError, match=r"the weight of '.*lm_head' is tied to another module"):
        adapter.check_base_change()


def test_lower_ranks_need_an_adapter_that_starts_at_zero(tmp_path):
    """With one that has trained, only clients of the full rank start from the global model."""
    model, _ = tiny_llava()
    model = get_peft_model(model, complete_config(LoraConfig(r=16, init_lora_weights=False), model))
    settings = {"model": model, "trainer_kwargs": {}, "method": "flora", "num_rounds": 1, "max_steps": 1}
    data = tiny_federation(SIZES, test_rows=2)
    with pytest.raises(ValueError, match=r"the adapter does not start at B = 0"):
        federated(tmp_path, data, **settings, method_kwargs={"ranks": RANKS})
    trainer = federated(tmp_path, data, **settings)
    updates = watched(trainer)
    trainer.train()
    exact = dense(updates)
    assert all(error(pair, exact[m]) < 1e-6 for m, pair in lora_pairs(trainer.federation.base_change).items())


def test_the_state_of_a_change_is_its_pairs():
    start = scalars(**{A: [[3.0, 5.0]], B: [[0.0], [0.0]]})
    _, state = step(FLoRA(), [sent("a", 2, **{A: [[1.0, 2.0]], B: [[4.0], [0.0]]})], start, FLoRA().init(start, 1))
    pairs = lora_pairs(state.tensors["base"])
    assert TensorDict.from_tensors(pair_tensors(pairs)).digest() == state.tensors["base"].digest()
    assert state.scalars == {"rounds": 1}
