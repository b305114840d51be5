"""Fake checkpoints with published names are converted; what does not fit is refused by name and writes nothing."""

import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, LlamaConfig

from fedvlm_hf.models import ShowoConfig
from fedvlm_hf.models.showo.conversion import MAGVIT, SHOWO, convert_showo, save_converted
from fedvlm_hf.models.vlm import model_skeleton
from raw_showo import magvit_shapes, showo_shapes, small_magvit_shapes, small_showo_shapes, write_checkpoints
from tiny import tiny_rows


def parameters(shapes, start: str) -> int:
    return sum(torch.Size(shape).numel() for name, shape in shapes.items() if name.startswith(start))


def test_names_and_shapes_of_the_published_sizes():
    """On the meta device, against lists that were made from the code of Show-o; totals as its documentation has them:
    437 tensors of 1.448 billion parameters, and 382 of which 190 are the encoder's 55.44 million."""
    weights = model_skeleton(ShowoConfig()).state_dict()
    showo, magvit = showo_shapes(), magvit_shapes()
    assert {old: tuple(weights[new].shape) for old, new in SHOWO.expected(weights).items()} == showo
    encoder = {name: shape for name, shape in magvit.items() if name.startswith("encoder.")}
    assert {old: tuple(weights[new].shape) for old, new in MAGVIT.expected(weights).items()} == encoder
    assert (len(showo), len(magvit), len(encoder), len(weights)) == (437, 382, 190, 437 + 190)
    assert parameters(showo, "showo.") == 1_448_176_770
    assert parameters(magvit, "encoder.") == 55_439_171
    assert round(parameters(magvit, "decoder.") / 1e6, 2) == 39.95
    assert magvit["encoder.down.1.block.0.nin_shortcut.weight"] == (256, 128, 1, 1)
    assert magvit["encoder.mid.attn_1.q.weight"] == (512, 512, 1, 1)


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "pytorch_model.safetensors", "model.safetensors"])
def test_a_converted_model_has_the_same_logits_after_save_and_load(tmp_path, weights):
    folders = write_checkpoints(tmp_path, weights)
    model, processor = convert_showo(**folders)
    save_converted(**folders, output_dir=tmp_path / "converted")
    loaded, info = AutoModelForImageTextToText.from_pretrained(tmp_path / "converted", output_loading_info=True)
    assert not any(info.values())
    inputs = processor(
        images=tiny_rows(1)[0]["images"], text="<|mmu|><|v2v|>USER: What? ASSISTANT:", return_tensors="pt"
    )
    again = AutoProcessor.from_pretrained(tmp_path / "converted")(
        images=tiny_rows(1)[0]["images"], text="<|mmu|><|v2v|>USER: What? ASSISTANT:", return_tensors="pt"
    )
    with torch.no_grad():
        assert torch.equal(loaded(**again).logits, model.eval()(**inputs).logits)
    source = torch.load(folders["showo"] / weights) if weights.endswith(".bin") else None
    if source is not None:
        state = loaded.state_dict()
        assert all(torch.equal(state[new], source[old]) for old, new in SHOWO.expected(state).items())
    assert str(tmp_path) not in (tmp_path / "converted" / "config.json").read_text()


def test_what_a_converted_model_is(tmp_path):
    """257 tokens, 10 of Show-o, 256 codes and 1 mask token. The normalization that no configuration mentions is on."""
    model, processor = convert_showo(**write_checkpoints(tmp_path))
    config = model.config
    assert config.text_config.qk_layernorm
    assert (config.text_config.vocab_size, config.first_code_id) == (257 + 10 + 256 + 1, 267)
    assert (config.soi_token_id, config.eoi_token_id, config.image_token_id) == (258, 259, 265)
    assert processor.image_processor.crop_size["height"] == 4 * 4  # 16 codes, each of 4 x 4 pixels
    generation = model.generation_config
    assert processor.tokenizer.padding_side == "left"
    assert (generation.do_sample, generation.eos_token_id, generation.pad_token_id) == (False, 256, 257)
    assert (config.text_config.eos_token_id, config.text_config.pad_token_id) == (256, 257)
    assert not any(parameter.requires_grad for parameter in model.model.vqmodel.parameters())


def test_weights_in_bf16_stay_so_but_for_the_image_tokenizer(tmp_path):
    folders = write_checkpoints(tmp_path)
    for name in ("showo", "magvit"):
        path = folders[name] / "pytorch_model.bin"
        torch.save({key: tensor.bfloat16() for key, tensor in torch.load(path).items()}, path)
    save_converted(**folders, output_dir=tmp_path / "converted")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "converted", dtype="auto")
    assert {parameter.dtype for parameter in model.model.language_model.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.model.vqmodel.parameters()} == {torch.float32}


# --- what does not fit ---


