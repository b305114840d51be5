from collections import Counter

import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import AutoProcessor
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from fedvlm_hf.mini import base_model, blind_floors, fed_nature


TASKS = {"client_00": "vqa", "client_01": "grounding", "client_02": "caption", "client_03": "classification"}


@pytest.fixture(scope="module")
def dataset():
    return fed_nature(num_train_rows=40, num_validation_rows=5, num_test_rows=10)


def test_splits_and_columns(dataset):
    assert list(dataset) == [*TASKS, "validation", "test"]
    for client_id, task in TASKS.items():
        assert set(dataset[client_id]["task"]) == {task}
        assert dataset[client_id].num_rows == 40
    assert Counter(dataset["test"]["task"]) == dict.fromkeys(TASKS.values(), 10)
    for row in dataset["validation"]:
        assert TASKS[row["client_id"]] == row["task"]
    assert len({id_ for split in dataset.values() for id_ in split["id"]}) == 4 * 40 + 4 * 5 + 4 * 10


def test_rows_are_prompt_completion_with_the_first_reference_as_completion(dataset):
    for split in dataset.values():
        row = split[0]
        assert row["images"][0].size == (48, 48)
        assert row["images"][0].mode == "RGB"
        assert [message["role"] for message in row["prompt"] + row["completion"]] == ["user", "assistant"]
        assert row["completion"][0]["content"] == row["references"][0]
    assert len(dataset["client_02"][0]["references"]) == 5


def test_same_seed_same_bytes(dataset):
    again = fed_nature(num_train_rows=40, num_validation_rows=5, num_test_rows=10)
    for name, split in dataset.items():
        assert split.data.table.equals(again[name].data.table)
    other = fed_nature(seed=1, num_train_rows=40, num_validation_rows=5, num_test_rows=10)
    assert not dataset["client_00"].data.table.equals(other["client_00"].data.table)


def test_default_sizes():
    """From the signature, since a full build takes seconds: 1,600 training rows per client, 500 test rows per task."""
    num_rows = fed_nature.__defaults__
    assert num_rows == (0, 1600, 100, 500)


def test_trl_trains_on_completion_and_eos_only(dataset):
    processor = AutoProcessor.from_pretrained(base_model())
    collate = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    for client_id in TASKS:
        row = dataset[client_id][0]
        example = {"images": row["images"], "prompt": row["prompt"], "completion": row["completion"]}
        batch = collate([example])
        labels = batch["labels"][0]
        answer = processor.tokenizer(row["references"][0]).input_ids
        assert labels[labels != -100].tolist() == [*answer, processor.tokenizer.eos_token_id]
        assert (batch["input_ids"] == processor.image_token_id).sum() == 36
        assert torch.equal(
            batch["input_ids"][0, :2], torch.tensor(processor.tokenizer.convert_tokens_to_ids(["<s>", "<user>"]))
        )


def split_of(rows):
    """Make a split of rows `(task, question, answer)` without images."""
    return Dataset.from_list(
        [{"task": t, "prompt": [{"role": "user", "content": q}], "references": [a]} for t, q, a in rows]
    )


def test_blind_floors_by_hand():
    """VQA: "What color is the *?" -> red (2 of 3), "How many?" -> two. Test: red yes, blue no, two yes, an unseen
    wording no: 2 / 4. Classes: row is commonest, 1 of 2 in test. Boxes: the mean of [0, 0, .2, .2] and [.2, .2, .4,
    .4] is [.1, .1, .3, .3]; it covers .1 x .1 of [0, 0, .2, .2], IoU .01 / (.04 + .04 - .01) = 1 / 7.
    """
    train = [
        [("vqa", f"What color is the {digit}?", color) for digit, color in ((3, "red"), (4, "red"), (5, "blue"))]
        + [("vqa", "How many?", "two")],
        [("classification", "Which?", arrangement) for arrangement in ("row", "row", "column")],
        [("grounding", "Where?", box) for box in ("[0.000, 0.000, 0.200, 0.200]", "[0.200, 0.200, 0.400, 0.400]")],
    ]
    test = [
        ("vqa", "What color is the 9?", "red"),
        ("vqa", "What color is the 3?", "blue"),
        ("vqa", "How many?", "two"),
        ("vqa", "Why?", "two"),
        ("classification", "Which?", "row"),
        ("classification", "Which?", "pair"),
        ("grounding", "Where?", "[0.000, 0.000, 0.200, 0.200]"),
    ]
    splits = {f"client_{number:02d}": split_of(rows) for number, rows in enumerate(train)}
    floors = blind_floors(DatasetDict(splits | {"test": split_of(test)}))
    assert floors == pytest.approx({"vqa": 0.5, "classification": 0.5, "grounding": 1 / 7})
