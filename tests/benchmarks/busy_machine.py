"""Compare a short default run on an idle machine with the same run beside busy processes.

    python tests/benchmarks/busy_machine.py [--repeats 3] [-- any argument of recipes/fed_nature.py]

Each turn is one run on the machine as it is, and one run beside `--num_busy` processes that compute without a pause.
The ratio is taken turn by turn. Both runs use one thread per core, and must give the same bits. To measure another way
of waiting than the one that the package sets, give the variables of OpenMP to this script:

    OMP_WAIT_POLICY=active GOMP_SPINCOUNT=300000 python tests/benchmarks/busy_machine.py  # as libgomp's default
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
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench import print_table
from tqdm import tqdm


RECIPE = Path(__file__).parents[2] / "recipes" / "fed_nature.py"
SHORT = ["--num_rounds", "2", "--max_steps", "4", "--eval_every", "2"]


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


def timed_run(arguments: list[str]) -> tuple[float, float, str]:
    """Run the recipe; return the seconds of the whole process and of its rounds, and a digest of its last adapter."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["accelerate", "launch", str(RECIPE), "--output_dir", folder, "--disable_tqdm", "true", *arguments]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        records = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
        adapter = sorted(Path(folder, "rounds").glob("round-*/adapter_model.safetensors"))[-1]
        digest = hashlib.sha256(adapter.read_bytes()).hexdigest()
    return seconds, sum(record["seconds"]["total"] for record in records), digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="Number of turns.")
    parser.add_argument("--num_busy", type=int, default=2, help="Number of busy processes.")
    parser.add_argument("arguments", nargs="*", default=SHORT, help="Arguments of the recipe.")
    options = parser.parse_args()
    rows, digests = [], set()
    for turn in tqdm(range(options.repeats), desc="turns"):
        load = os.getloadavg()[0]  # what else the machine did before this turn
        idle = timed_run(options.arguments)
        with busy_processes(options.num_busy):
            busy = timed_run(options.arguments)
        digests |= {idle[2], busy[2]}
        rows.append([turn + 1, load, idle[0], busy[0], busy[0] / idle[0], idle[1], busy[1], busy[1] / idle[1]])
    rows.append(["median", *(median(row[column] for row in rows) for column in range(1, len(rows[0])))])
    header = [
        "turn",
        "load before",
        *(f"{part}{name}" for part in ("", "rounds: ") for name in ("idle s", "busy s", "busy / idle")),
    ]
    print_table(header, [[row[0], *(f"{value:.2f}" for value in row[1:])] for row in rows])
    variables = {name: os.environ[name] for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT") if name in os.environ}
    print(f"\n{options.num_busy} busy processes, {' '.join(options.arguments)}, {variables or 'default waiting'}.")
    print("All runs have the same bits." if len(digests) == 1 else f"The runs have {len(digests)} different results.")


if __name__ == "__main__":
    main()
