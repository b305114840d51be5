"""Assemble CLIP, connector and Llama 3 from folders that transformers saved, and train the model."""

import inspect
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, BertConfig, LlavaForConditionalGeneration
from transformers.trainer_utils import align_special_tokens

from federation import config
from fedvlm_hf import FederatedTrainer
from fedvlm_hf.models import FedLlavaForConditionalGeneration, untrained_connector
from fedvlm_hf.models.builder import LlavaRecipe, build_llava, save_llava
from fedvlm_hf.models.connectors import reset_connector
from tiny import tiny_federation, tiny_rows
from tiny_parts import EOS, EOT, FINETUNE_PAD, SPECIAL, save_clip, save_llama3


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Folders and models of a CLIP and a Llama."""
    root = tmp_path_factory.mktemp("parts")
    return save_clip(root / "clip"), save_llama3(root / "llama")


@pytest.fixture
def transformers_log(caplog, monkeypatch):
    """Warnings of transformers, which its logger does not propagate to pytest by default."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    return caplog


@pytest.fixture(scope="module")
def recipe(parts) -> LlavaRecipe:
    (clip, _), (llama, _) = parts
    return LlavaRecipe(vision_model=clip, language_model=llama, dtype="float32", seed=5)


def inputs(processor) -> dict[str, torch.Tensor]:
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    image = tiny_rows(1, seed=9)[0]["images"]
    return processor(images=image, text=text, add_special_tokens=False, return_tensors="pt")


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_every_weight_of_the_parts_is_in_the_whole(tmp_path, whole, tied, transformers_log):
    """A CLIP as openai/clip-vit-base-patch32 is saved (with its text tower), or the tower alone; Llama 3.2's
    embeddings are tied, Llama 3.1's are not."""
    clip, tower = save_clip(tmp_path / "clip", whole)
    llama, language_model = save_llama3(tmp_path / "llama", tied=tied)
    transformers_log.clear()
    model, _ = build_llava(LlavaRecipe(clip, llama, dtype="float32"))
    assert not transformers_log.records  # and so no report of weights that were never asked for
    expected = {f"model.vision_tower.{name}": tensor for name, tensor in tower.state_dict().items()}
    expected |= {f"model.language_model.{name}": t for name, t in language_model.model.state_dict().items()}
    expected |= {"lm_head.weight": language_model.lm_head.weight}
    found = model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert len(found) == len(expected) + 4  # and the connector
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    assert model.config.tie_word_embeddings == tied


def test_an_old_checkpoint_with_position_ids_loads(tmp_path, parts, transformers_log):
    """As OpenAI's is: a buffer that transformers no longer keeps."""
    clip, tower = save_clip(tmp_path / "clip")
    weights = load_file(f"{clip}/model.safetensors") | {"vision_model.embeddings.position_ids": torch.arange(50)[None]}
    save_file(weights, f"{clip}/model.safetensors", {"format": "pt"})
    transformers_log.clear()
    model, _ = build_llava(LlavaRecipe(clip, parts[1][0], dtype="float32"))
    assert not transformers_log.records
    assert torch.equal(model.model.vision_tower.pre_layrnorm.weight, tower.pre_layrnorm.weight)


@pytest.mark.parametrize(("connector", "layers"), [("linear", 1), ("mlp2x", 2), ("mlp6x", 6)])
def test_the_whole_by_hand(recipe, parts, connector, layers):
    """49 features of the last but one layer without the class token, through the connector, in the place of 49 image
    tokens; then the Llama as it was."""
    (_, tower), (_, language_model) = parts
    model, processor = build_llava(replace(recipe, connector=connector))
    assert type(model) is (LlavaForConditionalGeneration if layers == 2 else FedLlavaForConditionalGeneration)
    batch = inputs(processor)
    images = batch["input_ids"][0] == processor.image_token_id
    assert images.sum() == model.config.image_seq_length == 49
    linears = [torch.nn.Linear(*size) for size in [(16, 32), *[(32, 32)] * (layers - 1)]]
    reset_connector(torch.nn.Sequential(*linears), seed=5)
    with torch.no_grad():
        features = tower(batch["pixel_values"], output_hidden_states=True).hidden_states[-2][:, 1:]
        for index, linear in enumerate(linears):
            features = linear(torch.nn.functional.gelu(features) if index else features)
        embeddings = language_model.get_input_embeddings()(batch["input_ids"])
        embeddings[0, images] = features[0]
        expected = language_model(inputs_embeds=embeddings).logits
        assert torch.allclose(model(**batch).logits, expected, atol=1e-5)
        labels = torch.where(images, -100, batch["input_ids"][0])[None]
        loss = torch.nn.functional.cross_entropy(expected[0, :-1], labels[0, 1:])
        assert model(**batch, labels=labels).loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert untrained_connector(model)


def test_what_ends_and_pads_a_text(recipe):
    """The template's end of turn comes first, what ends the Llama's own texts stays; the rest is greedy and silent,
    although Llama's own generation_config.json samples."""
    model, processor = build_llava(recipe)
    token = processor.tokenizer.convert_tokens_to_ids
    for where in (model.generation_config, model.config.text_config):
        assert where.eos_token_id == [token(EOT), token(EOS)]
        assert where.pad_token_id == token(FINETUNE_PAD)
    assert model.generation_config.do_sample is False
    assert model.generation_config.temperature is None
    assert processor.tokenizer.padding_side == "left"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtype(recipe, tmp_path, dtype):
    folder = save_llava(replace(recipe, dtype=dtype), tmp_path / "x")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto")
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    with pytest.raises(ValueError, match="`dtype` must be one of bfloat16, float16, float32, got 'int8'"):
        replace(recipe, dtype="int8")


