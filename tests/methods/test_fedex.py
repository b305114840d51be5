"""FedEx-LoRA (Singhal et al., 2024): the exact residual by hand, and in real training."""

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForImageTextToText

from federation import check_export_changes_base, federated
from fedvlm_hf.engines.in_process import InProcessEngine
from fedvlm_hf.lora import is_lora, lora_pairs
from fedvlm_hf.methods.fedavg import FedAvg
from fedvlm_hf.methods.fedex import FedEx
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.testing.examples import scalars, sent, step
from fedvlm_hf.types import ServerState
from tiny import save_tiny, tiny_federation, tiny_rows


SIZES = {"client_00": 6, "client_01": 4, "client_02": 2}
A, B = "q.lora_A.weight", "q.lora_B.weight"


def fedex(folder, model=None, data=None, **kwargs):
    """Three clients of 6, 4 and 2 rows."""
    return federated(folder, data or tiny_federation(SIZES, test_rows=2), model, **{"method": "fedex", **kwargs})


def products(updates) -> dict[str, torch.Tensor]:
    """sum_k p_k B_k A_k of each module in fp64."""
    total, change = sum(update.weight for update in updates), {}
    for update in updates:
        for module, pair in lora_pairs(update.tensors).items():
            product = update.weight / total * (pair.b.double() @ pair.a.double())
            change[module] = change.get(module, 0) + product
    return change


def product(pair) -> torch.Tensor:
    return pair.b.double() @ pair.a.double()


def test_two_rounds_by_hand():
    """p = 1/2 each, 1 x 1 weights. Round 1: B A is 2 * 4 = 8 and 6 * 2 = 12, so their mean is 10. The mean of A is 3
    and that of B 4, whose product is 12: the residual is -2. Round 2: 1 * 1 and 3 * 5, mean 8; A = 3, B = 2: residual
    8 - 6 = 2, and -2 + 2 = 0 in all."""
    method, current = FedEx(), scalars(**{A: [[1.0]], B: [[0.0]]})
    state = method.init(current, 2)
    for pairs, expected, total in [
        ([(4.0, 2.0), (2.0, 6.0)], (3.0, 4.0), -2.0),
        ([(1.0, 1.0), (5.0, 3.0)], (3.0, 2.0), 0.0),
    ]:
        updates = [sent(f"client_{i}", 7, **{A: [[a]], B: [[b]]}) for i, (a, b) in enumerate(pairs)]
        current, state = step(method, updates, current, state)
        assert (current[A].item(), current[B].item()) == expected
        assert lora_pairs(method.base_change(state))["q"].delta().item() == total


def test_the_error_of_the_mean_is_zero_to_rounding():
    """Stacked and multiplied, the residual is that of the dense computation; base and adapter are the mean exactly."""
    generator = torch.Generator().manual_seed(0)
    updates = [
        sent(name, weight, **{A: torch.randn(8, 48, generator=generator).tolist(),
                              B: torch.randn(64, 8, generator=generator).tolist()})
        for name, weight in (("a", 1), ("b", 2), ("c", 5))
    ]  # fmt: skip
    current = TensorDict.from_tensors({A: torch.zeros(8, 48), B: torch.zeros(64, 8)})
    method = FedEx()
    tensors, state = step(method, updates, current, method.init(current, 3))
    exact, residual = products(updates)["q"], lora_pairs(method.base_change(state))["q"]
    assert residual.rank == 8 * (3 + 1)
    mean = product(lora_pairs(tensors)["q"])
    assert (mean - exact).norm() / exact.norm() > 0.3  # FedIT
    assert (mean + product(residual) - exact).norm() / exact.norm() < 4 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(product(residual), exact - mean, rtol=0, atol=1e-5)
    fedit = FedAvg().aggregate(updates, current, ServerState()).tensors
    assert tensors.digest() == fedit.digest()


