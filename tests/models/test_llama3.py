"""The processor of a LLaVA with Llama 3: tokens, template and pixels, computed by hand."""

import logging

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, CLIPVisionConfig
from trl.data_utils import prepare_multimodal_messages
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from fedvlm_hf.models.builder import build_processor
from tiny import tiny_rows
from tiny_parts import BOS, EOS, EOT, FINETUNE_PAD, RESERVED, SPECIAL, llama3_tokenizer


VISION = CLIPVisionConfig(image_size=224, patch_size=32)
USER = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What is it?\n"}]}]
ANSWER = [{"role": "assistant", "content": [{"type": "text", "text": "A cat."}]}]


@pytest.fixture(scope="module")
def processor():
    return build_processor(llama3_tokenizer(), VISION)


def without(*tokens: str) -> tuple[str, ...]:
    return tuple(token for token in SPECIAL if token not in tokens)


def test_the_template_letter_by_letter(processor):
    begin = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
    prompt = begin + "<|reserved_special_token_0|>What is it?<|eot_id|>"
    opening = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    assert processor.apply_chat_template(USER) == prompt
    assert processor.apply_chat_template(USER, add_generation_prompt=True) == prompt + opening
    assert processor.apply_chat_template(USER + ANSWER) == f"{prompt}{opening}A cat.<|eot_id|>"
    as_text = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " Hi "}]
    assert processor.apply_chat_template(as_text) == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    )


def test_spare_tokens_become_image_and_padding(processor):
    """Llama 3.2 has its own padding for fine-tuning; the first reserved token is then the image."""
    assert processor.image_token == RESERVED[0]
    assert processor.tokenizer.pad_token == FINETUNE_PAD
    assert (processor.tokenizer.bos_token, processor.tokenizer.eos_token) == (BOS, EOT)
    assert len(processor.tokenizer) == len(llama3_tokenizer())  # nothing was added: no embedding is resized


def test_without_a_padding_token_another_spare_one_is_taken():
    processor = build_processor(llama3_tokenizer(without(FINETUNE_PAD)), VISION)
    assert (processor.image_token, processor.tokenizer.pad_token) == RESERVED[:2]


@pytest.mark.parametrize("missing", [(*RESERVED, FINETUNE_PAD), (*RESERVED[1:], FINETUNE_PAD), RESERVED])
def test_too_few_spare_tokens_are_refused(missing):
    with pytest.raises(ValueError, match="`language_model` has too few spare tokens"):
        build_processor(llama3_tokenizer(without(*missing)), VISION)


@pytest.mark.parametrize("missing", [EOT, "<|start_header_id|>"])
def test_other_tokenizers_are_refused(missing):
    with pytest.raises(ValueError, match="must have the chat tokens of Llama 3, but its tokenizer lacks") as error:
        build_processor(llama3_tokenizer(without(missing)), VISION)
    assert missing in str(error.value)


def test_training_batches_begin_once_and_end_with_eot(processor):
    """As TRL builds them: BOS once although the tokenizer would add one too, 49 image tokens a row, labels on the
    answer and its end of turn alone, padding not among them."""
    rows = [dict(row) for row in tiny_rows(2)]
    rows[1]["completion"] = [{"role": "assistant", "content": "a much longer answer"}]
    batch = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)(rows)
    ids, labels = batch["input_ids"], batch["labels"]
    tokenizer = processor.tokenizer
    assert (ids == tokenizer.bos_token_id).sum(dim=1).tolist() == [1, 1]
    assert (ids == processor.image_token_id).sum(dim=1).tolist() == [49, 49]
    assert batch["pixel_values"].shape == (2, 3, 224, 224)
    told = [tokenizer.decode(row[row != -100]) for row in labels]
    assert told == [f"{tiny_rows(2)[0]['references'][0]}{EOT}", f"a much longer answer{EOT}"]
    assert (ids == tokenizer.pad_token_id).any()
    assert not (labels == tokenizer.pad_token_id).any()


def test_prompts_for_generation_begin_once_and_are_padded_left(processor):
    messages = [prepare_multimodal_messages(row["prompt"], images=row["images"]) for row in tiny_rows(1)]
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert (inputs["input_ids"] == processor.tokenizer.bos_token_id).sum() == 1


def test_images_are_padded_to_squares_around_their_middle(processor):
    """A red picture of 64 x 32 becomes 64 x 64 with 16 rows of CLIP's mean colour above and below, then 224 x 224:
    rows 0 to 55 and 168 to 223 are the padding, but near their edges, where bicubic resampling mixes the two. A colour
    c is (c / 255 - mean) / std; the padding's is int(255 mean), 122, 116 and 104, which leaves little more than 0."""
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    pixels = processor.image_processor(Image.new("RGB", (64, 32), (255, 0, 0)), return_tensors="pt")["pixel_values"][0]
    assert pixels.shape == (3, 224, 224)
    padding = ((torch.tensor([122, 116, 104]) / 255 - mean) / std)[:, None, None]
    red = ((torch.tensor([255.0, 0, 0]) / 255 - mean) / std)[:, None, None]
    for part, colour in ((pixels[:, :48], padding), (pixels[:, -48:], padding), (pixels[:, 64:160], red)):
        assert torch.allclose(part, colour.expand_as(part), atol=1e-5)


@pytest.mark.parametrize(("size", "patch", "tokens"), [(224, 32, 49), (224, 16, 196), (336, 14, 576)])
def test_image_tokens_follow_the_tower(size, patch, tokens):
    processor = build_processor(llama3_tokenizer(), CLIPVisionConfig(image_size=size, patch_size=patch))
    inputs = processor(images=Image.new("L", (20, 90)), text=processor.image_token, return_tensors="pt")
    assert (inputs["input_ids"] == processor.image_token_id).sum() == tokens


def test_it_survives_saving(processor, tmp_path, caplog, monkeypatch):
    """Without a warning about torchvision, which users could do nothing about."""
    processor.save_pretrained(tmp_path)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert not caplog.records
    assert loaded.chat_template == processor.chat_template
    assert (loaded.image_token, loaded.tokenizer.pad_token, loaded.tokenizer.eos_token) == (
        processor.image_token,
        processor.tokenizer.pad_token,
        EOT,
    )
    image = Image.new("RGB", (30, 90), (0, 200, 0))
    text = loaded.apply_chat_template(USER, add_generation_prompt=True)
    first, second = (p(images=image, text=text, return_tensors="pt") for p in (processor, loaded))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert EOS in loaded.tokenizer.get_vocab()
