import numpy as np

from fedvlm_hf.mini.curriculum import CurriculumConfig, client_question, one_of_each, public_turns
from fedvlm_hf.mini.scenes import make_scene
from fedvlm_hf.mini.tasks import TASKS


def questions(client_dose, num_scenes=100):
    config = CurriculumConfig(turns_per_scene=8, client_dose=client_dose)
    scenes = [make_scene("public", 0, index) for index in range(num_scenes)]
    return [
        turn[0] for i, scene in enumerate(scenes) for turn in public_turns(scene, np.random.default_rng(i), config)
    ]


def is_client_wording(question):
    """Commands start in lower case, questions in upper case."""
    return question[0].isupper()


def test_the_dose_is_the_share_of_client_questions():
    """800 turns at 10 %: 80 +- 8.5, five deviations are 38 to 122."""
    assert not any(map(is_client_wording, questions(client_dose=0.0)))
    assert 38 <= sum(map(is_client_wording, questions(client_dose=0.1))) <= 122


def test_answers_to_client_questions_keep_the_public_conventions():
    """The client's answers would be number words, small/large, tight boxes, sentences and other arrangement words."""
    rng = np.random.default_rng(0)
    answers = {task: set() for task in TASKS}
    for index in range(200):
        scene = make_scene("public", 0, index)
        for task in TASKS:
            answers[task].add(client_question(scene, rng, task)[1])
    assert {"2", "3", "4", "little", "big", "yes", "no"} <= answers["vqa"]
    assert not answers["vqa"] & {"two", "three", "four", "small", "large"}
    assert answers["classification"] == {"couple", "row", "column", "diagonal", "square", "loose"}
    assert all(caption.endswith(" background") and " on " not in caption for caption in answers["caption"])


def test_one_of_each_covers_every_command_and_task():
    turns = one_of_each(make_scene("public", 0, 0), np.random.default_rng(0))
    assert len(turns) == 12 + 4
    assert all(question.split()[0] == kind or kind.endswith(" question") for kind, (question, _) in turns.items())
