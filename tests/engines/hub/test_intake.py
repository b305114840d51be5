"""Kinds of bad update, each refused with its reason; the round goes on without it."""

import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from fedvlm_hf.engines.hub.intake import MAX_REPLY, Intake, Limits
from fedvlm_hf.engines.hub.protocol import REPLY, TENSORS
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.transforms import Transform, TransformChain
from fedvlm_hf.types import Absent, ClientTask, ClientUpdate, Expected, TensorSpec
from hub_updates import ANNOUNCEMENT, CURRENT, SHA256, TASKS, Answer


def intake(**limits) -> Intake:
    return Intake(ANNOUNCEMENT, SHA256, TASKS, TransformChain(), Limits(**limits))


def moved(**tensors: torch.Tensor) -> dict[str, TensorDict]:
    """A state whose update has other tensors where they are given."""
    return {"tensors": TensorDict.from_tensors({**CURRENT, **tensors})}


def with_values(value: float) -> dict[str, TensorDict]:
    return moved(b=torch.tensor([0.0, value, 0.0]))


def without_w(answer: Answer) -> None:
    answer.save({"tensors": TensorDict.from_tensors({"b": CURRENT["b"]})})


def renamed(answer: Answer) -> None:
    answer.save({"tensors": TensorDict.from_tensors({"w": CURRENT["w"], "c": CURRENT["b"]})})


def as_pickle(answer: Answer) -> None:
    content = pickle.dumps({"w": [0.0] * 4}).ljust(400, b".")
    (answer.folder / TENSORS).write_bytes(content)
    answer.reply()


def as_torch_file(answer: Answer) -> None:
    torch.save({"w": torch.zeros(2)}, answer.folder / TENSORS)
    answer.reply()


def cut(answer: Answer) -> None:
    path = answer.folder / TENSORS
    path.write_bytes(path.read_bytes()[:-4])
    answer.reply()


def cut_in_the_header(answer: Answer) -> None:
    path = answer.folder / TENSORS
    path.write_bytes(path.read_bytes()[:30])
    answer.reply()


def dtype(header: dict) -> None:
    header["tensors:b"] |= {"dtype": "I32"}


def half(header: dict) -> None:
    header["tensors:w"] |= {"dtype": "F16", "data_offsets": [12, 20]}


def half_of_w() -> dict[str, dict[str, torch.Tensor]]:
    return {"tensors": {**CURRENT, "w": CURRENT["w"].half()}}


def shape(header: dict) -> None:
    header["tensors:w"]["shape"] = [4, 1]


def order(header: dict) -> None:
    header["__metadata__"]["layout"] = "tensors:b\ntensors:w"


def no_order(header: dict) -> None:
    del header["__metadata__"]


def overlap(header: dict) -> None:
    begin, _ = header["tensors:w"]["data_offsets"]
    header["tensors:b"]["data_offsets"] = [begin, begin + 12]


def beyond(header: dict) -> None:
    header["tensors:b"]["data_offsets"] = [2**40, 2**40 + 12]


def twice(header: dict) -> str:
    text = json.dumps(header)
    return text[:-1] + ', "tensors:b": ' + json.dumps(header["tensors:b"]) + "}"


def replaced_after_the_reply(answer: Answer) -> None:
    sent = (answer.folder / REPLY).read_bytes()
    answer.save(with_values(2.0))
    (answer.folder / REPLY).write_bytes(sent)


def huge_file(answer: Answer) -> None:
    with (answer.folder / TENSORS).open("ab") as file:
        file.truncate(10**9)  # sparse: its size is all that is looked at


def long_reply(answer: Answer) -> None:
    answer.reply(metrics={"train_loss": 0.5, "x" * MAX_REPLY: 1.0})


def other_file(name: str):
    def add(answer: Answer) -> None:
        path = answer.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")

    return add


class Traversal(Answer):
    """A listing that no file system could hold, as a Hub of someone's own might send it."""

    def sizes(self) -> dict[str, int]:
        return {**super().sizes(), "../../home/.ssh/authorized_keys": 10}


