"""Runs that an earlier version saved continue to the same bits; where they cannot, a sentence says why."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from federation import federated
from fedvlm_hf.run_description import RunMismatchError, environment


RUNS = Path(__file__).parent / "fixtures" / "runs"
ARGUMENTS = {
    "two_stage_fedadam": {
        "num_rounds": 4,
        "method": "fedprox+fedadam",
        "method_kwargs": {"mu": 0.1, "server_lr": 0.01},
        "tuning": "two_stage",
    },
    "local": {"num_rounds": 3, "method": "local", "clients_per_round": 1},
}


def continued(tmp_path: Path, name: str, **changes):
    shutil.copytree(RUNS / name, tmp_path / name)
    # the fixture was made with one thread, and the last bits depend on it
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainer = federated(
            tmp_path / name,
            trainer_kwargs={"peft_config": LoraConfig(r=2, lora_alpha=4)},
            **{**ARGUMENTS[name], "save_total_limit": 1, **changes},
        )
        trainer.train(resume_from_checkpoint=True)
    finally:
        torch.set_num_threads(threads)
    return trainer


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_a_run_of_an_earlier_version_ends_in_its_own_bits(tmp_path, name):
    expected = json.loads((RUNS / "expected.json").read_text())[name]
    trainer = continued(tmp_path, name)
    saved = json.loads((RUNS / name / "run.json").read_text())["environment"]
    if any(environment()[key] != saved[key] for key in ("torch", "cpu", "arch")):
        pytest.skip(f"The bits were made with {saved}.")
    assert trainer.federation.tensors.digest() == expected["global"]
    for client_id, groups in expected["clients"].items():
        kept = trainer.store.load(client_id)
        assert {name: tensors.digest() for name, tensors in kept.items()} == groups


def test_another_knob_is_named(tmp_path):
    with pytest.raises(RunMismatchError, match=r"client.mu: 0.1 in `output_dir`, 0.2 now"):
        continued(tmp_path, "two_stage_fedadam", method_kwargs={"mu": 0.2, "server_lr": 0.01})


def test_another_method_is_named(tmp_path):
    with pytest.raises(RunMismatchError, match=r"method: 'fedprox\+fedadam' in `output_dir`, 'fedprox\+fedyogi' now"):
        continued(tmp_path, "two_stage_fedadam", method="fedprox+fedyogi")
