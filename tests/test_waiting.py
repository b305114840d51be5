import pytest

from waiting import wait_until


def test_a_condition_that_holds_is_not_waited_for():
    wait_until(lambda: True, seconds=0)


def test_the_state_is_shown_when_time_is_up():
    asked = []
    with pytest.raises(AssertionError, match="waited for 0 s\nthe log"):
        wait_until(lambda: bool(asked.append(1)), lambda: "the log", seconds=0.1)
    assert len(asked) > 1
