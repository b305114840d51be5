"""Functions that the training scripts share."""

import os
import subprocess
import sys
from pathlib import Path

import joblib
import pytest
import torch
import yaml
from datasets import DatasetDict

from federation import federated
from fedvlm_hf.launch import load_federation, print_results, use_threads
from tiny import FEATURES, tiny_federation


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
    with pytest.raises(
        ValueError, match=r"`--dataset_config` is 'iid', but `--dataset_name` .* has no configurations"
    ):
        load_federation(str(tmp_path), "iid")


@pytest.mark.parametrize("split", ["client_01", "test"])
@pytest.mark.parametrize("layout", ["save_to_disk", "parquet"])
def test_an_empty_split_is_named(tmp_path, layout, split):
    splits = DatasetDict({name: rows.select_columns(list(FEATURES)) for name, rows in tiny_federation().items()})
    splits[split] = splits[split].select([])
    if layout == "save_to_disk":
        splits.save_to_disk(tmp_path)
    else:
        for name, rows in splits.items():
            rows.to_parquet(tmp_path / f"{name}.parquet")
        files = [{"split": name, "path": f"{name}.parquet"} for name in splits]
        card = yaml.safe_dump({"configs": [{"config_name": "default", "data_files": files}]})
        (tmp_path / "README.md").write_text(f"---\n{card}---\n")
    with pytest.raises(
        ValueError, match=f"`--dataset_name` .*: the split '{split}' is empty. Leave it out, or give it"
    ):
        load_federation(str(tmp_path))


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


RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.mark.parametrize(
    ("command", "first_line"),
    [
        ([RECIPES / "fed_nature.py", "--help"], "loading torch, transformers and trl ..."),
        ([RECIPES / "fed_vqa_rad.py", "--help"], "loading torch, transformers and trl ..."),
        (["-c", "from datasets import load_dataset; from fedvlm_hf import FederatedConfig"], ""),  # as in the README
    ],
)
def test_threads_that_wait_for_each_other_sleep(command, first_line):
    """Spinning threads make a round ten times slower on a busy machine. libgomp prints its settings when it is loaded,
    by which time the variable must be set. The recipes say what they do before they load torch."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    argv = [sys.executable, *map(str, command)]
    done = subprocess.run(
        argv, env={**environment, "OMP_DISPLAY_ENV": "verbose"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(first_line)
    if "GOMP_SPINCOUNT" in done.stderr:  # other builds of torch have another OpenMP
        assert "GOMP_SPINCOUNT = '0'" in done.stderr
        assert "GOMP_SPINCOUNT = '3" not in done.stderr


def test_a_wait_policy_that_is_set_is_kept():
    code = "import os, fedvlm_hf; print(os.environ['OMP_WAIT_POLICY'])"
    environment = {**os.environ, "OMP_WAIT_POLICY": "active"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "active\n"
