"""Compare runs of the embedded model on an idle machine with the same runs beside processes that compute.

    python tests/benchmarks/busy_machine.py                    # a short default run, from command to table
    python tests/benchmarks/busy_machine.py --part steps       # optimizer steps only, by how torch's threads wait

Each turn has a run on the machine as it is, then the same run beside `--num_busy` processes that never pause. Ratios
are taken turn by turn. All runs use one thread per core, and must end in the same bits.

`--part steps` also changes `GOMP_SPINCOUNT`: how often a thread of GNU's OpenMP looks for its next work before it
sleeps. 300000 with an active policy is the library's own default; the package sets 1000 (see `fedvlm_hf/__init__.py`).
"""

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from bench import print_table
from tqdm import tqdm


RECIPE = Path(__file__).parents[2] / "recipes" / "fed_nature.py"
SHORT = ["--num_rounds", "2", "--max_steps", "4", "--eval_every", "2"]
SPINS = (300000, 30000, 1000, 0)
NUM_STEPS = 6  # of each of the four clients

STEPS = f"""
import sys
from fedvlm_hf import FederatedConfig, FederatedTrainer
import torch
torch.set_num_threads(int(sys.argv[2]))
from fedvlm_hf.mini import base_model, fed_nature
args = FederatedConfig(sys.argv[1], num_rounds=2, max_steps={NUM_STEPS}, per_device_train_batch_size=32, use_cpu=True,
                       gradient_checkpointing=False, disable_tqdm=True, report_to="none", learning_rate=3e-3)
FederatedTrainer(base_model("llava"), args, fed_nature(), eval_dataset={{}}).train()
"""


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep `count` processes computing until the block ends."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run(command: Callable[[str], list[str]], **variables: str) -> tuple[float, float, str]:
    """Run a command for a folder; return the seconds of the process and of its last round, and the last digest."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(
            command(folder),
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | variables,
        )
        seconds = time.perf_counter() - began
        records = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
        adapter = sorted(Path(folder, "rounds").glob("round-*/adapter_model.safetensors"))[-1]
        digest = hashlib.sha256(adapter.read_bytes()).hexdigest()
    return seconds, records[-1]["seconds"]["clients"], digest


def whole_runs(num_busy: int, repeats: int) -> set[str]:
    """Print the seconds of short default runs; return the digests of all runs."""

    def command(folder: str) -> list[str]:
        return ["accelerate", "launch", str(RECIPE), "--output_dir", folder, "--disable_tqdm", "true", *SHORT]

    rows, digests = [], set()
    for turn in tqdm(range(repeats), desc="turns"):
        load = os.getloadavg()[0]  # what else the machine did before this turn
        idle = run(command)
        with busy_processes(num_busy):
            busy = run(command)
        digests |= {idle[2], busy[2]}
        rows.append([turn + 1, load, idle[0], busy[0], busy[0] / idle[0]])
    rows.append(["median", *(median(row[column] for row in rows) for column in range(1, 5))])
    header = ["turn", "load before", "idle s", "busy s", "busy / idle"]
    print_table(header, [[row[0], *(f"{value:.2f}" for value in row[1:])] for row in rows])
    print(f"\n{num_busy} busy processes, {' '.join(SHORT)}.")
    return digests


def steps(num_busy: int, repeats: int) -> set[str]:
    """Print the milliseconds of an optimizer step by the number of spins; return the digests of all runs."""
    from joblib import cpu_count

    def command(folder: str) -> list[str]:
        return [sys.executable, "-c", STEPS, folder, str(cpu_count())]

    seconds: dict[tuple[int, bool], list[float]] = {}
    digests = set()
    for _ in tqdm(range(repeats), desc="turns"):
        for is_busy in (False, True):
            with busy_processes(num_busy if is_busy else 0):
                for spins in SPINS:
                    policy = "active" if spins == max(SPINS) else "passive"
                    ended = run(command, OMP_WAIT_POLICY=policy, GOMP_SPINCOUNT=str(spins))
                    seconds.setdefault((spins, is_busy), []).append(ended[1])
                    digests.add(ended[2])
    scale = 1000 / (4 * NUM_STEPS)
    rows = []
    for spins in SPINS:
        idle, busy = (seconds[spins, is_busy] for is_busy in (False, True))
        ratios = [b / i for i, b in zip(idle, busy, strict=True)]
        own = [i / j for i, j in zip(idle, seconds[max(SPINS), False], strict=True)]
        cells = [*(f"{median(values) * scale:.0f}" for values in (idle, busy)), f"{max(busy) * scale:.0f}"]
        rows.append([f"{spins:,}", *cells, f"{median(ratios):.2f}", f"{median(own):.2f}"])
    print_table(["spins", "idle ms", "busy ms", "busy ms, worst", "busy / idle", "idle / idle with 300,000"], rows)
    print(f"\nMedians of {repeats} turns, {num_busy} busy processes, {cpu_count()} threads, batches of 32 rows.")
    return digests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["runs", "steps"], default="runs")
    parser.add_argument("--repeats", type=int, default=3, help="Number of turns.")
    parser.add_argument("--num_busy", type=int, default=2, help="Number of busy processes.")
    options = parser.parse_args()
    part = {"runs": whole_runs, "steps": steps}[options.part]
    digests = part(options.num_busy, options.repeats)
    print("All runs have the same bits." if len(digests) == 1 else f"The runs have {len(digests)} different results.")


if __name__ == "__main__":
    main()
