"""The text of a row, in every form that own data may have."""

import math

import pytest

from fedvlm_hf.building.readers.own.text import TextOptions, as_text, row_texts, text_columns


USER = [{"role": "user", "content": "What is it?"}]
ANSWER = [{"role": "assistant", "content": "a cat"}]
IMAGE, WHAT = {"type": "image"}, {"type": "text", "text": "What is it?"}
CHAT = [*USER, *ANSWER, {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "yes"}]


def text_of(row, options=None):
    (text,) = row_texts(row, options or TextOptions())
    return text


def user(content):
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": USER, "completion": ANSWER},
        {"prompt": "What is it?", "completion": "a cat"},
        {"messages": [*USER, *ANSWER]},
        {"prompt": user([IMAGE, WHAT]), "completion": [{"role": "assistant", "content": [{**WHAT, "text": "a cat"}]}]},
        {"conversations": [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "a cat"}]},
        {"conversations": [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "a cat"}]},
        {"prompt": "What is it?", "answer": "a cat"},
    ],
)
def test_forms_of_a_chat(row):
    text = text_of(row)
    assert (text.prompt, text.completion) == (USER, ANSWER)
    assert (text.task, text.references) == ("vqa", ("a cat",))


def test_a_row_in_the_row_format_is_unchanged():
    row = {"prompt": USER, "completion": ANSWER, "task": "caption", "references": ["a cat", "one cat"]}
    text = text_of(row)
    assert (text.prompt, text.completion) == (USER, ANSWER)
    assert (text.task, text.references) == ("caption", ("a cat", "one cat"))


SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [SYSTEM, *CHAT]},
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "What is it?\n<image>"},
                {"from": "gpt", "value": "a cat"},
                {"from": "human", "value": "Sure?"},
                {"from": "gpt", "value": "yes"},
            ]
        },
    ],
)
def test_each_answer_is_a_row_with_the_turns_before_it(row):
    first, second = row_texts(row, TextOptions())
    assert (first.prompt, first.completion, first.references) == ([SYSTEM, *USER], ANSWER, ("a cat",))
    assert (second.prompt, second.completion, second.references) == ([SYSTEM, *CHAT[:3]], CHAT[3:], ("yes",))


def test_a_greeting_before_the_first_question_is_no_answer():
    hello = {"role": "assistant", "content": "Hello!"}
    assert text_of({"messages": [hello, *USER, *ANSWER]}).prompt == [hello, *USER]


@pytest.mark.parametrize(
    "content",
    [
        "<image>\nWhat is it?", "<image> What is it?", "What is it?\n<image>", [IMAGE, WHAT], [WHAT, IMAGE],
        [{"type": "image", "text": None}, {**WHAT, "image": None}],
    ],
)  # fmt: skip
def test_the_mark_of_the_image_is_removed_where_training_puts_the_image(content):
    assert text_of({"messages": [*user(content), *ANSWER]}).prompt == USER


@pytest.mark.parametrize("name", ["question", "prompt"])
def test_marks_in_single_columns(name):
    """Before the wording is added, which would leave the mark in the middle."""
    text = text_of({name: "Why?\n<image>", "answer": "x"}, TextOptions(wording="polite"))
    assert text.prompt[0]["content"].endswith("Why?")
    assert "<image>" not in text.prompt[0]["content"]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [*user("Is <image> a cat?"), *ANSWER]},
        {"messages": [*user("<image><image>What is it?"), *ANSWER]},
        {"messages": [*user("<image>What is it?<image>"), *ANSWER]},
        {"messages": [*user([IMAGE, IMAGE, WHAT]), *ANSWER]},
        {"messages": [*user([WHAT, IMAGE, WHAT]), *ANSWER]},
        {"messages": [*USER, *ANSWER, *user("<image>And now?"), *ANSWER]},
        {"messages": [*USER, {"role": "assistant", "content": "<image> is a cat"}]},
        {"question": "Is <image> a cat?", "answer": "x"},
        {"question": "Why?", "answer": "see <image>"},
        {"conversations": [{"from": "human", "value": "<|image_pad|>Why?"}, {"from": "gpt", "value": "x"}]},
    ],
)
def test_marks_elsewhere_are_refused(row):
    with pytest.raises(ValueError, match=r"`(prompt|completion)`: the text .* has the image placeholder '<.*>'"):
        row_texts(row, TextOptions())


@pytest.mark.parametrize(
    ("row", "options", "prompt"),
    [
        (
            {"question": "Why?", "answer": "x"}, TextOptions(),
            "Why?\nAnswer the question using a single word or phrase.",
        ),
        ({"question": "Why?", "answer": "x"}, TextOptions(wording="plain"), "Why?"),
        ({"q": "Why?", "a": "x"}, TextOptions("q", "a", wording="plain"), "Why?"),
        ({"question": "Name it.", "answer": "x"}, TextOptions(task="classification"), "Name it."),
        ({"question": "Why?", "answer": "x"}, TextOptions(instruction="Say x.", task="vqa"), "Say x."),
        ({"answer": "x"}, TextOptions(), "Describe this image in one sentence."),
        ({"caption": "x"}, TextOptions(answer="caption", task="caption"), "Describe this image in one sentence."),
        ({"caption": "x"}, TextOptions(answer="caption", task="caption", instruction="Tell."), "Tell."),
        ({"answer": "x", "task": "report", "study": "scan"}, TextOptions(wording="plain"), "Report on this scan."),
        ({"answer": "x"}, TextOptions(task="report", study="scan", wording="plain"), "Report on this scan."),
    ],
)  # fmt: skip
def test_columns(row, options, prompt):
    text = text_of(row, options)
    assert text.prompt == [{"role": "user", "content": prompt}]
    assert text.completion == [{"role": "assistant", "content": "x"}]
    assert text.task == row.get("task", options.task or ("caption" if list(row) == ["answer"] else "vqa"))


