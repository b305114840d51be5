"""Which files and folders are clients, splits, or neither."""

import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from fedvlm_hf.building.readers.own.sources import find_sources, is_hub_layout, open_source
from fedvlm_hf.building.work import Work
from own_archives import png, write_tar, write_zip
from raw_custom import write_csv, write_image, write_raw


ROW = {"image": "1.png", "answer": "a"}


def write_tables(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(pa.table({"image": ["1.png"], "answer": ["a"]}), path)
        elif path.suffix == ".json":
            path.write_text(json.dumps([ROW]))
        elif path.suffix == ".jsonl":
            path.write_text(json.dumps(ROW))
        elif path.suffix == ".tar":
            write_tar(path, {"a.png": png(1), "a.txt": "a"})
        elif path.suffix == ".zip":
            write_zip(path, {"metadata.csv": "file_name,answer\n1.png,a\n"})
        elif path.suffix == ".png":
            write_image(path, 1)
        else:
            write_csv(path, [ROW])
    return folder


def find(raw, **options):
    return find_sources(raw, Work(raw=raw), **options)


def clients(found):
    return [(source.client, source.split) for source in found.sources]


def splits(found):
    return [(source.name, source.split, len(list(source.rows()))) for source in found.sources]


def test_every_form_is_a_client(tmp_path):
    raw = write_raw(tmp_path / "raw")
    names = ("f.tsv", "g.parquet", "h.tar", "i.zip", "j/lone.json", "k/lone.parquet", "l/metadata.jsonl", "m/a/x.csv")
    write_tables(raw, *names, "notes.txt", ".hidden/x.csv")
    write_csv(raw / "f.tsv", [{"image": "1.png"}])
    found = find(raw)
    expected = ["f", "g", "h", "i", "j", "k", "l", "m", "site-c", "site_a", "site_b", "site_d", "site_e"]
    assert clients(found) == [(name, None) for name in expected]
    assert [source.name for source in found.sources] == expected
    assert {source.name: source.form for source in found.sources} == {
        "f": "CSV table", "g": "Parquet", "h": "WebDataset tar", "i": "CSV table in a zip", "j": "JSON list",
        "k": "Parquet", "l": "JSON Lines", "m": "CSV table", "site-c": "JSON list", "site_a": "CSV table",
        "site_b": "JSON Lines", "site_d": "images by class", "site_e": "CSV table",
    }  # fmt: skip
    assert found.ignored == ["notes.txt"]
    rows = {source.name: len(list(source.rows())) for source in found.sources}
    assert rows == dict.fromkeys(expected, 1) | dict.fromkeys([name for name in expected if "site" in name], 10)


def test_class_folders_of_several_sites_are_pooled(tmp_path):
    """As imagefolder of `datasets` reads them: the class is the last folder."""
    for site in ("north", "south"):
        for index, name in enumerate(("cat", "dog")):
            write_image(tmp_path / "sites" / site / name / "1.png", index)
    (tmp_path / "sites" / "empty").mkdir()
    found = open_source(tmp_path / "sites", Work(raw=tmp_path / "sites"))
    rows = [(source.name, row.name, row.values["label"]) for source in found.sources for row in source.rows()]
    assert rows == [(s, f"{c}/1.png", c) for s in ("north", "south") for c in ("cat", "dog")]
    assert found.ignored == ["empty/"]


def test_images_by_class(tmp_path):
    for name in ("dog/1.JPG", "cat/2.png", "cat/1.png"):
        write_image(tmp_path / "site" / name, 1)
    for name in ("cat/notes.txt", "dog/1.xml", "dog/2.xml"):
        (tmp_path / "site" / name).write_text("no image")
    (tmp_path / "site" / "dog" / "more").mkdir()
    (tmp_path / "site" / "empty").mkdir()
    found = find(tmp_path)
    rows = list(found.sources[0].rows())
    assert [row.name for row in rows] == ["cat/1.png", "cat/2.png", "dog/1.JPG"]
    assert rows[0].values == {"answer": "cat", "label": "cat", "task": "classification"}
    assert (rows[2].image.key, rows[2].image.path) == ("site/dog/1.JPG", tmp_path / "site" / "dog" / "1.JPG")
    assert rows[2].where == str(tmp_path / "site" / "dog" / "1.JPG")
    assert found.ignored == ["site/cat/notes.txt", "site/dog/*.xml (2 files)", "site/dog/more/", "site/empty/"]


def test_metadata_names_the_images(tmp_path):
    write_image(tmp_path / "site" / "deep" / "1.png", 1)
    write_csv(tmp_path / "site" / "metadata.csv", [{"file_name": "deep/1.png", "answer": "a"}])
    write_tables(tmp_path, "site/more.csv")
    found = find(tmp_path)
    (row,) = found.sources[0].rows()
    assert (row.values, row.image.path) == ({"answer": "a"}, tmp_path / "site" / "deep" / "1.png")
    assert found.ignored == ["site/more.csv"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Training", "train"), ("val", "validation"), ("valid", "validation"),
        ("validation", "validation"), ("dev", "validation"), ("test", "test"), ("TESTING", "test"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet", ".tar", ".zip", "/metadata.csv", "/cat/1.png"])
def test_the_names_of_splits_are_never_clients(tmp_path, name, split, suffix):
    found = find(write_tables(tmp_path, "north.csv", name + suffix))
    assert clients(found) == [("north", None), (None, split)]
    assert found.sources[1].name == split


def test_splits_of_clients(tmp_path):
    write_tables(tmp_path, "north_train.csv", "north-test.csv", "south/train.csv", "south/val.jsonl", "south/x.csv")
    write_tables(tmp_path, "west/train/cat/1.png", "west/test/cat/1.png", "east-00000-of-00002.parquet")
    write_tables(tmp_path, "east-00001-of-00002.parquet", "test.csv")
    found = find(tmp_path)
    assert sorted(clients(found), key=str) == [
        ("east", None), ("east", None), ("north", "test"), ("north", "train"), ("south", "train"),
        ("south", "validation"), ("west", "test"), ("west", "train"), (None, "test"),
    ]  # fmt: skip
    assert found.ignored == ["south/x.csv"]
    names = [(source.name, row.name) for source in found.sources for row in source.rows()]
    assert len(set(names)) == len(names) == 9


@pytest.mark.parametrize(
    "name", ["train/test.csv", "train/val/cat/1.png", "north_train/test.csv", "north/train/val.csv"]
)
def test_names_of_splits_that_contradict_each_other_are_refused(tmp_path, name):
    """Test rows must not become training rows, and the reverse."""
    write_tables(tmp_path, "south.csv", name)
    with pytest.raises(ValueError, match=r"train has rows of train according to its name, but (test|val)"):
        find(tmp_path)


def test_the_folders_of_the_papers_own_datasets(tmp_path):
    write_tables(tmp_path, "train/client_0.json", "train/client_1.json", "test/vqa.json", "test/caption.json")
    found = find(tmp_path)
    assert clients(found) == [("client_0", "train"), ("client_1", "train"), (None, "test"), (None, "test")]


def test_two_sources_with_the_same_name_are_refused(tmp_path):
    raw = write_raw(tmp_path / "raw")
    write_image(raw / "site_a" / "cat" / "1.png", 1)
    with pytest.raises(ValueError, match=r"raw/site_a: another file or folder, site_a.csv, is also called 'site_a'"):
        find(raw)
    shutil.rmtree(raw / "site_a")
    write_tables(raw, "val.csv", "dev.json")
    with pytest.raises(ValueError, match=r"raw/val\.csv: .* dev\.json, is also called 'validation'"):
        find(raw)


def test_a_folder_whose_images_a_table_uses_is_no_client(tmp_path):
    """Only the last row names photos/deep, images/ is found without being named, and photos2 has the class x."""
    rows = [{"image": "1.png", "answer": "a"}, {"image": "photos/deep/3.png", "answer": "a"}]
    write_csv(tmp_path / "north.csv", rows)
    write_csv(tmp_path / "south" / "metadata.csv", [{"file_name": "scans/x/1.png", "answer": "a"}])
    write_tables(tmp_path, "images/1.png", "photos/deep/3.png", "photos2/x/3.png", "scans/x/1.png")
    assert clients(find(tmp_path)) == [("north", None), ("photos2", None), ("south", None)]


def test_the_folder_of_the_images_is_no_client(tmp_path):
    write_csv(tmp_path / "north.csv", [{"image": "x/1.png", "answer": "a"}])
    write_tables(tmp_path, "all/images/x/1.png")
    assert clients(find(tmp_path, image_folder=tmp_path / "all" / "images")) == [("north", None)]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["more/1.png"], r"more is not a client: no table uses its images, .*Add metadata\.csv with the columns"),
        (["more/1.dcm"], r"more is not a client: .*has DICOM files, .* Convert them to PNG"),
        (["more/a/b/c/1.png"], r"more is not a client: .*has no table \(\.csv, .*\) and no subfolders of images"),
    ],
)
def test_a_folder_in_no_form_is_refused(tmp_path, names, problem):
    write_tables(tmp_path, "north.csv", *names)
    with pytest.raises(ValueError, match=problem):
        find(tmp_path)


