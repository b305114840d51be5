"""Mistakes on the command line: one line that names the option, exit status 2, nothing written, no weights loaded."""

import importlib.util
import shlex
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, PreTrainedModel

from fedvlm_hf.cli import main
from fedvlm_hf.launch import run_recipe
from tiny import save_tiny, tiny_federation


ROOT = Path(__file__).parents[1]
CPU = "--use_cpu true --bf16 false --report_to none --num_threads 1"
DATA = f"--dataset_name {{data}} {CPU} --output_dir out"
RUN = f"{DATA} --model_name_or_path {{base}}"
AWAY = "http://127.0.0.1:9"  # nothing listens to this port

RECIPE = {
    # words
    "misspelt option": (
        f"{RUN} --learing_rate 1",
        "`--learing_rate` is not an option. Did you mean `--learning_rate`?",
    ),
    "misspelt with =": (f"{RUN} --num_round_s=3", "Did you mean `--num_rounds`?"),
    "no such option": (f"{RUN} --zzzz 1", "`--zzzz` is not an option. `--help` lists the options."),
    "stray word": (f"{RUN} fedavg", "`fedavg` is not an option"),
    "missing value": (f"{RUN} --learning_rate", "`--learning_rate`: expected one argument"),
    "no number": (f"{RUN} --num_rounds many", "`--num_rounds`: invalid int value: 'many'"),
    "no whole number": (f"{RUN} --num_rounds 2.5", "`--num_rounds`: invalid int value: '2.5'"),
    "neither true nor false": (f"{RUN} --check_data maybe", "`--check_data`: "),
    # dictionaries
    "method_kwargs not JSON": (
        f"{RUN} --method fedprox --method_kwargs {{{{mu:1}}}}",
        "`--method_kwargs` must be JSON",
    ),
    "method_kwargs a word": (f"{RUN} --method fedprox --method_kwargs mu=1", "`--method_kwargs` must be JSON"),
    "method_kwargs a list": (f"{RUN} --method_kwargs [1]", "`--method_kwargs` must be a JSON dictionary"),
    "transform_kwargs not JSON": (f"{RUN} --transform_kwargs '{{{{bits: 8}}}}'", "`--transform_kwargs` must be JSON"),
    "model_init_kwargs not JSON": (f"{RUN} --model_init_kwargs '{{{{a}}}}'", "`--model_init_kwargs` must be JSON"),
    "lr_scheduler_kwargs not JSON": (
        f"{RUN} --lr_scheduler_kwargs '{{{{a}}}}'",
        "`--lr_scheduler_kwargs` must be JSON",
    ),
    # values
    "no such method": (f"{RUN} --method fedagv", "`method` 'fedagv' is unknown. Did you mean 'fedavg'"),
    "no such knob": (f"{RUN} --method fedprox --method_kwargs '{{{{\"nu\": 1}}}}'", "`method_kwargs`"),
    "no such transform": (f"{RUN} --transforms quantise", "Did you mean 'quantize'"),
    "no such knob of a transform": (
        f"{RUN} --transforms quantize --transform_kwargs '{{{{\"n\": 1}}}}'",
        "`transform_kwargs`",
    ),
    "no such sampling": (f"{RUN} --client_sampling all", "`--client_sampling`: invalid choice: 'all'"),
    "no such schedule": (f"{RUN} --lr_scheduler_type sine", "`--lr_scheduler_type`: "),
    "no such optimizer": (f"{RUN} --optim adamm", "`--optim`: "),
    "no rounds": (f"{RUN} --num_rounds 0", "`num_rounds` must be at least 1"),
    "batch size 0": (f"{RUN} --per_device_train_batch_size 0", "`per_device_train_batch_size` must be at least 1"),
    "evaluation batch size 0": (f"{RUN} --per_device_eval_batch_size 0", "`per_device_eval_batch_size` must be"),
    "no accumulation": (f"{RUN} --gradient_accumulation_steps 0", "`gradient_accumulation_steps` must be at least 1"),
    "no steps": (f"{RUN} --max_steps 0", "`max_steps` is 0"),
    "no such tuning": (f"{RUN} --tuning all", "`tuning`"),
    "too many clients": (f"{RUN} --clients_per_round 9", "`clients_per_round`"),
    # LoRA and model
    "lora_r 0": (f"{RUN} --use_peft --lora_r 0", "`--lora_r` must be at least 1, got 0"),
    "dropout 1": (f"{RUN} --use_peft --lora_dropout 1", "`--lora_dropout` must be"),
    "no such LoRA target": (f"{RUN} --use_peft --lora_target_modules q_proj kk", "`lora_target_modules`"),
    "one LoRA target": (f"{RUN} --use_peft --lora_target_modules qq_proj", "has 'qq_proj', but no module"),
    "text model": (
        f"{DATA} --model_name_or_path {{text}}",
        "'llama' is a language model that takes no images",
    ),
    "no model folder": (
        f"{DATA} --model_name_or_path ./nothing",
        "`--model_name_or_path` './nothing' is not a folder",
    ),
    "empty model folder": (f"{DATA} --model_name_or_path {{empty}}", "`--model_name_or_path` "),
    "model away": (f"{DATA} --model_name_or_path org/nothing", "`--model_name_or_path` 'org/nothing' is not a folder"),
    # data
    "no data folder": (f"{RUN} --dataset_name ./data/nothing", "`--dataset_name` './data/nothing' is not a folder in"),
    "data away": (f"{RUN} --dataset_name data/fed-slake", "`--dataset_name` 'data/fed-slake' is not a folder in"),
    "folder without data": (f"{RUN} --dataset_name {{empty}}", "`--dataset_name` "),
    "empty client": (f"{RUN} --dataset_name {{empty_client}}", "the split 'client_01' is empty"),
    "empty test": (f"{RUN} --dataset_name {{empty_test}}", "the split 'test' is empty"),
    "no clients": (f"{RUN} --dataset_name {{no_clients}}", "`train_dataset` has "),
    # files
    "no config file": (f"{CPU} --config nope.yaml", "`--config`: nope.yaml cannot be read: No such file"),
    "config without a name": (f"{CPU} --config", "`--config`: expected one argument"),
    "config not YAML": (f"{CPU} --config {{files}}/bad.yaml", "bad.yaml is not valid YAML"),
    "config a list": (f"{CPU} --config {{files}}/list.yaml", "list.yaml must have lines such as"),
    "config with an unknown key": (f"{CPU} --config {{files}}/key.yaml", "`num_round` in"),
    "config with a bad value": (f"{CPU} --config {{files}}/value.yaml", "`--num_rounds`: invalid int value: '[3]'"),
    "output_dir a file": (f"{RUN} --output_dir {{files}}/key.yaml", "`--output_dir` "),
    "output_dir in a file": (f"{RUN} --output_dir {{files}}/key.yaml/out", "`--output_dir` "),
    "output_dir in /proc": (
        f"{RUN} --output_dir /proc/nothing/out",
        "`--output_dir` '/proc/nothing/out' cannot be written",
    ),
    "push without a repository": (f"{RUN} --push_to_hub true", "`push_to_hub` needs `hub_model_id`"),
}

