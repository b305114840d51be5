"""Show-o against an independent reference in plain torch, on weights with their published names.

Largest differences measured in fp32: latents of the image tokenizer 1.8e-6 (of values up to 2.2); logits (up to 4.4)
1.4e-6, with padding at either side, and cached against uncached 9.5e-7.
"""

import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoModelForImageTextToText, DynamicCache
from trl.trainer.utils import add_fused_lm_head

import showo_reference as reference
from fedvlm_hf.models import ShowoConfig, ShowoForConditionalGeneration, ShowoModel, ShowoVQConfig
from fedvlm_hf.models.showo.conversion import convert_showo
from raw_showo import random_tensors, small_magvit_shapes, small_showo_shapes, write_checkpoints
from tiny_showo import PHI, VQ, save_showo, tiny_showo


TOLERANCE = 5e-6
"""Of logits and latents in fp32: the order of sums differs."""
NUM_HEADS = PHI["num_attention_heads"]
QUESTIONS = ["Hi?", "What is it, and where?", "A longer question, with a comma?"]


@pytest.fixture(scope="module")
def weights():
    """The weights of the fake checkpoints by their published names."""
    return random_tensors(small_showo_shapes(), seed=1) | random_tensors(small_magvit_shapes(), seed=2)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Model and processor that were converted from the same weights."""
    model, processor = convert_showo(**write_checkpoints(tmp_path_factory.mktemp("checkpoints") / "small"))
    return model.eval(), processor


def pictures(count: int) -> list[Image.Image]:
    """Noise, in several sizes."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(16, 16), (40, 24), (17, 33)]
    noise = [torch.randint(256, (*reversed(sizes[k % 3]), 3), generator=generator) for k in range(count)]
    return [Image.fromarray(values.byte().numpy()) for values in noise]


def batch(processor, questions: list[str], side: str = "left") -> dict[str, torch.Tensor]:
    texts = [f"<|mmu|><|v2v|>USER: {question} ASSISTANT:" for question in questions]
    return processor(images=pictures(len(texts)), text=texts, padding=True, padding_side=side, return_tensors="pt")


def reference_ids(weights, inputs, row: int, config: ShowoConfig) -> list[int]:
    """The tokens of a row, without padding and with the reference's codes."""
    ids = inputs["input_ids"][row][inputs["attention_mask"][row] == 1].tolist()
    (codes,) = reference.codes(weights, inputs["pixel_values"][row : row + 1], VQ["num_res_blocks"])
    left = iter(codes)
    ids = [config.first_code_id + next(left) if token == config.image_token_id else token for token in ids]
    assert next(left, None) is None
    return ids


def difference(first: torch.Tensor, second: torch.Tensor) -> float:
    return (first - second).abs().max().item()


# --- the image tokenizer ---


def test_codes_are_those_of_the_reference(weights, converted):
    """Every bit has both values, so channels in another order would show."""
    model, processor = converted
    pixels = processor.image_processor(pictures(6), return_tensors="pt")["pixel_values"]
    expected = reference.codes(weights, pixels, VQ["num_res_blocks"])
    codes = {code for image in expected for code in image}
    assert all({code >> bit & 1 for code in codes} == {0, 1} for bit in range(VQ["latent_channels"]))
    assert (model.get_image_tokens(pixels) - model.config.first_code_id).tolist() == expected
    latents = model.model.vqmodel.encoder(pixels)
    assert difference(latents, reference.latents(weights, pixels, VQ["num_res_blocks"])) < TOLERANCE


def test_a_code_by_hand():
    """Latents (3, -1, 0.5) are the bits 1, 0, 1, which is 5; 0 is not above 0."""
    vqmodel = tiny_showo()[0].model.vqmodel
    vqmodel.config.latent_channels = 3
    latents = torch.tensor([[3.0, -1.0, 0.5], [0.0, 0.0, 0.0], [-1.0, 1.0, -1.0], [1.0, 1.0, 1.0]])
    vqmodel.encoder.forward = lambda pixels: latents.T.reshape(1, 3, 2, 2)
    assert vqmodel(torch.zeros(1, 3, 8, 8)).tolist() == [[5, 0, 2, 7]]