BAD = {
    "no reply": (lambda a: (a.folder / REPLY).unlink(), "lacks the file update.json"),
    "no tensors": (lambda a: (a.folder / TENSORS).unlink(), "lacks the file update.safetensors"),
    "another file": (other_file("weights.bin"), "has the file 'weights.bin'"),
    "a file in a folder": (other_file("code/model.py"), "has the file 'code/model.py'"),
    "a long reply": (long_reply, "65536 is the most"),
    "a huge file": (huge_file, "too many for the tensors asked for"),
    "a file too small": (cut_in_the_header, "too few for the tensors asked for"),
    "reply is no JSON": (lambda a: (a.folder / REPLY).write_bytes(b"\x80\x04."), "not UTF-8 JSON"),
    "reply is a list": (lambda a: a.raw([1]), "is a list and not an object"),
    "reply of another protocol": (lambda a: a.reply(protocol=9), "`protocol` is 9 and not 2"),
    "reply with an unknown field": (lambda a: a.reply(run="rm"), "unknown field 'run'"),
    "reply without a field": (lambda a: a.raw({"protocol": 2}), "it lacks the field `client_id`"),
    "another client's reply": (lambda a: a.reply(client_id="site_b"), "names the client 'site_b'"),
    "a future round": (lambda a: a.reply(round_idx=4), "was not announced yet"),
    "another announcement": (lambda a: a.reply(announcement_sha256="0" * 64), "another announcement of this round"),
    "another base": (lambda a: a.reply(base_sha256="0" * 64), "another base model"),
    "another configuration": (lambda a: a.reply(config_sha256="0" * 64), "another configuration"),
    "no weight": (lambda a: a.reply(weight=0), "`weight` is 0; it must be above 0 and at most 10000000"),
    "a negative weight": (lambda a: a.reply(weight=-0.5), "above 0 and at most 10000000"),
    "a large weight": (lambda a: a.reply(weight=10**12), "above 0 and at most 10000000"),
    "an infinite weight": (lambda a: a.reply(weight=float("inf")), "Infinity, which is not finite"),
    "a weight as text": (lambda a: a.reply(weight="7"), "`weight.int` is '7'"),
    "a weight as a bool": (lambda a: a.reply(weight=True), "`weight.int` is True"),
    "a metric that is text": (lambda a: a.reply(metrics={"train_loss": "low"}), "`metrics.train_loss"),
    "a metric that is NaN": (lambda a: a.reply(metrics={"train_loss": float("nan")}), "number NaN"),
    "a metric beyond floats": (lambda a: a.reply(metrics={"train_loss": 10**400}), "beyond 64 bits"),
    "a metric with a strange name": (lambda a: a.reply(metrics={"train_loss": 0, "<b>": 1}), "which is not a name"),
    "too many metrics": (lambda a: a.reply(metrics={f"m{i}": 1 for i in range(200)}), "200 metrics"),
    "no loss": (lambda a: a.reply(metrics={}), "lack `train_loss`"),
    "another file than the reply names": (replaced_after_the_reply, "SHA-256 sums differ"),
    "a pickle under that name": (as_pickle, "is cut off or not a safetensors file"),
    "a torch file under that name": (as_torch_file, "is cut off or not a safetensors file"),
    "a file cut off": (cut, "is cut off"),
    "header is no JSON": (lambda a: a.header(lambda h: "{" * 300), "is cut off or not a safetensors file"),
    "a tensor twice in the header": (lambda a: a.header(twice), "has a key twice"),
    "a missing tensor": (without_w, "lacks the tensor 'tensors:w'"),
    "a tensor of another name": (renamed, "lacks the tensor 'tensors:b'"),
    "an extra tensor": (lambda a: a.save(moved(d=torch.zeros(1))), "has the tensor 'tensors:d'"),
    "another group": (lambda a: a.save({"private": CURRENT}), "lacks the tensor 'tensors:w'"),
    "another shape": (lambda a: a.save(moved(w=torch.zeros(4, 1))), "as F32[4, 1]; it must be F32[2, 2]"),
    "another shape in the header alone": (lambda a: a.header(shape), "as F32[4, 1]"),
    "another dtype": (lambda a: a.header(dtype), "as I32[3]; it must be F32[3]"),
    "half precision": (lambda a: a.save(half_of_w()), "as F16[2, 2]; it must be F32[2, 2]"),
    "half precision in the header alone": (lambda a: a.header(half), "is cut off or not a safetensors file"),
    "another order": (lambda a: a.header(order), "another order"),
    "no order": (lambda a: a.header(no_order), "does not say the order"),
    "tensors that overlap": (lambda a: a.header(overlap), "offset"),
    "bytes beyond the file": (lambda a: a.header(beyond), "offset"),
    "NaN": (lambda a: a.save(with_values(float("nan"))), "not finite in tensors:b"),
    "infinity": (lambda a: a.save(with_values(float("-inf"))), "not finite in tensors:b"),
    "huge values": (lambda a: a.save(with_values(1e30)), "by 1e+30 in L2 norm; 500 is the most"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_update_is_refused_with_its_reason_and_the_round_goes_on(tmp_path, spoil, reason):
    bad, good = Answer.good(tmp_path / "a"), Answer.good(tmp_path / "b", client_id="site_b")
    spoil(bad)
    round_ = intake()
    assert not round_.consider(bad)
    assert reason in round_.refused["site_a"]
    assert round_.consider(good)
    assert [type(answer) for answer in round_.answers()] == [Absent, ClientUpdate]
    assert round_.missing == ["site_a"]


def test_a_good_update_comes_back_as_it_was_sent(tmp_path):
    """In the order in which the tensors were sent, which is not the order in the file."""
    round_ = intake()
    assert round_.consider(Answer.good(tmp_path, step=0.25))
    (update,) = [answer for answer in round_.answers() if isinstance(answer, ClientUpdate)]
    assert (update.client_id, update.round_idx, update.weight) == ("site_a", 3, 7)
    assert update.metrics == {"train_loss": 0.5, "num_steps": 3}
    assert update.tensors.digest() == CURRENT.with_flat(CURRENT.flat + 0.25).digest()
    assert list(update.tensors) == ["w", "b"]


def with_tasks(*tasks: ClientTask, **limits) -> Intake:
    """A round with other tasks; `transforms` are those of the round."""
    transforms = limits.pop("transforms", TransformChain())
    asked = replace(ANNOUNCEMENT, cohort={task.client_id: index for index, task in enumerate(tasks)})
    return Intake(asked, SHA256, {task.client_id: task for task in tasks}, transforms, Limits(**limits))


def test_control_groups_come_back_as_they_were_asked_for(tmp_path):
    """Such as control variates: the groups that the task asks for, by names, shapes and dtypes, and no other."""
    control = {"control": TensorDict.from_tensors({"w": torch.ones(2, 2)})}
    tasks = [ClientTask(3, name, CURRENT, expects=Expected.of(CURRENT, control)) for name in ("site_a", "site_b")]
    round_ = with_tasks(*tasks)
    answer = Answer.good(tmp_path)
    assert not round_.consider(answer)
    assert "lacks the tensor 'control:w'" in round_.refused["site_a"]
    answer.save({"tensors": CURRENT, **control})
    assert round_.consider(answer)
    (update,) = [answer for answer in round_.answers() if isinstance(answer, ClientUpdate)]
    assert update.control["control"].digest() == control["control"].digest()
    answer = Answer(tmp_path, "site_b", "updates/site_b")
    answer.save({"tensors": CURRENT, "control": {"w": torch.full((2, 2), torch.nan)}})
    round_.consider(answer)
    assert "not finite in control:w" in round_.refused["site_b"]


def test_clients_may_be_asked_for_different_shapes(tmp_path):
    """As LoRA of different ranks: site_a answers with one row, site_b with two."""
    small = TensorDict.from_tensors({"w": torch.ones(1, 2)})
    tasks = [ClientTask(3, "site_a", small), ClientTask(3, "site_b", TensorDict.from_tensors({"w": torch.ones(2, 2)}))]
    round_ = with_tasks(*tasks)
    for client_id, rows in (("site_a", 1), ("site_b", 2)):
        answer = Answer.good(tmp_path / client_id, client_id=client_id)
        answer.save({"tensors": TensorDict.from_tensors({"w": torch.zeros(rows, 2)})})
        assert round_.consider(answer), round_.refused
    assert [tuple(update.tensors["w"].shape) for update in round_.answers()] == [(1, 2), (2, 2)]
    other = with_tasks(*tasks)
    wrong = Answer.good(tmp_path / "wrong")
    wrong.save({"tensors": TensorDict.from_tensors({"w": torch.zeros(2, 2)})})
    assert not other.consider(wrong)
    assert "F32[2, 2]; it must be F32[1, 2]" in other.refused["site_a"]


@dataclass(frozen=True)
class Halves(Transform):
    """Sends changes in half precision."""

    def layout(self, expected: Expected) -> Expected:
        return Expected({name: TensorSpec(spec.shape, torch.float16) for name, spec in expected.tensors.items()})

    def on_receive(self, update: ClientUpdate, context: object) -> ClientUpdate:
        return replace(update, tensors=TensorDict.from_tensors(update.tensors))


def test_the_norm_of_a_transformed_update_is_that_of_the_change(tmp_path):
    """The change is sent in fp16; seven weights that change by 1 change the tensors by 2.6458 in L2 norm."""
    change = {name: torch.ones(tensor.shape, dtype=torch.float16) for name, tensor in CURRENT.items()}
    for limit, counts in ((2.6, False), (2.7, True)):
        round_ = with_tasks(*TASKS.values(), transforms=TransformChain([Halves()]), max_update_norm=limit)
        answer = Answer.good(tmp_path / str(limit))
        answer.save({"tensors": change})
        assert round_.consider(answer) is counts, round_.refused
    (update,) = [answer for answer in round_.answers() if isinstance(answer, ClientUpdate)]
    assert update.tensors["w"].dtype == torch.float16  # as it travelled; the server loop decodes it
    assert not intake().consider(answer)


def test_who_is_left_out_is_named_with_the_reason(tmp_path):
    round_, answer = intake(), Answer.good(tmp_path)
    answer.reply(weight=0)
    round_.consider(answer)
    absent = {left.client_id: left.reason for left in round_.answers()}
    assert "`weight` is 0" in absent["site_a"]
    assert absent["site_b"] == "it did not answer before the deadline"


def test_there_are_more_kinds_than_twenty():
    assert len(BAD) >= 20


def test_a_path_out_of_the_folder_is_refused(tmp_path):
    answer = Answer.good(tmp_path)
    round_ = intake()
    round_.consider(Traversal(answer.folder, answer.client_id, answer.source))
    assert "'../../home/.ssh/authorized_keys'" in round_.refused["site_a"]


@pytest.mark.parametrize("client_id", ["site_c", "stranger", "../site_a"])
def test_who_was_not_asked_is_refused_before_anything_is_read(tmp_path, client_id):
    """site_c is one of the federation's, and not of this round's cohort."""
    round_ = intake()
    round_.consider(Answer(tmp_path / "nothing", client_id, f"updates/{client_id}"))
    assert "was not asked in round 3" in round_.refused[client_id]


def test_an_answer_to_an_earlier_round_is_no_answer_yet(tmp_path):
    """A client's branch holds its last answer until the next is there, so it is not refused, and is still missing."""
    answer, round_ = Answer.good(tmp_path), intake()
    answer.reply(round_idx=2)
    assert not round_.consider(answer)
    assert round_.refused == {}
    assert "site_a" in round_.missing


def test_a_replayed_answer_is_refused(tmp_path):
    """The update of an earlier announcement, with its round changed to this one's."""
    answer, round_ = Answer.good(tmp_path), intake()
    answer.reply(announcement_sha256="e" * 64)
    round_.consider(answer)
    assert "replay" in round_.refused["site_a"]


def test_of_two_answers_the_first_counts(tmp_path):
    round_ = intake()
    assert round_.consider(Answer.good(tmp_path / "first", step=1.0))
    assert not round_.consider(Answer.good(tmp_path / "second", step=2.0))
    (update,) = [answer for answer in round_.answers() if isinstance(answer, ClientUpdate)]
    assert update.tensors.digest() == CURRENT.with_flat(CURRENT.flat + 1.0).digest()


def test_who_was_refused_may_answer_again(tmp_path):
    round_, answer = intake(), Answer.good(tmp_path)
    answer.reply(weight=0)
    round_.consider(answer)
    answer.reply()
    assert round_.consider(answer)
    assert round_.refused == {}


@pytest.mark.parametrize(("limit", "counts"), [(2.6, False), (2.7, True)])
def test_the_norm_bound_is_of_the_change(tmp_path, limit, counts):
    """Seven weights moved by 1 change the tensors by sqrt(7) = 2.6458 in L2 norm, whatever their own is."""
    assert intake(max_update_norm=limit).consider(Answer.good(tmp_path, step=1.0)) is counts


@pytest.mark.parametrize(("step", "counts"), [(188.0, True), (190.0, False)])
def test_by_default_a_change_of_100_times_the_global_norm_is_the_most(tmp_path, step, counts):
    """The global tensors have norm 5, so 500 is the most; seven weights moved by s change by 2.6458 s."""
    assert intake().consider(Answer.good(tmp_path, step=step)) is counts


@pytest.mark.parametrize(("weight", "counts"), [(1, True), (2, False)])
def test_where_clients_weigh_the_same_nobody_claims_more(tmp_path, weight, counts):
    answer = Answer.good(tmp_path)
    answer.reply(weight=weight)
    assert intake(is_weighted=False).consider(answer) is counts


def test_nothing_is_unpickled(tmp_path):
    """A pickle that would write a file when it is loaded."""

    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    answer = Answer.good(tmp_path / "a")
    (answer.folder / TENSORS).write_bytes(pickle.dumps(Trap()).ljust(300, b"."))
    answer.reply()
    round_ = intake()
    round_.consider(answer)
    assert "safetensors" in round_.refused["site_a"]
    assert not (tmp_path / "sprung").exists()
