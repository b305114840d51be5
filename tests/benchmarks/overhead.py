"""Measure the cost of a federation relative to plain SFTTrainer with the same rows and number of optimizer steps.

    python tests/benchmarks/overhead.py --shapes

One process builds both and, with `--shapes`, two other ways of running a round (`peer_shapes.py`), and lets them take
turns. Results are medians over the turns, without the first one, which warms up. Both wall time and process time are
measured. If they differ, the machine was busy, and process time is more reliable.

"Plain" is one `SFTTrainer.train()` over the rows of all clients. "Federated" is all client runs of a round and their
mean. A federation makes Python's garbage collector ignore the model during client runs. Plain runs under the same
condition: otherwise it would pay for one collection, and the ratio would look better. The other shapes run without it.
"""

import argparse
import contextlib
import gc
import io
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench import BATCH, LOCAL, build_model, client_rows, print_table
from datasets import Dataset, concatenate_datasets
from peer_shapes import ModelReloadedPerClient, NewTrainerPerClient
from peft import get_peft_model
from tqdm import tqdm
from transformers import set_seed
from transformers.utils import logging
from trl import SFTConfig, SFTTrainer

from fedvlm_hf import FederatedConfig, FederatedTrainer, RoundCallback
from fedvlm_hf.client.adapters import complete_config
from fedvlm_hf.methods.fedavg import FedAvg
from fedvlm_hf.rounds import RoundEnd


PLAIN = "plain SFTTrainer"
FEDERATED = "federated"
NEW_TRAINER = "shape: a new trainer per client run, deep copies"
RELOADED = "shape: the model reloaded per client run"


@dataclass
class Stopwatch:
    """Wall time and process time in seconds, for each turn."""

    turns: list[tuple[float, float]] = field(default_factory=list)

    def start(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.turns.append((time.perf_counter() - self._began[0], time.process_time() - self._began[1]))

    def medians(self) -> tuple[float, float]:
        wall, process = zip(*self.turns[1:], strict=True)
        return median(wall), median(process)


@dataclass(frozen=True)
class TimedFedAvg(FedAvg):
    """FedAvg that measures a round from its tasks to its mean, without evaluation, saving and reports."""

    watch: Stopwatch

    def configure(self, *args: Any) -> Any:
        self.watch.start()
        return super().configure(*args)

    def apply(self, *args: Any) -> Any:
        self.watch.stop()
        return super().apply(*args)


class Turns(RoundCallback):
    """Give each of the other ways a turn after each federated round."""

    def __init__(self, others: Mapping[str, Callable[[], None]], bar: tqdm):
        self.others, self.bar = others, bar
        self.watches = {name: Stopwatch() for name in others}

    def on_round_end(self, end: RoundEnd) -> None:
        if not end.record.round_idx:
            return
        for name, turn in self.others.items():
            if name != PLAIN:
                gc.unfreeze()
            self.watches[name].start()
            with contextlib.redirect_stdout(io.StringIO()):  # Trainer prints a line at the end of every run
                turn()
            self.watches[name].stop()
        gc.collect()
        gc.freeze()
        self.bar.update()


def plain_run(args: SFTConfig, clients: Mapping[str, Dataset]) -> Callable[[], None]:
    model, processor = build_model()
    set_seed(args.seed)
    model = get_peft_model(model, complete_config(None, model))
    rows = concatenate_datasets(list(clients.values()))
    trainer = SFTTrainer(model, args, train_dataset=rows, processing_class=processor)

    def run() -> None:
        trainer.optimizer = None  # as in the first call
        trainer.train()

    return run


def measure(num_clients: int, steps: int, repeats: int, with_shapes: bool) -> dict[str, tuple[float, float]]:
    """Return median wall and process seconds of each way to take `num_clients * steps` steps."""
    clients = client_rows(num_clients, steps)
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(total=repeats + 1, desc=f"{num_clients} x {steps}", unit="turn") as bar,
    ):
        args = SFTConfig(str(Path(folder, "plain")), **LOCAL)
        others = {PLAIN: plain_run(args, clients)}
        if with_shapes:
            base = Path(folder, "base")
            others[NEW_TRAINER] = NewTrainerPerClient(*build_model(), args, clients).round
            others[RELOADED] = ModelReloadedPerClient(*build_model(), args, clients, base).round
        turns, watch = Turns(others, bar), Stopwatch()
        model, processor = build_model()
        federated_args = FederatedConfig(
            str(Path(folder, "federated")), **LOCAL, num_rounds=repeats + 1, method=TimedFedAvg(watch)
        )
        trainer = FederatedTrainer(
            model, federated_args, clients, eval_dataset={}, processing_class=processor, callbacks=[turns]
        )
        with contextlib.redirect_stdout(io.StringIO()):  # the lines of the rounds
            trainer.train()
    watches = {PLAIN: turns.watches.pop(PLAIN), FEDERATED: watch, **turns.watches}
    return {name: watch.medians() for name, watch in watches.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=["8x10", "32x1"], help="Clients x steps of each setting.")
    parser.add_argument("--repeats", type=int, default=7, help="Number of measured turns.")
    parser.add_argument("--threads", type=int, default=1, help="Number of torch threads.")
    parser.add_argument("--shapes", action="store_true", help="Also measure the other ways of running a round.")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()  # of loading weights, which one of the shapes does for each client run
    rows = []
    for setting in options.settings:
        num_clients, steps = map(int, setting.split("x"))
        medians = measure(num_clients, steps, options.repeats, options.shapes)
        for name, seconds in medians.items():
            ratios = [f"{own / plain:.3f}" for own, plain in zip(seconds, medians[PLAIN], strict=True)]
            added = [1000 * (own - plain) / num_clients for own, plain in zip(seconds, medians[PLAIN], strict=True)]
            rows.append(
                [f"{num_clients} x {steps}", name, f"{seconds[0]:.2f}", f"{seconds[1]:.2f}", *ratios]
                + [f"{value:.1f}" if name != PLAIN else "" for value in added]
            )
    parameters = sum(p.numel() for p in build_model()[0].parameters())
    header = ["clients x steps", "", "wall s", "process s", "relative to plain, wall", "relative to plain, process"]
    print_table([*header, "added ms per client run, wall", "added ms per client run, process"], rows)
    print(f"\nLLaVA of {parameters / 1e6:.2f} M parameters, batch {BATCH}, medians of {options.repeats} turns.")


if __name__ == "__main__":
    main()
