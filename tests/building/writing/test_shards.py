"""Parquet files: their contents and their sizes."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Features

from fedvlm_hf.building.images import ImageFile, content_hash
from fedvlm_hf.building.work import Work
from fedvlm_hf.building.writing.layout import Shard
from fedvlm_hf.building.writing.shards import IMAGE_BYTES, write_rows_file, write_shards
from fedvlm_hf.building.writing.staging import StagedImage
from fedvlm_hf.data.features import FEATURES


SCHEMA = Features({**FEATURES, "client_id": FEATURES["id"], "label": FEATURES["id"]}).arrow_schema


def stored(folder, number: int, num_bytes: int = 50_000) -> StagedImage:
    content = np.random.default_rng(number).bytes(num_bytes)
    (folder / f"{number}.bin").write_bytes(content)
    image = ImageFile(f"{number}", folder / f"{number}.bin")
    return StagedImage(image, content_hash(content), num_bytes, f"digest-{number}", 1, 1, (1, 1))


def row(number: int) -> dict:
    chat = [{"role": "user", "content": f"question {number}"}]
    return {"id": f"row-{number}", "prompt": chat, "completion": chat, "task": "vqa", "references": ["x", "y"]}


def write(folder, images, groups, **kwargs):
    """A shard of the rows whose images these are; where it is."""
    write_rows_file(folder / "rows.arrow", SCHEMA, [row(number) for number in range(len(images))], images)
    shard = Shard("data/x.parquet", groups, **{"num_bytes": 1, "has_repeats": False, "client_ids": None, **kwargs})
    written = write_shards([shard], images, folder, folder / "rows.arrow", SCHEMA, Work())
    path = folder / "data" / "x.parquet"
    assert written == {
        "data/x.parquet": {"num_rows": sum(map(len, groups)), "num_bytes": path.stat().st_size},
    }
    return path


def test_rows_are_written_in_the_order_of_the_groups(tmp_path):
    images = [stored(tmp_path, number, 10) for number in range(4)]
    path = write(tmp_path, images, ((3, 1), (0,)), client_ids=("client_01", None, "client_00"))
    rows = pq.read_table(path).to_pylist()
    assert [row["id"] for row in rows] == ["row-3", "row-1", "row-0"]
    assert [row["client_id"] for row in rows] == ["client_01", None, "client_00"]
    assert [row["images"] for row in rows] == [
        [{"bytes": images[number].image.load(), "path": None}] for number in (3, 1, 0)
    ]
    assert rows[0] == {**row(3), "images": rows[0]["images"], "client_id": "client_01", "label": None}
    assert pq.read_metadata(path).num_row_groups == 2


def test_features_are_in_the_schema(tmp_path):
    path = write(tmp_path, [stored(tmp_path, 0, 10)], ((0,),))
    assert json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]["images"] == {
        "feature": {"_type": "Image"},
        "_type": "List",
    }
    assert Features.from_arrow_schema(pq.read_schema(path)) == Features.from_arrow_schema(SCHEMA)


def test_a_repeated_image_in_a_row_group_is_stored_once(tmp_path):
    """20 rows of two images of 50,000 bytes: about 100,000 bytes with a dictionary, ten times as many without."""
    images = [stored(tmp_path, number) for number in (0, 1)] * 10
    again = write(tmp_path, images, (tuple(range(20)),), has_repeats=True)
    size, table = again.stat().st_size, pq.read_table(again)
    assert 100_000 < size < 106_000
    again.unlink()
    plain = write(tmp_path, images, (tuple(range(20)),))
    assert plain.stat().st_size > 1_000_000
    assert pq.read_table(plain).equals(table)


@pytest.mark.parametrize("has_repeats", [False, True])
def test_images_are_not_compressed_and_texts_are(tmp_path, has_repeats):
    path = write(tmp_path, [stored(tmp_path, number) for number in range(3)], ((0, 1, 2),), has_repeats=has_repeats)
    group = pq.read_metadata(path).row_group(0)
    columns = {group.column(place).path_in_schema: group.column(place) for place in range(group.num_columns)}
    assert columns[IMAGE_BYTES].compression == "UNCOMPRESSED"
    assert {column.compression for name, column in columns.items() if name != IMAGE_BYTES} == {"SNAPPY"}
    assert ("RLE_DICTIONARY" in columns[IMAGE_BYTES].encodings) == has_repeats


@pytest.mark.parametrize("has_repeats", [False, True])
def test_an_image_has_the_same_bytes_in_every_file(tmp_path, has_repeats):
    """So that the Hub stores an image of two configurations once; compression would prevent this."""
    images = [stored(tmp_path, number) for number in range(5)]
    for group in ((0, 1, 2, 3, 4), (4, 2, 0)):
        path = write(tmp_path, images, (group,), has_repeats=has_repeats)
        content = path.read_bytes()
        assert [content.count(images[number].image.load()) for number in group] == [1] * len(group)
        path.unlink()


def test_pages_end_where_the_content_says_and_have_an_index(tmp_path):
    metadata = pq.read_metadata(write(tmp_path, [stored(tmp_path, 0)], ((0,),)))
    assert json.loads(metadata.metadata[b"content_defined_chunking"])["max_chunk_size"] == 2**20
    assert metadata.row_group(0).column(0).has_offset_index


def test_an_existing_shard_is_kept(tmp_path):
    images = [stored(tmp_path, 0, 10)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.parquet").write_text("whole")
    assert write(tmp_path, images, ((0,),)).read_text() == "whole"


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(b"other"), lambda path: path.unlink()])
def test_an_image_that_changes_during_a_build_is_an_error(tmp_path, change):
    image = stored(tmp_path, 0, 10)
    change(image.image.path)
    with pytest.raises(ValueError, match=r"0\.bin has changed since"):
        write(tmp_path, [image], ((0,),))
    assert [path.name for path in (tmp_path / "data").glob("*.parquet")] == []
