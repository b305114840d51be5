"""Pack several questions about one image into one training sequence, with hints for their words.

The questions about a scene share its image tokens. A sequence consists of the prefix `<s><user><image>...` and
segments `question<assistant>answer</s>`. Each segment attends only to the prefix and to itself, and its positions
start after the prefix. A segment is therefore equal to a conversation of the chat template with a single question, at
an eighth of the cost of the images.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from .architecture import IMAGE
from .curriculum import PUBLIC_SIZES, CurriculumConfig, public_turns
from .pretrain_tower import patch_labels
from .scenes import COLORS, SIZES, Scene, make_scene
from .tasks import pick


IGNORED = -100
_ROW_WORDS, _COLUMN_WORDS = (" top", " center", " bottom"), (" left", " center", " right")
# Few different lengths: oneDNN prepares kernels and allocates memory for each one
_LENGTH_STEP = 32


@dataclass(frozen=True)
class Packed:
    """A batch of packed sequences.

    Attributes:
        pixels (`torch.Tensor`): uint8 `(B, 48, 48, 3)`.
        input_ids (`torch.Tensor`): int64 `(B, T)`.
        position_ids (`torch.Tensor`): int64 `(B, T)`. The positions of each segment start after the prefix.
        segments (`torch.Tensor`): int64 `(B, T)`. The prefix is 0, the questions are 1, 2, ..., padding is -1.
        labels (`torch.Tensor`): int64 `(B, T)`. Answers with their eos token, -100 elsewhere.
        hints (`torch.Tensor`): int64 `(B, T)`. What colors and digits in questions stand for, -100 elsewhere.
        facts (`torch.Tensor`): int64 `(B, 36, 3)`. See [`patch_labels`].
    """

    pixels: torch.Tensor
    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: torch.Tensor
    labels: torch.Tensor
    hints: torch.Tensor
    facts: torch.Tensor


class PackedScenes(Dataset):
    """Public scenes as packed sequences. Items are pixels, facts, ids, positions, segments, labels and hints."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, seed: int, first: int, end: int, config: CurriculumConfig
    ) -> None:
        self.seed, self.first, self.end, self.config = seed, first, end, config
        self.tokenizer = tokenizer
        image = [tokenizer.convert_tokens_to_ids(IMAGE)] * 36
        self.prefix = tokenizer.convert_tokens_to_ids(["<s>", "<user>"]) + image
        self.ask = tokenizer.convert_tokens_to_ids("<assistant>")

    def __len__(self) -> int:
        return self.end - self.first

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        index += self.first
        scene = make_scene("public", self.seed, index)
        rng = np.random.default_rng([self.seed, 1, index])
        turns = public_turns(scene, rng, self.config)
        num_prefix = len(self.prefix)
        ids, positions, segments = list(self.prefix), list(range(num_prefix)), [0] * num_prefix
        labels, hints = [IGNORED] * num_prefix, [IGNORED] * num_prefix
        hinted = Hints(scene, self.tokenizer, rng)
        for number, (question, answer) in enumerate(turns, start=1):
            asked = [*self.tokenizer(question).input_ids, self.ask]
            answered = [*self.tokenizer(answer).input_ids, self.tokenizer.eos_token_id]
            length = len(asked) + len(answered)
            ids += asked + answered
            positions += range(num_prefix, num_prefix + length)
            segments += [number] * length
            labels += [IGNORED] * len(asked) + answered
            # Shifted by one, like labels: the prediction of a token is at the position of the next token
            hints += [IGNORED, *hinted.of(asked), *[IGNORED] * (len(answered) - 1)]
        facts = patch_labels(scene)["facts"]
        sequences = (torch.tensor(x) for x in (ids, positions, segments, labels, hints))
        return torch.from_numpy(scene.pixels), facts, *sequences


def name_tokens(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int], list[int]]:
    """Return the token ids of the ten digits, the colors and the sizes, as they occur within a sentence."""
    digits = tokenizer.convert_tokens_to_ids([str(digit) for digit in range(10)])
    return (
        digits,
        _first_tokens(tokenizer, (f" {color}" for color in COLORS)),
        _first_tokens(tokenizer, PUBLIC_SIZES.values()),
    )


def _first_tokens(tokenizer: PreTrainedTokenizerFast, words: Iterable[str]) -> list[int]:
    return [tokenizer(word).input_ids[0] for word in words]


class Hints:
    """Hints: what the words of a question stand for in a scene."""

    def __init__(self, scene: Scene, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator) -> None:
        digits, colors, sizes = name_tokens(tokenizer)
        rows, columns = _first_tokens(tokenizer, _ROW_WORDS), _first_tokens(tokenizer, _COLUMN_WORDS)
        self.rng, self.whole, pairs = rng, {}, []
        for item in scene.items:
            digit, color = digits[item.digit], colors[list(COLORS).index(item.color)]
            row, column = divmod(item.cell, 3)
            self.whole[color, digit] = (rows[row], columns[column], sizes[SIZES.index(item.size)])
            pairs += [(digit, color), (color, digit)]
        counts = Counter(token for token, _ in pairs)
        self.unique = {token: other for token, other in pairs if counts[token] == 1}

    def of(self, tokens: list[int]) -> list[int]:
        """Return one hint per token.

        A color or digit of exactly one item stands for the other of the two, and "3" in "red 3" for place or size.
        """
        before = [IGNORED, IGNORED, *tokens]
        return [
            # Drawing one of three teaches all of them: the cross entropy is lowest at equal probabilities
            pick(self.rng, self.whole[named, token])
            if (named, token) in self.whole
            else self.unique.get(token, IGNORED)
            for named, token in zip(before, tokens, strict=False)
        ]


def collate_packed(items: list[tuple[torch.Tensor, ...]]) -> Packed:
    """Stack items of [`PackedScenes`], padded on the right."""
    pixels, facts, *sequences = zip(*items, strict=True)
    length = max(len(ids) for ids in sequences[0])
    length += -length % _LENGTH_STEP
    fill = (0, 0, -1, IGNORED, IGNORED)
    padded = [
        torch.stack([F.pad(row, (0, length - len(row)), value=value) for row in rows])
        for rows, value in zip(sequences, fill, strict=True)
    ]
    return Packed(torch.stack(pixels), *padded, facts=torch.stack(facts))


def segment_mask(segments: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the additive attention mask of a packed batch.

    Args:
        segments (`torch.Tensor`): int64 `(B, T)`, 0 for the prefix, -1 for padding.
        dtype (`torch.dtype`): Data type of the mask.

    Returns:
        `torch.Tensor`: A mask `(B, 1, T, T)` that is 0 where a token may attend: to itself and to earlier tokens of
        the prefix or its own segment.
    """
    length = segments.shape[1]
    allowed = (segments[:, :, None] == segments[:, None, :]) | (segments[:, None, :] == 0)
    allowed &= torch.ones(length, length, dtype=torch.bool).tril()
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]
