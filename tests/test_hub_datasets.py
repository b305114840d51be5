"""hub_datasets has one folder per builder, and the cards match the builders."""

import importlib.util
import runpy
import sys
from pathlib import Path

import pytest

from fedvlm_hf.building.builders.base import BUILDERS


ROOT = Path(__file__).parents[1] / "hub_datasets"
FOLDERS = sorted(path.parent for path in ROOT.glob("*/build.py"))


def test_every_federated_dataset_has_a_folder():
    names = [name for name in BUILDERS.names() if name.startswith("fed_")]
    assert [folder.name for folder in FOLDERS] == names


def test_cards_are_what_cards_py_writes():
    spec = importlib.util.spec_from_file_location("cards", ROOT / "cards.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stale = [path.parent.name for path, text in module.cards().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run: python hub_datasets/cards.py"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_build_py_builds_its_own_dataset(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["build.py", "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(folder / "build.py"), run_name="__main__")
    assert stop.value.code == 0
    assert f"fedvlm build {folder.name.replace('_', '-')}" in capsys.readouterr().out
