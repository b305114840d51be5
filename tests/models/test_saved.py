"""Folders that are made once: reused if the recipe is the same, refused if it is not, and never partial."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from fedvlm_hf.models import base_with_connector
from fedvlm_hf.models.saved import RECIPE_FILE, save_once, source_of
from tiny import save_tiny, tiny_llava


@pytest.fixture
def base(tmp_path) -> str:
    return save_tiny(tmp_path / "base")


def never():
    raise AssertionError("built a second time")


def snapshot(folder: str) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path(folder).iterdir()}


def test_it_is_made_once_and_found_again(tmp_path):
    folder = save_once(tmp_path / "x", {"seed": 1}, tiny_llava)
    before = snapshot(folder)
    assert json.loads(before[RECIPE_FILE][1]) == {"seed": 1}
    assert save_once(tmp_path / "x", {"seed": 1}, never) == folder
    assert snapshot(folder) == before


def test_the_path_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert save_once("out/x", {}, tiny_llava) == str(tmp_path / "out" / "x")


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "x").mkdir()
    folder = save_once(tmp_path / "x", {}, tiny_llava)
    assert (Path(folder) / "config.json").exists()


@pytest.mark.parametrize("content", [RECIPE_FILE, "notes.txt"])
def test_another_content_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / content).write_text('{"seed": 2}')
    with pytest.raises(ValueError, match=r"`folder` .* exists and contains .*Nothing was overwritten") as error:
        save_once(tmp_path / "x", {"seed": 1}, never)
    assert ("another recipe" if content == RECIPE_FILE else f"no {RECIPE_FILE}") in str(error.value)
    assert [path.name for path in (tmp_path / "x").iterdir()] == [content]


def test_a_file_in_its_place_is_refused(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(ValueError, match="exists and contains"):
        save_once(tmp_path / "x", {}, never)


def test_a_failure_leaves_nothing_that_looks_whole(tmp_path):
    class Unsavable:
        def save_pretrained(self, folder):
            raise OSError("disk full")

    model, processor = tiny_llava()
    with pytest.raises(OSError, match="disk full"):
        save_once(tmp_path / "x", {}, lambda: (model, Unsavable()))
    assert not (tmp_path / "x").exists()
    assert (Path(save_once(tmp_path / "x", {}, lambda: (model, processor))) / RECIPE_FILE).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_is_known_by_its_files_not_by_its_place(tmp_path, base):
    source = source_of(base)
    assert set(source) == {"sha256"}
    moved = shutil.move(base, tmp_path / "moved")
    assert source_of(moved) == source
    (tmp_path / "moved" / "README.md").write_text("A card contains no weights.")
    assert source_of(moved) == source
    tiny_llava(seed=1)[0].save_pretrained(moved)
    assert source_of(moved) != source


def test_a_base_with_another_connector(tmp_path, base):
    folder = base_with_connector(base, "linear", tmp_path / "linear", seed=1)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert model.config.connector == "linear"
    own = tiny_llava()[0].state_dict()
    kept = {name: tensor for name, tensor in model.state_dict().items() if "multi_modal_projector" not in name}
    assert len(kept) == len(own) - 4
    assert all(torch.equal(tensor, own[name]) for name, tensor in kept.items())
    assert AutoProcessor.from_pretrained(folder).chat_template == AutoProcessor.from_pretrained(base).chat_template
    assert model.generation_config.eos_token_id == tiny_llava()[0].generation_config.eos_token_id


def test_the_same_base_is_found_and_another_refused(tmp_path, base):
    arguments = (base, "mlp6x", tmp_path / "x")
    folder = base_with_connector(*arguments, seed=1)
    before = snapshot(folder)
    assert base_with_connector(*arguments, seed=1) == folder
    assert snapshot(folder) == before
    with pytest.raises(ValueError, match="another recipe"):
        base_with_connector(*arguments, seed=2)
    tiny_llava(seed=1)[0].save_pretrained(base)  # the base was trained further
    with pytest.raises(ValueError, match="another recipe"):
        base_with_connector(*arguments, seed=1)


def test_the_same_arguments_make_the_same_bits(tmp_path, base):
    folders = [base_with_connector(base, "mlp6x", tmp_path / name, seed=1) for name in ("a", "b")]
    first, second = ({name: content for name, (_, content) in snapshot(folder).items()} for folder in folders)
    assert first == second


def test_a_pretrained_connector_is_the_base_itself(tmp_path, base):
    assert base_with_connector(base, "mlp2x", tmp_path / "x", seed=1, pretrained=True) == base
    assert not (tmp_path / "x").exists()
    with pytest.raises(ValueError, match=r"`pretrained` keeps .* 'mlp2x', but `connector` is 'mlp6x'"):
        base_with_connector(base, "mlp6x", tmp_path / "x", seed=1, pretrained=True)


def test_an_unknown_connector_is_refused_before_anything_is_written(tmp_path, base):
    with pytest.raises(ValueError, match="`connector` must be"):
        base_with_connector(base, "mlp", tmp_path / "x", seed=1)
    assert not (tmp_path / "x").exists()
