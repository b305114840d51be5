"""recipes/fed_nature.py: defaults, other models, dataset folders, help, resuming, errors."""

import importlib.util
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText
from trl import get_peft_config

from federation import federated
from fedvlm_hf import FederatedTrainer
from fedvlm_hf.files import path_from_here
from fedvlm_hf.launch import DataArguments, load_federation, parse_recipe
from fedvlm_hf.mini import base_model, fed_nature
from fedvlm_hf.models import base_with_connector
from tiny import save_tiny, tiny_federation


ROOT = Path(__file__).parents[1]
CPU = ["--use_cpu", "true", "--bf16", "false", "--report_to", "none", "--num_threads", "1"]


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("fed_nature", ROOT / "recipes" / "fed_nature.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data_folder(tmp_path) -> str:
    tiny_federation({"client_00": 4, "client_01": 4}, test_rows=2).save_to_disk(tmp_path / "data")
    return str(tmp_path / "data")


def test_any_model_on_any_dataset_folder(recipe, tmp_path, data_folder, capsys):
    arguments = ["--model_name_or_path", save_tiny(tmp_path / "base"), "--dataset_name", data_folder, *CPU]
    arguments += ["--output_dir", str(tmp_path / "out"), "--num_rounds", "1", "--max_steps", "1"]
    recipe.main(arguments)
    printed = capsys.readouterr().out
    assert "| task | metric   | round 0 | **fedavg** |" in printed
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"rounds", "report", "README.md", "card.json", "metrics.jsonl", "run.json"}
    with pytest.raises(ValueError, match="holds a run"):
        recipe.main(arguments)
    recipe.main([*arguments, "--num_rounds", "2", "--resume_from_checkpoint", "true"])
    assert len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) == 3


FROM_THE_SHELL = {
    "scaffold": ["--method_kwargs", '{"server_lr": 0.5}', "--optim", "sgd", "--max_grad_norm", "0"],
    "flora": ["--method_kwargs", '{"ranks": {"client_00": 4, "client_01": 8}}'],
    "fedex": [],
    "ditto": ["--method_kwargs", '{"lam": 0.5, "personal_steps": 1}'],
}


@pytest.mark.parametrize("method", FROM_THE_SHELL)
def test_a_method_with_its_knobs_as_json(recipe, tmp_path, data_folder, capsys, method):
    arguments = ["--model_name_or_path", save_tiny(tmp_path / "base"), "--dataset_name", data_folder, *CPU]
    arguments += ["--output_dir", str(tmp_path / "out"), "--num_rounds", "2", "--max_steps", "2"]
    recipe.main([*arguments, "--method", method, *FROM_THE_SHELL[method]])
    assert f"| **{method}** |" in capsys.readouterr().out
    knobs = json.loads((tmp_path / "out" / "run.json").read_text())["config"]["method_kwargs"]
    assert knobs == (json.loads(FROM_THE_SHELL[method][1]) if FROM_THE_SHELL[method] else None)
    has_base_delta = (tmp_path / "out" / "rounds" / "round-0002" / "base_delta.safetensors").exists()
    assert has_base_delta == (method in ("flora", "fedex"))


def test_transforms_from_the_shell(recipe, tmp_path, data_folder):
    arguments = ["--model_name_or_path", save_tiny(tmp_path / "base"), "--dataset_name", data_folder, *CPU]
    arguments += ["--output_dir", str(tmp_path / "out"), "--num_rounds", "1", "--max_steps", "1"]
    arguments += ["--transforms", "clip", "gaussian", "quantize"]
    arguments += ["--transform_kwargs", '{"max_norm": 1.0, "noise_multiplier": 0.5}']
    recipe.main(arguments)
    transforms = json.loads((tmp_path / "out" / "run.json").read_text())["transforms"]
    assert transforms == [
        {"name": "clip", "knobs": {"max_norm": 1.0}},
        {"name": "gaussian", "knobs": {"noise_multiplier": 0.5, "max_norm": 1.0, "secret": False}},
        {"name": "quantize", "knobs": {"bits": 8}},
    ]
    record = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[1])
    assert 0.25 < record["bytes_up"] / record["bytes_down"] < 0.26


@pytest.mark.parametrize("connector", ["linear", "mlp2x", "mlp6x"])
def test_another_connector(recipe, tmp_path, data_folder, connector):
    """The exports name a base model in the folder of the run, and stock PEFT loads a round on it."""
    arguments = ["--model_name_or_path", save_tiny(tmp_path / "base"), "--dataset_name", data_folder, *CPU]
    arguments += ["--output_dir", str(tmp_path / "out"), "--num_rounds", "1", "--max_steps", "1"]
    recipe.main([*arguments, "--connector", connector])
    base = tmp_path / "out" / "base"
    export = tmp_path / "out" / "rounds" / "round-0001"
    assert json.loads((export / "adapter_config.json").read_text())["base_model_name_or_path"] == path_from_here(base)
    model = AutoModelForImageTextToText.from_pretrained(base)
    assert (
        type(model).__name__ == ("LlavaForCond" if connector == "mlp2x" else "FedLlavaForCond") + "itionalGeneration"
    )
    projector = PeftModel.from_pretrained(model, export).base_model.model.model.multi_modal_projector
    trained, original = projector.modules_to_save["default"].linear_1.weight, projector.original_module.linear_1.weight
    assert not torch.equal(trained, original)
    card = (tmp_path / "out" / "README.md").read_text()
    assert ("import fedvlm_hf.models" in card) == (connector != "mlp2x")
    recipe.main([*arguments, "--connector", connector, "--num_rounds", "2", "--resume_from_checkpoint", "true"])


