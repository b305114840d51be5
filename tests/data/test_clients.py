import logging
import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as PILImage
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from deep_images import deep_rows, encoded
from fedvlm_hf.data.clients import (
    check_content,
    check_max_length,
    client_datasets,
    dataset_digest,
    evaluation_datasets,
)
from tiny import FEATURES, tiny_federation, tiny_processor, tiny_rows


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A cache of this test alone: what another test checked is not remembered."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def with_value(dataset, row, column, value):
    """The dataset with one value replaced; images stay the bytes that they are."""
    rows = dataset.with_format("arrow")[:].to_pylist()
    rows[row][column] = value
    return Dataset.from_list(rows, features=dataset.features)


def user(text):
    return {"role": "user", "content": text}


# Which keys are clients


def test_client_splits_of_a_dataset_dict():
    assert list(client_datasets(tiny_federation())) == ["client_00", "client_01"]


def test_every_key_of_a_mapping_but_held_out_ones():
    rows = tiny_rows(2)
    assert list(client_datasets({"zurich": rows, "athens.b-1": rows, "test": rows})) == ["athens.b-1", "zurich"]


def test_leftover_splits_are_refused():
    splits = tiny_federation()
    splits["train"] = splits["client_00"]
    with pytest.raises(ValueError, match=r"splits \['train'\], which are neither clients"):
        client_datasets(splits)


@pytest.mark.parametrize("empty", [{}, DatasetDict(test=tiny_rows(1)), {"validation": tiny_rows(1)}])
def test_zero_clients_are_refused(empty):
    with pytest.raises(ValueError, match="`train_dataset` has no client"):
        client_datasets(empty)


def test_a_single_dataset_is_refused():
    with pytest.raises(ValueError, match="`train_dataset` is a Dataset"):
        client_datasets(tiny_rows(2))


@pytest.mark.parametrize("client_id", ["", "../up", "a/b", ".hidden", "a b", "a..b", "end.", 7])
def test_ids_must_do_as_file_names(client_id):
    with pytest.raises(ValueError, match=rf"client {client_id!r} cannot be named so"):
        client_datasets({client_id: tiny_rows(1)})


def test_evaluation_sets():
    splits, rows = tiny_federation(), tiny_rows(2)
    assert list(evaluation_datasets(splits)) == ["test"]
    assert evaluation_datasets({"a": rows}) == {}
    assert evaluation_datasets(splits, rows) == {"test": rows}
    assert evaluation_datasets(splits, {"near": rows, "far": rows}) == {"near": rows, "far": rows}


