"""Make the table of the README, FedAvg, local and central training on Fed-Nature mini for several seeds, and check it.

    python tests/benchmarks/mini_table.py --seeds 42 43 44

This runs `recipes/fed_nature.py` as a user would, with one process per run. Finished runs are not repeated, and
interrupted ones continue. Then it prints the table and the failed checks, and exits with 1 if there are any.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

from tqdm import tqdm

from fedvlm_hf.metrics import PRIMARY
from fedvlm_hf.mini import blind_floors, fed_nature


ROOT = Path(__file__).parents[2]
METHODS = ("local", "fedavg", "central")
TASKS = ("vqa", "classification", "caption", "grounding")
ROUND_0_SHARE = (0.2, 0.8)
BLIND_MARGIN = 0.15
FEDERATED_SHARE = 0.9


def run(method: str, seed: int, folder: Path, extra: list[str]) -> Path:
    """Run the recipe, continuing an interrupted run, and return the folder of the run."""
    output_dir = folder / f"{method}-seed{seed}"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "recipes/fed_nature.py"]
    command += ["--method", method, "--seed", str(seed), "--output_dir", str(output_dir)]
    command += ["--resume_from_checkpoint", "true", *extra]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return output_dir


def scores(output_dir: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return the primary score of each task at round 0 and at the last round."""
    lines = [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]
    first, last = lines[0], lines[-1]
    return tuple(
        {task: line["evaluations"]["test"]["scores"][f"{task}_{PRIMARY[task]}"] for task in TASKS}
        for line in (first, last)
    )


def print_table(runs: dict[str, list[dict[str, float]]], blind: dict[str, float]) -> None:
    """Print the mean over the seeds, with the lowest and the highest score."""
    print(f"| task (metric) | blind | round 0 | {' | '.join(METHODS)} | fedavg / central |")
    print("|---|---|---|" + "---|" * (len(METHODS) + 1))
    for task in TASKS:
        values = {name: [run[task] for run in group] for name, group in runs.items()}
        cells = [f"{blind[task]:.3f}" if task in blind else "-"]
        for name in ("round 0", *METHODS):
            if not values[name]:
                cells.append("-")
                continue
            low, high = min(values[name]), max(values[name])
            spread = f" ({low:.3f} to {high:.3f})" if high > low else ""
            cells.append(f"{mean(values[name]):.3f}{spread}")
        share = mean(values["fedavg"]) / mean(values["central"])
        print(f"| {task} ({PRIMARY[task]}) | {' | '.join(cells)} | {share:.0%} |")


def failed_checks(runs: dict[str, list[dict[str, float]]], blind: dict[str, float]) -> list[str]:
    """Check that there is room for learning, that central training learns, and that FedAvg comes close to it."""
    failed = []
    for index, (first, federated, central) in enumerate(
        zip(runs["round 0"], runs["fedavg"], runs["central"], strict=True)
    ):
        for task in TASKS:
            share = first[task] / central[task]
            if not ROUND_0_SHARE[0] <= share <= ROUND_0_SHARE[1]:
                failed.append(f"seed {index}: round 0 of {task} is at {share:.0%} of central, not at 20 to 80 %")
            if federated[task] <= first[task]:
                failed.append(f"seed {index}: fedavg does not improve {task}")
            if federated[task] < FEDERATED_SHARE * central[task]:
                failed.append(f"seed {index}: fedavg's {task} is at {federated[task] / central[task]:.1%} of central")
        for task in ("vqa", "classification"):
            if central[task] < blind[task] + BLIND_MARGIN:
                failed.append(f"seed {index}: central's {task} is less than 15 points above the best blind answer")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument(
        "--local_seeds", type=int, nargs="*", help="Seeds of `local`, by default the same as of the other methods."
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "mini_table", help="Folder of the runs.")
    parser.add_argument("--jobs", type=int, default=1, help="Number of parallel runs.")
    args, extra = parser.parse_known_args()
    local_seeds = args.seeds if args.local_seeds is None else args.local_seeds
    todo = [(method, seed) for method in ("fedavg", "central") for seed in args.seeds]
    todo += [("local", seed) for seed in local_seeds]
    with ThreadPoolExecutor(args.jobs) as pool:
        work = [pool.submit(run, method, seed, args.folder.resolve(), extra) for method, seed in todo]
        folders = [job.result() for job in tqdm(work, desc="runs", unit="run")]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ("round 0", *METHODS)}
    for (method, _), folder in zip(todo, folders, strict=True):
        first, last = scores(folder)
        runs[method].append(last)
        if method == "fedavg":
            runs["round 0"].append(first)
    blind = blind_floors(fed_nature())
    print_table(runs, blind)
    failed = failed_checks(runs, blind)
    print(*(failed or ["All checks passed."]), sep="\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
