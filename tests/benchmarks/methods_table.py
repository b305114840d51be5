"""Make the table of docs/methods.md: each method with each tuning on Fed-Nature mini, for one seed, with durations.

    python tests/benchmarks/methods_table.py --jobs 2

This runs `recipes/fed_nature.py` as a user would, with one process per run. Finished runs are not repeated, and
interrupted ones continue. Knobs that are not at their defaults are in `KNOBS` and in the table.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from bench import machine
from mini_table import ROOT, TASKS, run, scores
from tqdm import tqdm

from fedvlm_hf.client.plan import TUNINGS
from fedvlm_hf.metrics import PRIMARY


METHODS = ("fedavg", "fedprox", "fedavgm", "fedadagrad", "fedadam", "fedyogi")

# The defaults of the methods are those of FedVLMBench, for 50 rounds of a model that is a thousand times larger. In a
# few rounds, a server learning rate of 0.001 covers a twentieth of FedAvg's distance, and an undamped momentum of 0.9
# overshoots. If the connector is trained alone, larger steps do more harm than good.
KNOBS: dict[str, dict[str, float]] = {
    "fedavgm": {"server_lr": 0.5, "server_momentum": 0.5},
    "fedadagrad": {"server_lr": 0.02},
    "fedadam": {"server_lr": 0.01},
    "fedyogi": {"server_lr": 0.01},
    "connector/fedadagrad": {"server_lr": 0.003},
    "connector/fedadam": {"server_lr": 0.001},
    "connector/fedyogi": {"server_lr": 0.001},
    "two_stage/fedadam": {"server_lr": 0.005},
    "two_stage/fedyogi": {"server_lr": 0.005},
}

# Without LoRA, the connector needs a third of the learning rate: at 0.003 it falls below round 0 on every task. Two
# stages share the rounds, so they get as many as the default run. FedAdagrad's large first steps in the connector make
# captions worse, which recover after four rounds. Adam's steps on the server keep their size while the changes of the
# clients shrink with a cosine, and diverge at its end.
_SHORT_STAGE = ["--num_rounds", "8", "--stage_rounds", "2", "--round_lr_scheduler_type", "constant"]
ARGUMENTS = {
    "connector": ["--learning_rate", "1e-3"],
    "two_stage": ["--num_rounds", "12"],
    "joint/fedadagrad": ["--num_rounds", "12"],
    "two_stage/fedadam": _SHORT_STAGE,
    "two_stage/fedyogi": _SHORT_STAGE,
}


def knobs_of(tuning: str, method: str) -> dict[str, float]:
    """Return the knobs of a cell of the table, which take precedence over those of its method."""
    return KNOBS.get(f"{tuning}/{method}", KNOBS.get(method, {}))


def rounds_and_seconds(output_dir: Path) -> str:
    """Return the number of rounds of a run and their duration, including evaluation."""
    records = [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]
    return f"{records[-1]['round_idx']} | {sum(record['seconds']['total'] for record in records):.0f}"


def cell_scores(output_dir: Path) -> list[str]:
    """Return the scores of the last round, in bold if they are not above round 0."""
    first, last = scores(output_dir)
    return [f"{last[task]:.3f}" if last[task] > first[task] else f"**{last[task]:.3f}**" for task in TASKS]


def print_table(runs: dict[tuple[str, str], Path]) -> None:
    """Print one row per run, grouped by tuning, after a row for round 0."""
    print(f"\n{machine()}\n")
    print(f"| tuning | method | {' | '.join(f'{task} ({PRIMARY[task]})' for task in TASKS)} | rounds | seconds |")
    print(f"|---|---|{'---:|' * (len(TASKS) + 2)}")
    first, _ = scores(next(iter(runs.values())))
    print(f"| - | round 0 | {' | '.join(f'{first[task]:.3f}' for task in TASKS)} | 0 | |")
    for (tuning, method), folder in runs.items():
        knobs = [f"{name} {value:g}" for name, value in knobs_of(tuning, method).items()]
        if ARGUMENTS.get(f"{tuning}/{method}") == _SHORT_STAGE:
            knobs.append("stage_rounds 2, constant rate")
        name = f"{method} ({', '.join(knobs)})" if knobs else method
        print(f"| {tuning} | {name} | {' | '.join(cell_scores(folder))} | {rounds_and_seconds(folder)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--tunings", nargs="+", default=list(TUNINGS), choices=list(TUNINGS))
    parser.add_argument("--num_rounds", default="4", help="Number of rounds of a run.")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "methods_table", help="Folder of the runs.")
    parser.add_argument("--jobs", type=int, default=1, help="Number of parallel runs, with one thread each.")
    args, extra = parser.parse_known_args()

    def one(cell: tuple[str, str]) -> Path:
        tuning, method = cell
        knobs = ["--method_kwargs", json.dumps(found)] if (found := knobs_of(tuning, method)) else []
        arguments = ["--tuning", tuning, "--num_threads", "1", "--num_rounds", args.num_rounds]
        arguments += [*ARGUMENTS.get(tuning, []), *ARGUMENTS.get(f"{tuning}/{method}", []), *knobs, *extra]
        return run(method, args.seed, args.folder.resolve() / tuning, arguments)

    cells = list(product(args.tunings, args.methods))
    with ThreadPoolExecutor(args.jobs) as pool:
        folders = list(tqdm(pool.map(one, cells), total=len(cells), desc="runs", unit="run"))
    print_table(dict(zip(cells, folders, strict=True)))


if __name__ == "__main__":
    main()
