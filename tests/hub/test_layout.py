"""Where a run is pushed, read from its arguments and from the disk; names of clients that are not shared."""

import pytest

from federation import config
from fedvlm_hf.hub.layout import PushTarget, names_in, number_clients, rename_record
from fedvlm_hf.types import EvalResult, RoundRecord


def test_a_new_repository_is_private_unless_it_is_said_not_to_be(tmp_path):
    for said, private in [({}, True), ({"hub_private_repo": True}, True), ({"hub_private_repo": False}, False)]:
        assert PushTarget.of(config(tmp_path, hub_model_id="me/run", **said)).private is private


@pytest.mark.parametrize(
    ("strategy", "last_only"),
    [("end", True), ("every_save", False), ("checkpoint", False), ("all_checkpoints", False)],
)
def test_every_strategy_but_the_end_pushes_each_round(tmp_path, strategy, last_only):
    target = PushTarget.of(config(tmp_path, hub_model_id="me/run", hub_strategy=strategy))
    assert target.last_only is last_only


def test_it_is_kept_on_disk_without_a_token(tmp_path):
    args = config(
        tmp_path, hub_model_id="me/run", hub_token="hf_secret", hub_revision="trial", share_client_names=False
    )
    target = PushTarget.of(args)
    assert PushTarget.read(tmp_path) is None
    target.write(tmp_path)
    assert PushTarget.read(tmp_path) == target
    assert "hf_secret" not in (tmp_path / "target.json").read_text()
    assert (target.branch, target.share_client_names) == ("trial", False)


def test_a_base_model_in_a_folder_gets_a_repository_of_its_own():
    target = PushTarget("me/run")
    assert target.public_base("/models/llava") == "me/run-base"
    assert target.public_base("llava-hf/llava-1.5-7b-hf") == "llava-hf/llava-1.5-7b-hf"
    copied = PushTarget("me/run", base_model="llava-hf/llava-1.5-7b-hf")
    assert copied.public_base("/models/llava") == "llava-hf/llava-1.5-7b-hf"
    assert copied.public_base("someone/else") == "someone/else"
    with pytest.raises(ValueError, match="made in memory"):
        target.public_base("")


def test_a_repository_has_an_owner(tmp_path):
    with pytest.raises(ValueError, match="Write 'OWNER/run'"):
        PushTarget("run")
    with pytest.raises(ValueError, match="`hub_base_model` 'a b/c' cannot be"):
        PushTarget("me/run", base_model="a b/c")
    with pytest.raises(ValueError, match="`hub_model_id` is not set"):
        PushTarget.of(config(tmp_path))


def test_clients_are_numbered_in_the_order_of_their_names():
    assert number_clients(["mercy", "anna"]) == {"anna": "client_00", "mercy": "client_01"}
    assert number_clients(["client_00", "client_01"]) == {"client_00": "client_00", "client_01": "client_01"}


def test_who_is_only_in_an_evaluation_has_no_clients_number():
    names = number_clients(["mercy", "anna"], ["zoe", "anna", "bert"])
    assert names == {"anna": "client_00", "mercy": "client_01", "bert": "other_00", "zoe": "other_01"}


@pytest.mark.parametrize("trained", [{"mercy": {"train_loss": 1.0}}, {}])
def test_a_record_has_no_name_left(trained):
    result = EvalResult({"vqa_accuracy": 0.5}, clients={"mercy": {"vqa_accuracy": 0.5}}, subsets={"open": {}})
    record = RoundRecord(1, {"test": result}, trained)
    assert names_in(record) == {"mercy"}
    renamed = rename_record(record, number_clients(["mercy"]))
    assert "mercy" not in str(renamed.to_json())
    assert renamed.evaluations["test"].clients == {"client_00": {"vqa_accuracy": 0.5}}
    assert list(renamed.clients.values()) == list(trained.values())