def test_without_a_test_split_a_warning_says_which_splits_there_are(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    splits = tiny_federation()
    assert evaluation_datasets({name: splits[name] for name in ("client_00", "validation")}) == {}
    assert "Nothing will be evaluated: `train_dataset` has no split `test`; its splits are client_00, validation" in (
        caplog.text
    )
    caplog.clear()
    assert evaluation_datasets({"a": splits["test"]}, {}) == {}  # asked for
    assert not caplog.text


# What is refused without reading rows


@pytest.mark.parametrize("empty", [Dataset.from_list([]), tiny_rows(2).select([])])
def test_an_empty_client_is_refused(empty):
    splits = {"a": tiny_rows(2), "b": empty}
    with pytest.raises(ValueError, match="client 'b' is empty"):
        client_datasets(splits)


@pytest.mark.parametrize("column", ["prompt", "completion", "images"])
def test_a_missing_column_is_refused(column):
    with pytest.raises(ValueError, match=f"client 'b' has no column `{column}`"):
        client_datasets({"a": tiny_rows(2), "b": tiny_rows(2).remove_columns(column)})


def test_other_columns_than_the_rest_are_refused():
    splits = {"a": tiny_rows(2), "b": tiny_rows(2).rename_column("id", "key"), "c": tiny_rows(2)}
    with pytest.raises(
        ValueError, match=r"client 'b' has other columns than client 'a': missing \['id'\], extra \['key'\]"
    ):
        client_datasets(splits)


def test_a_streamed_client_is_refused():
    with pytest.raises(ValueError, match=r"client 'a' is an IterableDataset.*number of rows is unknown"):
        client_datasets({"a": tiny_rows(2).to_iterable_dataset()})


def test_what_is_not_a_dataset_is_refused():
    with pytest.raises(ValueError, match=r"client 'a' is a list.*Dataset\.from_list"):
        client_datasets({"a": tiny_rows(2).to_list()})


def test_images_must_be_images():
    features = Features({**FEATURES, "images": List(Value("int64"))})
    row = {**dict.fromkeys(FEATURES), "images": [1]}
    with pytest.raises(ValueError, match=r"client 'a': column `images` has the type .*paths, encoded bytes or"):
        client_datasets({"a": Dataset.from_list([row], features=features)})


@pytest.mark.parametrize("column", ["task", "references"])
def test_an_evaluation_set_needs_what_scoring_needs(column):
    with pytest.raises(ValueError, match=f"evaluation set 'test' has no column `{column}`"):
        evaluation_datasets({}, tiny_rows(2).remove_columns(column))


# What is refused on reading rows


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("prompt", [], "there is no message"),
        ("prompt", [{"role": "assistant", "content": "Hello"}], "there is no user message"),
        ("prompt", [{"role": "human", "content": "Hello"}], "a message has the role 'human'"),
        ("prompt", [user(None)], "a message's `content` is not a string"),
        ("prompt", [user("<image>\nWhat is it?")], r"the text .* has the image placeholder '<image>'"),
        ("prompt", [user("Is [IMG] a cat?")], r"the text .* has the image placeholder '\[IMG\]'"),
        ("completion", [{"role": "assistant", "content": "<|image_pad|>"}], "the text '.*' has the image placeholder"),
        ("completion", [], "there is no message"),
        ("completion", [{"role": "assistant", "content": " \n"}], "the answer is empty"),
        ("task", "poetry", "unknown task 'poetry'"),
        ("images", [], "there is no image"),
        ("images", [None], "an image is missing"),
        (
            "images",
            [{"bytes": b"GIF89a?", "path": "scan.gif"}],
            r"the image scan\.gif does not decode \(Pillow does not",
        ),
        ("images", [{"bytes": None, "path": "/nowhere/scan.png"}], r"the image /nowhere/scan\.png does not decode \("),
    ],
)
def test_a_bad_row_of_a_client_is_named(column, value, problem):
    """Row 37 is past the first batch of rows looked at together."""
    clients = {"a": tiny_rows(3), "b": with_value(tiny_rows(40, seed=1), 37, column, value)}
    with pytest.raises(ValueError, match=f"client 'b', row 37, column `{column}`: {problem}"):
        check_content(client_datasets(clients), {})


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("references", [], "there is no reference"),
        ("references", ["red", " "], "a reference is not a non-empty string"),
        ("task", None, "unknown task None"),
    ],
)
def test_a_bad_row_of_an_evaluation_set_is_named(column, value, problem):
    evaluations = evaluation_datasets({}, {"near": with_value(tiny_rows(3), 2, column, value)})
    with pytest.raises(ValueError, match=f"evaluation set 'near', row 2, column `{column}`: {problem}"):
        check_content({}, evaluations)


def test_prompts_that_are_plain_text_are_refused():
    rows = tiny_rows(2).remove_columns("prompt").add_column("prompt", ["Which colour?"] * 2)
    with pytest.raises(
        ValueError, match="row 0, column `prompt`: expected a list of chat messages, got 'Which colour"
    ):
        check_content(client_datasets({"a": rows}), {})


