"""Functions that the training scripts share."""

import os
import subprocess
import sys
from pathlib import Path

import joblib
import pytest
import torch

from fedvlm_hf.launch import use_threads


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
