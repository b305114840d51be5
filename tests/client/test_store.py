"""Client states on disk: versions, going back, pruning."""

import torch

from fedvlm_hf.client.store import ClientStore, load_state, save_state
from fedvlm_hf.tensors import TensorDict


def state(value: float) -> dict[str, TensorDict]:
    return {"private": TensorDict.from_tensors({"z": torch.full((2,), value), "a": torch.zeros(1)})}


def test_save_and_load_keep_groups_names_order_and_bits(tmp_path):
    saved = {**state(0.1), "control": TensorDict.from_tensors({"c:d": torch.tensor([float("-0")])})}
    save_state(tmp_path / "x.safetensors", saved)
    loaded = load_state(tmp_path / "x.safetensors")
    assert {group: values.digest() for group, values in loaded.items()} == {
        group: values.digest() for group, values in saved.items()
    }
    assert list(loaded["private"]) == ["z", "a"]
    assert not list(tmp_path.glob("*.partial"))


def test_an_empty_state_is_saved_and_loaded(tmp_path):
    save_state(tmp_path / "x.safetensors", {})
    assert load_state(tmp_path / "x.safetensors") == {}


def test_the_newest_version_is_loaded_and_a_new_client_has_none(tmp_path):
    store = ClientStore(tmp_path)
    assert store.load("a") == {}
    store.save("a", 1, state(1))
    store.save("a", 2, state(2))
    assert store.load("a")["private"]["z"].tolist() == [2, 2]


def test_nothing_is_written_for_an_empty_state(tmp_path):
    store = ClientStore(tmp_path / "states")
    store.save("a", 1, {})
    assert not (tmp_path / "states").exists()
    assert store.versions == {}


def test_going_back_forgets_what_came_after(tmp_path):
    store = ClientStore(tmp_path)
    store.save("a", 1, state(1))
    store.save("b", 1, state(10))
    at_round_1 = dict(store.versions)
    store.save("a", 2, state(2))
    killed = ClientStore(tmp_path)
    killed.restore(at_round_1)
    assert killed.load("a")["private"]["z"].tolist() == [1, 1]
    assert killed.load("b")["private"]["z"].tolist() == [10, 10]
    assert not store.folder("a", 2).exists()


def test_pruning_keeps_what_a_kept_checkpoint_names(tmp_path):
    store = ClientStore(tmp_path)
    for round_idx in (1, 2, 3):
        store.save("a", round_idx, state(round_idx))
    store.prune([{"a": 2}, {"a": 3}])
    assert not store.folder("a", 1).exists()
    assert store.folder("a", 2).exists()
    assert store.folder("a", 3).exists()
