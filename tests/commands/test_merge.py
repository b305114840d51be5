"""`fedvlm merge`: the saved model gives the logits of base model and adapter, without PEFT."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration

from federation import federated
from fedvlm_hf import apply_base_delta
from fedvlm_hf.cli import main
from fedvlm_hf.commands import merge
from tiny import save_tiny, tiny_federation


TOLERANCE = 1e-5
"""Of logits in fp32: merging sums a product that the adapter adds to the output of the layer."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs of one round: `fedavg` and `flora`, which changes the base model, and `local`; and the base model."""
    folder = tmp_path_factory.mktemp("trained")
    base = save_tiny(folder / "base")
    for method in ("fedavg", "flora", "local"):
        data = tiny_federation({"client_00": 4, "client_01": 3}, test_rows=2)
        federated(folder / method, data, model=base, num_rounds=2, method=method).train()
    return folder


def logits(model, folder) -> torch.Tensor:
    processor = AutoProcessor.from_pretrained(folder)
    row = tiny_federation()["test"][0]
    content = [{"type": "image", "image": row["images"][0]}, {"type": "text", "text": "Which colour?"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True,
        return_tensors="pt",
    )  # fmt: skip
    with torch.no_grad():
        return model.eval()(**inputs).logits


def with_adapter(trained, place: str) -> torch.Tensor:
    base = apply_base_delta(AutoModelForImageTextToText.from_pretrained(trained / "base"), trained / place)
    return logits(PeftModel.from_pretrained(base, trained / place), trained / "base")


def with_scores(run: Path) -> Path:
    """Give round r of a saved run the score r / 8, and 1 - r / 8 to `client_01`."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for round_idx, line in enumerate(lines):
        clients = {"client_01": {"vqa_accuracy": 1 - round_idx / 8}}
        line["evaluations"] = {"test": {"scores": {"vqa_accuracy": round_idx / 8}, "clients": clients}}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


@pytest.mark.parametrize(
    ("run", "place"),
    [
        ("fedavg", "fedavg/rounds/round-0002"),
        ("fedavg/rounds/round-0001", "fedavg/rounds/round-0001"),
        ("flora", "flora/rounds/round-0002"),
    ],
)
def test_the_merged_model_has_the_logits_of_base_and_adapter(trained, tmp_path, run, place, capsys):
    merge.run([str(trained / run), "--output_dir", str(tmp_path / "merged")])
    assert place[-10:] in capsys.readouterr().out
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged")
    expected = with_adapter(trained, place)
    torch.testing.assert_close(logits(merged, tmp_path / "merged"), expected, rtol=0, atol=TOLERANCE)
    base = AutoModelForImageTextToText.from_pretrained(trained / "base")
    assert list(merged.state_dict()) == list(base.state_dict())
    assert (logits(base, trained / "base") - expected).abs().max() > 100 * TOLERANCE
    connector = "model.multi_modal_projector.linear_1.weight"  # trained in full, not with LoRA
    assert not torch.equal(merged.state_dict()[connector], base.state_dict()[connector])


def test_the_merged_model_has_a_card(trained, tmp_path, monkeypatch, capsys):
    """License, data and tags are those of the run's card, and the code of the card loads the model."""
    monkeypatch.chdir(tmp_path)
    with_scores(shutil.copytree(trained / "fedavg", tmp_path / "run"))
    card = ModelCard.load("run/README.md")
    card.data.license, card.data.datasets = "apache-2.0", ["owner/data"]
    card.save("run/README.md")
    merge.run(["run/rounds/round-0001", "--output_dir", "out/merged", "--base_model", str(trained / "base")])
    merged = ModelCard.load("out/merged/README.md")
    found = {key: merged.data.to_dict().get(key) for key in ("library_name", "pipeline_tag", "license", "datasets")}
    assert found == {
        "library_name": "transformers", "pipeline_tag": "image-text-to-text", "license": "apache-2.0",
        "datasets": ["owner/data"],
    }  # fmt: skip
    assert merged.data.tags == ["federated-learning", "fedvlm_hf", "trl", "lora", "sft"]
    assert merged.data.base_model is None  # it is a folder, and no model on the Hub
    text = " ".join(merged.text.split())
    assert "# merged Round 1 of the federated run `run` by `fedavg`, merged into `base`" in text
    assert (
        "Evaluation set `test`: | task | metric | score | | ---- | -------- | ----: | | vqa | accuracy | 0.125 |"
        in text
    )
    assert str(tmp_path) not in str(merged)
    namespace = {}
    exec(re.search(r"```python\n(.*?)```", merged.text, re.DOTALL)[1], namespace)
    assert isinstance(namespace["model"], LlavaForConditionalGeneration)
    assert namespace["processor"].tokenizer is not None


def test_the_card_of_a_clients_model_has_the_clients_scores(trained, tmp_path):
    run = with_scores(shutil.copytree(trained / "local", tmp_path / "run"))
    merge.run([str(run), "--client_id", "client_01", "--output_dir", str(tmp_path / "merged")])
    text = " ".join((tmp_path / "merged" / "README.md").read_text().split())
    assert "by `local`, with what the client `client_01` keeps for itself, merged into `base`" in text
    assert "| vqa | accuracy | 0.750 |" in text


def test_a_run_without_scores_and_without_a_card_is_merged(trained, tmp_path):
    shutil.copytree(trained / "fedavg", tmp_path / "run")
    (tmp_path / "run" / "README.md").unlink()
    merge.run([str(tmp_path / "run"), "--output_dir", str(tmp_path / "merged")])
    card = ModelCard.load(tmp_path / "merged" / "README.md")
    assert "Scores" not in card.text
    assert card.data.license is None
    assert "federated-learning" in card.data.tags


def test_in_half_of_the_space(trained, tmp_path):
    merge.run([str(trained / "fedavg"), "--output_dir", str(tmp_path / "merged"), "--dtype", "bfloat16"])
    with safe_open(tmp_path / "merged" / "model.safetensors", framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118


def test_the_model_of_a_client(trained, tmp_path):
    """Each is another model, and none is the base model, which the round alone would give."""
    found = []
    for client_id in ("client_00", "client_01"):
        folder = tmp_path / client_id
        merge.run([str(trained / "local"), "--client_id", client_id, "--output_dir", str(folder)])
        found.append(logits(AutoModelForImageTextToText.from_pretrained(folder), folder))
    found.append(logits(AutoModelForImageTextToText.from_pretrained(trained / "base"), trained / "base"))
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert (found[one] - found[other]).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["local"], "`--client_id` is needed: .*'local'.* client_00, client_01"),
        (["local", "--client_id", "client_7"], "`--client_id` 'client_7' is not a client"),
        (["fedavg", "--client_id", "client_00"], "all clients have the same model"),
        (["fedavg/rounds/round-0007"], "`rounds` has 7, but the rounds of .* are 0, 1, 2"),
        (["base"], "holds no run|no metrics.jsonl"),
        (["fedavg", "--base_model", "/nowhere/base"], "was in '/nowhere/base', which no longer exists"),
    ],
)
def test_what_cannot_be_merged_is_refused_and_leaves_nothing(trained, tmp_path, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        merge.run([str(trained / arguments[0]), *arguments[1:], "--output_dir", str(tmp_path / "merged")])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(trained, tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    for place in (tmp_path, tmp_path / "mine"):
        assert main(["merge", str(trained / "fedavg"), "--output_dir", str(place)]) == 2
        assert "`output_dir`" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "mine"
