"""hub_datasets has one folder per builder, and the cards match the builders."""

import importlib.util
import runpy
import sys
from pathlib import Path

import pytest

import raw_slake
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


def test_readings_of_the_text_are_counted(tmp_path, capsys, monkeypatch):
    """The miniature has 18 images with a question about the modality in each language, and two of these are repeated.

    English: 18 + 2 about the modality, 19 about an organ, one about a plane and one about a shape, all on the abdomen,
    of which 12 are in validation, 6 in test and one is a knowledge question. Chinese: 18 about the modality. A
    question type with fewer than 20 rows is left out.
    """
    rows = raw_slake.raw_rows()
    rows["train"] += [{**rows["train"][0], "qid": 1000 + number} for number in range(2)]
    raw = raw_slake.write_raw(tmp_path / "Slake1.0", rows, images=False)
    module = runpy.run_path(str(ROOT / "fed_slake" / "readings.py"))
    found = dict(module["readings"](module["slake"].read(raw)))
    assert len(found) == 3 * 4 * 2 * 7 * 2
    expected = {
        ("en", "all", "any", "content_type", "each"): 20,
        ("en", "all", "any", "content_type", "once"): 0,
        ("zh", "all", "any", "content_type", "each"): 0,
        ("en+zh", "all", "any", "content_type", "each"): 38,
        ("en+zh", "all", "any", "content_type", "once"): 36,
        ("en", "all", "any", "location", "each"): 41,
        ("en", "all", "vqa", "location", "each"): 40,
        ("en", "train+validation", "any", "location", "each"): 35,
        ("en", "train", "any", "location", "each"): 23,
        ("en", "train", "any", "location", "once"): 21,
        ("en+zh", "all", "any", "question", "each"): 20,
    }
    assert {reading: found[reading] for reading in expected} == expected
    monkeypatch.setattr(sys, "argv", ["readings.py", str(raw)])
    runpy.run_path(str(ROOT / "fed_slake" / "readings.py"), run_name="__main__")
    assert (
        "0 of 336 readings give 8,061 rows. The nearest, 59: en+zh, all, any, location, each."
        in capsys.readouterr().out
    )
