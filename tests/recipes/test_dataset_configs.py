"""recipes/configs/fed_<dataset>.yaml: the names exist, and the values are those of the FedVLMBench file."""

import re
import shlex
from pathlib import Path

import pytest

from fedvlm_hf.building.builders.base import BUILDERS
from fedvlm_hf.launch import DataArguments, parse_recipe


ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "recipes" / "configs"
FILES = sorted(path for path in CONFIGS.glob("fed_*.yaml") if not path.stem.endswith("_mini"))
NAMES = ("run_name", "output_dir", "logging_dir")


def parse(path: Path, *argv: str):
    # A CPU cannot be asked for bf16
    return parse_recipe(["--config", str(path), "--bf16", "false", *argv], DataArguments, "", path)


def commands(path: Path) -> list[list[str]]:
    """Return the commands at the top of the file."""
    lines = re.findall(r"^#   (\S.*)$", path.read_text(), flags=re.MULTILINE)
    return [shlex.split(line) for line in lines]


def test_each_dataset_has_a_file():
    names = {path.stem for path in FILES} | {"fed_vqa_rad"}
    assert names == {
        "fed_fgvc",
        "fed_sciencecap",
        "fed_slake",
        "fed_radgenome",
        "fed_nature",
        "fed_med",
        "fed_vqa_rad",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_head_builds_what_the_file_trains_on(path):
    build, launch = commands(path)
    data_args, args, _ = parse(path)
    assert build[:2] == ["fedvlm", "build"]
    builder = BUILDERS.get(build[2].replace("-", "_"))
    assert build[build.index("--out") + 1] == data_args.dataset_name
    assert launch[-2:] == ["--config", str(path.relative_to(ROOT))]
    assert (ROOT / launch[-3]).exists()
    assert args.run_name == path.stem
    for config in [data_args.dataset_config, *re.findall(r"--dataset_config (\S+)", path.read_text())]:
        assert any(f"`{config}`" in rule for rule in builder.rules), config


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_values_are_those_of_fedvlmbench(path):
    _, args, model_args = parse(path)
    _, expected, expected_model = parse(CONFIGS / "fedvlmbench_llava.yaml")
    assert {name: value for name, value in args.to_dict().items() if name not in NAMES} == {
        name: value for name, value in expected.to_dict().items() if name not in NAMES
    }
    assert model_args == expected_model