def test_the_image_tokenizer_is_frozen_and_exact(tmp_path):
    """When it is built and loaded, in training, in bf16 and under autocast; no gradient reaches it."""
    built, processor = tiny_showo()
    inputs = batch(processor, QUESTIONS)
    codes = built.get_image_tokens(inputs["pixel_values"])
    folder = save_showo(tmp_path)
    loaded = {
        dtype: AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    }
    for model in (built, *loaded.values()):
        model.train()
        assert {parameter.dtype for parameter in model.model.vqmodel.parameters()} == {torch.float32}
        assert not any(parameter.requires_grad for parameter in model.model.vqmodel.parameters())
        assert torch.equal(model.get_image_tokens(inputs["pixel_values"]), codes)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model.get_image_tokens(inputs["pixel_values"]), codes)
            loss = model(**inputs, labels=inputs["input_ids"]).loss
        loss.backward()
        assert all(parameter.grad is None for parameter in model.model.vqmodel.parameters())
        assert all(parameter.grad is not None for parameter in model.model.language_model.parameters())
    assert loaded[torch.bfloat16].dtype == torch.bfloat16


# --- the language model ---


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_are_those_of_the_reference(weights, converted, attention, side):
    """Each row of a padded batch against the reference on that row alone."""
    model, processor = converted
    model.set_attn_implementation(attention)
    inputs = batch(processor, QUESTIONS, side)
    with torch.no_grad():
        logits = model(**inputs).logits
    for row, is_token in enumerate(inputs["attention_mask"] == 1):
        ids = reference_ids(weights, inputs, row, model.config)
        mask = reference.prefix_mask(ids, model.config.eoi_token_id)
        assert difference(logits[row][is_token], reference.logits(weights, ids, mask, NUM_HEADS)) < TOLERANCE


def test_the_mask_matters(weights, converted):
    """A causal mask would be noticed."""
    model, processor = converted
    ids = reference_ids(weights, batch(processor, QUESTIONS[:1]), 0, model.config)
    masks = (reference.prefix_mask(ids, model.config.eoi_token_id), torch.ones(len(ids), len(ids)).tril() == 1)
    first, second = (reference.logits(weights, ids, mask, NUM_HEADS) for mask in masks)
    assert difference(first[-1], second[-1]) > 0.1