COMMAND = {
    "no subcommand": ("", "the following arguments are required: SUBCOMMAND"),
    "misspelt subcommand": ("chek", "`SUBCOMMAND` 'chek' is unknown. Did you mean 'check'"),
    "misspelt option": ("methods --nmes", "`--nmes` is not an option"),
    "misspelt option of eval": ("eval out --dataset_name x --splt test", "Did you mean `--split`?"),
    "missing argument": ("eval out", "the following arguments are required: `--dataset_name`"),
    "no number": ("eval out --dataset_name x --batch_size many", "`--batch_size`: invalid int value"),
    "no such method": ("methods fedyogy", "`names` 'fedyogy' is unknown"),
    "no such dataset": ("build fed-slak --raw x --out y", "`NAME` 'fed-slak' is unknown. Did you mean 'fed-slake'"),
    "no raw folder": ("build fed-slake --raw nothing --out out", "nothing"),
    "missing raw": ("build fed-slake --out out", "the following arguments are required: `--raw`"),
    "no folder to check": ("check {empty}", "is not a federated dataset"),
    "no run to push": ("push nothing", "`--repo OWNER/NAME`"),
    "no run to list": ("rounds ./nothing", "nothing"),
    "no connector": ("build-llava --connector mlp --dry_run", "`connector` must be"),
    "no output of build-llava": ("build-llava", "`--output_dir` is needed"),
    "misspelt option of build-llava": ("build-llava --conector linear", "Did you mean `--connector`?"),
    "client without repository": ("hub-client --client_id a --dataset_name b", "are required: `--repo`"),
    "misspelt option of hub-client": ("hub-client --repo a/b --client_id a --dataset_name b --spilt c", "`--split`?"),
    "server without model": (f"hub-server --repo a/b --client_ids a {CPU}", "`--model_name_or_path` is needed"),
    "misspelt option of hub-server": (
        "hub-server --repo a/b --client_ids a --min_client_s 1",
        "Did you mean `--min_clients`?",
    ),
}


