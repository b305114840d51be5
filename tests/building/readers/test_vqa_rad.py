import json

import pytest

from fedvlm_hf.building.readers import vqa_rad
from raw_vqa_rad import OFFICIAL_FILE, raw_rows, row, write_hub, write_official, write_raw


@pytest.fixture
def raw(tmp_path):
    return write_raw(tmp_path / "raw")


def test_the_re_export_is_read_in_file_order(raw):
    questions = vqa_rad.read(raw)
    assert [question.qid for question in questions] == [*map(str, range(28)), *map(str, range(100, 106))]
    assert [question.given_split for question in questions] == ["train"] * 28 + ["test"] * 6
    first = questions[0]
    assert (first.organ, first.subset, first.question_type, first.phrase_type) == (
        "head", "closed", "PRES", "freeform"
    )  # fmt: skip
    assert first.image.load() == (raw / "images" / "synpicHEAD0.jpg").read_bytes()
    assert [path.name for path in vqa_rad.annotation_files(raw)] == ["trainset.json", "testset.json"]


def test_the_official_file_has_the_same_rows_in_its_own_order(raw, tmp_path):
    """Test rows stand from place 5 on, and are known by their phrase type alone."""
    official = write_official(tmp_path / "official")
    questions = vqa_rad.read(official)
    assert [question.qid for question in questions[4:12]] == ["4", *map(str, range(100, 106)), "5"]
    fields = ("image_name", "organ", "question", "answer", "subset", "question_type", "phrase_type", "given_split")
    own, other = (
        {q.qid: [q.image.load(), *(getattr(q, field) for field in fields)] for q in found}
        for found in (questions, vqa_rad.read(raw))
    )
    assert own == other
    assert [path.name for path in vqa_rad.annotation_files(official)] == [OFFICIAL_FILE]


def test_the_hub_copy_has_no_organs(tmp_path):
    """28 training rows in two shards on 12 images, 6 test rows on 3 of them."""
    hub = write_hub(tmp_path / "hub")
    questions = vqa_rad.read(hub)
    assert [question.qid for question in questions] == [f"train-{k}" for k in range(28)] + [
        f"test-{k}" for k in range(6)
    ]
    assert len({question.image.key for question in questions}) == 12
    assert {(q.organ, q.image_name, q.question_type, q.phrase_type) for q in questions} == {(None,) * 4}
    assert [(q.answer, q.subset) for q in questions[:2]] == [("no", "yes or no"), ("axial", "other")]
    assert questions[24].question == "is the liver, spleen, stomach, and spleen visible?"
    assert [path.name for path in vqa_rad.annotation_files(hub)] == [
        "train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test-00000-of-00001.parquet"
    ]  # fmt: skip


def test_dirty_values_are_repaired(raw):
    questions = {question.qid: question for question in vqa_rad.read(raw)}
    assert questions["24"].question == "Is the liver, spleen, stomach, and spleen visible?"
    assert questions["24"].answer == "no"
    assert questions["25"].answer == "4"
    assert questions["26"].question == "Is it's edge old?"
    assert questions["26"].question_type == "ATTRIB, PRES"
    assert questions["27"].subset == "closed"
    assert questions["27"].question_type == "OTHER"
    assert questions["2"].answer == "yes"  # "Yes" in the file
    assert [qid for qid, question in questions.items() if question.is_repaired] == ["24", "25", "26", "27"]


def test_nothing_found_names_the_three_layouts(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(ValueError, match=r"(?s)no file of VQA-RAD\..*trainset.*4ae21bc.*Public\.json.*osf.*parquet"):
        vqa_rad.read(tmp_path / "raw")


@pytest.mark.parametrize(("given", "wanted"), [("above", "above/raw"), ("above/raw/images", "above/raw")])
def test_a_folder_one_level_off_is_named(tmp_path, given, wanted):
    write_raw(tmp_path / "above" / "raw")
    with pytest.raises(ValueError, match=rf"one level off: use {(tmp_path / wanted).resolve()}\."):
        vqa_rad.read(tmp_path / given)


def test_a_missing_file_is_named(raw, tmp_path):
    (raw / "testset.json").unlink()
    with pytest.raises(ValueError, match=r"there is no .*testset\.json"):
        vqa_rad.read(raw)
    hub = write_hub(tmp_path / "hub")
    (hub / "data" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(ValueError, match=r"there is no .*data/test-\*\.parquet"):
        vqa_rad.read(hub)


def test_a_file_in_place_of_the_folder_says_where_to_look(raw):
    with pytest.raises(ValueError, match=rf"is a file, not a folder\. Use {raw}\."):
        vqa_rad.read(raw / "testset.json")


def test_truncated_files_are_named(raw, tmp_path):
    path = raw / "testset.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"testset\.json, line 1, column \d+: not complete JSON"):
        vqa_rad.read(raw)
    path = write_hub(tmp_path / "hub") / "data" / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"train-00001-of-00002\.parquet is not a complete Parquet file"):
        vqa_rad.read(tmp_path / "hub")


def test_a_list_of_rows_is_expected(raw):
    (raw / "testset.json").write_text(json.dumps({"rows": [row(1, "a.jpg", "HEAD", "Is it?", "yes")]}))
    with pytest.raises(ValueError, match=r"testset\.json contains an object, not a list"):
        vqa_rad.read(raw)
    (raw / "testset.json").write_text(json.dumps(["row"]))
    with pytest.raises(ValueError, match=r"testset\.json, row 0: a row must be an object, not text"):
        vqa_rad.read(raw)


def test_other_columns_in_the_hub_copy_are_named(tmp_path):
    import pyarrow.parquet as pq

    hub = write_hub(tmp_path / "hub")
    path = hub / "data" / "test-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).drop_columns("answer"), path)
    with pytest.raises(ValueError, match=r"test-00000-of-00001\.parquet has the columns \['image', 'question'\]"):
        vqa_rad.read(hub)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("image_organ", "KNEE", "`image_organ` is 'KNEE'"),
        ("answer_type", "HALF", "`answer_type` is 'HALF'"),
        ("answer", "  ", r"no value for \['answer'\]"),
        ("question", None, r"no value for \['question'\]"),
        ("image_name", "../synpic1.jpg", r"`image_name` is '\.\./synpic1\.jpg'"),
    ],
)
def test_bad_rows_are_named(tmp_path, field, value, problem):
    train, test = raw_rows()
    train[3] = {**train[3], field: value}
    with pytest.raises(ValueError, match=rf"trainset\.json, row 3: {problem}"):
        vqa_rad.read(write_raw(tmp_path / "raw", train, test))


def test_missing_field_is_named(tmp_path):
    train, test = raw_rows()
    del test[1]["image_name"]
    with pytest.raises(ValueError, match=r"testset\.json, row 1: no value for \['image_name'\]"):
        vqa_rad.read(write_raw(tmp_path / "raw", train, test))


def test_an_id_that_is_not_unique_is_named(tmp_path):
    train, test = raw_rows()
    test[1]["qid"] = train[3]["qid"]
    with pytest.raises(ValueError, match=r"testset\.json, row 1: `qid` '3' already occurred in train"):
        vqa_rad.read(write_raw(tmp_path / "raw", train, test))
