"""The server loop, with clients that are functions: no trainer, no model."""

from dataclasses import dataclass, replace

import pytest
import torch

from fedvlm_hf.callbacks import RoundCallback
from fedvlm_hf.engines.in_process import InProcessEngine
from fedvlm_hf.exchange.updates import UpdateError
from fedvlm_hf.methods.fedavg import FedAvg
from fedvlm_hf.rounds import RoundStart, run_rounds
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.transforms import Transform, TransformChain
from fedvlm_hf.types import Absent, ClientTask, ClientUpdate, EvalResult, Generation, RoundRecord, ServerState


START = TensorDict.from_tensors({"w": torch.tensor([1.0, 2.0])})
MOVES = {"a": (1, [4.0, 0.0]), "b": (3, [0.0, -4.0])}


def train(task: ClientTask) -> ClientUpdate:
    """Client a has one row and adds (4, 0); client b has three and adds (0, -4)."""
    num_samples, move = MOVES[task.client_id]
    moved = task.tensors.with_flat(task.tensors.flat + torch.tensor(move))
    return ClientUpdate(task.round_idx, task.client_id, moved, num_samples, {"train_loss": 1.0})


def rounds(**kwargs):
    arguments = {
        "start": RoundStart(START, ServerState()),
        "num_rounds": 2,
        "strategy": FedAvg(),
        "engine": InProcessEngine(train),
        "cohort": lambda round_idx: ["b", "a"],
        "evaluate": lambda round_idx, tensors, base: {"test": EvalResult({"vqa_accuracy": tensors.flat[0].item()})},
    }
    return run_rounds(**{**arguments, **kwargs})


def test_two_rounds_by_hand():
    """Each round moves by (1 * (4, 0) + 3 * (0, -4)) / 4 = (1, -3): from (1, 2) over (2, -1) to (3, -4)."""
    end = rounds()
    assert end.tensors["w"].tolist() == [3.0, -4.0]
    assert [record.evaluations["test"].scores["vqa_accuracy"] for record in end.history] == [1.0, 2.0, 3.0]
    assert [record.round_idx for record in end.history] == [0, 1, 2]


def test_bytes_and_clients_are_counted():
    """Two clients, two fp32 values each: 16 bytes down and 16 up in each round, none in round 0."""
    history = rounds().history
    assert [(r.bytes_down, r.bytes_up) for r in history] == [(0, 0), (16, 16), (16, 16)]
    assert history[1].clients["b"] == {"num_samples": 3, "train_loss": 1.0}
    assert set(history[1].seconds) == {"clients", "aggregate", "evaluate", "total"}
    assert history[2].peak_memory > 0


def test_going_on_from_a_round():
    first = rounds(num_rounds=1)
    end = rounds(start=first)
    assert end.tensors["w"].tolist() == [3.0, -4.0]
    assert [record.round_idx for record in end.history] == [0, 1, 2]


def test_callbacks_all_run_and_any_may_stop():
    calls = []

    class Note(RoundCallback):
        def __init__(self, name, stops):
            self.name, self.stops = name, stops

        def on_start(self, history, num_rounds):
            calls.append((self.name, "start", len(history), num_rounds))

        def on_round_end(self, end):
            calls.append((self.name, end.record.round_idx, end.tensors["w"].tolist()))
            return self.stops

        def on_end(self, history):
            calls.append((self.name, "end", len(history)))

    rounds(callbacks=[Note("x", True), Note("y", None)])
    assert calls == [
        ("x", "start", 0, 2), ("y", "start", 0, 2), ("x", 0, [1.0, 2.0]), ("y", 0, [1.0, 2.0]),
        ("x", "end", 1), ("y", "end", 1),
    ]  # fmt: skip


@dataclass(frozen=True)
class Scale(Transform):
    """Multiplies at the client and adds at the server, so that the order of both shows."""

    factor: float
    plus: float

    def on_client(self, update, context):
        return replace(update, tensors=update.tensors.with_flat(update.tensors.flat * self.factor + 1))

    def on_server(self, aggregate, context):
        delta = aggregate.tensors
        return replace(aggregate, tensors=delta.with_flat(delta.flat * self.plus + aggregate.num_clients))


def encoding(chain):
    """Clients at which the client halves run, as the contract says."""

    def run(task):
        update, kept = chain.encode(train(task), task, {})
        return replace(update, state=kept)

    return InProcessEngine(run)


