from string import Formatter

import pytest

from fedvlm_hf.building.templates import TASK_OF, TEMPLATES, chat, check_wording, choice_letter, choices_text
from fedvlm_hf.data.spec import TASKS


FIELDS = {
    "vqa": {"question"},
    "choice": {"question", "choices"},
    "classification": {"attribute", "subject"},
    "caption": set(),
    "referring": {"box"},
    "report": {"study"},
    "grounding": {"expression"},
    "detection": {"target", "study"},
}
WORDINGS = [(key, wording) for key, wordings in TEMPLATES.items() for wording in wordings]


def test_question_comes_first_and_the_answer_is_the_completion():
    messages = chat("vqa", "left lung", question="Where is {it}?")
    (prompt,), (completion,) = messages["prompt"], messages["completion"]
    assert prompt["role"] == "user"
    assert prompt["content"].startswith("Where is {it}?\n")
    assert completion == {"role": "assistant", "content": "left lung"}


def test_every_template_is_of_a_task_and_every_task_has_one():
    assert TASK_OF.keys() == TEMPLATES.keys() == FIELDS.keys()
    assert set(TASK_OF.values()) == set(TASKS)
    assert all(TASK_OF[key] == key for key in TASKS)
    assert (TASK_OF["choice"], TASK_OF["referring"]) == ("vqa", "caption")


@pytest.mark.parametrize(("key", "wording"), WORDINGS)
def test_every_wording_of_a_question_has_the_same_fields(key, wording):
    """So that a builder can pass them whichever wording was chosen; each comes through as it is, once."""
    fields = {name for _, name, _, _ in Formatter().parse(TEMPLATES[key][wording]) if name is not None}
    assert fields == FIELDS[key]
    values = {name: f"<{name}>" for name in fields}
    (prompt,) = chat(key, "answer", wording, **values)["prompt"]
    assert all(prompt["content"].count(value) == 1 for value in values.values())
    assert "{" not in prompt["content"]


@pytest.mark.parametrize("key", TEMPLATES)
def test_paraphrases_differ(key):
    assert len(TEMPLATES[key]) >= 2
    assert len(set(TEMPLATES[key].values())) == len(TEMPLATES[key])


def test_choices_have_letters():
    assert choices_text(["cat", "dog"]) == "A. cat\nB. dog"
    assert [choice_letter(index) for index in (0, 1, 25)] == ["A", "B", "Z"]
    (prompt,) = chat("choice", choice_letter(1), question="Which?", choices=choices_text(["cat", "dog"]))["prompt"]
    assert prompt["content"].startswith("Which?\nA. cat\nB. dog\n")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (["cat"], "must be 2 to 26 options, got 1"),
        (list("abcdefghijklmnopqrstuvwxyz!"), "got 27"),
        (["cat", " "], "an empty option: \\['cat', ' '\\]"),
    ],
)
def test_invalid_choices(choices, message):
    with pytest.raises(ValueError, match=message):
        choices_text(choices)


@pytest.mark.parametrize("index", [-1, 26])
def test_there_are_26_letters(index):
    with pytest.raises(ValueError, match=f"`index` must be 0 to 25, got {index}"):
        choice_letter(index)


def test_wording_is_chosen_by_name():
    assert chat("vqa", "yes", "plain", question="Is it?")["prompt"] == [{"role": "user", "content": "Is it?"}]
    with pytest.raises(ValueError, match=r"`wording='rude'` is unknown for `task='vqa'`.*short.*plain"):
        chat("vqa", "yes", "rude", question="Is it?")


def test_unknown_task_is_refused():
    with pytest.raises(ValueError, match=r"`task='poetry'` has no instruction template.*vqa"):
        chat("poetry", "a rose")


@pytest.mark.parametrize("fields", [{}, {"question": "Why?", "options": "A, B"}])
def test_fields_must_fit_the_template(fields):
    with pytest.raises(ValueError, match=r"'vqa' needs the fields \['question'\]"):
        chat("vqa", "yes", **fields)


def test_a_wording_must_be_one_of_each_template():
    """Both have "plain" and "polite"; "box" is grounding's alone."""
    check_wording(None, ("vqa", "grounding"))
    check_wording("plain", ("vqa", "grounding"))
    check_wording("box", ("grounding",))
    with pytest.raises(ValueError, match=r"`wording='box'`.*choose one of \['plain', 'polite'\]"):
        check_wording("box", ("vqa", "grounding"))