def test_nothing_to_read(tmp_path):
    with pytest.raises(ValueError, match=r"has no table and no folder of images"):
        find(tmp_path)
    with pytest.raises(ValueError, match=r"is not a folder"):
        find(tmp_path / "missing")


@pytest.mark.parametrize("target", ["..", ".", "../elsewhere"])
def test_links_out_of_the_folder_and_loops_are_refused(tmp_path, target):
    write_tables(tmp_path / "elsewhere", "cat/1.png")
    raw = write_tables(tmp_path / "raw", "north.csv")
    os.symlink(target, raw / "south")
    with pytest.raises(ValueError, match=r"raw/south is a link to "):
        find(raw)
    (raw / "south").unlink()
    write_tables(raw, "west/cat/1.png")
    os.symlink(tmp_path / "elsewhere" / "cat" / "1.png", raw / "west" / "cat" / "2.png")
    with pytest.raises(ValueError, match=r"2\.png is a link to "):
        find(raw)


def test_everything_that_is_read_or_listed_is_recorded(tmp_path):
    write_tables(tmp_path, "north.csv", "south/metadata.csv", "west/cat/1.png", "east.zip")
    work = Work(raw=tmp_path)
    find_sources(tmp_path, work)
    assert set(work.sources) == {"north.csv", "south/metadata.csv", "east.zip"}
    listed = {listing.folder for listing in work.inputs.listings}
    assert {".", "south", "west", "west/cat"} <= listed


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.parquet", "a.tar", "a.zip", "test.csv"])
def test_a_single_file_is_pooled_data(tmp_path, name):
    write_tables(tmp_path, name, "other.csv")
    if name == "a.tsv":
        (tmp_path / name).write_text("image\tanswer\n1.png\ta\n")
    (source,) = open_source(tmp_path / name, Work(raw=tmp_path)).sources
    assert (source.client, source.split, len(list(source.rows()))) == (None, None, 1)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cat/1.png", "dog/1.png"], [("{}", None, 2)]),
        (["train/1.png", "car/1.png"], [("{}", None, 2)]),
        (["metadata.csv", "x.csv"], [("metadata", None, 1)]),
        (["metadata.jsonl"], [("metadata", None, 1)]),
        (["metadata.parquet"], [("metadata", None, 1)]),
        (["a.csv", "b.json", "images/1.png"], [("a", None, 1), ("b", None, 1)]),
        (["train.csv", "val.csv", "test.csv"],
         [("test", "test", 1), ("train", "train", 1), ("validation", "validation", 1)]),
        (["train.csv", "test.csv", "classes.csv"], [("test", "test", 1), ("train", "train", 1)]),
        (["rows.csv", "test.csv"], [("rows", None, 1), ("test", "test", 1)]),
        (["vqa_train.json", "vqa_test.json"], [("test", "test", 1), ("train", "train", 1)]),
        (["train/cat/1.png", "val/cat/1.png"], [("train", "train", 1), ("validation", "validation", 1)]),
        (["train/metadata.csv", "test/a.json", "more/1.png"], [("test", "test", 1), ("train", "train", 1)]),
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test.parquet"],
         [("test", "test", 1), ("train", "train", 1), ("train", "train", 1)]),
        (["train-000000.tar", "train-000001.tar"], [("train", "train", 1), ("train", "train", 1)]),
        (["annotations/train.json", "annotations/val.json", "images/1.png"],
         [("train", "train", 1), ("validation", "validation", 1)]),
    ],
)  # fmt: skip
def test_pooled_folders(tmp_path, names, expected):
    found = open_source(write_tables(tmp_path, *names), Work(raw=tmp_path))
    assert splits(found) == [(name.format(tmp_path.name), split, count) for name, split, count in expected]
    rows = [(source.name, row.name) for source in found.sources for row in source.rows()]
    assert len(set(rows)) == len(rows)


