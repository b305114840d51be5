"""Rows that are almost in the row format give the same training data, to the bit, as rows that are in it."""

import pytest
from datasets import Dataset, Features, Image, LargeList, List, Value

from federation import federated, weights
from fedvlm_hf.data.clients import check_content, client_datasets, dataset_digest, evaluation_datasets
from fedvlm_hf.data.rows import in_row_format
from tiny import FEATURES, tiny_rows


MESSAGES = FEATURES["prompt"]
STORED = {"bytes": Value("binary"), "path": Value("string")}


def stored(rows):
    """The rows as they are stored: images as dictionaries."""
    return rows.with_format("arrow")[:].to_pylist()


def without(features, *names):
    return {name: feature for name, feature in features.items() if name not in names}


def with_single_images(rows, feature, name="image"):
    features = Features({**without(FEATURES, "images"), name: feature})
    return Dataset.from_list([{**without(row, "images"), name: row["images"][0]} for row in stored(rows)], features)


def with_files(rows, folder, name, is_list, feature):
    """Rows with paths of PNG files."""
    values = []
    for index, row in enumerate(stored(rows)):
        path = folder / f"{index}.png"
        path.write_bytes(row["images"][0]["bytes"])
        values.append([str(path)] if is_list else str(path))
    return rows.remove_columns("images").add_column(name, values, feature=feature)


def in_messages(rows, as_parts=False):
    """Rows with `messages` as TRL has them."""
    if not as_parts:
        column = [row["prompt"] + row["completion"] for row in stored(rows)]
        return rows.remove_columns(["prompt", "completion"]).add_column("messages", column, feature=MESSAGES)
    part = {"type": Value("string"), "text": Value("string")}
    feature = List({"role": Value("string"), "content": List(part)})
    image, column = {"type": "image", "text": None}, []
    for row in stored(rows):
        [question], [answer] = row["prompt"], row["completion"]
        content = [image, {"type": "text", "text": question["content"]}]
        text = [{"type": "text", "text": answer["content"]}]
        column.append([{"role": "user", "content": content}, {"role": "assistant", "content": text}])
    return rows.remove_columns(["prompt", "completion"]).add_column("messages", column, feature=feature)


@pytest.mark.parametrize("feature", [Image(), Image(decode=False), STORED], ids=["image", "not decoded", "struct"])
@pytest.mark.parametrize("name", ["image", "images"])
def test_single_images_become_lists(feature, name):
    rows = tiny_rows(5)
    given = with_single_images(rows, feature, name)
    [taken] = client_datasets({"a": given}).values()
    assert taken.features == rows.features
    assert stored(taken.select_columns(rows.column_names)) == stored(rows)
    assert dataset_digest(taken) == dataset_digest(rows)


@pytest.mark.parametrize("list_type", [List, LargeList])
def test_lists_of_images_that_are_not_decoded_are_decoded(list_type):
    rows = tiny_rows(3)
    given = Dataset.from_list(stored(rows), Features({**FEATURES, "images": list_type(STORED)}))
    assert stored(in_row_format(given, "x").select_columns(rows.column_names)) == stored(rows)
    assert in_row_format(given, "x")[1]["images"][0].size == rows[1]["images"][0].size


PATH = Value("string")


@pytest.mark.parametrize(
    ("name", "is_list", "feature"),
    [
        ("image", False, PATH),
        ("image", False, Value("large_string")),
        ("images", False, PATH),
        ("images", True, List(PATH)),
        ("images", True, LargeList(PATH)),
    ],
)
def test_paths_become_images(tmp_path, name, is_list, feature):
    rows = tiny_rows(4)
    taken = client_datasets({"a": with_files(rows, tmp_path, name, is_list, feature)})
    check_content(taken, {})
    assert [row["images"][0].tobytes() for row in taken["a"]] == [row["images"][0].tobytes() for row in rows]


