import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from fedvlm_hf.mini import base_model
from fedvlm_hf.mini.pretrain import score_base


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(base_model())


@pytest.fixture(scope="module")
def model():
    return AutoModelForImageTextToText.from_pretrained(base_model(), dtype=torch.float32)


def question(text="What digit is red?"):
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]


def test_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match=r"`name` must be one of \['llava'\]"):
        base_model("showo")


def test_folder_is_small_enough_for_a_wheel():
    assert sum(file.stat().st_size for file in Path(base_model()).iterdir()) <= 12e6


def test_loading_prints_nothing():
    """Users could do nothing about a warning at each start. Progress bars are not warnings and are turned off."""
    code = (
        "import torch; from transformers import AutoModelForImageTextToText, AutoProcessor, logging;"
        "logging.disable_progress_bar();"
        f"AutoModelForImageTextToText.from_pretrained({base_model()!r}, dtype=torch.float32);"
        f"AutoProcessor.from_pretrained({base_model()!r})"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout + run.stderr == ""


def test_size_and_dtype(model):
    assert 2.4e6 < model.num_parameters() < 2.6e6
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_special_tokens_and_greedy_generation(model, processor):
    tokenizer, generation = processor.tokenizer, model.generation_config
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, processor.image_token_id}) == 4
    assert (generation.pad_token_id, generation.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)
    assert not generation.do_sample
    assert model.config.image_token_id == processor.image_token_id


@pytest.mark.parametrize("size", [(48, 48), (300, 200), (17, 90)])
def test_processor_counts_the_tokens_that_the_tower_gives(model, processor, size):
    text = processor.apply_chat_template(question(), add_generation_prompt=True)
    inputs = processor(images=[Image.new("L", size)], text=[text], return_tensors="pt", add_special_tokens=False)
    features = model.get_image_features(pixel_values=inputs["pixel_values"]).pooler_output
    assert (inputs["input_ids"] == processor.image_token_id).sum() == sum(len(image) for image in features) == 36
    model(**inputs)


def test_template_takes_both_kinds_of_content_and_is_prefix_preserving(processor):
    prompt, answer = question("Where?"), [{"role": "assistant", "content": "here"}]
    asked = processor.apply_chat_template(prompt, add_generation_prompt=True)
    assert asked == "<s><user><image>Where?<assistant>"
    assert processor.apply_chat_template(prompt + answer) == asked + "here</s>"
    assert processor.apply_chat_template([{"role": "user", "content": "Where?"}]) == "<s><user>Where?"
    # A second turn continues the conversation
    again = processor.apply_chat_template(
        prompt + answer + [{"role": "user", "content": "Sure?"}], add_generation_prompt=True
    )
    assert again == asked + "here</s><user>Sure?<assistant>"


def test_it_has_learnt(model, processor):
    """On unseen digits. Guessing without images scores 0 for `list`, 0.2 for `at` ("none"), about 0.08 for boxes."""
    scores = score_base(model, processor, num_scenes=30)
    assert scores["list"] > 0.2
    assert scores["at"] > 0.5
    assert scores["box"] > 0.3
