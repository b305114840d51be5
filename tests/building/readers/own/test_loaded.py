"""Rows of datasets that `datasets` loads."""

import pickle

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value

from federated_folder import png
from fedvlm_hf.building.readers.own.loaded import image_column, load_splits, loaded_rows
from hub_server import Fault, running


FEATURES = Features(
    {"image": Image(), "question": Value("string"), "score": Value("float64"), "organ": ClassLabel(names=["a", "b"])}
)


@pytest.fixture
def dataset(tmp_path):
    """Sixty rows, with empty values in rows 1 and 2."""
    rows = [
        {"image": {"bytes": png(row), "path": None}, "question": f"{row}?", "score": float(row), "organ": row % 2}
        for row in range(60)
    ]
    rows[1] |= {"question": " ", "score": float("nan")}
    rows[2] |= {"question": None, "organ": -1}
    DatasetDict(train=Dataset.from_list(rows, features=FEATURES)).save_to_disk(tmp_path / "source")
    return load_splits(str(tmp_path / "source"))["train"]


def test_rows_without_empty_values_and_with_names_of_classes(dataset):
    rows = list(loaded_rows(dataset, "train", "x, split train"))
    assert [row.values for row in rows[:4]] == [
        {"question": "0?", "score": 0.0, "organ": "a"}, {"organ": "b"}, {"score": 2.0},
        {"question": "3?", "score": 3.0, "organ": "b"},
    ]  # fmt: skip
    assert (rows[59].name, rows[59].where, rows[59].num_images) == ("59", "x, split train, row 59", 1)
    assert [row.image.load() for row in rows] == [png(row) for row in range(60)]
    assert len({row.image.key for row in rows}) == 60


def test_a_change_of_the_rows_changes_the_version_of_images(dataset):
    (first, *_), (other, *_) = (list(loaded_rows(rows, "train", "x")) for rows in (dataset, dataset.select([1, 0])))
    assert first.image.version
    assert first.image.version != other.image.version


def test_images_travel_to_processes_as_paths(dataset):
    """A pickled image has no pixels, and the dataset is read once in each process."""
    first, *_, last = (row.image for row in loaded_rows(dataset, "train", "x"))
    content = pickle.dumps(last)
    assert png(59) not in content
    copy = pickle.loads(content)
    assert copy == last
    assert copy.load() == png(59)
    assert pickle.loads(pickle.dumps(first)).rows.dataset is copy.rows.dataset


@pytest.mark.parametrize(("count", "content"), [(0, []), (2, [1, 2]), (0, None)])
def test_images_are_counted(count, content):
    value = content and [{"bytes": png(number), "path": None} for number in content]
    dataset = Dataset.from_list([{"images": value}], features=Features({"images": List(Image())}))
    (row,) = loaded_rows(dataset, "train", "x")
    assert row.num_images == count
    assert (row.image is None) == (count == 0)


def test_a_list_of_one_image():
    features = Features({"images": List(Image()), "other": Image()})
    content = [{"images": [{"bytes": png(7), "path": None}], "other": {"bytes": png(8), "path": None}}]
    dataset = Dataset.from_list(content, features=features)
    assert image_column(features) == "images"
    assert image_column(features, "other") == "other"
    (row,) = loaded_rows(dataset, "train", "x")
    assert row.image.load() == png(7)
    assert row.values == {}
    with pytest.raises(
        ValueError, match=r"`image='question'` .* columns with images are \['image'\] of \['image', 'qu"
    ):
        image_column(FEATURES, "question")


@pytest.mark.parametrize(
    "name", ["./data", "/nothing/here", "data/site/a", "rows.csv", "folder/rows.parquet", "data/", "~/data"]
)
def test_a_path_that_does_not_exist_is_no_name_on_the_hub(name, monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", fail)
    with pytest.raises(ValueError, match="`dataset`: there is no file or folder"):
        load_splits(name)


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch, tmp_path):
    """And not again and again, as `load_dataset` does for half a minute."""
    with running(tmp_path, {}) as hub:
        hub.faults.append(Fault(".", cut=True, times=10**6))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        expected = f"`dataset` 'org/dataset' is not a folder in .* It cannot be read from {hub.endpoint}"
        with pytest.raises(ValueError, match=expected):
            load_splits("org/dataset", revision="v1")
    assert hub.log == ["GET /api/datasets/org/dataset/revision/v1"]


def test_an_incomplete_folder_is_named(dataset, tmp_path):
    next((tmp_path / "source" / "train").glob("*.arrow")).unlink()
    with pytest.raises(ValueError, match="source is not a complete folder of `save_to_disk`"):
        load_splits(str(tmp_path / "source"))
