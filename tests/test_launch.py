"""Functions that the training scripts share."""

import os

import joblib
import pytest
import torch

from federation import federated
from fedvlm_hf.launch import load_federation, print_results, use_threads
from tiny import tiny_federation


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_threads_are_those_asked_for():
    use_threads(3)
    assert torch.get_num_threads() == 3


def test_the_default_is_one_thread_per_core_on_every_system(monkeypatch):
    """macOS and Windows have no `os.sched_getaffinity`."""
    use_threads(None)
    assert torch.get_num_threads() == joblib.cpu_count() >= 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    use_threads(None)
    assert 1 <= torch.get_num_threads() <= os.cpu_count()


def test_a_configuration_of_a_folder_without_any_is_refused(tmp_path):
    tiny_federation().save_to_disk(tmp_path)
    assert "client_00" in load_federation(str(tmp_path))
    with pytest.raises(ValueError, match=r"`dataset_config` is 'iid', but `dataset_name` .* has no configurations"):
        load_federation(str(tmp_path), "iid")


def test_a_run_without_evaluation_says_so_at_its_end_and_on_its_card(tmp_path, capsys):
    data = tiny_federation({"client_00": 2, "client_01": 2})
    data.pop("test")
    trainer = federated(tmp_path, data, num_rounds=1, max_steps=1, trainer_kwargs={"eval_dataset": None})
    trainer.train()
    print_results(str(tmp_path))
    end = capsys.readouterr().out
    assert "Nothing was evaluated" in end
    assert "samples" not in end
    assert "Nothing was evaluated" in (tmp_path / "README.md").read_text()
    with pytest.raises(ValueError, match="`eval_dataset` is needed: the run has no evaluation set"):
        trainer.evaluate()
    with pytest.raises(ValueError, match="`eval_dataset` is needed"):
        trainer.evaluate({})
    assert "test/vqa_accuracy" in trainer.evaluate(tiny_federation(test_rows=1)["test"])