@pytest.mark.parametrize("as_parts", [False, True])
def test_messages_with_one_answer_become_prompt_and_completion(as_parts):
    rows = tiny_rows(4)
    [taken] = evaluation_datasets({}, in_messages(rows, as_parts)).values()
    assert taken.features == rows.features
    assert stored(taken.select_columns(rows.column_names)) == stored(rows)
    assert dataset_digest(taken) == dataset_digest(rows)


def test_filtered_and_shuffled_rows_keep_their_order():
    """Such a dataset is a list of places in a table; rows that were filtered out may be of any kind."""
    rows = tiny_rows(8)
    given = in_messages(with_single_images(rows, Image()).select_columns([*without(FEATURES, "images"), "image"]))
    chosen = [6, 1, 3]
    bad = given.select_columns("messages")[0]["messages"] * 2
    table = [{**row, "messages": bad if index == 0 else row["messages"]} for index, row in enumerate(stored(given))]
    given = Dataset.from_list(table, given.features)
    with pytest.raises(ValueError, match="row 0, column `messages`"):
        in_row_format(given, "x")
    taken = in_row_format(given.select([5, *chosen]).select([1, 2, 3]), "x")
    assert stored(taken.select_columns(rows.column_names)) == stored(rows.select(chosen))


def test_rows_in_the_format_are_returned_as_they_are():
    rows = tiny_rows(2)
    assert in_row_format(rows, "x") is rows
    more = rows.add_column("messages", [[]] * 2, feature=MESSAGES).add_column("image", ["a", "b"])
    assert in_row_format(more, "x") is more


def test_the_same_rows_have_the_same_fingerprint():
    """What was checked is remembered by it."""
    given = in_messages(tiny_rows(2))
    assert in_row_format(given, "x")._fingerprint == in_row_format(given, "y")._fingerprint != given._fingerprint


USER, ANSWER = {"role": "user", "content": "?"}, {"role": "assistant", "content": "yes"}


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        (
            [USER, ANSWER, USER, ANSWER],
            "it has 2 messages of the assistant.*`fedvlm build custom` makes one row of each",
        ),
        ([USER], "it has 0 messages of the assistant"),
        ([ANSWER, USER], "it has 1 messages of the assistant, and a row trains on one answer, which is the last"),
        (None, "expected a list of chat messages"),
    ],
)
def test_messages_that_are_not_one_question_and_one_answer_are_refused(messages, problem):
    rows = in_messages(tiny_rows(2))
    table = stored(rows)
    table[1]["messages"] = messages
    with pytest.raises(ValueError, match=f"client 'a', row 1, column `messages`: {problem}"):
        client_datasets({"a": Dataset.from_list(table, rows.features)})


def test_an_image_after_the_text_is_refused():
    feature = List({"role": Value("string"), "content": List({"type": Value("string"), "text": Value("string")})})
    content = [{"type": "text", "text": "?"}, {"type": "image", "text": None}]
    answer = {"role": "assistant", "content": [{"type": "text", "text": "yes"}]}
    rows = tiny_rows(1).remove_columns(["prompt", "completion"])
    rows = rows.add_column("messages", [[{"role": "user", "content": content}, answer]], feature=feature)
    with pytest.raises(ValueError, match=r"row 0, column `messages`: the content .* images followed by texts"):
        client_datasets({"a": rows})


def test_a_run_on_such_rows_ends_in_the_same_bits(tmp_path):
    rows, runs = tiny_rows(4), []
    for name, given in (("rows", rows), ("almost", in_messages(with_single_images(rows, Image())))):
        trainer = federated(
            tmp_path / name, {"a": given}, num_rounds=1, trainer_kwargs={"eval_dataset": given}, eval_max_new_tokens=2
        )
        trainer.train()
        runs.append((weights(trainer.local.adapter), (tmp_path / name / "metrics.jsonl").read_text().count("\n")))
    assert runs[0] == runs[1]
