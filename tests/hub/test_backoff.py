"""Waits for a Hub that is away."""

import random
from itertools import islice

from fedvlm_hf.hub.backoff import waits


def test_waits_double_up_to_the_longest_and_are_up_to_half_shorter():
    """From 1 s and at most 60 s: 1, 2, 4, 8, 16, 32, 60, 60."""
    for bound, seconds in zip([1, 2, 4, 8, 16, 32, 60, 60], waits(), strict=False):
        assert bound / 2 <= seconds <= bound


def test_waits_differ_and_leave_the_random_state_of_training_alone():
    before = random.getstate()
    assert list(islice(waits(), 4)) != list(islice(waits(), 4))
    assert random.getstate() == before
