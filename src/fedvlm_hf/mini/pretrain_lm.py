"""Stage 2 of pretraining: train connector and language model to read the frozen tower.

Two losses in addition to that of the answers teach the model to look things up by content ("find red"), which it had
not learned from the answers alone in 1,500 steps. In the first, each image token names its digit, color and size as it
enters the language model, so that words and patches share one space. In the second, each color or digit in a question
predicts what it stands for in the scene ("red" -> "3", "red 3" -> "top", "left" or "big"), which needs one step of
attention, while an answer needs two.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import CLIPVisionModel, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from .architecture import build_model, train_tokenizer
from .curriculum import CurriculumConfig, public_turns
from .packing import IGNORED, Packed, PackedScenes, collate_packed, name_tokens, segment_mask
from .pretrain_loop import LoopConfig, fit
from .pretrain_tower import NO_DIGIT, normalize
from .scenes import make_scene


_NUM_TOKENIZER_SCENES = 1500
_AUXILIARY_WEIGHT = 0.5


@dataclass(frozen=True)
class LmStage:
    """One stage of training.

    Args:
        name (`str`): Name of the checkpoint.
        loop ([`LoopConfig`]): Steps, batch size and learning rate.
        curriculum ([`CurriculumConfig`]): The mix of questions.
    """

    name: str
    loop: LoopConfig
    curriculum: CurriculumConfig


LM_STAGES = (
    LmStage("lm_commands", LoopConfig(1500, 32, 1.5e-3), CurriculumConfig(client_dose=0.06)),
    # Short, because it only teaches to use the same skills for a sentence as for a command
    LmStage("lm_questions", LoopConfig(800, 32, 1.0e-3, warmup_steps=50), CurriculumConfig(client_dose=0.5)),
)


def public_tokenizer(seed: int, config: CurriculumConfig) -> PreTrainedTokenizerFast:
    """Train the tokenizer on the text of the curriculum, which takes a second."""
    texts = []
    for index in range(_NUM_TOKENIZER_SCENES):
        scene, rng = make_scene("public", seed, index), np.random.default_rng([seed, index])
        texts += [text for turn in public_turns(scene, rng, config) for text in turn]
    return train_tokenizer(texts)


def packed_losses(
    model: LlavaForConditionalGeneration, batch: Packed, names: tuple[list[int], ...]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the mean cross entropies of a packed batch.

    Args:
        model (`LlavaForConditionalGeneration`): The model.
        batch ([`Packed`]): The batch.
        names (`tuple[list[int], ...]`): Token ids from [`name_tokens`].

    Returns:
        `tuple[torch.Tensor, torch.Tensor, torch.Tensor]`: The losses of the tokens of answers; of the hints; and of
        the digit, color and size of image tokens that show a digit, predicted by the final norm and the head of the
        model without any of its layers.
    """
    with torch.no_grad():
        features = model.model.vision_tower(normalize(batch.pixels)).last_hidden_state[:, 1:]
    embeds = model.get_input_embeddings()(batch.input_ids)
    is_image = batch.input_ids == model.config.image_token_id
    image = model.model.multi_modal_projector(features).to(embeds.dtype)
    decoder = model.model.language_model
    hidden = decoder(
        inputs_embeds=embeds.masked_scatter(is_image[..., None], image),
        attention_mask=segment_mask(batch.segments, embeds.dtype),
        position_ids=batch.position_ids,
        use_cache=False,
    ).last_hidden_state

    def next_token_loss(labels: torch.Tensor) -> torch.Tensor:
        chosen = labels[:, 1:] != IGNORED
        return F.cross_entropy(model.lm_head(hidden[:, :-1][chosen]).float(), labels[:, 1:][chosen])

    shows_digit = batch.facts[..., 0] != NO_DIGIT
    read, facts = model.lm_head(decoder.norm(image[shows_digit])).float(), batch.facts[shows_digit]
    naming = sum(F.cross_entropy(read[:, ids], facts[:, column]) for column, ids in enumerate(names))
    return next_token_loss(batch.labels), next_token_loss(batch.hints), naming


def pretrain_lm(
    tower: CLIPVisionModel, work_dir: Path, seed: int, stages: tuple[LmStage, ...] = LM_STAGES
) -> tuple[LlavaForConditionalGeneration, PreTrainedTokenizerFast]:
    """Train connector and language model on public scenes, or load them if `work_dir` already contains them.

    Args:
        tower (`CLIPVisionModel`): The trained tower, which stays frozen.
        work_dir (`Path`): Folder of one checkpoint per stage, from which a stopped run continues.
        seed (`int`): Seed of the initial weights, the scenes and the questions.
        stages (`tuple[LmStage, ...]`, *optional*): The stages, in order.

    Returns:
        `tuple[LlavaForConditionalGeneration, PreTrainedTokenizerFast]`: The model in eval mode, in fp32, and its
        tokenizer.
    """
    tokenizer = public_tokenizer(seed, stages[0].curriculum)
    torch.manual_seed(seed)
    model = build_model(tokenizer)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.model.vision_tower.requires_grad_(False)
    names = name_tokens(tokenizer)

    def compute_loss(batch: Packed) -> torch.Tensor:
        answers, hints, naming = packed_losses(model, batch, names)
        return answers + _AUXILIARY_WEIGHT * (hints + naming)

    for number, stage in enumerate(stages, start=1):
        # No scene is in two stages: those of the tower are from stream `seed`, and these from the streams after it
        batches_from = partial(_batches, tokenizer, seed + number, stage)
        earlier = {"after": [asdict(other) for other in stages[: number - 1]]} if number > 1 else {}
        recipe = {"seed": seed} | asdict(stage.curriculum) | earlier
        fit(model, batches_from, compute_loss, stage.loop, work_dir / f"{stage.name}.pt", recipe)
    return model.eval(), tokenizer


def _batches(tokenizer: PreTrainedTokenizerFast, seed: int, stage: LmStage, first_step: int) -> Iterator[Packed]:
    size = stage.loop.batch_size
    scenes = PackedScenes(tokenizer, seed, first_step * size, stage.loop.num_steps * size, stage.curriculum)
    return iter(DataLoader(scenes, size, num_workers=1, prefetch_factor=4, collate_fn=collate_packed))
