import io
import json

import pytest
from datasets import Dataset
from PIL import Image

from fedvlm_hf.data.builders import vqa_rad
from fedvlm_hf.data.clients import check_content, client_datasets, evaluation_datasets
from vqa_rad_raw import raw_rows, row, write_raw


@pytest.fixture
def raw(tmp_path):
    return write_raw(tmp_path / "raw")


def test_given_split_keeps_the_files_and_makes_organs_clients(raw):
    """28 training rows: 11 head, 9 chest, 8 abdomen; 6 test rows (see vqa_rad_raw)."""
    dataset = vqa_rad.build(raw)
    assert dict(dataset.num_rows) == {"client_00": 11, "client_01": 9, "client_02": 8, "test": 6}
    for client_id, organ in (("client_00", "head"), ("client_01", "chest"), ("client_02", "abdomen")):
        assert set(dataset[client_id]["organ"]) == {organ}
        assert set(dataset[client_id]["client_id"]) == {client_id}
    assert dataset["test"]["subset"] == ["closed", "open"] * 3
    assert dataset["test"]["client_id"] == ["client_00"] * 2 + ["client_01"] * 2 + ["client_02"] * 2


def test_given_split_says_that_test_images_are_training_images(raw):
    dataset = vqa_rad.build(raw)
    trained = {name for client_id in vqa_rad.CLIENTS.values() for name in dataset[client_id]["image_name"]}
    assert set(dataset["test"]["image_name"]) <= trained
    assert "training image" in dataset["test"].info.description


@pytest.mark.parametrize("split", ["given", "clean"])
def test_rows_are_in_the_row_format(raw, split):
    dataset = vqa_rad.build(raw, split)
    check_content(client_datasets(dataset), evaluation_datasets(dataset))
    first = dataset["test"][0]
    assert first["task"] == "vqa"
    assert first["completion"] == [{"role": "assistant", "content": first["references"][0]}]
    assert first["id"].startswith("vqa_rad-")


def test_clean_split_shares_no_image_and_tests_every_organ(raw):
    """4 images an organ: round(0.2 * 4) = 1 is test, round(0.1 * 4) = 0 becomes the least, 1, and 2 are left."""
    dataset = vqa_rad.build(raw, "clean")
    images = {name: set(rows["image_name"]) for name, rows in dataset.items()}
    assert [len(images[name]) for name in sorted(images)] == [2, 2, 2, 3, 3]
    assert len(set().union(*images.values())) == 12
    assert set(dataset["test"]["organ"]) == set(dataset["validation"]["organ"]) == {"head", "chest", "abdomen"}
    assert sum(dataset.num_rows.values()) == 34


def test_clean_split_depends_on_the_seed_only(raw, tmp_path):
    train, test = raw_rows()
    shuffled = write_raw(tmp_path / "shuffled", train[::-1], test[::-1])
    names = [set(vqa_rad.build(folder, "clean")["test"]["image_name"]) for folder in (raw, shuffled)]
    assert names[0] == names[1]
    others = [set(vqa_rad.build(raw, "clean", seed=seed)["test"]["image_name"]) for seed in range(1, 6)]
    assert any(other != names[0] for other in others)


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


def test_images_are_padded_squares_of_bounded_size(raw):
    """24 x 16 pixels become 24 x 24 with 4 black rows above and below; bounded by 12 they become 12 x 12."""
    image = vqa_rad.build(raw)["test"][0]["images"][0]
    assert image.size == (24, 24)
    assert max(image.getpixel((12, 1))) < 20 < min(image.getpixel((12, 12)))
    assert vqa_rad.build(raw, image_size=12)["test"][0]["images"][0].size == (12, 12)


def test_nothing_is_written(raw):
    before = sorted(raw.rglob("*"))
    dataset = vqa_rad.build(raw)
    assert not any(dataset.cache_files.values())
    assert sorted(raw.rglob("*")) == before


def test_commonest_answers_by_hand():
    """(PRES, closed): no 2, yes 1 -> no. (PLANE, open): a tie -> axial. A kind not trained on: no, 2 of all 5."""
    train = Dataset.from_list(
        [
            {"question_type": "PRES", "subset": "closed", "references": ["No"]},
            {"question_type": "PRES", "subset": "closed", "references": ["no"]},
            {"question_type": "PRES", "subset": "closed", "references": ["yes"]},
            {"question_type": "PLANE", "subset": "open", "references": ["coronal"]},
            {"question_type": "PLANE", "subset": "open", "references": ["axial"]},
        ]
    )
    kinds = [("PRES", "closed"), ("PLANE", "open"), ("PLANE", "closed")]
    test = Dataset.from_list([{"question_type": kind, "subset": subset} for kind, subset in kinds])
    assert vqa_rad.commonest_answers([train], test) == ["no", "axial", "no"]


def test_missing_files_say_where_to_find_them(tmp_path):
    with pytest.raises(ValueError, match=r"trainset\.json.*data_RAD.*github\.com/longle0702/med-v2qa.*4ae21bc"):
        vqa_rad.build(tmp_path)


def test_truncated_json_is_named(raw):
    path = raw / "testset.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"testset\.json is not whole JSON"):
        vqa_rad.build(raw)


def test_missing_image_is_named(raw):
    (raw / "images" / "synpicABD2.jpg").unlink()
    with pytest.raises(ValueError, match=r"synpicABD2\.jpg cannot be read"):
        vqa_rad.build(raw)


def test_truncated_image_is_named(raw):
    path = raw / "images" / "synpicABD2.jpg"
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, format="JPEG")
    path.write_bytes(buffer.getvalue()[:400])
    with pytest.raises(ValueError, match=r"synpicABD2\.jpg cannot be read"):
        vqa_rad.build(raw)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("image_organ", "KNEE", "`image_organ` is 'KNEE'"),
        ("answer_type", "HALF", "`answer_type` is 'HALF'"),
        ("answer", "  ", r"no value for \['answer'\]"),
        ("question", None, r"no value for \['question'\]"),
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


def test_unknown_split_is_refused(raw):
    with pytest.raises(ValueError, match=r"`split='cleaner'` is unknown.*clean.*given"):
        vqa_rad.build(raw, "cleaner")


def test_a_list_of_rows_is_expected(raw):
    (raw / "testset.json").write_text(json.dumps({"rows": [row(1, "a.jpg", "HEAD", "Is it?", "yes")]}))
    with pytest.raises(ValueError, match=r"testset\.json is not a list of rows"):
        vqa_rad.read(raw)


def test_a_file_in_place_of_the_folder_is_named(raw):
    with pytest.raises(ValueError, match=r"there is no .*testset\.json/trainset\.json"):
        vqa_rad.read(raw / "testset.json")
