"""The command `fedvlm`."""

import re
import shlex
from dataclasses import fields
from importlib.metadata import entry_points

import pytest
from transformers import AutoModelForImageTextToText

from fedvlm_hf import __version__
from fedvlm_hf.cli import main
from fedvlm_hf.commands import build_llava
from fedvlm_hf.models.builder import LlavaRecipe
from tiny_parts import full_size_configs, save_clip, save_llama3


@pytest.fixture
def parts(tmp_path) -> list[str]:
    """Arguments that name a small CLIP and a small Llama."""
    clip, llama = save_clip(tmp_path / "clip")[0], save_llama3(tmp_path / "llama")[0]
    return ["build-llava", "--vision_model", clip, "--language_model", llama]


def test_dry_run_needs_configurations_only(tmp_path, capsys):
    """Full-size configurations without weights or tokenizer."""
    vision, text = full_size_configs()
    vision.save_pretrained(tmp_path / "clip")
    text.save_pretrained(tmp_path / "llama")
    arguments = ["--vision_model", f"{tmp_path}/clip", "--language_model", f"{tmp_path}/llama", "--connector", "mlp6x"]
    assert main(["build-llava", *arguments, "--dry_run"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^connector +49,563,648$", printed, flags=re.MULTILINE)
    assert re.search(r"^llm +12,156,928 +48,627,712 +48,627,712$", printed, flags=re.MULTILINE)
    assert "LoRA r=8 alpha=32 on 196 linears" in printed


def test_it_builds_a_model_once(parts, tmp_path, capsys):
    arguments = [*parts, "--connector", "linear", "--dtype", "float32", "--seed", "7", "--output_dir", f"{tmp_path}/x"]
    assert main(arguments) == 0
    assert f"--model_name_or_path {tmp_path}/x" in capsys.readouterr().out
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "x", dtype="auto")
    assert (model.config.connector, str(model.dtype)) == ("linear", "torch.float32")
    written = (tmp_path / "x" / "model.safetensors").stat().st_mtime_ns
    assert main(arguments) == 0
    assert (tmp_path / "x" / "model.safetensors").stat().st_mtime_ns == written
    assert main([*arguments, "--seed", "8"]) == 2
    assert "another recipe" in capsys.readouterr().err


def test_errors_are_one_line_and_a_status(parts, tmp_path, capsys):
    for extra, expected in [
        ([], "`--output_dir` is needed"),
        (["--connector", "mlp", "--dry_run"], "`connector` must be"),
        (["--vision_model", f"{tmp_path}/nothing", "--dry_run"], "nothing"),
    ]:
        capsys.readouterr()
        assert main([*parts, *extra]) == 2
        error = capsys.readouterr().err
        assert "fedvlm build-llava: error: " in error
        assert expected in error
        assert "Traceback" not in error


def test_help_names_every_option_and_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["build-llava", "--help"])
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for option in fields(LlavaRecipe):
        assert f"--{option.name}" in printed
        default = {True: "yes", False: "no"}.get(option.default, option.default)
        assert option.default is None or f"(default: {default})" in printed.replace("meta- llama", "meta-llama")
    assert "--output_dir" in printed
    assert "--dry_run" in printed
    assert "HF_TOKEN" in printed


def test_the_examples_of_the_help_are_arguments_that_it_takes(monkeypatch):
    taken = []
    monkeypatch.setattr("fedvlm_hf.models.builder.save_llava", lambda recipe, folder: taken.append((recipe, folder)))
    monkeypatch.setattr("fedvlm_hf.models.builder.recipe_config", lambda recipe: taken.append(recipe))
    monkeypatch.setattr("fedvlm_hf.commands.dry_run.dry_run", lambda config: "")
    lines = re.findall(r"^ *fedvlm (.*)$", build_llava.run.__doc__, flags=re.MULTILINE)
    assert len(lines) == 2
    assert [main(shlex.split(line)) for line in lines] == [0, 0]
    assert taken == [LlavaRecipe(), (LlavaRecipe(), "out/llava-mlp2x")]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], "are required: SUBCOMMAND"),
        (["nope"], "`SUBCOMMAND` 'nope' is unknown. Valid are: build, check, "),
        (["build_llava"], "Did you mean 'build-llava'"),
    ],
)
def test_without_a_subcommand_one_line_says_so(argv, expected, capsys):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("fedvlm: error: ")
    assert expected in error
    assert error.count("\n") == 1


def test_help_and_version(capsys):
    for argv, expected in [(["--help"], "build-llava"), (["--version"], __version__)]:
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 0
        assert expected in capsys.readouterr().out


def test_the_console_script_is_installed():
    scripts = [script for script in entry_points(group="console_scripts") if script.name == "fedvlm"]
    assert [script.value for script in scripts] == ["fedvlm_hf.cli:main"]
    assert scripts[0].load() is main
