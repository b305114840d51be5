"""Pools of workers."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from fedvlm_hf.building.pools import in_order


def test_results_come_in_order_and_few_items_are_taken_ahead():
    """The items are a generator: with 2 chunks ahead of 5 items each, no more than 20 are taken when 5 are done."""
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    release = threading.Event()

    def work(number: int) -> int:
        release.wait(0 if number < 5 else 10)
        time.sleep(0.0005 * (number % 3))  # so that later items are done earlier
        return -number

    with ThreadPoolExecutor(4) as pool:
        results = in_order(pool, work, items(), chunk=5, num_ahead=2)
        assert next(results) == 0
        assert len(taken) <= 20
        release.set()
        assert list(results) == [-number for number in range(1, 1000)]