@pytest.mark.parametrize("connector", ["mlp2x", "mlp6x"])
def test_it_is_saved_once_and_loads_by_name(recipe, tmp_path, connector):
    wanted = replace(recipe, connector=connector)
    folder = save_llava(wanted, tmp_path / "x")
    before = {path.name: path.stat().st_mtime_ns for path in Path(folder).iterdir()}
    assert save_llava(wanted, tmp_path / "x") == folder
    assert {path.name: path.stat().st_mtime_ns for path in Path(folder).iterdir()} == before
    with pytest.raises(ValueError, match="another recipe"):
        save_llava(replace(wanted, seed=6), tmp_path / "x")
    model, processor = build_llava(wanted)
    loaded, loaded_processor = (
        AutoModelForImageTextToText.from_pretrained(folder),
        AutoProcessor.from_pretrained(folder),
    )
    first, second = inputs(processor), inputs(loaded_processor)
    assert all(torch.equal(first[name], second[name]) for name in first)
    with torch.no_grad():
        assert torch.equal(loaded(**second).logits, model(**first).logits)
    # the name of a part's folder is nobody's business but this machine's
    assert str(tmp_path.parent) not in (Path(folder) / "config.json").read_text()
    assert loaded_processor.tokenizer.padding_side == "left"


def test_a_federation_trains_on_it(recipe, tmp_path, transformers_log):
    """Two clients, two rounds of two steps, answers generated; the export loads on the folder and generates. Trainer
    would warn where tokenizer and configuration disagree on special tokens, and change the configuration."""
    folder = save_llava(replace(recipe, connector="linear"), tmp_path / "base")
    data = tiny_federation({"client_00": 2, "client_01": 2}, test_rows=1)
    args = config(tmp_path / "out", max_steps=2, eval_max_new_tokens=2, per_device_train_batch_size=1)
    transformers_log.clear()
    trainer = FederatedTrainer(folder, args, data)
    before = trainer.local.initial
    trainer.train()
    warned = [record for record in transformers_log.records if "PAD/BOS/EOS" in record.getMessage()]
    # older versions look for the tokens in the outer configuration, where no LLaVA has them, and always warn
    assert not warned or "get_text_config" not in inspect.getsource(align_special_tokens)
    assert all(not torch.equal(before[name], trainer.federation.tensors[name]) for name in before)
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    export = tmp_path / "out" / "rounds" / "round-0002"
    base = json.loads((export / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert Path(base).resolve() == Path(folder)
    loaded = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(folder), export)
    batch = inputs(AutoProcessor.from_pretrained(folder))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(**batch).logits, trainer.model.eval()(**batch).logits)
    assert loaded.generate(**batch, max_new_tokens=3).shape[1] > batch["input_ids"].shape[1]


# --- what does not fit ---


def test_other_vision_models_are_refused(recipe, tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"`vision_model` must be a CLIP.* has the model type 'bert'"):
        build_llava(replace(recipe, vision_model=str(tmp_path)))


def test_other_language_models_are_refused(recipe, tmp_path):
    with pytest.raises(ValueError, match=r"`language_model` must be a Llama 3.* has the model type 'clip'"):
        build_llava(replace(recipe, language_model=recipe.vision_model))


def test_a_tokenizer_of_another_model_is_refused(recipe, tmp_path):
    """One token more than there are embeddings."""
    llama, _ = save_llama3(tmp_path / "llama")
    save_llama3(tmp_path / "other", special=(*SPECIAL, "<|python_tag|>"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "other" / name).replace(tmp_path / "llama" / name)
    with pytest.raises(ValueError, match=r"has embeddings for 265 tokens, but its tokenizer has 266"):
        build_llava(replace(recipe, language_model=llama))


def test_a_tokenizer_without_spare_tokens_is_refused_before_any_weight_is_loaded(recipe, tmp_path):
    special = tuple(token for token in SPECIAL if "reserved" not in token)
    llama, _ = save_llama3(tmp_path / "llama", special)
    Path(llama, "model.safetensors").unlink()
    with pytest.raises(ValueError, match="too few spare tokens"):
        build_llava(replace(recipe, language_model=llama))


@pytest.mark.parametrize("part", ["vision_model", "language_model"])
def test_an_incomplete_checkpoint_is_refused(recipe, tmp_path, part):
    """transformers would fill the gap with random values and a warning."""
    folder, _ = save_clip(tmp_path / "x") if part == "vision_model" else save_llama3(tmp_path / "x")
    weights = load_file(f"{folder}/model.safetensors")
    gap = next(name for name in weights if name.endswith(("vision_model.post_layernorm.bias", "model.norm.weight")))
    del weights[gap]
    save_file(weights, f"{folder}/model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=rf"`{part}` .* lacks 1 of its weights"):
        build_llava(replace(recipe, **{part: folder}))


def test_an_unknown_connector_is_refused_at_once():
    with pytest.raises(ValueError, match="`connector` must be"):
        LlavaRecipe(connector="mlp")
