"""SLAKE's annotation files in the exact format, including dirty values."""

import json

import pytest

from fedvlm_hf.building.readers.slake import annotation_files, read
from raw_slake import raw_rows, write_raw


@pytest.fixture
def raw(tmp_path):
    return write_raw(tmp_path / "Slake1.0")


def changed(tmp_path, part, index, **fields):
    rows = raw_rows()
    rows[part][index] |= fields
    return write_raw(tmp_path / "Slake1.0", rows, images=False)


def test_every_row_is_read_in_the_files_order(raw):
    """21 + 9 train rows, 12 + 3 of validation and 6 + 6 of test: 57."""
    questions = read(raw)
    assert [question.given_split for question in questions] == ["train"] * 30 + ["validation"] * 15 + ["test"] * 12


def test_a_row(raw):
    """The first row is of image 0, which is CT, and asks for its modality."""
    question = read(raw)[0]
    assert (question.qid, question.language, question.modality, question.content_type) == ("0", "en", "CT", "Modality")
    assert (question.question, question.answer, question.subset) == ("Is this a CT?", "Yes", "closed")
    assert question.image.key == "imgs/xmlab0/source.jpg"
    assert question.image.load() == (raw / "imgs" / "xmlab0" / "source.jpg").read_bytes()


def test_spaces_are_repaired_and_an_empty_answer_is_kept_empty(raw):
    by_id = {question.qid: question for question in read(raw)}
    assert (by_id["901"].question, by_id["901"].answer) == ("Which plane is it?", "Transverse Plane")
    assert [qid for qid, question in by_id.items() if question.is_repaired] == ["901"]
    assert [qid for qid, question in by_id.items() if not question.answer] == ["900"]


def test_chinese_is_read(raw):
    questions = [question for question in read(raw) if question.language == "zh"]
    assert len(questions) == 18
    assert {question.answer for question in questions} == {"断层扫描"}


def test_the_parent_folder_is_accepted_and_images_need_not_exist(tmp_path):
    write_raw(tmp_path / "Slake1.0", images=False)
    assert len(read(tmp_path)) == 57


def test_the_hubs_name_of_the_validation_file_is_known(raw):
    (raw / "validate.json").rename(raw / "validation.json")
    assert [path.name for path in annotation_files(raw)] == ["train.json", "validation.json", "test.json"]
    assert len(read(raw)) == 57


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"modality": "PET"}, "`modality` is 'PET', not one of"),
        ({"answer_type": "open"}, "`answer_type` is 'open', not one of"),
        ({"q_lang": "de"}, "`q_lang` is 'de', not one of"),
        ({"question": "  "}, r"no value for \['question'\]"),
        ({"answer": 4}, r"\['answer'\] must be text"),
        ({"img_name": "../../etc/passwd"}, "is outside of imgs/"),
        ({"qid": 0}, "`qid` 0 already occurred in train"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, fields, expected):
    with pytest.raises(ValueError, match=f"validate.json, row 3: .*{expected}"):
        read(changed(tmp_path, "validate", 3, **fields))


def test_a_row_without_a_field_is_named(tmp_path):
    rows = raw_rows()
    del rows["test"][2]["modality"]
    with pytest.raises(ValueError, match=r"test.json, row 2: the fields \['modality'\] are missing"):
        read(write_raw(tmp_path, rows, images=False))


def test_a_row_that_is_not_an_object_is_named(tmp_path):
    rows = raw_rows()
    rows["test"][1] = ["CT"]
    with pytest.raises(ValueError, match=r"test.json, row 1: a row must be an object, not a list"):
        read(write_raw(tmp_path, rows, images=False))


def test_a_truncated_file_is_named(raw):
    text = (raw / "train.json").read_text()
    (raw / "train.json").write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match=r"train.json, line 1, column 4018: not complete JSON"):
        read(raw)


def test_a_missing_file_is_named(raw):
    (raw / "test.json").unlink()
    with pytest.raises(ValueError, match=r"there is no file .*test.json"):
        read(raw)


def test_a_file_that_is_not_a_list_is_named(raw):
    (raw / "test.json").write_text(json.dumps({"rows": []}))
    with pytest.raises(ValueError, match=r"test.json contains an object, not a list"):
        read(raw)
