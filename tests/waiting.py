"""How long tests wait for other processes: one place, because a busy machine can be ten times slower.

Nothing is slower when all goes well: a test goes on as soon as its condition holds, and fails as soon as a process
ends that should not have ended. `FEDVLM_TEST_DEADLINE` sets another number of seconds. Tests that wait are marked with
`WAITS`, since pytest's own timeout would end them earlier.
"""

import os
import time
from collections.abc import Callable

import pytest


DEADLINE = float(os.environ.get("FEDVLM_TEST_DEADLINE", "600"))
WAITS = pytest.mark.timeout(2 * DEADLINE)  # some tests wait twice


def wait_until(condition: Callable[[], bool], state: Callable[[], str] = str, seconds: float = DEADLINE) -> None:
    """Wait until `condition()` is true. If that takes too long, fail with the text of `state()`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited for {seconds:.0f} s\n{state()}"
        time.sleep(0.02)