def test_several_answers_and_numbers():
    """The first is learned, all are accepted."""
    options = TextOptions(instruction="Count.")
    assert text_of({"answer": ["three", "3", ""]}, options).references == ("three", "3")
    assert text_of({"answer": 3}, options).completion[0]["content"] == "3"
    assert text_of({"answer": "three", "references": [3, "three"]}, options).references == ("three", "3")
    assert text_of({"answer": "three", "references": "3 | trio"}, options).references == ("three", "3", "trio")


def test_columns_that_are_named_come_before_messages():
    row = {"messages": [*USER, *ANSWER], "caption": "x"}
    options = TextOptions(answer="caption", task="caption")
    assert text_columns(row, options)[0] == "caption"
    assert text_of(row, options).completion[0]["content"] == "x"


@pytest.mark.parametrize(
    "row",
    [
        {"answer": "[0, 0.25,0.5, 1]", "target": "cat"},
        {"answer": [0, 0.25, 0.5, 1], "target": "cat"},
        {"prompt": "Where?", "completion": "[0, 0.25,0.5, 1]"},
        {"messages": [*USER, {"role": "assistant", "content": "[0.0, .25, 0.5, 1.0]"}]},
    ],
)
def test_boxes_have_one_form(row):
    text = text_of(row, TextOptions(task="detection", study="image"))
    assert text.completion[-1]["content"] == "[0.000, 0.250, 0.500, 1.000]"
    assert text.references == ("[0.000, 0.250, 0.500, 1.000]",)


@pytest.mark.parametrize("form", ["columns", "prompt and completion", "messages"])
@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]", "has 2 boxes, but a row has one"),
        ("[0, 0, 640, 480]", "is not inside its image"),
        ("[0.5, 0, 0.1, 1]", "is not a box"),
        ("left", "is not a box"),
        ("The lung is at [0, 0, 0.5, 0.5]", "is not a box alone"),
    ],
)
def test_boxes_are_checked_in_every_form(form, answer, problem):
    row = {
        "columns": {"answer": answer, "target": "lung"},
        "prompt and completion": {"prompt": USER, "completion": answer},
        "messages": {"messages": [*USER, {"role": "assistant", "content": answer}]},
    }[form]
    with pytest.raises(ValueError, match=problem):
        row_texts(row, TextOptions(task="detection", study="image"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" a ", "a"), ("", None), (None, None), (math.nan, None), (True, "true"), (3, "3"), (2.5, "2.5"),
    ],
)  # fmt: skip
def test_values_as_text(value, text):
    """NaN never becomes the text NaN."""
    assert as_text(value) == text


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"text": "x"}, TextOptions(), r"`answer` is missing: .* the columns with values are \['text'\]"),
        ({"text": "x"}, TextOptions(answer="reply"), r"no value in the column 'reply'; the columns .* \['text'\]"),
        ({"answer": "x"}, TextOptions(question="ask"), r"`question='ask'`: .* with values are \['answer'\]"),
        ({"answer": "x"}, TextOptions(task="vqa"), "'vqa' needs the column `question`, or a `prompt`"),
        ({"answer": "x", "choices": ["x", "y"]}, TextOptions(), "needs the column `question`"),
        ({"question": "Why?"}, TextOptions(), "`answer` is missing"),
        ({"question": "Why?", "answer": " "}, TextOptions(), "`answer` is missing"),
        ({"question": "Why?", "answer": math.nan}, TextOptions(), "`answer` is missing"),
        ({"question": "Why?", "answer": [None, math.nan]}, TextOptions(), "`answer` is missing"),
        ({"question": "Why?", "answer": {"text": "x"}}, TextOptions(), "`answer` must be text or a number, got a d"),
        ({"question": "Why?", "answer": "x", "task": "walk"}, TextOptions(), "`task` 'walk' is unknown"),
        ({"messages": USER}, TextOptions(), "does not end with a message of the assistant"),
        ({"messages": []}, TextOptions(), "does not end with a message of the assistant"),
        ({"messages": [SYSTEM, *ANSWER]}, TextOptions(), "there is no user message"),
        ({"messages": [{"from": "human", "value": "x"}]}, TextOptions(), "not a list of turns with `role` and `cont"),
        ({"messages": [*USER, *ANSWER]}, TextOptions(instruction="Go."), "`instruction` would replace the prompt"),
        ({"messages": CHAT, "references": ["x"]}, TextOptions(), "`references` belongs to one answer, .* has 2"),
        ({"messages": [*user([{"type": "video"}]), *ANSWER]}, TextOptions(), "neither a text nor an image"),
        ({"messages": [*user(None), *ANSWER]}, TextOptions(), "content is neither text nor a list of parts: None"),
        ({"messages": [*USER, {"role": "assistant", "content": " "}]}, TextOptions(), "the answer is empty"),
        ({"conversations": [{"from": "bard", "value": "x"}]}, TextOptions(), "a turn from 'bard'; it must be from"),
        ({"prompt": 3, "completion": "x"}, TextOptions(), "`prompt` '3' is not a list of turns"),
        ({"prompt": "x", "completion": []}, TextOptions(), "`completion` has no message"),
    ],
)
def test_what_cannot_be_read(row, options, message):
    with pytest.raises(ValueError, match=message):
        row_texts(row, options)
