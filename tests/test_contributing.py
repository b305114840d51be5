"""CONTRIBUTING.md says what is so: its examples run, and its table of layers is the one that is enforced."""

import re
from pathlib import Path

import pytest
import torch
from datasets import load_dataset
from PIL import Image

from fedvlm_hf.building.builders.base import BUILDERS
from fedvlm_hf.building.writing.build import build_dataset
from fedvlm_hf.building.writing.options import WriteOptions
from fedvlm_hf.methods import STRATEGIES, resolve_method
from fedvlm_hf.models import vlm
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.types import Aggregate, ServerState


TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture(autouse=True)
def registries_as_before(monkeypatch):
    STRATEGIES.names()  # the built-in ones, before the registry is put aside
    monkeypatch.setattr(STRATEGIES, "_classes", dict(STRATEGIES._classes))
    BUILDERS.names()
    monkeypatch.setattr(BUILDERS, "_classes", dict(BUILDERS._classes))
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
        assert strategy.apply(Aggregate(mean), current, ServerState())[0]["w"].item() == expected


def test_the_example_dataset_builds_and_loads(tmp_path):
    """Three images of two hospitals, the third one held out."""
    (example,) = [example for example in EXAMPLES if "fed_xray" in example]
    scope = {"__name__": "contributing_example"}
    exec(compile(example, "CONTRIBUTING.md", "exec"), scope)
    raw = tmp_path / "raw"
    raw.mkdir()
    lines = ["file,hospital,finding,part"]
    for number, (hospital, part) in enumerate([("a", "train"), ("b", "train"), ("b", "test")]):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(raw / f"{number}.png")
        lines.append(f"{number}.png,{hospital},normal,{part}")
    (raw / "findings.csv").write_text("\n".join(lines))
    folder = build_dataset(scope["FedXray"](), raw, tmp_path / "out", WriteOptions(num_workers=1))
    dataset = load_dataset(str(folder), "noniid", cache_dir=str(tmp_path / "cache"))
    assert {split: rows["id"][:] for split, rows in dataset.items()} == {
        "client_00": ["0.png"], "client_01": ["1.png"], "test": ["2.png"],
    }  # fmt: skip
    assert dataset["test"]["client_id"][:] == ["client_01"]


def test_paths_named_in_the_text_exist():
    root = Path(__file__).parents[1]
    named = re.findall(r"`((?:src|tests|hub_datasets)/[\w/.]+)`", TEXT)
    assert named
    assert [path for path in named if not (root / path).exists()] == []
