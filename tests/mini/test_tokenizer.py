import pytest
from transformers import AutoTokenizer

from fedvlm_hf.mini import base_model
from fedvlm_hf.mini.architecture import VOCAB_SIZE, train_tokenizer


@pytest.fixture(scope="module", params=["shipped", "fresh"])
def tokenizer(request):
    if request.param == "shipped":
        return AutoTokenizer.from_pretrained(base_model())
    texts = ["box red 3", "[0.125, 0.250, 0.375, 0.500]", "striped: 3 in red; 5 in blue", "list"] * 10
    return train_tokenizer(texts)


@pytest.mark.parametrize(
    "text",
    ["", "Is there a fracture?", "  two  spaces\n\tand tabs ", "höhe 3.5µm", "肺炎", "🩻 [0.1, 0.25]", "\x00\x7f"],
)
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_a_box_is_always_17_tokens(tokenizer):
    """Four times a piece with "0." and three digits, and the closing bracket: 4 * (1 + 3) + 1."""
    for box in ("[0.125, 0.250, 0.375, 0.500]", "[0.000, 0.999, 0.111, 0.123]"):
        tokens = tokenizer.tokenize(box)
        assert len(tokens) == 17
        assert [tokens[0], tokens[4]] == ["[0.", ",Ġ0."]


def test_each_digit_is_a_token(tokenizer):
    assert tokenizer.tokenize("1460") == ["1", "4", "6", "0"]


def test_special_tokens_are_single_and_vanish_in_decoding(tokenizer):
    ids = tokenizer("<s><user><image>list<assistant>red 3</s><pad>").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "listred 3"
    assert len(tokenizer) <= VOCAB_SIZE
