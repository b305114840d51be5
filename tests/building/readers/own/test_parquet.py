"""Parquet files of own data."""

import datetime
import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as Pillow

from fedvlm_hf.building.readers import parquet
from fedvlm_hf.building.readers.own.sources import open_source
from fedvlm_hf.building.work import Work


def png(grey):
    buffer = io.BytesIO()
    Pillow.new("L", (6, 4), grey).save(buffer, format="PNG")
    return buffer.getvalue()


def read(path, image=None):
    (source,) = open_source(path, Work(raw=path.parent), image).sources
    return list(source.rows())


PNGS = [png(grey) for grey in range(10)]


@pytest.mark.parametrize("batches", [True, False])
def test_the_hubs_files_with_images_and_classes(tmp_path, monkeypatch, batches):
    if batches:
        monkeypatch.setattr(parquet, "_GROUP_BYTES", 10)
        monkeypatch.setattr(parquet, "_BATCH_ROWS", 2)
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"]), "note": Value("string")})
    rows = {
        "image": [{"bytes": content, "path": "deep/x.png"} for content in PNGS],
        "label": [0, 1, -1, None, *[1] * 6],
        "note": ["a", "", None, *["b"] * 7],
    }
    path = tmp_path / "a.parquet"
    Dataset.from_dict(rows, features).to_parquet(path, batch_size=4)
    assert pq.ParquetFile(path).num_row_groups == 3
    found = read(path)
    assert [row.values for row in found[:4]] == [{"label": "cat", "note": "a"}, {"label": "dog"}, {}, {"note": "b"}]
    assert [row.image.key for row in found[3:5]] == ["a.parquet/3", "a.parquet/4"]
    assert found[4].where == f"{path}, row 4"
    assert [row.image.load() for row in found] == PNGS
    assert [found[row].image.load() for row in (9, 5, 7, 0)] == [PNGS[row] for row in (9, 5, 7, 0)]
    assert pickle.loads(pickle.dumps(found[9].image)).load() == PNGS[9]


def test_rows_are_read_almost_in_order_by_threads(tmp_path, monkeypatch):
    """Every thread reads the batches once, although others ask for rows before the last one."""
    monkeypatch.setattr(parquet, "_GROUP_BYTES", 10)
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 2)
    rows = {"image": [PNGS[index % 10] for index in range(100)], "answer": ["a"] * 100}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    starts = []
    monkeypatch.setattr(parquet._Group, "_read", counted(parquet._Group._read, starts))
    images = [row.image for row in read(tmp_path / "a.parquet")]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda image: image.load(), images)) == rows["image"]
    assert 1 <= len(starts) <= 3
    before = len(starts)
    assert images[0].load() == PNGS[0]
    assert len(starts) == before + 1


def test_threads_that_read_different_row_groups_load_each_of_them_once(tmp_path, monkeypatch):
    """As for shards of two clients that are written at the same time. Each image took a whole row group before."""
    rows = {"image": [PNGS[index % 10] for index in range(40)], "answer": ["a"] * 40}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet", row_group_size=20)
    starts = []
    monkeypatch.setattr(parquet._Group, "_read", counted(parquet._Group._read, starts))
    images = [row.image for row in read(tmp_path / "a.parquet")]
    barrier = Barrier(2)

    def load(part):
        found = []
        for image in part:
            barrier.wait()  # both threads are at the same place of their row groups
            found.append(image.load())
        return found

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(load, (images[:20], images[20:]))
    assert first + second == rows["image"]
    assert len(starts) == 2
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda image: image.load(), images)) == rows["image"]


def counted(function, calls):
    def call(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return call


def test_lists_of_images_and_rows_without(tmp_path):
    features = Features({"images": List(Image()), "answer": Value("string")})
    images = [[{"bytes": content, "path": None} for content in listed] for listed in (PNGS[:1], PNGS[:2], [])]
    Dataset.from_dict({"images": [*images, None], "answer": list("abcd")}, features).to_parquet(tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet")
    assert [row.num_images for row in rows] == [1, 2, 0, 0]
    assert rows[0].image.load() == PNGS[0]
    assert [row.image for row in rows[1:]] == [None] * 3


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_a_column_of_bytes(tmp_path, kind):
    table = pa.table({"image": pa.array([PNGS[0], None, PNGS[2]], kind), "answer": ["a", "b", "c"]})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet")
    assert [row.num_images for row in rows] == [1, 0, 1]
    assert rows[2].image.load() == PNGS[2]


def test_a_column_of_paths_and_values_of_other_types(tmp_path):
    table = pa.table(
        {
            "file_name": ["deep/1.png", None],
            "day": [datetime.date(2024, 2, 3), None],
            "score": [1.5, float("nan")],
            "thumbnail": [b"x", b"y"],
            "references": [["a", "b"], None],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = read(tmp_path / "a.parquet")
    assert first.image.key == "deep/1.png"
    assert first.values == {"day": "2024-02-03", "score": 1.5, "references": ["a", "b"]}
    assert (second.image, second.num_images, second.values) == (None, 0, {})


def test_the_column_of_the_images(tmp_path):
    rows = {"image": ["cat", "dog"], "left": [{"bytes": content, "path": None} for content in PNGS[:2]]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    assert [row.values for row in read(tmp_path / "a.parquet", "left")] == [{"image": "cat"}, {"image": "dog"}]
    two = {"left": rows["left"], "right": rows["left"], "answer": ["a", "b"]}
    pq.write_table(pa.table(two), tmp_path / "b.parquet")
    assert [row.image.load() for row in read(tmp_path / "b.parquet", "right")] == PNGS[:2]
    with pytest.raises(
        ValueError, match=r"b\.parquet: `image` must name .* columns with images are \['left', 'right'\]"
    ):
        read(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: `image='scan'` is not a column"):
        read(tmp_path / "a.parquet", "scan")
    only = {"scan": rows["left"]}
    pq.write_table(pa.table(only), tmp_path / "c.parquet")
    assert [row.values for row in read(tmp_path / "c.parquet")] == [{}, {}]


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [{"bytes": PNGS[0], "path": None}] * 100, "answer": ["a"] * 100}), path)
    content = path.read_bytes()
    for damaged in (content[:-100], b"", b"PAR1" + b"\0" * 20 + b"PAR1"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.parquet is not a complete Parquet file") as error:
            read(path)
        assert "ownload" not in str(error.value)
    pq.write_table(pa.table({"image": pa.array([], pa.binary()), "answer": pa.array([], pa.string())}), path)
    with pytest.raises(ValueError, match=r"a\.parquet has no rows"):
        read(path)


def test_a_path_instead_of_an_image_is_named_when_it_is_read(tmp_path):
    pq.write_table(
        pa.table({"image": [{"bytes": None, "path": "1.png"}, {"bytes": b"", "path": ""}]}), tmp_path / "a.parquet"
    )
    image = read(tmp_path / "a.parquet")[0].image
    with pytest.raises(ValueError, match=r"row group 0, row 0 has no image bytes, only a path"):
        image.load()