def refused(folders: dict[str, Path], output_dir: Path, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        save_converted(**folders, output_dir=output_dir)
    assert not output_dir.exists()
    assert not list(output_dir.parent.glob(".*"))


def change(folder: Path, edit) -> None:
    path = folder / "pytorch_model.bin"
    tensors = torch.load(path)
    edit(tensors)
    torch.save(tensors, path)


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [
        ("showo", "showo.model.layers.1.self_attn.q_layernorm.weight"),
        ("showo", "showo.lm_head.bias"),
        ("magvit", "encoder.down.1.block.0.norm1.bias"),
    ],
)
@pytest.mark.parametrize("problem", ["missing", "of another shape"])
def test_weights_that_do_not_fit_are_named(tmp_path, checkpoint, name, problem):
    folders = write_checkpoints(tmp_path / "in")
    shape = tuple((small_showo_shapes() | small_magvit_shapes())[name])
    if problem == "missing":
        change(folders[checkpoint], lambda tensors: tensors.pop(name))
        expected = f"1 missing: {name}"
    else:
        change(folders[checkpoint], lambda tensors: tensors.update({name: torch.zeros(*shape, 2)}))
        expected = re.escape(f"1 of another shape: {name} {(*shape, 2)} instead of {shape}")
    refused(folders, tmp_path / "out", f"`--{checkpoint}` .*{expected}.*Nothing was written")


def test_unknown_weights_are_named_and_unneeded_ones_are_not(tmp_path):
    folders = write_checkpoints(tmp_path / "in")
    change(folders["magvit"], lambda tensors: tensors.update({"encoder.extra": torch.zeros(1), "z": torch.zeros(1)}))
    refused(folders, tmp_path / "out", "`--magvit` .*2 unknown: encoder.extra, z")
    change(folders["magvit"], lambda tensors: [tensors.pop(name) for name in ("encoder.extra", "z")])
    change(folders["magvit"], lambda tensors: [tensors.pop(k) for k in list(tensors) if k.startswith("quantize.")])
    save_converted(**folders, output_dir=tmp_path / "out")
    change(folders["showo"], lambda tensors: tensors.update({"mm_projector.0.weight": torch.zeros(1)}))
    refused(folders, tmp_path / "again", "`--showo` .*1 unknown: mm_projector.0.weight")


class Harmful:
    def __reduce__(self):
        return os.mkdir, (os.environ["HARM"],)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
@pytest.mark.parametrize("checkpoint", ["showo", "magvit"])
def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path, monkeypatch, checkpoint, write):
    monkeypatch.setenv("HARM", str(tmp_path / "harmed"))
    folders = write_checkpoints(tmp_path / "in")
    write({"showo.lm_head.bias": Harmful()}, folders[checkpoint] / "pytorch_model.bin")
    refused(folders, tmp_path / "out", f"`--{checkpoint}`: .*pytorch_model.bin cannot be read: .*may do anything")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pytorch_model.bin", b"version https://git-lfs", "pytorch_model.bin cannot be read"),
        ("pytorch_model.bin", b"", "pytorch_model.bin cannot be read"),
        ("pytorch_model.safetensors", b"\x08" + bytes(7) + b"{}", "pytorch_model.safetensors cannot be read"),
        ("config.json", b"{", "config.json cannot be read as JSON"),
        ("config.json", b"[]", "config.json must be a JSON object, got a list"),
    ],
)
@pytest.mark.parametrize("checkpoint", ["showo", "magvit"])
def test_damaged_files_are_named(tmp_path, checkpoint, name, content, message):
    folders = write_checkpoints(tmp_path / "in")
    (folders[checkpoint] / name).write_bytes(content)
    refused(folders, tmp_path / "out", f"`--{checkpoint}`: .*{message}")


def test_other_contents_are_refused(tmp_path):
    folders = write_checkpoints(tmp_path / "in")
    torch.save([torch.zeros(1)], folders["showo"] / "pytorch_model.bin")
    refused(folders, tmp_path / "out", "must have a dictionary of tensors and nothing else")
    torch.save({"step": 3}, folders["showo"] / "pytorch_model.bin")
    refused(folders, tmp_path / "out", "must have a dictionary of tensors and nothing else")
    (folders["showo"] / "pytorch_model.bin").unlink()
    refused(folders, tmp_path / "out", "`--showo` .* has no weights. It must have one of pytorch_model.safetensors")
    (folders["showo"] / "config.json").unlink()
    refused(folders, tmp_path / "out", r"`--showo`: .*config.json cannot be read as JSON: .*No such file")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"w_clip_vit": True}, "vision tower of CLIP.*Use showlab/show-o or"),
        ({"vocab_size": 525}, "vocab_size 525 instead of 524. .*257 tokens of Phi, 10 of Show-o, 256 image codes"),
        ({"llm_vocab_size": 256}, "llm_vocab_size 256 instead of 257"),
        ({"codebook_size": 8192}, "codebook_size 8192 instead of 256"),
        ({"num_vq_tokens": 20}, "`num_vq_tokens` in its config.json must be a square number.*got 20"),
        ({"num_vq_tokens": "16"}, "`num_vq_tokens` in its config.json must be a square number.*got '16'"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(tmp_path, config, message):
    refused(write_checkpoints(tmp_path / "in", **config), tmp_path / "out", f"`--showo` .*{message}")


def test_another_language_model_is_refused(tmp_path):
    folders = write_checkpoints(tmp_path / "in")
    LlamaConfig().save_pretrained(folders["phi"])
    refused(folders, tmp_path / "out", "`--phi` .* must be a Phi, but it has the model type 'llama'")


def test_an_existing_folder_is_not_overwritten(tmp_path):
    folders = write_checkpoints(tmp_path / "in")
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"`--output_dir` .* exists already and is not overwritten"):
        save_converted(**folders, output_dir=tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
