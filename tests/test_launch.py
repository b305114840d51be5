"""Functions that the training scripts share."""

import os

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
