"""The files that a card lists are found as `load_dataset` finds them."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets.data_files import resolve_pattern, sanitize_patterns

from fedvlm_hf.building.dataset import read_folder


FILES = [
    "data/client_00-00000.parquet",
    "data/client_00-00001.parquet",
    "data/client_01-00000.parquet",
    "data/more/client_00-00000.parquet",
    "data/.client_00-00002.parquet",
    "data/client_00-folder.parquet/x.parquet",
    "top.parquet",
]

DATA_FILES = [
    [{"split": "client_00", "path": "data/client_00-*.parquet"}, {"split": "test", "path": "top.parquet"}],
    [{"split": "client_00", "path": "data/*-00000.parquet"}],
    [{"split": "client_00", "path": "*/*/client_00-*.parquet"}],
    [{"split": "client_00", "path": "data/**/client_00-00000.parquet"}],
    [{"split": "client_00", "path": "./data/client_00-0*.parquet"}],
    [{"split": "client_00", "path": "data/client_0[01]-00000.parquet"}],
    [{"split": "client_00", "path": ["data/client_01-00000.parquet", "top.parquet"]}],
    [{"split": 3, "path": "top.parquet"}],
    {"client_00": "data/client_00-0*.parquet", "test": ["top.parquet"]},
    "top.parquet",
    ["top.parquet", "data/client_01-00000.parquet"],
]


@pytest.mark.parametrize("data_files", DATA_FILES, ids=json.dumps)
def test_files_are_those_that_datasets_finds(tmp_path, data_files):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"id": ["a"]}), tmp_path / name)
    card = {"configs": [{"config_name": "default", "data_files": data_files}]}
    (tmp_path / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n")
    expected = {
        str(split): [
            Path(path).relative_to(tmp_path).as_posix()
            for pattern in patterns
            for path in resolve_pattern(pattern, str(tmp_path))
        ]
        for split, patterns in sanitize_patterns(data_files).items()
    }
    federation = read_folder(tmp_path)
    assert federation.configs == {"default": expected}
    assert all(expected.values())
    assert federation.problems == []


def test_a_split_that_is_listed_twice_is_refused(tmp_path):
    card = {"configs": [{"config_name": "a", "data_files": [{"split": "test", "path": "x"}] * 2}]}
    (tmp_path / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n")
    with pytest.raises(ValueError, match="does not list configurations"):
        read_folder(tmp_path)
