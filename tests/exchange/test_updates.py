"""A bad update never reaches the sum: each kind is refused by name, whichever engine it came through."""

from dataclasses import replace

import pytest
import torch

from fedvlm_hf.exchange.updates import UpdateError, check_update, in_order
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.types import Absent, ClientTask, ClientUpdate, Expected, TensorSpec


TENSORS = TensorDict.from_tensors({"a": torch.zeros(2), "b": torch.ones(2)})
CONTROL = {"c": TensorDict.from_tensors({"a": torch.zeros(2)})}
EXPECTED = Expected.of(TENSORS, CONTROL)
UPDATE = ClientUpdate(3, "x", TENSORS, 2, control=CONTROL)


def tensors(**values):
    return TensorDict.from_tensors({name: torch.tensor(value) for name, value in values.items()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tensors": tensors(a=[0.0, 0.0])}, "lacks tensor 'b'"),
        ({"tensors": tensors(a=[0.0, 0.0], b=[1.0, 1.0], d=[1.0])}, "has tensor 'd', which it was not asked for"),
        ({"tensors": tensors(a=[0.0], b=[1.0, 1.0])}, r"'a' of shape \(1,\); it must be \(2,\)"),
        ({"tensors": tensors(b=[1.0, 1.0], a=[0.0, 0.0])}, "in another order"),
        ({"tensors": tensors(a=[0.0, float("inf")], b=[1.0, 1.0])}, "'a' with values that are not finite"),
        ({"tensors": {"a": torch.zeros(2), "b": torch.ones(2, dtype=torch.int8)}}, "'b' in torch.int8; it must be"),
        ({"control": {}}, "lacks the control group 'c'"),
        ({"control": {**CONTROL, "d": TENSORS}}, "control group 'd', which its task does not ask for"),
        ({"control": {"c": tensors(a=[0.0, float("nan")])}}, "control group 'c', has tensor 'a' with values that are"),
        ({"control": {"c": tensors(a=[0.0])}}, r"control group 'c', has tensor 'a' of shape \(1,\)"),
        ({"weight": 0}, "weight 0"),
        ({"weight": float("nan")}, "weight nan"),
        ({"weight": True}, "weight True"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    check_update(UPDATE, EXPECTED)
    with pytest.raises(UpdateError, match=rf"The update of client 'x' in round 3.*{message}"):
        check_update(replace(UPDATE, **change), EXPECTED)


def test_what_a_transform_sends_is_held_to_its_own_dtypes():
    expected = Expected({"a": TensorSpec((2,), torch.uint8)})
    check_update(replace(UPDATE, tensors={"a": torch.zeros(2, dtype=torch.uint8)}, control={}), expected)
    with pytest.raises(UpdateError, match=r"in torch\.float32; it must be torch\.uint8"):
        check_update(replace(UPDATE, tensors=tensors(a=[0.0, 0.0]), control={}), expected)


TASKS = [ClientTask(3, name, TENSORS) for name in ("y", "x")]


def answers(*names, round_idx=3):
    return [replace(UPDATE, client_id=name, round_idx=round_idx) for name in names]


def test_answers_are_matched_and_put_in_order():
    pairs = [(task.client_id, answer.client_id) for task, answer in in_order(answers("y", "x"), TASKS)]
    assert pairs == [("x", "x"), ("y", "y")]


def test_a_client_may_be_absent():
    (_, first), (_, second) = in_order([Absent(3, "y", "late"), *answers("x")], TASKS)
    assert (first.client_id, second.reason) == ("x", "late")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (answers("x"), "without an answer of client 'y'"),
        (answers("x", "x"), "client 'x' in round 3 came twice"),
        (answers("y", "y"), "client 'y' in round 3 came twice"),
        (answers("x", "z"), "client 'z' in round 3 was not asked for"),
        (answers("x", "y", round_idx=2), "client 'x' in round 2 came in round 3"),
        ([*answers("x", "y"), *answers("x")], "client 'x' in round 3 came twice"),
    ],
)
def test_updates_that_do_not_match_the_tasks_are_refused(given, message):
    with pytest.raises(UpdateError, match=message):
        list(in_order(given, TASKS))
