"""Measure the peak memory of federations with different numbers of clients, each in a new process.

    python tests/benchmarks/memory.py

Every client has the same number of rows, which are read from disk like a Hub dataset, and takes one step in each of
two rounds. With `local`, each client also keeps its own adapter between rounds.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from bench import BATCH, LOCAL, build_model, client_rows, print_table
from datasets import DatasetDict, disable_progress_bars, load_from_disk
from tqdm import tqdm

from fedvlm_hf import FederatedConfig, FederatedTrainer
from fedvlm_hf.rounds import peak_memory


def run(data: Path, output_dir: Path, method: str) -> None:
    """Run one federation in this process and print its peak memory in bytes."""
    model, processor = build_model()
    args = FederatedConfig(str(output_dir), **LOCAL, num_rounds=2, method=method)
    FederatedTrainer(model, args, load_from_disk(data), eval_dataset={}, processing_class=processor).train()
    print(peak_memory())


def measure(data: Path, output_dir: Path, method: str, threads: int) -> int:
    command = [sys.executable, __file__, "--threads", str(threads), "--run", str(data), str(output_dir), method]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[4, 64, 256], help="Numbers of clients.")
    parser.add_argument("--methods", nargs="+", default=["fedavg", "local"], help="Methods to run.")
    parser.add_argument("--threads", type=int, default=1, help="Number of torch threads.")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    disable_progress_bars()
    if options.run:
        run(Path(options.run[0]), Path(options.run[1]), options.run[2])
        return
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(total=len(options.methods) * len(options.clients), unit="run") as bar,
    ):
        for num_clients in options.clients:
            DatasetDict(client_rows(num_clients, 1)).save_to_disk(Path(folder, str(num_clients)))
        for method in options.methods:
            peaks = []
            for num_clients in options.clients:
                output_dir = Path(folder, f"{method}-{num_clients}")
                peaks.append(measure(Path(folder, str(num_clients)), output_dir, method, options.threads))
                rows.append([method, num_clients, f"{peaks[-1] / 2**20:.0f}", f"{peaks[-1] / peaks[0]:.3f}"])
                bar.update()
    print_table(["method", "clients", "peak MiB", f"relative to {options.clients[0]} clients"], rows)
    print(f"\n{BATCH} rows and one step per client and round, two rounds.")


if __name__ == "__main__":
    main()
