"""`fedvlm convert-showo`: counts of the published sizes, and a conversion of small fake checkpoints."""

import re
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from fedvlm_hf.cli import main
from fedvlm_hf.models import ShowoForConditionalGeneration, ShowoProcessor
from hub_server import LARGE, running
from raw_showo import write_checkpoints


def options(folders) -> list[str]:
    return [word for name, folder in folders.items() for word in (f"--{name}", str(folder))]


def test_a_dry_run_reads_nothing_and_has_the_published_counts(capsys):
    """LoRA with r=8: 8 (4 (2048 + 2048) + 2 (2048 + 8192)) = 294,912 weights in each of 24 layers."""
    assert main(["convert-showo", "--dry_run"]) == 0
    printed = capsys.readouterr().out
    for line in (
        r"image tokenizer +55,439,171",
        r"language model +1,448,176,770",
        r"all +1,503,615,941",
        r"llm +7,077,888 +28,311,552 +28,311,552",
        r"showlab/show-o: 437 tensors are used\.",
        r"showlab/magvitv2: 190 tensors are used\.",
    ):
        assert re.search(f"^{line}$", printed, flags=re.MULTILINE), line
    assert 24 * 8 * (4 * (2048 + 2048) + 2 * (2048 + 8192)) == 7_077_888
    assert "showo.model.* -> model.language_model.*" in printed
    assert "decoder.* is not needed" in printed
    assert "LoRA r=8 alpha=32 on 144 linears" in printed


def test_it_converts_folders(tmp_path, capsys):
    """18 tensors in each of two layers and 5 others; the encoder has 4 blocks, 2 of them with a shortcut less."""
    folders = write_checkpoints(tmp_path / "in")
    out = tmp_path / "out"
    assert main(["convert-showo", *options(folders), "--output_dir", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"{folders['showo']}: {2 * 18 + 5} tensors are used." in printed
    assert f"--model_name_or_path {out}" in printed
    assert type(AutoModelForImageTextToText.from_pretrained(out)) is ShowoForConditionalGeneration
    assert type(AutoProcessor.from_pretrained(out)) is ShowoProcessor
    assert main(["convert-showo", "--output_dir", str(out)]) == 2  # before anything is downloaded
    assert "exists already and is not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "`--output_dir` is needed"),
        (["--output_dir", "x", "--phi", "a/b/c"], "`--phi` 'a/b/c' is not a folder in "),
        (["--output_dir", "x", "--phi", ".", "--showo", "a/b/c"], "`--showo` 'a/b/c' is not a folder in "),
        (
            ["--output_dir", "x", "--phi", ".", "--showo", ".", "--magvit", "a/b/c"],
            "`--magvit` 'a/b/c' is not a folder",
        ),
        (["--output_dir", "x", "--shwo", "a"], "Did you mean `--showo`?"),
    ],
)
def test_mistakes_are_one_line(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["convert-showo", *argv]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fedvlm convert-showo: error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_pickle_with_code_is_one_line(tmp_path, capsys):
    folders = write_checkpoints(tmp_path / "in")
    torch.save({"encoder.conv_in.bias": print}, folders["magvit"] / "pytorch_model.bin")
    assert main(["convert-showo", *options(folders), "--output_dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "`--magvit`: " in error
    assert "cannot be read" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_it_converts_repositories_of_the_hub(tmp_path):
    """The example of the help, with small models under the published names. One file of weights is downloaded each."""
    folders = write_checkpoints(tmp_path / "in")
    write_checkpoints(tmp_path / "more", "pytorch_model.safetensors")["showo"].rename(tmp_path / "safetensors")
    (tmp_path / "safetensors" / "pytorch_model.safetensors").rename(folders["showo"] / "pytorch_model.safetensors")
    names = {"showo": "showlab/show-o", "magvit": "showlab/magvitv2", "phi": "microsoft/phi-1_5"}
    with running(tmp_path / "hub", {"hf_alice": ("alice", "read")}) as hub:
        for name, folder in folders.items():
            key = f"models/{names[name]}"
            hub.store.create(key, private=False, owner="showlab")
            files = [(path.name, hub.store.blob(path.read_bytes())) for path in folder.iterdir()]
            large = tuple(name for name, _ in files if name.endswith(LARGE))
            hub.store.commit(key, "main", "weights", files, "showlab", large=large)
        argv = [sys.executable, "-m", "fedvlm_hf.cli", "convert-showo", "--output_dir", str(tmp_path / "out")]
        environment = hub.environment("hf_alice", tmp_path / "home")
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "showlab/show-o: 41 tensors are used." in done.stdout
    downloaded = sorted(path.name for path in (tmp_path / "home").rglob("snapshots/*/pytorch_model.*"))
    assert downloaded == ["pytorch_model.bin", "pytorch_model.safetensors"]
    assert type(AutoModelForImageTextToText.from_pretrained(tmp_path / "out")) is ShowoForConditionalGeneration
