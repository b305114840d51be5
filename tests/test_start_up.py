"""What the commands import: most of the time of a small build is start-up, on a slow machine tens of seconds."""

import json
import subprocess
import sys

import pytest

from raw_own import north


MODELS = {"torch", "transformers", "trl", "peft", "accelerate"}
DATASETS = {"datasets", "nibabel", "scipy", "fsspec", "huggingface_hub.hf_api"}
NUMBERS = {"numpy", "pandas", "pyarrow", "PIL", "matplotlib", "joblib"}

IMPORTED = """
import json, sys
from fedvlm_hf.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
print(json.dumps([status, list(sys.modules)]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Own data in `raw`, and a dataset in `built`."""
    folder = tmp_path_factory.mktemp("start_up")
    north(folder / "raw")
    run(folder, "build custom --raw raw --out built")
    return folder


def run(folder, command) -> set[str]:
    """Run a command in a new process, and return the modules that it imported."""
    argv = [sys.executable, "-c", IMPORTED, *command.split()]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True)
    status, modules = json.loads(done.stdout.splitlines()[-1])
    assert status == 0, done.stderr
    return set(modules)


@pytest.mark.parametrize(
    ("command", "unneeded"),
    [
        ("--help", MODELS | DATASETS | NUMBERS),
        ("--version", MODELS | DATASETS | NUMBERS),
        ("check --help", MODELS | DATASETS | NUMBERS),
        ("partition --help", MODELS | DATASETS | NUMBERS),
        ("report --help", MODELS | DATASETS | NUMBERS),
        ("merge --help", MODELS | DATASETS | NUMBERS),
        ("convert-showo --help", MODELS | DATASETS | NUMBERS),
        ("build custom --help", MODELS | DATASETS | {"matplotlib", "joblib"}),
        ("build custom --raw raw --out out --num_workers 1", MODELS | DATASETS | {"joblib"}),
        ("partition --from raw --iid --num_clients 2 --out divided --num_workers 1", MODELS | DATASETS | {"joblib"}),
        ("partition built --config iid", MODELS | DATASETS | {"pandas", "joblib"}),
        ("check built --num_workers 1", MODELS | {"matplotlib"}),
    ],
)
def test_a_command_imports_only_what_it_needs(folder, command, unneeded):
    assert run(folder, command) & unneeded == set()
