"""`fedvlm inspect`, on folders without weights and on the loopback Hub."""

import json
import re
import subprocess
import sys

import pytest
from transformers import AutoConfig

from fedvlm_hf.cli import main
from fedvlm_hf.models import vlm
from hub_server import running
from tiny import tiny_llava


@pytest.fixture(autouse=True)
def families_as_before(monkeypatch):
    monkeypatch.setattr(vlm, "_FAMILIES", dict(vlm._FAMILIES))


@pytest.fixture
def folder(tmp_path) -> str:
    tiny_llava()[0].config.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_parts_sizes_and_bytes_by_hand(folder, capsys):
    """Connector: 16 x 32 + 32 and 32 x 32 + 32. LoRA of rank 4: 2 layers, q and v, 4 (32 + 32) each."""
    target = ".*language_model.*(q|v)_proj"
    assert main(["inspect", folder, "--lora_r", "4", "--lora_target_modules", "o_proj", "k_proj"]) == 0
    printed = capsys.readouterr().out
    assert f"{folder}: LlavaForConditionalGeneration, model type llava" in printed
    for part, path in [("vision tower", "vision_tower"), ("connector", "multi_modal_projector")]:
        assert re.search(rf"^{part} +model\.{path}$", printed, flags=re.MULTILINE)
    connector = 16 * 32 + 32 + 32 * 32 + 32
    assert re.search(rf"^connector +{connector:,}$", printed, flags=re.MULTILINE)
    assert main(["inspect", folder, "--lora_r", "4", "--lora_target_modules", target]) == 0
    printed = capsys.readouterr().out
    lora = 2 * 2 * 4 * (32 + 32)
    for tuning, count in [("connector", connector), ("llm", lora), ("joint", connector + lora)]:
        assert re.search(rf"^{tuning} +{count:,} +{4 * count:,} +{4 * count:,}$", printed, flags=re.MULTILINE)
    assert "two_stage  trains the connector in the first stage" in printed
    assert "LoRA r=4 alpha=32 on 4 linears of the language model:" in printed


def test_lora_outside_the_language_model_is_said(folder, capsys):
    assert main(["inspect", folder, "--lora_target_modules", "q_proj", "v_proj"]) == 0
    assert "on 8 linears of the language model and the vision tower:" in capsys.readouterr().out


def test_a_model_at_its_full_size(tmp_path, capsys):
    """Qwen3-VL, whose connector is four modules inside the tower."""
    AutoConfig.for_model("qwen3_vl").save_pretrained(tmp_path)
    assert main(["inspect", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert (
        len(re.findall("^connector +model.visual.(?:merger|deepstack_merger_list.[012])$", printed, re.MULTILINE)) == 4
    )


def test_the_option_for_parts_that_are_not_found(folder, capsys):
    parts = {"decoder": "model.language_model", "tower": "model.vision_tower", "connector": None}
    assert main(["inspect", folder, "--vlm_parts", json.dumps(parts)]) == 0
    printed = capsys.readouterr().out
    assert "joint" not in printed
    assert "two_stage" not in printed


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["no/such/folder"], "`MODEL` 'no/such/folder' is not a folder"),
        (["{florence}"], "'florence2' is an encoder-decoder"),
        (["{bert}"], "'bert' is a language model that takes no images"),
        (["{model}", "--lora_r", "0"], "`--lora_r` must be at least 1"),
        (["{model}", "--lora_target_modules", "q_prj"], "'q_prj', but no module"),
    ],
)
def test_what_cannot_be_shown_is_one_line(folder, tmp_path, options, problem, capsys):
    for name, model_type in [("florence", "florence2"), ("bert", "bert")]:
        AutoConfig.for_model(model_type).save_pretrained(tmp_path / name)
    paths = {"model": folder, "florence": tmp_path / "florence", "bert": tmp_path / "bert"}
    assert main(["inspect", *(option.format(**paths) for option in options)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("fedvlm inspect: error: ")
    assert problem in error


HUB = """
import sys
from huggingface_hub import HfApi
from fedvlm_hf.cli import main

HfApi().create_repo("alice/model")
HfApi().upload_file(path_or_fileobj=sys.argv[1], path_in_repo="config.json", repo_id="alice/model")
sys.exit(main(["inspect", "alice/model"]))
"""


def test_a_model_on_the_hub(folder, tmp_path):
    """Its configuration is all that it has."""
    with running(tmp_path / "hub", {"hf_alice": ("alice", "write")}) as hub:
        done = subprocess.run(
            [sys.executable, "-c", HUB, f"{folder}/config.json"],
            env=hub.environment("hf_alice", tmp_path / "home"), capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "alice/model: LlavaForConditionalGeneration, model type llava" in done.stdout
    assert "joint" in done.stdout