@pytest.fixture(scope="module")
def recipes():
    """Return the module of a recipe by its name."""
    modules = {}
    for name in ("fed_nature", "fed_vqa_rad"):
        spec = importlib.util.spec_from_file_location(name, ROOT / "recipes" / f"{name}.py")
        modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[name])
    return modules


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Path]:
    """Data, models and files that the command lines name."""
    folder = tmp_path_factory.mktemp("places")
    data = tiny_federation({"client_00": 2, "client_01": 2}, test_rows=1)
    data.save_to_disk(folder / "data")
    for name, split in (("empty_client", "client_01"), ("empty_test", "test")):
        changed = type(data)({**data, split: data[split].select([])})
        changed.save_to_disk(folder / name)
    type(data)({"test": data["test"]}).save_to_disk(folder / "no_clients")
    save_tiny(folder / "base")
    LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1).save_pretrained(
        folder / "text"
    )
    (folder / "empty").mkdir()
    files = {"bad": "a: [1", "list": "- 1", "key": "num_round: 3", "value": "num_rounds: [3]"}
    (folder / "files").mkdir()
    for name, text in files.items():
        (folder / "files" / f"{name}.yaml").write_text(text)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def checked(monkeypatch, tmp_path, places, capsys):
    """Work in an empty folder without a Hub. Afterwards nothing was written, and no weights were loaded."""
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", AWAY)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def load(*args, **kwargs):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", load)
    before = sorted(places["data"].parent.rglob("*"))
    capsys.readouterr()
    yield
    torch.set_num_threads(threads)
    assert list(tmp_path.iterdir()) == []
    assert sorted(places["data"].parent.rglob("*")) == before


def words(line: str, places: dict[str, Path]) -> list[str]:
    return shlex.split(line.format(**places))


def check_line(status: int, error: str, program: str, expected: str) -> None:
    """The error is one line, after lines that say what is loading."""
    assert status == 2, error
    (line,) = [line for line in error.splitlines() if not (line.startswith("loading ") and line.endswith(" ..."))]
    assert error.endswith(f"{line}\n")
    assert line.startswith(f"{program}: error: ")
    assert expected in line


@pytest.mark.parametrize("name", RECIPE)
def test_a_recipe(name, recipes, places, capsys):
    line, expected = RECIPE[name]
    status = run_recipe(recipes["fed_nature"].main, words(line, places), "fed_nature")
    check_line(status, capsys.readouterr().err, "fed_nature", expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (CPU, "`--dataset_name` is missing"),
        (f"{CPU} --dataset_name {{no_clients}} --dataset_config iid", "`"),
        (f"{CPU} --tunning llm", "Did you mean `--tuning`?"),
    ],
)
def test_the_recipe_of_vqa_rad(line, expected, recipes, places, capsys):
    status = run_recipe(recipes["fed_vqa_rad"].main, words(line, places), "fed_vqa_rad")
    check_line(status, capsys.readouterr().err, "fed_vqa_rad", expected)


@pytest.mark.parametrize("name", COMMAND)
def test_a_command(name, places, capsys, monkeypatch):
    line, expected = COMMAND[name]
    program = "fedvlm" if "subcommand" in name else f"fedvlm {line.split()[0]}"
    check_line(main(words(line, places)), capsys.readouterr().err, program, expected)


def test_there_are_enough():
    assert len(RECIPE) + len(COMMAND) >= 70


def test_debug_shows_the_traceback(recipes, places, capsys):
    line = words(f"{RUN} --debug --num_rounds 0", places)
    with pytest.raises(ValueError, match="`num_rounds` must be at least 1"):
        run_recipe(recipes["fed_nature"].main, line, "fed_nature")
    with pytest.raises(ValueError, match="'fedyogy' is unknown"):
        main(["--debug", "methods", "fedyogy"])
    line = words(f"{RUN} --num_rounds 0 --debug underflow_overflow", places)  # the option of transformers
    assert run_recipe(recipes["fed_nature"].main, line, "fed_nature") == 2