def test_base_and_adapter_are_the_mean_in_training(tmp_path):
    """After two rounds: the weights of the run are W + scale (residuals + B A), as worked densely in fp64."""
    trainer = fedex(tmp_path)
    before = {
        m: trainer.model.get_submodule(m).get_base_layer().weight.clone() for m in lora_pairs(trainer.local.initial)
    }
    updates, run = [], trainer.run_client
    trainer.federation.engine = InProcessEngine(lambda task: updates.append(run(task)) or updates[-1])
    trainer.train()
    residuals = dict.fromkeys(before, 0)
    for clients in (updates[:3], updates[3:]):
        mean = lora_pairs(FedAvg().aggregate(clients, clients[0].tensors, ServerState()).tensors)
        for module, exact in products(clients).items():
            residuals[module] = residuals[module] + exact - product(mean[module])
    assert lora_pairs(trainer.federation.base_change).keys() == before.keys()
    for module, weight in before.items():
        found = trainer.model.get_submodule(module).get_base_layer().weight
        torch.testing.assert_close(found, (weight + 4.0 * residuals[module]).float(), rtol=0, atol=1e-6)  # 32 / 8
        assert residuals[module].abs().max() > 0
    assert trainer.federation.tensors.digest() == FedAvg().aggregate(
        updates[3:], updates[3].tensors, ServerState()
    ).tensors.digest()  # fmt: skip


def test_one_client_is_fedavg_to_the_bit(tmp_path):
    ends = {}
    for method in ("fedex", "fedavg"):
        trainer = fedex(tmp_path / method, data={"client_00": tiny_rows(4, seed=3)}, method=method)
        trainer.train()
        ends[method] = trainer.federation.tensors.digest()
        assert not trainer.federation.base_change
    assert ends["fedex"] == ends["fedavg"]


def test_the_export_is_the_model_of_the_run(tmp_path):
    base = save_tiny(tmp_path / "base")
    trainer = fedex(tmp_path / "run", base, learning_rate=0.1)
    trainer.train()
    check_export_changes_base(trainer, base, tolerance=1e-5, change=1e-4)


@pytest.mark.parametrize("weighting", ["num_samples", "uniform"])
def test_a_partial_cohort_resumes_to_the_bit(tmp_path, weighting):
    settings = {"clients_per_round": 2, "client_weighting": weighting}
    whole = fedex(tmp_path / "whole", num_rounds=3, **settings)
    whole.train()
    fedex(tmp_path / "cut", num_rounds=1, **settings).train()
    resumed = fedex(tmp_path / "cut", num_rounds=3, **settings)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.federation.tensors.digest() == whole.federation.tensors.digest()
    assert resumed.federation.base_change.digest() == whole.federation.base_change.digest()


def test_two_stages(tmp_path):
    """The first stage, which has no LoRA, is FedAvg's to the bit; the second has residuals."""
    runs = {}
    for method in ("fedex", "fedavg"):
        runs[method] = fedex(tmp_path / method, method=method, tuning="two_stage", num_rounds=4)
        runs[method].train()
    trainer = runs["fedex"]
    assert all(is_lora(name) for name in trainer.federation.tensors)
    assert trainer.federation.base_change
    for name in sorted(trainer.local.adapter.connector):
        assert torch.equal(trainer.local.fixed[name], runs["fedavg"].local.fixed[name])


def test_on_a_bf16_base_the_sum_is_rounded_once(tmp_path):
    """W in bf16 plus the change of all rounds in fp32, and not a sum of rounded sums."""
    model = AutoModelForImageTextToText.from_pretrained(save_tiny(tmp_path / "base"), dtype=torch.bfloat16)
    trainer = federated(
        tmp_path / "run", tiny_federation(SIZES, test_rows=2), model, {"peft_config": LoraConfig(r=4, lora_alpha=8)},
        method="fedex", learning_rate=0.1,
    )  # fmt: skip
    before = {
        m: trainer.model.get_submodule(m).get_base_layer().weight.clone() for m in lora_pairs(trainer.local.initial)
    }
    trainer.train()
    changed = 0
    for module, pair in lora_pairs(trainer.federation.base_change).items():
        weight = trainer.model.get_submodule(module).get_base_layer().weight
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, (before[module].float() + 2.0 * (pair.b @ pair.a)).bfloat16())
        changed += (weight != before[module]).sum().item()
    assert changed
