"""Names of clients that stay at home."""

import pytest

from fedvlm_hf.hub.names import names_in, numbered, rename_record
from fedvlm_hf.types import EvalResult, RoundRecord


def test_clients_are_numbered_in_the_order_of_their_names():
    assert numbered(["mercy", "anna"]) == {"anna": "client_00", "mercy": "client_01"}
    assert numbered(["client_00", "client_01"]) == {"client_00": "client_00", "client_01": "client_01"}


def test_who_is_only_in_an_evaluation_has_no_clients_number():
    names = numbered(["mercy", "anna"], ["zoe", "anna", "bert"])
    assert names == {"anna": "client_00", "mercy": "client_01", "bert": "other_00", "zoe": "other_01"}


@pytest.mark.parametrize("trained", [{"mercy": {"train_loss": 1.0}}, {}])
def test_a_record_has_no_name_left(trained):
    result = EvalResult({"vqa_accuracy": 0.5}, clients={"mercy": {"vqa_accuracy": 0.5}}, subsets={"open": {}})
    record = RoundRecord(1, {"test": result}, trained)
    assert names_in(record) == {"mercy"}
    renamed = rename_record(record, numbered(["mercy"]))
    assert "mercy" not in str(renamed.to_json())
    assert renamed.evaluations["test"].clients == {"client_00": {"vqa_accuracy": 0.5}}
    assert list(renamed.clients.values()) == list(trained.values())
