"""ScienceQA in both layouts: the repository's JSON files and the Hub's Parquet."""

import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedvlm_hf.building.images import image_digest, open_image
from fedvlm_hf.building.readers.scienceqa import captions_file, read, read_captions
from raw_scienceqa import png, raw_captions, raw_problems, raw_splits, write_hub, write_raw


PARTS = ["train"] * 10 + ["validation"] * 3 + ["test"] * 3


@pytest.fixture
def raw(tmp_path):
    return write_raw(tmp_path / "ScienceQA")


@pytest.fixture
def hub(tmp_path):
    return write_hub(tmp_path / "hub")


def digest(image):
    return image_digest(open_image(image.load(), image.key))


def test_every_problem_is_read_in_the_order_of_the_splits(raw):
    problems = read(raw)
    assert [problem.pid for problem in problems] == [str(pid) for pid in range(16)]
    assert [problem.given_split for problem in problems] == PARTS


def test_a_problem(raw):
    """Problem 3 is the last of `Maps`, whose name has a tab after it in the file; its image is red 200."""
    problem = read(raw)[3]
    assert (problem.id, problem.category, problem.topic, problem.subject) == (
        "3",
        "Maps",
        "geography",
        "social science",
    )
    assert (problem.hint, problem.solution) == ("A hint of two lines, 3.", "Because of 3.")
    assert problem.image.key == "images/train/3/image.png"
    assert digest(problem.image) == image_digest(open_image(png(200), "png"))


def test_problems_without_image_have_none(raw, hub):
    for folder in (raw, hub):
        assert [index for index, problem in enumerate(read(folder)) if problem.image is None] == [9, 12]


def test_data_and_the_folder_of_the_problems_are_also_accepted(raw):
    assert read(raw / "data") == read(raw) == read(raw / "data" / "scienceqa")


def test_captions_lose_their_spaces(raw):
    captions = read_captions(captions_file(raw))
    assert len(captions) == 13
    assert captions["3"] == "a picture of thing 3"


def test_captions_next_to_the_problems_are_found(raw):
    (raw / "data" / "captions.json").rename(raw / "data" / "scienceqa" / "captions.json")
    assert captions_file(raw) == raw / "data" / "scienceqa" / "captions.json"


def test_the_parquet_has_the_same_problems_without_their_ids(raw, hub):
    """Part and row in the place of the id, three rows a row group: row 7 of train is the second of group 2."""
    official, parquet = read(raw), read(hub)
    names = [
        f"{part}-{row}" for part, count in (("train", 10), ("validation", 3), ("test", 3)) for row in range(count)
    ]
    assert [problem.id for problem in parquet] == names
    assert {problem.pid for problem in parquet} == {None}
    for a, b in zip(official, parquet, strict=True):
        assert (a.given_split, a.category, a.hint, a.solution) == (b.given_split, b.category, b.hint, b.solution)
        assert a.image is None or digest(a.image) == digest(b.image)
    image = parquet[7].image
    assert (image.row_group, image.row) == (2, 1)
    assert image.load() == png(70, compress_level=8)
    assert pickle.loads(pickle.dumps(image)).load() == image.load()


def test_splits_of_several_files_are_numbered_continuously(hub):
    """A second train file: its rows follow the ten of the first."""
    path = next((hub / "data").glob("train-*"))
    pq.write_table(pq.read_table(path).slice(0, 2), path.with_name("train-00001-of-00002-a.parquet"))
    names = [problem.id for problem in read(hub) if problem.given_split == "train"]
    assert names == [f"train-{row}" for row in range(12)]


def test_the_parquet_cannot_have_captions(hub):
    with pytest.raises(
        ValueError, match=r"have no problem ids.*captions.json cannot be joined.*`--caption_from hint`"
    ):
        captions_file(hub)


def test_a_missing_split_in_parquet_is_named(hub):
    next((hub / "data").glob("test-*")).unlink()
    with pytest.raises(ValueError, match=r"has no test-\*.parquet"):
        read(hub)


def test_a_truncated_parquet_is_named(hub):
    path = next((hub / "data").glob("train-*"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"train-0.*cannot be read as Parquet"):
        read(hub)


def test_a_parquet_without_a_column_is_named(hub):
    path = next((hub / "data").glob("test-*"))
    pq.write_table(pq.read_table(path).drop_columns(["hint"]), path)
    with pytest.raises(ValueError, match=r"test-0.*has no columns \['hint'\]"):
        read(hub)


def test_an_image_without_bytes_is_named(hub):
    path = next((hub / "data").glob("test-*"))
    table = pq.read_table(path)
    column = pa.array([{"bytes": None, "path": "image.png"}] * 3, table.schema.field("image").type)
    pq.write_table(table.set_column(0, "image", column), path)
    with pytest.raises(ValueError, match=r"test-0.*row 1 has no image bytes"):
        read(hub)[-2].image.load()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda problems, splits: problems["4"].pop("category"), r"problem 4 has no \['category'\]"),
        (lambda problems, splits: problems["4"].update(category=" \t"), r"problem 4 has no \['category'\]"),
        (
            lambda problems, splits: problems["4"].update(image="../../image.png"),
            "problem 4: `image` '../../image.png' is not the name of a file in images/train/4",
        ),
        (lambda problems, splits: problems.update({"4": "text"}), "problem 4 is text, not an object"),
        (lambda problems, splits: problems.pop("4"), "problem 4 is missing, but .*pid_splits.json has it in 'train'"),
        (lambda problems, splits: splits["train"].remove("4"), r"does not assign 1 of the problems .*such as 4"),
        (lambda problems, splits: splits["test"].append("4"), "has problem 4 twice"),
        (lambda problems, splits: splits.pop("val"), "has no list `val`"),
    ],
)
def test_wrong_files_are_named(tmp_path, change, expected):
    problems, splits = raw_problems(), raw_splits()
    change(problems, splits)
    with pytest.raises(ValueError, match=expected):
        read(write_raw(tmp_path, problems, splits))


def test_a_truncated_file_is_named(raw):
    path = raw / "data" / "scienceqa" / "problems.json"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ValueError, match=r"problems.json, line 1, column 5\d+: not complete JSON"):
        read(raw)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": "m"}, r"captions\.json has no `captions`"),
        ({"captions": ["a"]}, r"captions\.json has no `captions`"),
        ({"captions": {"0": "A map.", "1": 4}}, r"captions\.json: the caption of problem 1 must be text, not 4\."),
    ],
)
def test_captions_of_another_form_are_refused(raw, content, message):
    path = captions_file(raw)
    assert len(raw_captions()["captions"]) == 13
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_captions(path)


def test_the_error_for_another_folder_lists_both_layouts(tmp_path):
    with pytest.raises(ValueError, match=r"problems.json.*derek-thomas/ScienceQA"):
        read(tmp_path)
