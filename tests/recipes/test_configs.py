"""recipes/configs/: every file parses, and the values of FedVLMBench are those in the tables of the paper."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from trl import get_peft_config

from fedvlm_hf.client.adapters import complete_config
from fedvlm_hf.client.plan import tuning_stages
from fedvlm_hf.config import FederatedConfig
from fedvlm_hf.launch import DataArguments, parse_recipe
from fedvlm_hf.methods import resolve_method
from tiny import tiny_llava


CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"
LLAVA, SHOWO = CONFIGS / "fedvlmbench_llava.yaml", CONFIGS / "fedvlmbench_showo.yaml"
READY = ("qwen3_vl", "smolvlm", "gemma3", "internvl")


def parse(path: Path, *argv: str):
    # A CPU cannot be asked for bf16; what the file says of it is read from the file
    return parse_recipe(["--config", str(path), "--bf16", "false", *argv], DataArguments, "", path)


def variations(path: Path = LLAVA) -> list[str]:
    """Return the lines of arguments in the comments of a file."""
    lines = re.findall(r"^#   (--(?!dataset|config).*)$", path.read_text(), flags=re.MULTILINE)
    return [line for line in lines if not line.endswith("\\")]


@pytest.mark.parametrize("name", READY)
def test_a_ready_file_names_its_model_and_its_own_command(name):
    path = CONFIGS / f"{name}.yaml"
    _, args, model_args = parse(path)
    assert (args.run_name, args.tuning, model_args.dtype) == (name, "joint", "bfloat16")
    assert get_peft_config(model_args).target_modules is None  # the trainer chooses the linears of the language model
    assert re.fullmatch(r"[\w-]+/[\w.-]+", model_args.model_name_or_path)
    assert f"--config recipes/configs/{name}.yaml" in path.read_text()
    assert "nobody has run this file" in " ".join(path.read_text().replace("#", " ").split())


def test_the_papers_values_without_an_encoder():
    """As with an encoder but for the local work: 30 steps of 4 rows, 5e-5 and weight decay 0.01; no connector."""
    _, args, model_args = parse(SHOWO)
    _, llava, llava_model = parse(LLAVA)
    local = (args.max_steps, args.per_device_train_batch_size, args.gradient_accumulation_steps, args.weight_decay)
    assert local == (30, 4, 1, 0.01)
    assert (args.learning_rate, args.tuning, args.run_name) == (5e-5, "llm", "fedvlmbench_showo")
    own = {"max_steps", "per_device_train_batch_size", "weight_decay", "learning_rate", "tuning"}
    assert all(getattr(args, name) == getattr(llava, name) for name in FederatedConfig.deciding if name not in own)
    assert (args.round_min_learning_rate, args.eval_every) == (1e-6, 1)
    assert get_peft_config(model_args) == get_peft_config(llava_model)
    others = {line for line in variations() if not line.startswith(("--tuning", "--method central", "--model"))}
    assert {*variations(SHOWO)} == others | {"--method central"}


def test_the_papers_values():
    """The values of the paper for the encoder-based model and of its code; the others are ours."""
    _, args, model_args = parse(LLAVA)
    rounds = (args.num_rounds, args.clients_per_round, args.client_weighting, args.method, args.tuning)
    assert rounds == (50, None, "num_samples", "fedavg", "joint")
    local = (args.num_train_epochs, args.max_steps, args.per_device_train_batch_size, args.gradient_accumulation_steps)
    assert local == (1, -1, 8, 1)
    assert (args.optim, args.weight_decay, args.seed) == ("adamw_torch", 0, 2025)
    assert (args.adam_beta1, args.adam_beta2, args.adam_epsilon, args.max_grad_norm) == (0.9, 0.999, 1e-8, 1)
    assert args.lr_scheduler_type == "constant"
    assert args.max_length is None
    assert yaml.safe_load(LLAVA.read_text())["bf16"] is True
    assert (model_args.dtype, args.model_init_kwargs["dtype"]) == ("bfloat16", "bfloat16")
    lora = get_peft_config(model_args)
    assert (lora.r, lora.lora_alpha, lora.lora_dropout, lora.bias) == (8, 32, 0.05, "none")
    model, _ = tiny_llava()
    targets = complete_config(lora, model).target_modules
    assert all(
        re.fullmatch(targets, f"model.language_model.layers.0.{name}_proj") for name in ("mlp.up", "self_attn.k")
    )
    assert not re.fullmatch(targets, "lm_head")


def test_the_rate_falls_by_a_cosine_over_the_rounds():
    """Round r of 50 is at (r - 1) / 50 of the cosine from 1e-4 to 1e-6: round 26 is its half, (1e-4 + 1e-6) / 2."""
    _, args, _ = parse(LLAVA)
    assert args.round_learning_rate(1) == pytest.approx(1e-4)
    assert args.round_learning_rate(26) == pytest.approx(5.05e-5)
    assert 1e-6 < args.round_learning_rate(50) < 1.2e-6


def test_the_comments_name_every_tuning_and_method():
    said = " ".join(variations())
    for tuning in ("connector", "llm", "two_stage"):
        assert f"--tuning {tuning}" in said
    for method in ("fedprox", "fedavgm", "fedadagrad", "fedadam", "fedyogi", "central", "local"):
        assert f"--method {method}" in said


@pytest.mark.parametrize("line", sorted({*variations(), *variations(SHOWO)}))
def test_what_a_comment_names_can_be_run(line):
    _, args, _ = parse(LLAVA, *shlex.split(line))
    resolve_method(args.method, args.method_kwargs)
    tuning_stages(args.tuning, args.num_rounds, args.stage_rounds)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("fedprox", {"mu": 0.01}),
        ("fedavgm", {"server_lr": 1, "server_momentum": 0.9, "variant": "paper"}),
        ("fedadagrad", {"server_lr": 1e-3, "tau": 1e-3, "v0": None}),
        ("fedadam", {"server_lr": 1e-3, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3, "v0": None}),
        ("fedyogi", {"server_lr": 1e-3, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3, "v0": None}),
    ],
)
def test_the_servers_values(method, expected):
    line = next(line for line in variations() if f"--method {method} " in line)
    _, args, _ = parse(LLAVA, *shlex.split(line))
    halves = resolve_method(args.method, args.method_kwargs)
    knobs = vars(halves.client) | vars(halves.strategy)
    assert {name: knobs[name] for name in expected} == expected


def test_central_is_twenty_epochs():
    """Its rounds divide one run: the epochs are their number times the epochs of each."""
    line = next(line for line in variations() if "--method central" in line)
    _, args, _ = parse(LLAVA, *shlex.split(line))
    assert args.num_rounds * args.num_train_epochs == 20
