"""One row is collated and computed at construction: a model that cannot be trained fails before any round."""

import random

import numpy as np
import pytest
import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from federation import config, federated
from fedvlm_hf import FederatedTrainer
from fedvlm_hf.client.run import ClientMixin
from tiny import tiny_federation, tiny_llava, tiny_processor


class NeedsImages(LlavaProcessor):
    """As PaliGemma's: it takes no text without images, and TRL processes answers by themselves."""

    def __call__(self, images=None, text=None, **kwargs):
        if images is None:
            raise ValueError("`images` are expected as arguments")
        return super().__call__(images=images, text=text, **kwargs)


class NeedsWholeMask(LlavaForConditionalGeneration):
    """As Mllama: a column of the processor has the length of the prompt, where the model needs that of the row."""

    def get_image_features(self, *args, **kwargs):
        raise RuntimeError("The expanded size of the tensor (9) must match the existing size (7)")


def built(tmp_path, model=None, processor=None, **kwargs):
    stock, stock_processor = tiny_llava()
    data = tiny_federation({"client_00": 4, "client_01": 4}, test_rows=2)
    return FederatedTrainer(
        model or stock, config(tmp_path / "run", **kwargs), data, processing_class=processor or stock_processor
    )


def test_a_processor_that_cannot_take_the_rows(tmp_path):
    stock = tiny_processor()
    processor = NeedsImages(
        stock.image_processor, stock.tokenizer, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, image_token=stock.image_token, chat_template=stock.chat_template,
    )  # fmt: skip
    with pytest.raises(
        ValueError,
        match=r"`processing_class`: NeedsImages cannot process the first row of client 'client_00' .*`images`",
    ):
        built(tmp_path, processor=processor)
    assert not (tmp_path / "run" / "rounds").exists()


def test_a_model_that_cannot_take_the_batch(tmp_path):
    model, _ = tiny_llava()
    model.__class__ = NeedsWholeMask
    model.model.get_image_features = model.get_image_features
    with pytest.raises(
        ValueError,
        match=r"`model`: FederatedTrainer cannot compute the loss of the first row .*'llava': RuntimeError: The",
    ):
        built(tmp_path, model=model)
    assert not (tmp_path / "run" / "rounds").exists()


def test_too_little_memory_is_not_the_familys_fault(tmp_path, monkeypatch):
    def fail(self, *args, **kwargs):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(FederatedTrainer, "compute_loss", fail)
    with pytest.raises(torch.OutOfMemoryError):
        built(tmp_path)


def test_a_server_without_rows_checks_none(tmp_path):
    assert federated(tmp_path, data={}, trainer_kwargs={"client_ids": ["a", "b"], "eval_dataset": {}}).clients == {}


def test_nothing_changes(tmp_path):
    """Weights, buffers, modes, counters and every random state, with dropout on."""
    model, _ = tiny_llava(attention_dropout=0.5)
    trainer = federated(tmp_path, model=model)
    trainer.model.train()
    trainer.model.get_base_model().model.vision_tower.eval()

    def state():
        tensors = {**dict(trainer.model.named_parameters()), **dict(trainer.model.named_buffers())}
        modes = [module.training for module in trainer.model.modules()]
        return (
            [tensor.detach().clone() for tensor in tensors.values()], torch.get_rng_state(),
            [random.getstate(), np.random.get_state()[1].tolist(), modes, trainer.state.global_step],
            [dict(metrics) for metrics in trainer._metrics.values()],
        )  # fmt: skip

    before = state()
    trainer.check_first_row()
    after = state()
    assert all(torch.equal(one, other) for one, other in zip(before[0], after[0], strict=True))
    assert torch.equal(before[1], after[1])
    assert before[2:] == after[2:]


def test_a_run_has_the_same_bits_with_and_without_the_check(tmp_path, monkeypatch):
    digests = []
    for name in ("with", "without"):
        trainer = federated(tmp_path / name, model=tiny_llava(attention_dropout=0.5)[0], num_rounds=1)
        trainer.train()
        digests.append(trainer.federation.tensors.digest())
        monkeypatch.setattr(ClientMixin, "check_first_row", lambda self: None)
    assert digests[0] == digests[1]
