import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedvlm_hf import metrics
from fedvlm_hf.metrics import PRIMARY, TASK_METRICS, check_references, score, score_examples


FOLDER = Path(metrics.__file__).parent
ROWS = {
    "vqa": (["Two.", "cat"], [["2"], ["dog"]], {"accuracy": 0.5}),
    "classification": (["Row", "column"], [["row"], ["row", "column"]], {"accuracy": 1}),
    # "a dog" for itself: cosine 1 for one and two words of four lengths, 5; "x" for "a cat": 0. ROUGE_L 1 and 0.
    "caption": (["a dog", "x"], [["a dog"], ["a cat"]], {"cider": 2.5, "rouge_l": 0.5}),
    "report": (["a dog", "x"], [["a dog"], ["a cat"]], {"cider": 2.5, "rouge_l": 0.5}),
    "grounding": (
        ["[0, 0, 1, 1]", "?"],
        [["[0, 0, 0.5, 0.5]"], ["[0, 0, 1, 1]"]],
        {"mean_iou": 0.125, "accuracy_at_50": 0},
    ),
    "detection": (
        ["[0, 0, 1, 1]", ""],
        [["[0, 0, 1, 0.5]"], ["[0, 0, 1, 1]"]],
        {"mean_iou": 0.25, "accuracy_at_50": 0.5},
    ),
}

# Run where there is no network: any connection raises. Prints the scores of all modules as one JSON line.
SCRIPT = """
import json, socket, sys
def refuse(*args, **kwargs): raise RuntimeError("network")
socket.socket.connect = socket.socket.connect_ex = refuse
import evaluate
rows = json.loads(sys.stdin.read())
names = [(task, path, evaluate.load(path)) for task, path in rows["modules"]]
print(json.dumps([
    metric.compute(predictions=rows["rows"][task][0], references=rows["rows"][task][1]) for task, _, metric in names
]))
"""


@pytest.mark.parametrize("task", TASK_METRICS)
def test_score_of_each_task_by_hand(task):
    predictions, references, expected = ROWS[task]
    assert score(task, predictions, references) == pytest.approx(expected)
    assert PRIMARY[task] in expected


def test_the_mean_of_the_examples_is_the_score():
    predictions, references, _ = ROWS["grounding"]
    values = score_examples("grounding", predictions, references)
    assert score("grounding", predictions, references) == {name: sum(each) / 2 for name, each in values.items()}


@pytest.mark.parametrize(
    ("task", "predictions", "references", "message"),
    [
        ("vqq", ["a"], [["a"]], "`task` must be one of vqa, classification.* got 'vqq'"),
        (None, ["a"], [["a"]], "`task` must be one of .* got None"),
        ("vqa", ["a"], [["a"], ["b"]], "one entry per row each, got 1 and 2"),
        ("vqa", [], [], "`references` has no rows"),
        ("vqa", ["a", "b"], [["a"], []], r"one or more strings for each row, got \[\] in row 1"),
        ("classification", ["a"], ["label"], "one or more strings for each row, got 'label' in row 0"),
        ("caption", ["a"], [["a"]], "two rows or more"),
        ("grounding", ["a"], [["left"]], "must be boxes"),
    ],
)
def test_errors(task, predictions, references, message):
    with pytest.raises(ValueError, match=message):
        score(task, predictions, references)
    if len(predictions) == len(references):
        with pytest.raises(ValueError, match=message):
            check_references(task, references)


def test_evaluate_loads_every_module_offline_silently_and_in_two_processes_at_once(tmp_path):
    modules = [(task, str(FOLDER / name)) for task, names in TASK_METRICS.items() for name in names]
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    given = json.dumps({"modules": modules, "rows": {task: rows[:2] for task, rows in ROWS.items()}})
    for process in processes:
        process.stdin.write(given)
        process.stdin.close()
    for process in processes:
        assert (process.wait(), process.stderr.read()) == (0, "")
        for (task, _), scores in zip(modules, json.loads(process.stdout.read()), strict=True):
            assert scores == pytest.approx(ROWS[task][2])


def test_a_module_for_every_task():
    assert set(TASK_METRICS) == set(PRIMARY)
    for name in {name for names in TASK_METRICS.values() for name in names}:
        assert (FOLDER / name / f"{name}.py").is_file()
