import pytest

from fedvlm_hf.building.readers.messages import Asking, row_text, text_columns_of


USER = [{"role": "user", "content": "What is it?"}]
ANSWER = [{"role": "assistant", "content": "a cat"}]


def text_of(row, asking=None):
    asking = asking or Asking()
    return row_text(row, text_columns_of(list(row), asking), asking)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": USER, "completion": ANSWER},
        {"prompt": "What is it?", "completion": "a cat"},
        {"messages": [*USER, *ANSWER]},
        {
            "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}],
            "completion": [{"role": "assistant", "content": [{"type": "text", "text": "a cat"}]}],
        },
    ],
)
def test_rows_of_trl(row):
    text = text_of(row)
    assert (text.prompt, text.completion) == (USER, ANSWER)
    assert (text.task, text.references) == ("vqa", ("a cat",))


def test_a_row_in_the_row_format_is_unchanged():
    row = {"prompt": USER, "completion": ANSWER, "task": "caption", "references": ["a cat", "one cat"]}
    text = text_of(row)
    assert (text.prompt, text.completion) == (USER, ANSWER)
    assert (text.task, text.references) == ("caption", ("a cat", "one cat"))


def test_earlier_turns_are_the_prompt():
    turns = [*USER, *ANSWER, {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "yes"}]
    text = text_of({"messages": turns})
    assert (text.prompt, text.completion) == (turns[:3], turns[3:])


@pytest.mark.parametrize(
    ("row", "asking", "prompt"),
    [
        (
            {"question": "Why?", "answer": "x"}, Asking(),
            "Why?\nAnswer the question using a single word or phrase.",
        ),
        ({"question": "Why?", "answer": "x"}, Asking(wording="plain"), "Why?"),
        ({"q": "Why?", "a": "x"}, Asking("q", "a", wording="plain"), "Why?"),
        ({"question": "Name it.", "answer": "x"}, Asking(task="classification"), "Name it."),
        ({"question": "Why?", "answer": "x"}, Asking(instruction="Say x."), "Say x."),
        ({"caption": "x"}, Asking(answer="caption", task="caption"), "Describe this image in one sentence."),
        ({"caption": "x"}, Asking(answer="caption", task="caption", instruction="Tell."), "Tell."),
    ],
)  # fmt: skip
def test_columns(row, asking, prompt):
    text = text_of(row, asking)
    assert text.prompt == [{"role": "user", "content": prompt}]
    assert text.completion == [{"role": "assistant", "content": "x"}]
    assert text.task == asking.task


def test_several_answers_and_numbers():
    """The first is learned, all are accepted."""
    asking = Asking(instruction="Count.")
    assert text_of({"answer": ["three", "3", ""]}, asking).references == ("three", "3")
    assert text_of({"answer": 3}, asking).completion[0]["content"] == "3"


def test_columns_that_are_named_come_before_messages():
    row = {"messages": [*USER, *ANSWER], "caption": "x"}
    assert text_columns_of(list(row), Asking(answer="caption", task="caption")) == ["caption"]


@pytest.mark.parametrize(
    ("row", "asking", "message"),
    [
        ({"text": "x"}, Asking(), r"no column 'answer'. The columns are \['text'\]"),
        ({"text": "x"}, Asking(answer="reply"), r"`answer='reply'` is not a column; the columns are \['text'\]"),
        ({"answer": "x"}, Asking(question="ask"), r"`question='ask'` is not a column; the columns are \['answer'\]"),
        ({"answer": "x"}, Asking(), "there is no question"),
        ({"question": "Why?", "answer": None}, Asking(), "there is no answer"),
        ({"question": "Why?", "answer": " "}, Asking(), "there is no answer"),
        ({"question": "Why?", "answer": "x", "task": "walk"}, Asking(), "the task 'walk' is not one of"),
        ({"messages": USER}, Asking(), "does not end with a message of the assistant"),
        ({"messages": []}, Asking(), "does not end with a message of the assistant"),
        ({"messages": [{"from": "human", "value": "x"}]}, Asking(), "is neither text nor chat messages"),
        ({"prompt": 3, "completion": "x"}, Asking(), "'3' is neither text nor chat messages"),
    ],
)
def test_what_cannot_be_read(row, asking, message):
    with pytest.raises(ValueError, match=message):
        text_of(row, asking)
