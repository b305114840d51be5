"""docs/methods.md's table: each method under each tuning on Fed-Nature mini, one seed, the time of each run.

    python tests/benchmarks/methods_table.py --jobs 2

Runs `recipes/fed_nature.py` as a user would, one process a run; a run that is there already is not repeated, one that
was cut off goes on. Knobs that are not a method's own defaults stand in `KNOBS`, and in the table.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from bench import machine
from mini_table import ROOT, TASKS, run, scores
from tqdm import tqdm

from fedvlm_hf.metrics import PRIMARY
from fedvlm_hf.tuning import TUNINGS


METHODS = ("fedavg", "fedprox", "fedavgm", "fedadagrad", "fedadam", "fedyogi")

# The methods' defaults are FedVLMBench's, for 50 rounds of a model a thousand times larger. In a few rounds a server
# rate of 0.001 goes a twentieth of FedAvg's way, and a momentum of 0.9 that is not damped goes past the goal.
KNOBS: dict[str, dict[str, float]] = {
    "fedavgm": {"server_lr": 0.5, "server_momentum": 0.5},
    "fedadagrad": {"server_lr": 0.02},
    "fedadam": {"server_lr": 0.01},
    "fedyogi": {"server_lr": 0.01},
}

# Without LoRA beside it the connector takes a third of the rate: at 0.003 it falls below round 0 on every task. Two
# stages share the rounds, and take those of the default run.
TUNING_ARGUMENTS = {"connector": ["--learning_rate", "1e-3"], "two_stage": ["--num_rounds", "12"]}

# FedAdagrad's large first steps in the connector cost captions, which come back after four rounds. Where the connector
# moves alone, FedAdam and FedYogi go too far in half of the rounds
CELL_ARGUMENTS = {
    ("joint", "fedadagrad"): ["--num_rounds", "12"],
    ("two_stage", "fedadam"): ["--stage_rounds", "2"],
    ("two_stage", "fedyogi"): ["--stage_rounds", "2"],
}


def rounds_and_seconds(output_dir: Path) -> str:
    """How many rounds a run has, and what they took, evaluation included."""
    records = [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]
    return f"{records[-1]['round_idx']} | {sum(record['seconds']['total'] for record in records):.0f}"


def cell_scores(output_dir: Path) -> list[str]:
    """The scores of the last round; in bold what did not rise above round 0."""
    first, last = scores(output_dir)
    return [f"{last[task]:.3f}" if last[task] > first[task] else f"**{last[task]:.3f}**" for task in TASKS]


def print_table(runs: dict[tuple[str, str], Path]) -> None:
    """One row a run, grouped by tuning, with round 0 on top."""
    print(f"\n{machine()}\n")
    print(f"| tuning | method | {' | '.join(f'{task} ({PRIMARY[task]})' for task in TASKS)} | rounds | seconds |")
    print(f"|---|---|{'---:|' * (len(TASKS) + 2)}")
    first, _ = scores(next(iter(runs.values())))
    print(f"| - | round 0 | {' | '.join(f'{first[task]:.3f}' for task in TASKS)} | 0 | |")
    for (tuning, method), folder in runs.items():
        knobs = [f"{name} {value:g}" for name, value in KNOBS.get(method, {}).items()]
        if "--stage_rounds" in (own := CELL_ARGUMENTS.get((tuning, method), [])):
            knobs.append(f"stage_rounds {own[1]}")
        name = f"{method} ({', '.join(knobs)})" if knobs else method
        print(f"| {tuning} | {name} | {' | '.join(cell_scores(folder))} | {rounds_and_seconds(folder)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--tunings", nargs="+", default=list(TUNINGS), choices=list(TUNINGS))
    parser.add_argument("--num_rounds", default="4", help="Rounds of a run.")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "methods_table", help="Where the runs are kept.")
    parser.add_argument("--jobs", type=int, default=1, help="Runs at a time, of one thread each.")
    args, extra = parser.parse_known_args()

    def one(cell: tuple[str, str]) -> Path:
        tuning, method = cell
        knobs = ["--method_kwargs", json.dumps(KNOBS[method])] if method in KNOBS else []
        arguments = ["--tuning", tuning, "--num_threads", "1", "--num_rounds", args.num_rounds]
        arguments += [*TUNING_ARGUMENTS.get(tuning, []), *CELL_ARGUMENTS.get(cell, []), *knobs, *extra]
        return run(method, args.seed, args.folder.resolve() / tuning, arguments)

    cells = list(product(args.tunings, args.methods))
    with ThreadPoolExecutor(args.jobs) as pool:
        folders = list(tqdm(pool.map(one, cells), total=len(cells), desc="runs", unit="run"))
    print_table(dict(zip(cells, folders, strict=True)))


if __name__ == "__main__":
    main()
