"""The vocabulary as published, the chat format, what is cut out of an image, and boxes in its frame."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, models
from transformers import AutoProcessor, PreTrainedTokenizerFast
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from fedvlm_hf.data.boxes import Box, from_mask
from fedvlm_hf.data.frames import Frame, frame_rule
from fedvlm_hf.data.framing import wrap_collator
from fedvlm_hf.models import ShowoConfig, ShowoProcessor
from fedvlm_hf.models.showo import build_processor
from tiny import tiny_rows
from tiny_showo import END, IMAGE_SIZE, phi_tokenizer, showo_processor


PUBLISHED = {
    "[PAD]": 50295, "<|soi|>": 50296, "<|eoi|>": 50297, "<|sov|>": 50298, "<|eov|>": 50299, "<|t2i|>": 50300,
    "<|mmu|>": 50301, "<|t2v|>": 50302, "<|v2v|>": 50303, "<|lvg|>": 50304,
}  # fmt: skip


def message(role: str, text: str, num_images: int = 0) -> dict:
    return {"role": role, "content": [{"type": "image"}] * num_images + [{"type": "text", "text": text}]}


def full_size_processor(image_size: int = 256) -> ShowoProcessor:
    """With as many tokens as Phi-1.5 has, of which 50256 is the end."""
    words = [END if index == 50256 else f"w{index}" for index in range(50295)]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=END))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END)
    return build_processor(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special), image_size)


def test_added_tokens_have_the_published_ids():
    """And the first code has the id right after them, which a further token would take."""
    processor = full_size_processor()
    vocabulary, config = processor.tokenizer.get_vocab(), ShowoConfig()
    assert {token: vocabulary[token] for token in PUBLISHED} == PUBLISHED
    assert len(processor.tokenizer) == config.first_code_id == 50305
    assert processor.tokenizer.pad_token_id == config.text_config.pad_token_id
    assert processor.tokenizer.eos_token_id == config.text_config.eos_token_id
    assert processor.image_token_id == config.image_token_id


@pytest.mark.parametrize(("image_size", "num_codes"), [(256, 256), (512, 1024)])
def test_number_of_codes_of_the_published_sizes(image_size, num_codes):
    inputs = full_size_processor(image_size)(
        images=Image.new("RGB", (640, 480)), text="<|mmu|><|v2v|>", return_tensors="pt"
    )
    codes = [50303] * num_codes
    assert inputs["input_ids"].tolist() == [[50301, 50296, *codes, 50297]]
    assert inputs["pixel_values"].shape == (1, 3, image_size, image_size)


def test_the_chat_format_is_that_of_the_training():
    """`<|mmu|>`, the image, `USER: question ASSISTANT: answer<|endoftext|>`, and the next question at once."""
    processor = showo_processor()
    question, answer = message("user", " What is it?\n", num_images=1), message("assistant", "a cat ")
    render = processor.apply_chat_template
    prompt = "<|mmu|><|v2v|>USER: What is it? ASSISTANT:"
    assert render([question], add_generation_prompt=True) == prompt
    assert render([question, answer]) == f"{prompt} a cat{END}"
    assert render([question, answer, message("user", "Sure?")], add_generation_prompt=True) == (
        f"{prompt} a cat{END}USER: Sure? ASSISTANT:"
    )
    assert render([{"role": "user", "content": "Hi"}], add_generation_prompt=True) == "<|mmu|>USER: Hi ASSISTANT:"
    assert render([message("system", "Be brief."), message("user", "Hi", 2)]) == (
        "<|mmu|>Be brief. <|v2v|><|v2v|>USER: Hi "
    )


def test_labels_are_the_answer_with_its_space_and_its_end():
    processor = showo_processor()
    collator = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    output = collator([dict(row) for row in tiny_rows(3)])
    for row, example in enumerate(tiny_rows(3)):
        labels = output["labels"][row]
        text = processor.tokenizer.decode(labels[labels != -100])
        assert text == f" {example['completion'][0]['content']}{END}"
    assert output["pixel_values"].shape == (3, 3, IMAGE_SIZE, IMAGE_SIZE)


def test_decoding_leaves_out_what_is_not_text():
    processor = showo_processor()
    ids = processor.tokenizer(f"<|mmu|><|soi|><|v2v|><|eoi|>USER: a{END}[PAD]")["input_ids"]
    assert len(ids) == 4 + len("USER: a") + 2
    assert processor.tokenizer.decode(ids, skip_special_tokens=True) == "USER: a"


def test_pixels_by_hand():
    """16 x 16 stays as it is: 0 -> -1, 255 -> 1 and 51 -> -0.6. 32 x 16 loses eight columns at each side."""
    values = np.zeros((16, 16, 3), np.uint8)
    values[:, 8:] = 255
    values[0, 0] = 51
    image_processor = showo_processor().image_processor
    pixels = image_processor([Image.fromarray(values)], return_tensors="pt")["pixel_values"][0]
    expected = torch.full((3, 16, 16), -1.0)
    expected[:, :, 8:] = 1.0
    expected[:, 0, 0] = -0.6
    torch.testing.assert_close(pixels, expected)
    wide = Image.new("RGB", (32, 16), "red")
    wide.paste(Image.fromarray(values), (8, 0))
    torch.testing.assert_close(image_processor([wide], return_tensors="pt")["pixel_values"][0], expected)


def test_images_of_several_sizes_and_rows_without_one_in_a_batch():
    processor = showo_processor()
    images = [[Image.new("RGB", (40, 20))], [], [Image.new("L", (16, 99)), Image.new("RGBA", (7, 7))]]
    texts = ["<|mmu|><|v2v|>a", "<|mmu|>a", "<|mmu|><|v2v|><|v2v|>a"]
    inputs = processor(images=images, text=texts, padding=True, return_tensors="pt")
    assert inputs["pixel_values"].shape == (3, 3, 16, 16)
    assert (inputs["input_ids"] == processor.image_token_id).sum(1).tolist() == [16, 0, 32]
    assert inputs["attention_mask"].sum(1).tolist() == [1 + 18 + 1, 1 + 1, 1 + 2 * 18 + 1]
    assert inputs["attention_mask"][:, -1].tolist() == [1, 1, 1]  # padded at the left


def test_saving_and_loading(tmp_path):
    processor = showo_processor()
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is ShowoProcessor
    assert (loaded.patch_size, loaded.chat_template) == (4, processor.chat_template)
    assert loaded.tokenizer.padding_side == "left"
    arguments = {"images": Image.new("RGB", (30, 20), "blue"), "text": "<|mmu|><|v2v|>USER: a", "return_tensors": "pt"}
    first, second = processor(**arguments), loaded(**arguments)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_tokenizer_without_the_tokens_is_refused():
    with pytest.raises(ValueError, match=r"`tokenizer` must have.*lacks \[PAD\], <\|soi\|>,.*`build_processor`"):
        ShowoProcessor(showo_processor().image_processor, phi_tokenizer())


# --- boxes ---


def test_a_rectangle_is_where_its_frame_says():
    """64 x 32 becomes 32 x 16, of which columns 8 to 24 are left: x -> 2 x - 0.5, y stays."""
    processor = showo_processor()
    frame = frame_rule(processor)(64, 32)
    assert frame == Frame(scale=(2.0, 1.0), offset=(-0.5, 0.0))
    image = Image.new("RGB", (64, 32))
    ImageDraw.Draw(image).rectangle((24, 8, 39, 23), fill="white")
    pixels = processor.image_processor([image], return_tensors="np")["pixel_values"][0][0]
    box = Box(24 / 64, 8 / 32, 40 / 64, 24 / 32)
    assert frame.to_model(box) == from_mask(pixels > 0) == Box(0.25, 0.25, 0.75, 0.75)
    assert frame.to_stored(Box(0.25, 0.25, 0.75, 0.75)) == box


def test_boxes_of_rows_are_those_that_the_model_sees():
    processor = showo_processor()
    rows = tiny_rows(1, task="grounding")
    row = {
        **rows[0],
        "images": [Image.new("RGB", (64, 32))],
        "completion": [{"role": "assistant", "content": "[0.375, 0.250, 0.625, 0.750]"}],
    }
    collate = wrap_collator(DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True), processor, {})
    labels = collate([row])["labels"][0]
    assert processor.tokenizer.decode(labels[labels != -100]) == f" [0.250, 0.250, 0.750, 0.750]{END}"