def test_transforms_see_deltas_in_order_and_the_server_in_reverse():
    """Delta of a (4, 0): times 2 plus 1 = (9, 1), times 10 plus 1 = (91, 11). Of b (0, -4): (1, -7), (11, -69).
    Mean with weights 1 and 3: ((91 + 33) / 4, (11 - 207) / 4) = (31, -49). Server, second first: times 1 plus 2 =
    (33, -47), then times 3 plus 2 = (101, -139). Added to (1, 2): (102, -137)."""
    chain = TransformChain([Scale(2, 3), Scale(10, 1)])
    end = rounds(num_rounds=1, transforms=chain, engine=encoding(chain))
    assert end.tensors["w"].tolist() == [102.0, -137.0]


def test_callbacks_are_closed_when_a_round_raises():
    """All of them, in order, also where one of them fails to close; the error of the round is not hidden."""
    closed = []

    class Note(RoundCallback):
        def __init__(self, name, fails=False):
            self.name, self.fails = name, fails

        def on_end(self, history):
            closed.append((self.name, len(history)))
            if self.fails:
                raise OSError("cannot close")

    def dies(task):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory") as error:
        rounds(engine=InProcessEngine(dies), callbacks=[Note("x"), Note("y", True), Note("z")])
    assert closed == [("x", 1), ("y", 1), ("z", 1)]
    assert error.value.__notes__ == ["Then a callback failed as well: OSError('cannot close')"]
    with pytest.raises(OSError, match="cannot close"):
        rounds(num_rounds=1, callbacks=[Note("x"), Note("y", True)])


def test_a_callback_that_did_not_open_is_not_closed():
    closed = []

    class Broken(RoundCallback):
        def on_start(self, history, num_rounds):
            raise ValueError("no disk")

        def on_end(self, history):
            closed.append("broken")

    class Note(RoundCallback):
        def on_end(self, history):
            closed.append("note")

    with pytest.raises(ValueError, match="no disk"):
        rounds(callbacks=[Note(), Broken(), Note()])
    assert closed == ["note"]


def test_a_round_goes_on_without_an_absent_client_and_says_so():
    """Only b answers: it moves by (0, -4) alone, from (1, 2) to (1, -2)."""

    class Engine:
        def run(self, tasks):
            for task in tasks:
                yield Absent(task.round_idx, "a", "no disk") if task.client_id == "a" else train(task)

    end = rounds(num_rounds=1, engine=Engine())
    assert end.tensors["w"].tolist() == [1.0, -2.0]
    assert end.history[1].absent == {"a": "no disk"}
    assert end.history[1].bytes_up == 8


def test_answers_may_come_in_any_order():
    class Backwards:
        def run(self, tasks):
            yield from (train(task) for task in sorted(tasks, key=lambda task: task.client_id, reverse=True))

    assert rounds(engine=Backwards()).tensors.digest() == rounds().tensors.digest()


def test_an_update_that_is_not_finite_stops_the_round():
    def diverges(task):
        update = train(task)
        update.tensors.flat[1] = float("nan")
        return update

    seen = []

    class Note(RoundCallback):
        def on_round_end(self, end):
            seen.append(end.record.round_idx)

    with pytest.raises(UpdateError, match=r"client 'a' in round 1 has tensor 'w' with values that are not finite"):
        rounds(engine=InProcessEngine(diverges), callbacks=[Note()])
    assert seen == [0]


def test_only_the_latest_round_keeps_its_answers():
    """Their number would grow with the rounds, and Python's collector walks every object in every client run."""
    answer = Generation(0, "vqa", "yes", ["yes"])
    history = rounds(evaluate=lambda *_: {"test": EvalResult({"vqa_accuracy": 1.0}, generations=[answer])}).history
    assert [record.evaluations["test"].generations for record in history] == [[], [], [answer]]
    assert [record.evaluations["test"].scores for record in history] == [{"vqa_accuracy": 1.0}] * 3


def test_a_record_survives_json():
    record = rounds().history[1]
    assert RoundRecord.from_json(record.to_json()) == record


def test_large_values_are_finite_even_where_their_sum_is_not():
    """3e38 + 3e38 is past fp32's 3.4e38, which must not pass for a client that diverged; the mean is in fp64."""
    end = rounds(num_rounds=1, engine=InProcessEngine(lambda task: replace(train(task), tensors=huge(task.tensors))))
    assert end.tensors["w"].tolist() == huge(START)["w"].tolist()


def huge(tensors):
    return tensors.with_flat(torch.full_like(tensors.flat, 3e38))
