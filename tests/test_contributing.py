"""CONTRIBUTING.md says what is so: its examples run, and its table of layers is the one that is enforced."""

import re
from pathlib import Path

import pytest
import torch

from fedvlm_hf.methods import STRATEGIES, resolve_method
from fedvlm_hf.models import vlm
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.types import ServerState


TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture(autouse=True)
def registries_as_before(monkeypatch):
    STRATEGIES.names()  # the built-in ones, before the registry is put aside
    monkeypatch.setattr(STRATEGIES, "_classes", dict(STRATEGIES._classes))
    monkeypatch.setattr(vlm, "_FAMILIES", dict(vlm._FAMILIES))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.splitlines()[0])
def test_example_runs(example):
    exec(compile(example, "CONTRIBUTING.md", "exec"), {"__name__": "contributing_example"})


def test_the_example_method_by_hand():
    """Half of the way from 1 to 3 is 2; with 1 it is FedAvg: 3."""
    exec(compile(EXAMPLES[0], "CONTRIBUTING.md", "exec"), {"__name__": "contributing_example"})
    current = TensorDict.from_tensors({"w": torch.tensor([1.0])})
    mean = TensorDict.from_tensors({"w": torch.tensor([3.0])})
    for server_lr, expected in [(0.5, 2.0), (1.0, 3.0)]:
        strategy = resolve_method("reptile", {"server_lr": server_lr}).strategy
        assert strategy.apply(mean, current, ServerState())[0]["w"].item() == expected


def test_paths_named_in_the_text_exist():
    root = Path(__file__).parents[1]
    named = re.findall(r"`((?:src|tests|hub_datasets)/[\w/.]+)`", TEXT)
    assert named
    assert [path for path in named if not (root / path).exists()] == []
