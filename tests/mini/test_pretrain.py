from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from fedvlm_hf.mini.architecture import build_model, build_processor
from fedvlm_hf.mini.curriculum import CurriculumConfig, public_turns
from fedvlm_hf.mini.packing import PackedScenes, collate_packed, name_tokens
from fedvlm_hf.mini.pretrain import PretrainConfig, pretrain_mini
from fedvlm_hf.mini.pretrain_lm import LmStage, packed_losses, public_tokenizer
from fedvlm_hf.mini.pretrain_loop import LoopConfig, fit
from fedvlm_hf.mini.pretrain_tower import patch_labels
from fedvlm_hf.mini.scenes import Item, Scene, make_scene


STEPS = LoopConfig(num_steps=2, batch_size=2, learning_rate=1e-3, warmup_steps=1, save_steps=1)
SHORT = tuple(LmStage(f"lm_{dose}", STEPS, CurriculumConfig(client_dose=dose)) for dose in (0.1, 0.2))


def test_patch_labels_by_hand():
    """One red 3 with ink (8, 0, 24, 16) that owns the patch in row 0, column 1, whose center is at pixel (12, 4),
    patch (1.5, 0.5). Edges in patches: 1, 0, 3, 2; from the center: -0.5, -0.5, 1.5, 1.5.
    """
    owner = np.full((6, 6), -1, dtype=np.int8)
    owner[0, 1] = 0
    item = Item(digit=3, color="blue", size="large", cell=0, source=0, ink=(8, 0, 24, 16))
    labels = patch_labels(Scene(np.zeros((48, 48, 3), np.uint8), (item,), "pair", "dotted", owner))
    assert labels["facts"][1].tolist() == [3, 2, 1]
    assert labels["boxes"][1].tolist() == [-0.5, -0.5, 1.5, 1.5]
    assert labels["facts"][[0, 2, 35], 0].tolist() == [10, 10, 10]
    assert labels["ground"].item() == 3


def test_packed_loss_is_the_loss_of_the_single_questions():
    """Packing only saves time: separate conversations, with the processor and the native loss, give the same mean."""
    curriculum = CurriculumConfig(client_dose=0.06)
    tokenizer = public_tokenizer(0, curriculum)
    model, processor = build_model(tokenizer).eval(), build_processor(tokenizer)
    scenes = PackedScenes(tokenizer, seed=1, first=0, end=2, config=curriculum)
    packed, _, _ = packed_losses(model, collate_packed([scenes[0], scenes[1]]), name_tokens(tokenizer))
    total, num_tokens = 0.0, 0
    for index in range(2):
        scene = make_scene("public", 1, index)
        for question, answer in public_turns(scene, np.random.default_rng([1, 1, index]), curriculum):
            user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
            text = processor.apply_chat_template([user, {"role": "assistant", "content": answer}])
            inputs = processor(images=[scene.image()], text=text, return_tensors="pt", add_special_tokens=False)
            length = len(tokenizer(answer).input_ids) + 1
            labels = inputs["input_ids"].clone()
            labels[:, :-length] = -100
            total += model(**inputs, labels=labels).loss.item() * length
            num_tokens += length
    assert packed.item() == pytest.approx(total / num_tokens, rel=1e-5)


def linear_fit(checkpoint, num_batches, recipe=None):
    """Train a 2 -> 1 linear for three steps, with a crash after `num_batches` batches."""
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)

    def batches_from(step):
        for number in range(step, 3):
            if number == num_batches:
                raise KeyboardInterrupt
            yield torch.full((1, 2), float(number + 1))

    config = LoopConfig(num_steps=3, batch_size=1, learning_rate=0.1, warmup_steps=1, save_steps=1)
    losses = fit(
        model, batches_from, lambda batch: model(batch).square().sum(), config, checkpoint, recipe or {"seed": 0}
    )
    return losses, model


def test_a_stopped_stage_goes_on_to_the_same_bits(tmp_path):
    losses, whole = linear_fit(tmp_path / "whole.pt", num_batches=None)
    with pytest.raises(KeyboardInterrupt):
        linear_fit(tmp_path / "stopped.pt", num_batches=2)
    resumed_losses, resumed = linear_fit(tmp_path / "stopped.pt", num_batches=None)
    assert resumed_losses == losses
    assert len(losses) == 3
    assert torch.equal(whole.weight, resumed.weight)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    linear_fit(tmp_path / "stage.pt", num_batches=None)
    with pytest.raises(ValueError, match=r"other settings \(there, here\): \{'seed': \(0, 1\)\}"):
        linear_fit(tmp_path / "stage.pt", num_batches=None, recipe={"seed": 1})


def test_the_stages_make_a_folder_that_loads(tmp_path):
    config = PretrainConfig(tower=STEPS, lm_stages=SHORT)
    folder = tmp_path / "llava"
    scores = pretrain_mini(folder, tmp_path / "work", config, num_score_scenes=2)
    assert set(scores) >= {"list", "box", "vqa question"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llava", "work"]
    card = (folder / "README.md").read_text()
    assert "CC BY 4.0" in card
    stages = "2 steps of 2 scenes with 10% of the latter, then 2 steps of 2 scenes with 20% of the latter"
    assert stages in " ".join(card.split())
    first = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    AutoProcessor.from_pretrained(folder)
    # From the finished stages again: the old folder is replaced by one with the same weights
    pretrain_mini(folder, tmp_path / "work", config, num_score_scenes=2)
    second = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    with pytest.raises(ValueError, match="other settings"):
        pretrain_mini(folder, tmp_path / "work", replace(config, seed=1), num_score_scenes=2)


def test_a_folder_with_other_things_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="`output_dir`"):
        pretrain_mini(tmp_path, tmp_path / "work", PretrainConfig(tower=STEPS, lm_stages=SHORT))
    assert (tmp_path / "thesis.tex").exists()
