"""Measure how the default run spends its time, from import to report.

python tests/benchmarks/where_time_goes.py [any argument of recipes/fed_nature.py]
"""

import time


_BEGAN = time.perf_counter()

import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any  # noqa: E402

from bench import print_table  # noqa: E402
from transformers import TrainerCallback  # noqa: E402
from trl import get_peft_config  # noqa: E402

from fedvlm_hf import FederatedTrainer, RoundCallback  # noqa: E402
from fedvlm_hf.launch import DataArguments, parse_recipe  # noqa: E402
from fedvlm_hf.mini import base_model, fed_nature  # noqa: E402


CONFIG = Path(__file__).parents[2] / "recipes" / "configs" / "fed_nature_mini.yaml"


class Clock(TrainerCallback, RoundCallback):
    """Measure the time between the first and the last step of each client run."""

    def __init__(self) -> None:
        self.runs: list[float] = []
        self.num_steps = 0
        self.records: list[Any] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._began = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.runs.append(time.perf_counter() - self._began)
        self.num_steps += state.global_step

    def on_round_end(self, end: Any) -> None:
        self.records.append(end.record)


def main() -> None:
    parts = {"import": time.perf_counter() - _BEGAN}
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--output_dir", folder, *sys.argv[1:]]
        _, args, model_args = parse_recipe(arguments, DataArguments, __doc__, CONFIG)
        began = time.perf_counter()
        data = fed_nature()
        parts["data"] = time.perf_counter() - began
        clock = Clock()
        began = time.perf_counter()
        trainer = FederatedTrainer(
            base_model("llava"), args, data, callbacks=[clock], peft_config=get_peft_config(model_args)
        )
        trainer.add_callback(clock)
        parts["build (model, adapter, checks)"] = time.perf_counter() - began
        began = time.perf_counter()
        trainer.train()
        whole = time.perf_counter() - began
    seconds = {
        name: sum(r.seconds.get(name, 0.0) for r in clock.records) for name in ("clients", "aggregate", "evaluate")
    }
    parts["local steps, including data loading"] = sum(clock.runs)
    parts["fixed cost of client runs"] = seconds["clients"] - sum(clock.runs)
    parts["aggregation"] = seconds["aggregate"]
    parts["evaluation"] = seconds["evaluate"]
    parts["saving, report, card"] = whole - sum(seconds.values())
    total = sum(parts.values())
    rows = [[name, f"{value:.1f}", f"{value / total:.1%}"] for name, value in [*parts.items(), ("total", total)]]
    print_table(["part", "seconds", "share"], rows)
    whole_runs = [client["seconds"] for record in clock.records for client in record.clients.values()]
    fixed = [1000 * (run - steps) for run, steps in zip(whole_runs, clock.runs, strict=True)]
    print(f"\n{len(fixed)} client runs, {clock.num_steps} steps, "
          f"peak memory {clock.records[-1].peak_memory / 2**30:.2f} GiB.")  # fmt: skip
    print(f"Besides its steps, a client run takes {median(fixed):.1f} ms (median; the first one {fixed[0]:.0f} ms).")


if __name__ == "__main__":
    main()
