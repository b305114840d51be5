"""Images in Parquet files: read on request, in threads, and again after the file was replaced."""

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from fedvlm_hf.building.readers import parquet
from fedvlm_hf.building.readers.parquet import ParquetImage


def write(path, contents):
    pq.write_table(pa.table({"image": pa.array(contents, pa.binary())}), path)


def test_a_replaced_file_is_read_again(tmp_path):
    path = tmp_path / "x.parquet"
    write(path, [b"old"])
    assert ParquetImage("x/0", path, "image", 0, 0).load() == b"old"
    path.unlink()
    write(path, [b"new content"])
    assert ParquetImage("x/0", path, "image", 0, 0).load() == b"new content"


def test_threads_read_the_right_images(tmp_path, monkeypatch):
    """Rows are read in batches of 16, as for large row groups, by eight threads that ask for them in any order."""
    monkeypatch.setattr(parquet, "_GROUP_BYTES", 0)
    contents = [f"{number}".encode() for number in range(400)]
    write(tmp_path / "x.parquet", contents)
    order = [number * 7 % 400 for number in range(400)]

    def load(number):
        return ParquetImage(f"x/{number}", tmp_path / "x.parquet", "image", 0, number).load()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(load, order)) == [contents[number] for number in order]
