"""`fedvlm merge`: the saved model gives the logits of base model and adapter, without PEFT."""

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor

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
