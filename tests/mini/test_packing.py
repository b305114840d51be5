from collections import defaultdict

import numpy as np
import torch

from fedvlm_hf.mini.curriculum import CurriculumConfig
from fedvlm_hf.mini.packing import Hints, PackedScenes, segment_mask
from fedvlm_hf.mini.pretrain_lm import public_tokenizer
from fedvlm_hf.mini.scenes import COLORS, Item, Scene


def test_segment_mask_by_hand():
    """Prefix of 2, segments of 1 and 2 tokens, one pad. Rows are queries, columns are keys."""
    mask = segment_mask(torch.tensor([[0, 0, 1, 2, 2, -1]]), torch.float32)[0, 0] == 0
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


def test_hints_by_hand():
    """A red 3 (large, cell 0), a blue 3 (small, cell 5) and a blue 7: "red" means 3, "7" means blue, "blue" and "3"
    alone have two meanings, and "3" after "red" is the large digit in the top row and left column. Green is not there.
    """
    items = [
        Item(digit=digit, color=color, size=size, cell=cell, source=0, ink=(0, 0, 1, 1))
        for digit, color, size, cell in ((3, "red", "large", 0), (3, "blue", "small", 5), (7, "blue", "small", 8))
    ]
    scene = Scene(np.zeros((48, 48, 3), np.uint8), tuple(items), "scattered", "plain", np.zeros((6, 6), np.int8))
    tokenizer = public_tokenizer(0, CurriculumConfig(client_dose=0.06))
    hints = Hints(scene, tokenizer, np.random.default_rng(0))

    def hinted(text):
        """token -> hint, over several draws."""
        ids = tokenizer(text).input_ids
        found = defaultdict(set)
        for token, hint in [pair for _ in range(30) for pair in zip(ids, hints.of(ids), strict=True)]:
            if hint != -100:
                found[tokenizer.decode(token)].add(tokenizer.decode(hint))
        return found

    assert hinted("find red") == {" red": {"3"}}
    assert hinted("What color is the 7?") == {"7": {" blue"}}
    assert hinted("find blue") == hinted("find 3") == hinted("any green") == {}
    assert hinted("box red 3") == {" red": {"3"}, "3": {" top", " left", "big"}}


def test_hints_stand_where_labels_would():
    """One position after the word that they explain, inside the question, which has no labels."""
    tokenizer = public_tokenizer(0, CurriculumConfig(client_dose=0.06))
    _, _, ids, _, segments, labels, hints = PackedScenes(
        tokenizer, seed=1, first=0, end=9, config=CurriculumConfig(client_dose=0.06)
    )[3]
    places = (hints != -100).nonzero().flatten()
    assert len(places) > 0
    assert (labels[places] == -100).all()
    assert torch.equal(segments[places], segments[places - 1])
    words = {tokenizer.decode(token).strip() for token in ids[places - 1]}
    assert words <= {*map(str, range(10)), *COLORS}
