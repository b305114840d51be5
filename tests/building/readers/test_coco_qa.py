import pytest

import raw_coco_qa
from fedvlm_hf.building.readers import coco_qa
from fedvlm_hf.building.readers.coco_qa import Question


@pytest.fixture
def raw(tmp_path):
    return raw_coco_qa.write_raw(tmp_path / "raw")


def test_lines_of_the_four_files_belong_together(raw):
    questions = coco_qa.read(raw)
    assert len(questions) == 2 * 23 + 1
    assert questions[0] == Question("train-1", 1, "what is the color of the cat", "black", "color", "train")
    assert [q.question_type for q in questions[:3]] == ["color", "number", "location"]
    assert questions[-1] == Question("test-1", 501, "what barks ?", "dog", "object", "test")
    assert [path.relative_to(raw).as_posix() for path in coco_qa.annotation_files(raw)] == [
        f"cocoqa/{split}/{name}.txt"
        for split in ("train", "test")
        for name in ("questions", "answers", "img_ids", "types")
    ]


def test_the_last_line_needs_no_newline_and_lines_may_end_as_on_windows(raw, tmp_path):
    expected = coco_qa.read(raw)
    assert coco_qa.read(raw_coco_qa.write_raw(tmp_path / "other", ends_with_newline=False)) == expected
    path = raw / "cocoqa" / "train" / "answers.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert coco_qa.read(raw) == expected


def test_a_line_separator_in_a_text_does_not_end_a_line(raw):
    path = raw / "cocoqa" / "test" / "questions.txt"
    path.write_text("what\u2028barks\x0b?\n", encoding="utf-8")
    assert coco_qa.read(raw)[-1].question == "what\u2028barks\x0b?"


def test_the_folder_itself_and_folders_one_level_off(tmp_path):
    raw = raw_coco_qa.write_raw(tmp_path / "above" / "raw")
    assert len(coco_qa.read(raw / "cocoqa")) == 47
    with pytest.raises(ValueError, match=rf"one level off: use {(raw).resolve()}\."):
        coco_qa.read(tmp_path / "above")


def test_files_of_different_lengths_are_refused_with_the_counts(raw):
    path = raw / "cocoqa" / "train" / "img_ids.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:-3]) + "\n")
    with pytest.raises(
        ValueError, match=r"train: .*got questions\.txt 46, answers\.txt 46, img_ids\.txt 43, types\.txt 46"
    ):
        coco_qa.read(raw)


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("types", "4", r"train/types\.txt, line 3 is '4', not one of \['0', '1', '2', '3'\]"),
        ("img_ids", "12a", r"train/img_ids\.txt, line 3 is '12a', not an image id of COCO"),
        ("img_ids", "²", r"train/img_ids\.txt, line 3 is '²'"),
        ("answers", " ", r"train/answers\.txt, line 3 is empty"),
    ],
)
def test_wrong_lines_are_named(raw, name, line, message):
    path = raw / "cocoqa" / "train" / f"{name}.txt"
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines[:2], line, *lines[3:]]), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        coco_qa.read(raw)


def test_a_missing_file_is_named(raw):
    (raw / "cocoqa" / "test" / "types.txt").unlink()
    with pytest.raises(ValueError, match=r"no file .*cocoqa/test/types\.txt"):
        coco_qa.read(raw)