def test_a_table_that_is_left_out_is_named(tmp_path):
    found = open_source(write_tables(tmp_path, "train.csv", "classes.csv", "README.txt"), Work(raw=tmp_path))
    assert found.ignored == ["README.txt", "classes.csv"]


def test_folders_of_the_hub_are_left_to_datasets(tmp_path):
    dataset = Dataset.from_dict({"a": [1]})
    DatasetDict({"train": dataset}).save_to_disk(tmp_path / "disk")
    dataset.save_to_disk(tmp_path / "one")
    write_tables(tmp_path / "hub", "data.csv")
    (tmp_path / "hub" / "README.md").write_text("---\nconfigs:\n- config_name: a\n  data_files: data.csv\n---\n")
    write_tables(tmp_path / "own", "data.csv")
    (tmp_path / "own" / "README.md").write_text("---\nlicense: mit\n---\nMy data.\n")
    for name in ("disk", "one", "hub"):
        assert is_hub_layout(tmp_path / name)
        assert open_source(tmp_path / name, Work()) is None
    assert not is_hub_layout(tmp_path / "own")
    assert splits(open_source(tmp_path / "own", Work(raw=tmp_path / "own"))) == [("data", None, 1)]


@pytest.mark.parametrize("text", ["", "plain", "---\n: [\n---\n", "---\n- 1\n---\n", "---\n"])
def test_a_text_that_is_no_card_is_no_layout_of_the_hub(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    assert not is_hub_layout(tmp_path)


def test_paths_that_cannot_be_opened(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file or folder .*missing"):
        open_source(tmp_path / "missing", Work())
    write_image(tmp_path / "1.png", 1)
    with pytest.raises(ValueError, match=r"1\.png is no table, tar or zip that can be read"):
        open_source(tmp_path / "1.png", Work())
    with pytest.raises(ValueError, match=r"nothing says what they show\. Add metadata\.csv"):
        open_source(tmp_path, Work())
