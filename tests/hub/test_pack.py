"""Which files of a base model in a folder are pushed."""

import json

import pytest

from fedvlm_hf.hub.pack import base_files
from fedvlm_hf.repository.requests import HubRefusedError
from tiny import save_tiny


@pytest.fixture
def folder(tmp_path):
    save_tiny(tmp_path / "base")
    return tmp_path / "base"


def test_what_loading_takes_is_sent_and_no_pickle_code_or_log(folder):
    saved = set(base_files(folder))
    assert saved == {path.name for path in folder.iterdir()}
    for name in ("pytorch_model.bin", "optimizer.pt", "training_args.bin", "modeling.py", "train.log", "notes.txt",
                 "trainer_state.json", ".env"):  # fmt: skip
        (folder / name).write_text("{}")
    (folder / "checkpoint-1").mkdir()
    (folder / "LICENSE").write_text("MIT")
    assert set(base_files(folder)) == saved | {"LICENSE"}


def test_json_does_not_say_where_the_model_lay(folder):
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, "_name_or_path": "/data/secret/base", "pad": "/"}))
    files = base_files(folder)
    for name in ("config.json", "tokenizer_config.json"):
        sent = json.loads(files[name])
        assert sent["_name_or_path"] == "base"
        assert sent["pad"] == "/"  # what looks like a path may be a token
    assert files["tokenizer.json"] == folder / "tokenizer.json"


def test_a_model_of_pickles_is_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(HubRefusedError, match="no weights in safetensors"):
        base_files(folder)