def test_a_truncated_image_is_found():
    rows = tiny_rows(3)
    image = rows.with_format("arrow")[1]["images"].to_pylist()[0][0]
    cut = {"bytes": image["bytes"][: len(image["bytes"]) // 2], "path": None}
    with pytest.raises(ValueError, match="client 'a', row 1, column `images`: the image"):
        check_content(client_datasets({"a": with_value(rows, 1, "images", [cut])}), {})


def test_deep_images_that_cannot_be_converted_are_named():
    """A column of type Image(mode="RGB") is converted by `datasets`, which clips; NaN has no range."""
    rows = deep_rows(3)
    clipped = rows.cast_column("images", List(Image(mode="RGB")))
    check_content(client_datasets({"a": rows}), {})
    with pytest.raises(ValueError, match="row 0, column `images`: the image has more than 8 bits, and the column has"):
        check_content(client_datasets({"a": clipped}), {})
    check_content(client_datasets({"a": tiny_rows(3).cast_column("images", List(Image(mode="L")))}), {})
    empty = encoded(PILImage.fromarray(np.full((3, 3), np.nan, np.float32)))
    with pytest.raises(ValueError, match=r"row 1, .*the image cannot be converted to 8 bits: no value of the image"):
        check_content(client_datasets({"a": with_value(rows, 1, "images", [{"bytes": empty, "path": None}])}), {})


def test_good_rows_pass_and_equal_images_are_decoded_once(monkeypatch):
    """8 rows on 8 pictures, handed in as two clients and an evaluation set: 24 rows, 8 decodings."""
    decoded = []
    decode = Image.decode_example
    monkeypatch.setattr(Image, "decode_example", lambda self, value: decoded.append(1) or decode(self, value))
    rows = tiny_rows(8, image_size=32)
    check_content(client_datasets({"a": rows, "b": rows}), evaluation_datasets({}, rows))
    assert len(decoded) == len({bytes(image["bytes"]) for image in _stored_images(rows)}) == 8


def _stored_images(rows):
    return [images[0] for images in rows.with_format("arrow")[:]["images"].to_pylist()]


# Lengths


def test_max_length_that_cuts_an_answer_is_refused():
    """One token a byte, 4 image tokens for 16 pixels in patches of 8; the longest answer is "yellow", 6.

    `<s>` 1 + "user: " 6 + image 4 + "Which colour?" 13 + newline 1 + "assistant: " 11 + answer 6 + `</s>` 1 = 43.
    """
    rows = tiny_rows(6)
    answers = [completion[0]["content"] for completion in rows["completion"]]
    longest = answers.index("yellow")
    others = rows.select([row for row in range(6) if answers[row] != "yellow"])
    clients = client_datasets({"a": others, "b": rows})
    collator = DataCollatorForVisionLanguageModeling(tiny_processor())
    match = rf"`max_length=42` would cut .*client 'b' row {longest}, needs 43 tokens"
    with pytest.raises(ValueError, match=match):
        check_max_length(clients, collator, 42, batch_size=4)
    check_max_length(clients, collator, 43)


def test_no_max_length_reads_nothing():
    check_max_length({"a": None}, None, None)


# Digests


def test_digest_sees_texts_ids_order_images_and_columns():
    rows = tiny_rows(4)
    variants = [
        rows,
        rows.select([1, 0, 2, 3]),
        rows.select(range(3)),
        rows.rename_column("task", "kind"),
        with_value(rows, 2, "prompt", [user("Why?")]),
        with_value(rows, 2, "completion", [{"role": "assistant", "content": "because"}]),
        with_value(rows, 2, "id", "other"),
        with_value(rows, 2, "references", ["other"]),
        with_value(rows, 2, "images", [*rows[2]["images"], *rows[3]["images"]]),
        tiny_rows(4, image_size=32),
    ]
    assert len({dataset_digest(variant) for variant in variants}) == len(variants)


def test_digest_does_not_depend_on_the_storage_of_the_rows():
    rows = tiny_rows(6)
    assert dataset_digest(rows.select([5, 4, 3, 2, 1, 0]).select([5, 4, 3, 2, 1, 0])) == dataset_digest(rows)


def test_digest_is_the_same_in_another_process():
    code = "import tiny, fedvlm_hf.data.clients as c; print(c.dataset_digest(tiny.tiny_rows(3)))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONHASHSEED": "7"}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == dataset_digest(tiny_rows(3))


# --- what was checked is remembered ---


@pytest.fixture
def decoded(monkeypatch):
    """The images that are decoded."""
    decoded, decode = [], Image.decode_example
    monkeypatch.setattr(
        Image, "decode_example", lambda self, value, **kw: decoded.append(1) or decode(self, value, **kw)
    )
    return decoded


def test_the_same_rows_are_decoded_once_and_not_on_resume(decoded):
    data = tiny_federation({"client_00": 5, "client_01": 3}, test_rows=2)
    clients, evaluations = client_datasets(data), evaluation_datasets(data)
    check_content(clients, evaluations)
    first = len(decoded)
    assert first > 0
    check_content(clients, evaluations)
    assert len(decoded) == first


def test_changed_rows_are_checked_again(decoded):
    clients = client_datasets({"a": tiny_rows(3)})
    check_content(clients, {})
    first = len(decoded)
    check_content({"a": clients["a"].select([0, 1])}, {})
    assert len(decoded) == first + 2


def test_rows_that_failed_are_not_remembered(decoded):
    rows = tiny_rows(2).map(lambda row: {"completion": [{"role": "assistant", "content": ""}]})
    for _ in range(2):
        with pytest.raises(ValueError, match="the answer is empty"):
            check_content({"a": rows}, {})


def test_images_that_are_only_paths_are_checked_each_time(decoded, tmp_path):
    """The files may change without the dataset's knowing."""
    row = tiny_rows(1)[0]
    row["images"][0].save(tmp_path / "a.png")
    rows = Dataset.from_list([{**row, "images": [str(tmp_path / "a.png")]}], features=FEATURES)
    check_content({"a": rows}, {})
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="does not decode"):
        check_content({"a": rows}, {})


def test_a_cache_that_cannot_be_written_costs_another_check_and_no_more(decoded, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file")
    for _ in range(2):
        check_content({"a": tiny_rows(2)}, {})
    assert len(decoded) == 4
