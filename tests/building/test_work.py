"""Long work on several processes, with journals and row counts."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedvlm_hf.building.work import RowCounts, Work, default_workers
from waiting import DEADLINE, WAITS, wait_until
from work_functions import be_killed, fail_at_three, none_at_three, process_id, slow_process_id, square


def journal(folder: Path) -> list:
    return [json.loads(line) for line in (folder / "numbers.jsonl").read_text().splitlines()]


def items(count: int) -> dict[str, int]:
    return {str(number): number for number in range(count)}


def test_row_counts_give_the_number_of_kept_rows():
    """10 + 5 read, 4 left out: 11; notes count nothing."""
    tally = RowCounts()
    tally.read("a", 10)
    tally.read("b", 5)
    tally.exclude("c", 4, "why")
    tally.note("d", 100)
    assert tally.kept == 11
    assert [line["step"] for line in tally.lines] == ["read", "read", "excluded", "note"]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_results_are_in_the_order_of_the_items(num_workers):
    found = Work(num_workers=num_workers, start_after=0).map("numbers", square, items(9))
    assert list(found.items()) == [(str(number), number * number) for number in range(9)]


def test_little_work_starts_no_processes():
    found = Work(num_workers=2).map("numbers", process_id, items(9))
    assert set(found.values()) == {os.getpid()}


def test_more_work_is_given_to_other_processes():
    found = Work(num_workers=2, start_after=0.2).map("numbers", slow_process_id, items(30))
    assert list(found) == [str(number) for number in range(30)]
    assert found["0"] == os.getpid() != found["29"]


def test_what_is_done_is_not_done_again(tmp_path):
    """The journal says that 1 is 100: it is believed, and 0 and 2 are worked out."""
    (tmp_path / "numbers.jsonl").write_text('["1", 100]\n["9", 81]\n')
    assert Work(tmp_path).map("numbers", square, items(3)) == {"0": 0, "1": 100, "2": 4}
    assert journal(tmp_path) == [["1", 100], ["9", 81], ["0", 0], ["2", 4]]


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path):
    (tmp_path / "numbers.jsonl").write_text('["0", 7]\n["1", 1')
    assert Work(tmp_path).map("numbers", square, items(3)) == {"0": 7, "1": 1, "2": 4}
    assert journal(tmp_path) == [["0", 7], ["1", 1], ["2", 4]]


def test_none_is_tried_again(tmp_path):
    assert Work(tmp_path).map("numbers", none_at_three, items(5))["3"] is None
    assert Work(tmp_path).map("numbers", square, items(5)) == {"0": 0, "1": 1, "2": 2, "3": 9, "4": 4}


@pytest.mark.parametrize("num_workers", [1, 2])
def test_what_was_done_before_an_error_is_kept(tmp_path, num_workers):
    with pytest.raises(ValueError, match="three is wrong"):
        Work(tmp_path, num_workers, start_after=0).map("numbers", fail_at_three, items(8))
    assert [result for _, result in journal(tmp_path)] == [0, 1, 2]


def test_a_killed_process_is_explained(tmp_path):
    with pytest.raises(ValueError, match=r"killed during 'numbers'.*fewer than 2"):
        Work(tmp_path, 2, start_after=0).map("numbers", be_killed, items(2), is_long=True)


def test_workers_are_counted_on_platforms_without_affinity(monkeypatch):
    """macOS and Windows have no `os.sched_getaffinity`."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert 1 <= default_workers() <= os.cpu_count()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_workers_are_the_cores_that_the_process_may_use():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from fedvlm_hf.building.work import default_workers; print(default_workers())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


SLEEPER = """
import os, pathlib, time
def sleep(number):
    pathlib.Path({folder!r}, f"pid-{{os.getpid()}}").touch()
    time.sleep({seconds})
"""

PARENT = """
import os, sys, time
sys.path.insert(0, {folder!r})
from sleeper import sleep
from fedvlm_hf.building.work import Work
if __name__ == "__main__":
    Work(num_workers=2, start_after=0).map("numbers", sleep, {{str(n): n for n in range(4)}})
"""


@WAITS
def test_no_process_outlives_a_killed_parent(tmp_path):
    (tmp_path / "sleeper.py").write_text(SLEEPER.format(folder=str(tmp_path), seconds=2 * DEADLINE))
    (tmp_path / "parent.py").write_text(PARENT.format(folder=str(tmp_path)))
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"])
    try:
        wait_until(lambda: len(list(tmp_path.glob("pid-*"))) == 2)
    finally:
        parent.kill()
        parent.wait()
    pids = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    try:
        wait_until(lambda: not any(is_running(pid) for pid in pids))
    finally:
        for pid in filter(is_running, pids):
            os.kill(pid, signal.SIGKILL)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_sources_are_named_in_the_download(tmp_path):
    raw, other = tmp_path / "raw", tmp_path / "other"
    for folder in (raw / "inside", other):
        folder.mkdir(parents=True)
        (folder / "rows.json").write_text(folder.name)
    work = Work(raw=raw)
    assert work.source(raw / "inside" / "rows.json").read_text() == "inside"
    work.source(other / "rows.json")
    assert work.sources == {
        "inside/rows.json": hashlib.sha256(b"inside").hexdigest(),
        "rows.json": hashlib.sha256(b"other").hexdigest(),
    }


@pytest.mark.parametrize("name", ["nothing.json", "rows.json/nothing.json", "."])
def test_a_missing_source_is_named(tmp_path, name):
    (tmp_path / "rows.json").touch()
    with pytest.raises(ValueError, match="there is no file") as error:
        Work(raw=tmp_path).source(tmp_path / name)
    assert str(tmp_path) in str(error.value)
