"""The queue on disk: what waits, who may send it, and what a run that is set back or pushed elsewhere leaves of it."""

import pytest

from fedvlm_hf.hub.layout import PushTarget
from fedvlm_hf.hub.outbox import Outbox


@pytest.fixture
def outbox(tmp_path):
    outbox = Outbox(tmp_path, PushTarget("me/run"))
    outbox.prepare()
    return outbox


def queue(outbox: Outbox, *rounds: int) -> None:
    """Folders as packing leaves them, and one as a kill amid packing does."""
    for round_idx in rounds:
        (outbox.folder / f"round-{round_idx:04d}").mkdir()
        (outbox.folder / f"round-{round_idx:04d}" / "metrics.jsonl").write_text("{}")
        (outbox.folder / f"round-{round_idx:04d}.clients" / "client_00").mkdir(parents=True)
        (outbox.folder / f"round-{round_idx:04d}.clients" / "client_00" / "README.md").write_text("")
    (outbox.folder / ".round-0099.tmp").mkdir(exist_ok=True)


def test_rounds_wait_in_order_until_they_have_arrived(outbox):
    queue(outbox, 10, 2, 3)
    assert outbox.waiting() == [2, 3, 10]
    assert list(outbox.files(3)) == ["metrics.jsonl"]
    assert list(outbox.client_files(3)["client_00"]) == ["README.md"]
    outbox.note_sent(2, "abc")
    assert outbox.waiting() == [3, 10]
    assert outbox.sent.rounds() == {2: "abc"}
    assert not (outbox.folder / "round-0002.clients").exists()


def test_a_run_that_is_set_back_forgets_what_came_later(outbox):
    queue(outbox, 3, 4)
    outbox.sent.note_round(1, "a")
    outbox.sent.note_round(2, "b")
    outbox.sent.note_base("digest")
    outbox.set_back(1)
    assert outbox.waiting() == []
    assert outbox.sent.rounds() == {1: "a"}
    assert outbox.sent.base == "digest"


def test_what_arrived_is_noted_for_each_repository(outbox):
    outbox.sent.note_round(1, "a")
    other = Outbox(outbox.output_dir, PushTarget("me/other"))
    assert other.sent.rounds() == {}
    other.sent.note_round(0, "b")
    assert outbox.sent.rounds() == {1: "a"}


def test_rounds_packed_for_another_repository_are_not_lost(outbox):
    """Round 0 is still saved, so that it can be packed again; round 1 is not."""
    queue(outbox, 0, 1)
    (outbox.output_dir / "rounds" / "round-0000").mkdir(parents=True)
    other = Outbox(outbox.output_dir, PushTarget("me/other"))
    assert not other.is_current()
    with pytest.raises(ValueError, match=r"has round-0001 packed for another repository .*`fedvlm push "):
        other.prepare()
    assert outbox.waiting() == [0, 1]
    outbox.drop(1)
    other.prepare()
    assert other.waiting() == []
    assert other.is_current()
    assert not outbox.is_current()


def test_one_process_sends_at_a_time(outbox):
    other = Outbox(outbox.output_dir, outbox.target)
    assert outbox.lock()
    assert outbox.lock()
    assert not other.lock()
    outbox.unlock()
    assert other.lock()
    other.unlock()