def test_only_the_models_own_connector_can_be_kept(recipe, tmp_path, data_folder):
    arguments = ["--model_name_or_path", save_tiny(tmp_path / "base"), "--dataset_name", data_folder, *CPU]
    arguments += ["--output_dir", str(tmp_path / "out"), "--num_rounds", "1", "--max_steps", "1"]
    with pytest.raises(ValueError, match="which is 'mlp2x', but `connector` is 'linear'"):
        recipe.main([*arguments, "--connector", "linear", "--pretrained_connector"])
    assert not (tmp_path / "out").exists()
    recipe.main([*arguments, "--connector", "mlp2x", "--pretrained_connector"])
    assert not (tmp_path / "out" / "base").exists()


@pytest.mark.parametrize("mistake", ["columns", "method"])
def test_a_refused_run_leaves_no_base_model_with_another_connector(recipe, tmp_path, data_folder, mistake):
    """Clients with other columns are refused before the model is loaded, and an unfit method after it."""
    data = load_federation(data_folder)
    if mistake == "columns":
        data["client_01"] = data["client_01"].remove_columns("completion")
    data.save_to_disk(tmp_path / "changed")
    arguments = ["--model_name_or_path", save_tiny(tmp_path / "model"), "--dataset_name", str(tmp_path / "changed")]
    arguments += ["--output_dir", str(tmp_path / "new" / "out"), "--connector", "linear", *CPU]
    arguments += ["--num_rounds", "1", "--max_steps", "1"]
    unfit = ["--method", "ditto", "--tuning", "two_stage", "--num_rounds", "2"] if mistake == "method" else []
    with pytest.raises(ValueError, match=r"client_01|personal"):
        recipe.main([*arguments, *unfit])
    assert not (tmp_path / "new").exists()
    data = tiny_federation({"client_00": 4, "client_01": 4}, test_rows=2)
    data.save_to_disk(tmp_path / "good")
    arguments[arguments.index("--dataset_name") + 1] = str(tmp_path / "good")
    recipe.main(arguments)
    with pytest.raises(ValueError, match="holds a run"):
        recipe.main(arguments)
    assert (tmp_path / "new" / "out" / "base" / "model.safetensors").exists()


def test_lora_over_an_untrained_connector_is_warned_of(tmp_path, caplog):
    logging.getLogger("transformers").propagate = True
    base = base_with_connector(save_tiny(tmp_path / "base"), "linear", tmp_path / "linear", seed=0)
    for tuning in ("llm", "two_stage"):
        federated(tmp_path / tuning, model=base, tuning=tuning)
    assert caplog.text.count("over a connector with random weights") == 1


def test_a_dataset_in_the_hubs_layout(tmp_path):
    """Parquet files and a card that names the splits in `configs`, as written by `push_to_hub`."""
    card = ["---", "configs:"]
    for config, sizes in {"iid": {"client_00": 2, "client_01": 2}, "noniid": {"client_00": 3, "client_01": 1}}.items():
        card += [f"- config_name: {config}", "  data_files:"]
        for split, rows in tiny_federation(sizes, test_rows=1).items():
            if "client_id" not in rows.column_names:  # the Hub's configurations have the same columns in every split
                rows = rows.add_column("client_id", [split] * len(rows))
            rows.to_parquet(tmp_path / f"{config}-{split}.parquet")
            card += [f"  - split: {split}", f"    path: {config}-{split}.parquet"]
    (tmp_path / "README.md").write_text("\n".join([*card, "---", ""]))
    assert {k: len(v) for k, v in load_federation(str(tmp_path), "noniid").items()} == {
        "client_00": 3, "client_01": 1, "validation": 2, "test": 2
    }  # fmt: skip


def test_the_default_configuration_trains_the_mini(recipe, tmp_path):
    """One step per client on the embedded data and model, with all default arguments except the amount of work."""
    arguments = ["--output_dir", str(tmp_path), "--num_rounds", "1", "--max_steps", "1", "--num_threads", "1"]
    _, args, model_args = parse_recipe(arguments, DataArguments, "", recipe.DEFAULTS)
    data = fed_nature()
    data["test"] = data["test"].select(range(0, len(data["test"]), 100))
    FederatedTrainer(base_model(), args, data, peft_config=get_peft_config(model_args)).train()
    first, last = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert sorted(last["clients"]) == ["client_00", "client_01", "client_02", "client_03"]
    assert set(first["evaluations"]["test"]["clients"]) == set(last["clients"])
    assert last["bytes_up"] == last["bytes_down"] > 0
    adapter = json.loads((tmp_path / "rounds" / "round-0001" / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (16, 64, 0.0)


def test_runs_to_compare_lie_side_by_side(recipe):
    for method in ("fedavg", "central"):
        arguments = ["--method", method, "--seed", "7", "--num_threads", "1"]
        _, args, _ = parse_recipe(arguments, DataArguments, "", recipe.DEFAULTS)
        assert args.output_dir == f"out/fed_nature/{method}-seed7"


def test_help_explains_every_option_of_ours():
    done = subprocess.run(
        [sys.executable, "recipes/fed_nature.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for option in ("dataset_name", "num_rounds", "clients_per_round", "tuning", "eval_every", "model_name_or_path"):
        assert f"--{option}" in done.stdout
    assert "accelerate launch recipes/fed_nature.py" in done.stdout


def test_several_processes_are_refused_in_plain_words(tmp_path, data_folder):
    """A real launch of two processes on the CPU."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "recipes/fed_nature.py"]
    command += ["--ddp_backend", "gloo", "--model_name_or_path", save_tiny(tmp_path / "base")]
    command += ["--dataset_name", data_folder, "--output_dir", str(tmp_path / "out"), *CPU]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "launched with 2 processes" in done.stderr
    assert "--num_processes 1" in done.stderr
    assert not (tmp_path / "out" / "rounds").exists()
