"""Compare the exact mean of client updates with a plain memory copy of the same bytes.

    python tests/benchmarks/aggregation.py

The copy reads every update and writes it into memory that was used before, so it moves two bytes for each byte of an
update. The mean also reads every update, and reads and writes sums in fp64, so it moves five bytes. Its time includes
the allocation of memory for the sums and the result, as in every round. For comparison there is also a copy into new
memory, as needed for keeping the updates. All of them take turns in one process, and the results are medians. This
needs 10 GB of memory.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from bench import print_table
from tqdm import tqdm

from fedvlm_hf.tensors import TensorDict, WeightedMean


def timed(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=64, help="Number of clients of the round.")
    parser.add_argument("--parameters", type=int, default=12_000_000, help="Number of parameters of an update.")
    parser.add_argument("--repeats", type=int, default=9, help="Number of measured turns.")
    parser.add_argument("--threads", type=int, default=1, help="Number of torch threads.")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source = torch.empty(options.updates * options.parameters).uniform_()
    target = torch.zeros_like(source).fill_(1)
    shapes = {"w": torch.Size([options.parameters])}
    updates = [TensorDict(shapes, flat) for flat in source.split(options.parameters)]

    def mean() -> None:
        running = WeightedMean()
        for index, update in enumerate(updates):
            running.add(update, 1000 + index)
        running.result()

    ways = {"copy": lambda: target.copy_(source), "exact mean": mean, "copy into new memory": source.clone}
    turns = [[timed(way) for way in ways.values()] for _ in tqdm(range(options.repeats + 1), unit="turn")]
    seconds = [median(column[1:]) for column in zip(*turns, strict=True)]
    rates = [moved * source.nbytes / 1e9 / own for own, moved in zip(seconds, (2, 5, 2), strict=True)]
    rows = [
        [name, f"{own:.3f}", f"{rate:.1f}", f"{rate / rates[0]:.2f}", f"{seconds[0] / own:.2f}"]
        for name, own, rate in zip(ways, seconds, rates, strict=True)
    ]
    header = ["", "seconds", "GB/s moved", "relative to the copy's bandwidth", "relative to the copy's speed"]
    print_table(header, rows)
    print(f"\n{options.updates} updates of {options.parameters / 1e6:.0f} M parameters, {source.nbytes / 1e9:.2f} GB; "
          f"median of {options.repeats} turns.")  # fmt: skip


if __name__ == "__main__":
    main()
