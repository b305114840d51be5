import pytest

from fedvlm_hf.data.spec import TASKS
from fedvlm_hf.data.templates import TEMPLATES, chat


def test_question_comes_first_and_the_answer_is_the_completion():
    messages = chat("vqa", "left lung", question="Where is {it}?")
    (prompt,), (completion,) = messages["prompt"], messages["completion"]
    assert prompt["role"] == "user"
    assert prompt["content"].startswith("Where is {it}?\n")
    assert completion == {"role": "assistant", "content": "left lung"}


def test_every_template_is_of_a_known_task():
    assert set(TEMPLATES) <= set(TASKS)


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
