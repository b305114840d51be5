"""Functions that the training scripts share."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import joblib
import pytest
import torch
import yaml
from datasets import DatasetDict
from trl import ModelConfig

from federation import federated
from fedvlm_hf.config import FederatedConfig
from fedvlm_hf.launch import (
    DataArguments,
    load_federation,
    parse_recipe,
    print_results,
    resumable,
    run_main,
    use_threads,
)
from fedvlm_hf.launch.parser import RecipeParser
from fedvlm_hf.methods import CLIENT_METHODS, STRATEGIES
from tiny import FEATURES, save_tiny, tiny_federation
from waiting import DEADLINE, WAITS, wait_until


ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_threads_are_those_asked_for():
    use_threads(3)
    assert torch.get_num_threads() == 3


def test_the_default_is_one_thread_per_core_on_every_system(monkeypatch):
    """macOS and Windows have no `os.sched_getaffinity`."""
    use_threads(None)
    assert torch.get_num_threads() == joblib.cpu_count() >= 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    use_threads(None)
    assert 1 <= torch.get_num_threads() <= os.cpu_count()


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
    """A recipe's default file, and small files of a user."""
    texts = {
        "defaults": "num_rounds: 7\nlearning_rate: 2.0e-3\nuse_cpu: true\nbf16: false\nlora_r: 4\n",
        "small": "num_rounds: 3\n",
        "model": "model_name_or_path: org/model\nuse_cpu: true\nbf16: false\n",
        "numbers": "learning_rate: 1e-4\nnum_rounds: 5\nmethod_kwargs: {mu: 0.5}\nmethod: fedprox\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return {name: str(tmp_path / f"{name}.yaml") for name in texts}


def parsed(files: dict[str, str], *argv: str):
    _, args, model_args = parse_recipe(["--num_threads", "1", *argv], DataArguments, "", files["defaults"])
    return args, model_args


def test_a_small_file_lies_over_the_defaults(files):
    args, model_args = parsed(files, "--config", files["small"])
    assert (args.num_rounds, args.learning_rate, model_args.lora_r) == (3, 2e-3, 4)
    assert (args.use_cpu, args.bf16) == (True, False)


def test_the_command_line_lies_over_both_files(files):
    args, model_args = parsed(files, f"--config={files['small']}", "--num_rounds", "9", "--lora_r", "2")
    assert (args.num_rounds, args.learning_rate, model_args.lora_r) == (9, 2e-3, 2)


@pytest.mark.parametrize("where", ["file", "command line", "with dashes"])
def test_with_a_model_the_defaults_are_left_out(files, where):
    """They are for the embedded model."""
    argv = {
        "file": ["--config", files["model"]],
        "command line": ["--config", files["small"], "--model_name_or_path", "x", "--use_cpu", "true", "--bf16", "no"],
        "with dashes": ["--model-name-or-path=x", "--use_cpu", "true", "--bf16", "no"],
    }[where]
    args, model_args = parsed(files, *argv)
    assert args.num_rounds == (3 if where == "command line" else 10)
    assert model_args.lora_r == 16


def test_numbers_and_dictionaries_in_a_file(files):
    """YAML 1.1 reads 1e-4 as text."""
    args, _ = parsed(files, "--config", files["numbers"])
    assert (args.learning_rate, args.num_rounds, args.method_kwargs) == (1e-4, 5, {"mu": 0.5})


@pytest.fixture(scope="module")
def page() -> str:
    """The help of a recipe."""
    return RecipeParser((DataArguments, FederatedConfig, ModelConfig), "Do it.", "recipe").format_help()


def test_the_help_has_the_federated_options_first(page):
    groups = re.findall(r"^(\S.*):$", page, flags=re.MULTILINE)
    assert groups == [
        "options",
        "data and machine",
        "rounds, method, evaluation and Hub",
        "training of one client in one round",
        "model and LoRA",
        "other arguments of transformers and TRL",
        "methods and their knobs",
    ]
    places = [page.index(f"\n  --{name} ") for name in ("config", "num_rounds", "learning_rate", "lora_r", "fsdp")]
    assert places == sorted(places)


def test_every_option_has_a_hint(page):
    parser = RecipeParser((DataArguments, FederatedConfig, ModelConfig), "Do it.", "recipe")
    for action in parser._actions:
        assert action.help, action.dest
    options = [field.name for own in (FederatedConfig, ModelConfig) for field in fields(own)]
    for name in options:
        assert len(re.findall(rf"^  --{name}(?: .*)?$", page, flags=re.MULTILINE)) == 1, name
    assert "--no_" not in page
    assert "None" not in re.findall(r"\(default: (.*?)\)", page)
    assert len(options) > 150


def test_the_help_lists_the_methods_with_their_knobs(page):
    end = " ".join(page[page.index("methods and their knobs") :].split())
    assert all(name in end for name in (*CLIENT_METHODS.names(), *STRATEGIES.names()))
    assert "fedprox (mu)" in end
    assert "fedavgm (server_lr, server_momentum, variant)" in end


def test_the_examples_are_shown_as_written():
    done = subprocess.run(
        [sys.executable, "recipes/fed_nature.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "recipes/fed_nature.py \\\n        --model_name_or_path HuggingFaceTB" in done.stdout
    first, usage = done.stdout.splitlines()[:2]
    assert first.startswith("loading ")
    assert usage == "usage: accelerate launch recipes/fed_nature.py [--config FILE] [OPTIONS]"


def test_an_interrupted_run_names_the_command_that_continues(tmp_path, monkeypatch, capsys):
    (tmp_path / "rounds" / "round-0002").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["recipes/r.py", "--method_kwargs", '{"mu": 1}'])

    def main(argv):
        with resumable(tmp_path, 5):
            raise KeyboardInterrupt

    assert run_main(main, [], "r") == 130
    error = capsys.readouterr().err
    assert error.startswith(
        f"r: interrupted. 2 of 5 rounds are saved in {tmp_path}. To continue: python recipes/r.py "
    )
    words = shlex.split(error.split("To continue: ")[1])
    assert words[1:] == [*sys.argv, "--resume_from_checkpoint", "true"]


def take_ctrl_c() -> None:
    """Called in a new process: those of a shell's background job ignore Ctrl-C, and so would the tests' programs."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@WAITS
def test_ctrl_c_ends_a_run_with_one_line_and_its_command_continues(tmp_path):
    """A terminal sends it to accelerate too, whose own traceback must not be the last that is seen."""
    tiny_federation({"client_00": 4, "client_01": 4}, test_rows=1).save_to_disk(tmp_path / "data")
    options = {
        "model_name_or_path": save_tiny(tmp_path / "base"), "dataset_name": tmp_path / "data",
        "output_dir": tmp_path / "out", "num_rounds": 500, "max_steps": 1, "eval_every": 500, "use_cpu": True,
        "bf16": False, "report_to": "none", "num_threads": 1, "disable_tqdm": True,
    }  # fmt: skip
    argv = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    accelerate = str(Path(sys.executable).with_name("accelerate"))
    run = subprocess.Popen(
        [accelerate, "launch", "--num_processes", "1", "--cpu", "recipes/fed_nature.py", *argv],
        cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=take_ctrl_c,
    )  # fmt: skip
    first = tmp_path / "out" / "rounds" / "round-0001"
    wait_until(lambda: first.exists() or run.poll() is not None)
    os.killpg(run.pid, signal.SIGINT)
    _, error = run.communicate(timeout=DEADLINE)
    last = error.splitlines()[-1]
    pattern = r"fed_nature: interrupted\. [1-9]\d* of 500 rounds are saved in .*To continue: accelerate launch "
    assert re.match(pattern, last), error
    assert "fedvlm_hf" not in error.removesuffix(f"{last}\n")  # the traceback is of accelerate only
    words = shlex.split(last.split("To continue: ")[1])
    saved = len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) - 1
    words[words.index("--num_rounds") + 1] = str(saved + 1)
    again = subprocess.run([accelerate, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    history = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["round_idx"] for line in history] == list(range(saved + 2))


def test_ctrl_c_during_the_imports_is_one_line():
    """Sleep stands for the imports: within them, some library might catch everything at that moment."""
    program = "from fedvlm_hf.launch import start_recipe; start_recipe('r'); import time; time.sleep(600)"
    run = subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=take_ctrl_c,
    )  # fmt: skip
    assert run.stdout.readline().startswith("loading torch")
    run.send_signal(signal.SIGINT)
    assert run.communicate()[1] == "r: interrupted. Nothing was started.\n"


def test_after_the_imports_debug_shows_where_ctrl_c_came():
    """The line for the imports says that nothing was started, which is wrong then."""
    program = """
from fedvlm_hf.launch import run_recipe, start_recipe
start_recipe("r")
def main(argv):
    raise KeyboardInterrupt
run_recipe(main, ["--debug"], "r")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("KeyboardInterrupt\n")
    assert "Nothing was started" not in done.stderr


def test_under_accelerate_the_line_is_followed_by_a_hint_or_nothing():
    command = [str(Path(sys.executable).with_name("accelerate")), "launch", "--num_processes", "1", "--cpu"]
    for quiet in ([], ["--quiet"]):
        done = subprocess.run(
            [*command, *quiet, "recipes/fed_nature.py", "--num_round", "x"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        lines = done.stderr.splitlines()
        place = next(i for i, line in enumerate(lines) if line.startswith("fed_nature: error: `--num_rounds`: "))
        if quiet:
            assert lines[-1] == lines[place]
        else:
            assert "accelerate launch --quiet" in lines[place + 1]
        assert done.returncode == 1


def test_a_configuration_of_a_folder_without_any_is_refused(tmp_path):
    tiny_federation().save_to_disk(tmp_path)
    assert "client_00" in load_federation(str(tmp_path))
    with pytest.raises(ValueError, match=r"`dataset_config` is 'iid', but `dataset_name` .* has no configurations"):
        load_federation(str(tmp_path), "iid")


@pytest.mark.parametrize("split", ["client_01", "test"])
@pytest.mark.parametrize("layout", ["save_to_disk", "parquet"])
def test_an_empty_split_is_named(tmp_path, layout, split):
    splits = DatasetDict({name: rows.select_columns(list(FEATURES)) for name, rows in tiny_federation().items()})
    splits[split] = splits[split].select([])
    if layout == "save_to_disk":
        splits.save_to_disk(tmp_path)
    else:
        for name, rows in splits.items():
            rows.to_parquet(tmp_path / f"{name}.parquet")
        files = [{"split": name, "path": f"{name}.parquet"} for name in splits]
        card = yaml.safe_dump({"configs": [{"config_name": "default", "data_files": files}]})
        (tmp_path / "README.md").write_text(f"---\n{card}---\n")
    with pytest.raises(ValueError, match=f"`dataset_name` .*: the split '{split}' is empty. Leave it out, or give it"):
        load_federation(str(tmp_path))


def test_a_run_without_evaluation_says_so_at_its_end_and_on_its_card(tmp_path, capsys):
    data = tiny_federation({"client_00": 2, "client_01": 2})
    data.pop("test")
    trainer = federated(tmp_path, data, num_rounds=1, max_steps=1, trainer_kwargs={"eval_dataset": None})
    trainer.train()
    print_results(str(tmp_path))
    end = capsys.readouterr().out
    assert "Nothing was evaluated" in end
    assert "samples" not in end
    assert "Nothing was evaluated" in (tmp_path / "README.md").read_text()
    with pytest.raises(ValueError, match="`eval_dataset` is needed: the run has no evaluation set"):
        trainer.evaluate()
    with pytest.raises(ValueError, match="`eval_dataset` is needed"):
        trainer.evaluate({})
    assert "test/vqa_accuracy" in trainer.evaluate(tiny_federation(test_rows=1)["test"])


def test_the_end_of_a_run_fits_the_terminal(tmp_path, capsys, monkeypatch):
    """The table of the rounds has as many columns as there are tasks; it is in the report only."""
    monkeypatch.chdir(tmp_path)
    federated(Path("out"), num_rounds=1, max_steps=1, trainer_kwargs={"eval_dataset": None}).train()
    capsys.readouterr()
    print_results("out")
    end = capsys.readouterr().out
    assert max(map(len, end.splitlines())) <= 80
    assert "| **fedavg** |" in end
    assert "There is no run of `local` or `central`" in end
    assert end.endswith("Rounds, card, curves and samples are in out/. Start with README.md and report/.\n")
    assert "mean client loss" not in end
    assert "mean client loss" in Path("out/report/results.md").read_text()


RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.mark.parametrize(
    ("command", "first_line"),
    [
        ([RECIPES / "fed_nature.py", "--help"], "loading torch, transformers and trl ..."),
        ([RECIPES / "fed_vqa_rad.py", "--help"], "loading torch, transformers and trl ..."),
        (["-c", "from datasets import load_dataset; from fedvlm_hf import FederatedConfig"], ""),  # as in the README
    ],
)
def test_threads_that_wait_for_each_other_sleep(command, first_line):
    """Spinning threads make a round ten times slower on a busy machine. libgomp prints its settings when it is loaded,
    by which time the variable must be set. The recipes say what they do before they load torch."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_WAIT", "GOMP_SPIN"))}
    argv = [sys.executable, *map(str, command)]
    done = subprocess.run(
        argv, env={**environment, "OMP_DISPLAY_ENV": "verbose"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(first_line)
    if "GOMP_SPINCOUNT" in done.stderr:  # other builds of torch have another OpenMP
        assert "GOMP_SPINCOUNT = '1000'" in done.stderr
        assert "GOMP_SPINCOUNT = '3" not in done.stderr


def test_a_wait_policy_that_is_set_is_kept():
    code = "import os, fedvlm_hf; print(os.environ['OMP_WAIT_POLICY'])"
    environment = {**os.environ, "OMP_WAIT_POLICY": "active"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "active\n"
