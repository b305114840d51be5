"""How long to wait for a Hub that is away."""

import random
from collections.abc import Iterator


FIRST, LONGEST = 1.0, 60.0
"""Seconds of the first and of the longest wait."""


def waits(first: float = FIRST, longest: float = LONGEST) -> Iterator[float]:
    """Seconds to wait after each failure: twice as long each time, and by chance up to half of it less.

    Chance keeps many runs from coming back at the same moment. It is drawn from a generator of its own: the global
    one belongs to training, whose bits an outage must not change.
    """
    chance = random.Random()
    seconds = first
    while True:
        yield seconds * chance.uniform(0.5, 1.0)
        seconds = min(2 * seconds, longest)