def seen(model, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Which keys each query attends to, from the weights of all layers: (rows, queries, keys)."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = model(**inputs, output_attentions=True).attentions
    assert len(attentions) == PHI["num_hidden_layers"]
    found = torch.stack(attentions) > 0
    assert torch.equal(found, found[:1, :, :1].expand_as(found))
    return found[0, :, 0]


def test_the_mask_is_the_published_one():
    model, processor = tiny_showo()
    inputs = batch(processor, QUESTIONS, "right")
    for row, found in enumerate(seen(model, inputs)):
        length = int(inputs["attention_mask"][row].sum())
        expected = reference.prefix_mask(inputs["input_ids"][row, :length].tolist(), model.config.eoi_token_id)
        assert torch.equal(found[:length, :length], expected)
        assert not found[:length, length:].any()


def test_each_image_is_a_block_of_its_own_and_text_stays_causal():
    """Show-o is trained with one image. `a`, image 1, `b`, image 2, `c`: the first block starts at the row's start."""
    model, _ = tiny_showo()
    config = model.config
    image = [config.soi_token_id, config.first_code_id, config.first_code_id + 1, config.eoi_token_id]
    rows = torch.tensor([[5, *image, 6, *image, 7], [5, 6, 7, *image, 8, 9, 10, 11], list(range(11))])
    expected = torch.ones(3, 11, 11).tril() == 1
    expected[0, 0:5, 0:5] = expected[0, 6:10, 6:10] = True
    expected[1, 0:7, 0:7] = True
    assert torch.equal(seen(model, {"input_ids": rows}), expected)


@pytest.mark.parametrize("text", ["a<|soi|>b and c", "a<|eoi|>b and c", "a<|eoi|>b and<|soi|>c"])
def test_a_start_without_an_end_is_text(text):
    """A question may have the characters of these tokens. All of it, and the answer above all, must stay causal."""
    model, processor = tiny_showo()
    ids = processor.tokenizer(text, return_tensors="pt")["input_ids"]
    assert torch.equal(seen(model, {"input_ids": ids})[0], torch.ones(ids.shape[1], ids.shape[1]).tril() == 1)


def test_what_does_not_match_is_refused():
    """TRL finds this message and says what to do."""
    model, processor = tiny_showo()
    inputs = batch(processor, QUESTIONS)
    with pytest.raises(ValueError, match="Image features and image tokens do not match, tokens: 48, features: 32"):
        model(**{**inputs, "pixel_values": inputs["pixel_values"][:2]})
    with pytest.raises(ValueError, match="does not support Flash Attention"):
        model.set_attn_implementation("flash_attention_2")


def test_the_loss_is_the_shifted_cross_entropy_and_trls():
    """With the bias of the head, over the whole vocabulary, without -100."""
    model, processor = tiny_showo()
    inputs = batch(processor, QUESTIONS, "right")
    labels = torch.where(inputs["input_ids"] < 256, inputs["input_ids"], -100)
    output = model(**inputs, labels=labels)
    expected = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    add_fused_lm_head(model)
    assert model(**inputs, labels=labels, fused_lm_head=True).loss.item() == pytest.approx(expected.item(), rel=1e-6)


# --- generation ---


@pytest.mark.parametrize("cache", [{}, {"use_cache": False}, {"cache_implementation": "static"}], ids=str)
def test_what_is_generated_is_what_shows_own_loop_generates(weights, converted, cache):
    """A batch with padding at the left, against one row at a time without a cache."""
    model, processor = converted
    model.set_attn_implementation("sdpa")
    inputs = batch(processor, QUESTIONS)
    found = model.generate(**inputs, max_new_tokens=4, eos_token_id=None, **cache)[:, inputs["input_ids"].shape[1] :]
    rows = [reference_ids(weights, inputs, row, model.config) for row in range(len(QUESTIONS))]
    assert found.tolist() == [
        reference.generated(weights, ids, model.config.eoi_token_id, NUM_HEADS, num_tokens=4) for ids in rows
    ]
    assert len(set(map(tuple, found.tolist()))) > 1


def test_logits_with_a_cache_are_those_without(converted):
    """In one step for each token, and in two pieces of which the second has an image of its own."""
    model, processor = converted
    inputs = batch(processor, ["a", "b"])
    ids, pixels = inputs["input_ids"].reshape(1, -1), inputs["pixel_values"]
    middle, end = ids.shape[1] // 2, ids.shape[1]
    with torch.no_grad():
        expected = model(input_ids=ids, pixel_values=pixels).logits
        cache = DynamicCache()
        found = [model(input_ids=ids[:, :middle], pixel_values=pixels[:1], past_key_values=cache).logits]
        found += [model(input_ids=ids[:, middle : end - 3], pixel_values=pixels[1:], past_key_values=cache).logits]
        found += [model(input_ids=ids[:, [k]], past_key_values=cache).logits for k in range(end - 3, end)]
    assert difference(torch.cat(found, dim=1), expected) < TOLERANCE


# --- saving and sizes ---


def test_auto_classes_load_what_was_saved(tmp_path):
    model, processor = tiny_showo()
    folder = save_showo(tmp_path)
    inputs = batch(processor, QUESTIONS)
    loaded, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert type(loaded) is ShowoForConditionalGeneration
    assert not any(info.values())
    headless = AutoModel.from_pretrained(folder)
    assert type(headless) is ShowoModel
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
        assert torch.equal(headless(**inputs)[0], model.model(**inputs)[0])


def test_the_default_configuration_is_the_published_vocabulary():
    """50,295 tokens of Phi-1.5, [PAD] and nine special tokens, 8,192 codes and the mask token."""
    config = ShowoConfig()
    text = config.text_config
    assert (text.model_type, text.qk_layernorm, text.vocab_size) == ("phi", True, 50295 + 10 + 8192 + 1)
    assert (text.pad_token_id, config.soi_token_id, config.eoi_token_id) == (50295, 50296, 50297)
    assert (config.image_token_id, config.first_code_id) == (50303, 50305)
    assert (text.bos_token_id, text.eos_token_id) == (50256, 50256)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ShowoVQConfig(num_res_blocks=[1, 2]), r"`num_res_blocks` must have one number.*has 5, got \[1, 2\]"),
        (lambda: ShowoVQConfig(base_channels=48), "`base_channels` must be a multiple of 32.*got 48"),
        (
            lambda: ShowoConfig(first_code_id=50307),
            "the 8192 image codes need a vocabulary of 58499 entries or more.*58498",
        ),
    ],
)
def test_configurations_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
