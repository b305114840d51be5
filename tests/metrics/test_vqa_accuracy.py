import pytest

from fedvlm_hf.metrics.vqa_accuracy.vqa_accuracy import normalize_answer, score_examples


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes", "yes"),
        ("  the   Left\tlung\n", "left lung"),
        ("A dog.", "dog"),
        ("an X-ray", "x ray"),
        ("two", "2"),
        ("None", "0"),
        ("Ten red, three blue!", "10 red 3 blue"),
        ("1,000", "1000"),
        ("3.5 cm.", "3.5 cm"),
        (".5", ".5"),
        ("U.S.", "us"),
        ("isnt", "isn't"),
        ("isn\u2019t it?", "isn't it"),
        ("crohn's", "crohn's"),
        ("its", "its"),  # not "it's": another word
        ("were", "were"),
        ("(upper/right)", "upper right"),
        ("50%", "50%"),
        ("The", "the"),  # an article that is the whole answer stays
        ("A", "a"),
        ("?!", ""),
        ("", ""),
    ],
)
def test_normalize_answer(text, expected):
    assert normalize_answer(text) == expected


@pytest.mark.parametrize("text", ["A dog, isnt it?", "3.5 cm.", "The", "one, two and 1,000"])
def test_normalising_twice_changes_nothing(text):
    assert normalize_answer(normalize_answer(text)) == normalize_answer(text)


def test_right_when_equal_to_any_reference_and_never_when_empty():
    predictions = ["Two dogs.", "2", "cat", "", "?", "left lungs"]
    references = [["a dog", "2 dogs"], ["two"], ["dog"], ["a"], ["?"], ["left lung"]]
    assert score_examples(predictions, references) == {"accuracy": [1, 1, 0, 0, 0, 0]}
