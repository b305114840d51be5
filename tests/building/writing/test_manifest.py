"""The manifest of a build."""

import hashlib
import json

import pytest

from fedvlm_hf import __version__
from fedvlm_hf.building.builders.base import BUILDERS
from fedvlm_hf.building.writing.build import build_dataset
from fedvlm_hf.building.writing.manifest import build_plan, builder_name, partition_hash
from fedvlm_hf.building.writing.options import WriteOptions
from toy_builder import Restricted, ToyBuilder, toy_rows, write_toy


def test_a_partition_hash_by_hand():
    """SHA-256 of "a<tab>client_00<tab>" and "b<tab>test<tab>client_00", whatever the order of the rows."""
    rows = [("b", "test", "client_00"), ("a", "client_00", None)]
    expected = hashlib.sha256(b"a\tclient_00\t\nb\ttest\tclient_00").hexdigest()
    assert partition_hash(rows) == partition_hash(rows[::-1]) == expected
    assert partition_hash([("b", "test", "client_01"), rows[1]]) != expected


def test_rows_do_not_depend_on_the_number_of_processes():
    plans = [
        build_plan(ToyBuilder(seed=3), WriteOptions(num_workers=number, max_side=64, window="40,400"))
        for number in (1, 2)
    ]
    assert plans[0] == plans[1]
    assert plans[0]["version"] == "1"
    assert plans[0]["package_version"] == __version__
    assert plans[0]["options"] == {
        "seed": 3,
        "wording": None,
        "num_turns": 2,
        "max_side": 64,
        "pad_to_square": False,
        "window": "40,400",
        "allow_missing_images": False,
        "configs": None,
    }


def test_a_builder_has_its_registered_name():
    name = BUILDERS.names()[0]
    assert builder_name(BUILDERS.get(name)()) == name
    assert builder_name(ToyBuilder()) == "ToyBuilder"


def test_everything_is_counted(tmp_path):
    """16 rows on 8 images; row toy-0-1 has no answer. Images 6 and 7 are held out, so the cats are 0, 2, 4."""
    rows = toy_rows()
    rows[1]["answer"] = ""
    raw = write_toy(tmp_path / "raw", rows)
    out = build_dataset(Restricted(seed=7), raw, tmp_path / "out", WriteOptions(num_workers=1))
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["sources"] == {"rows.json": hashlib.sha256((raw / "rows.json").read_bytes()).hexdigest()}
    assert manifest["restricted_sources"] == ["Secret X-rays"]
    assert [(line["what"], line["count"]) for line in manifest["tally"]] == [
        ("rows of rows.json", 16),
        ("rows without an answer", 1),
    ]
    assert (manifest["seed"], manifest["num_rows"], manifest["tasks"]) == (7, 15, {"vqa": 15})
    assert manifest["partition_column"] == "label"
    assert manifest["images"] == {
        "num_images": 8,
        "num_bytes": sum(path.stat().st_size for path in (raw / "images").iterdir()),
        "smallest": [48, 32],
        "largest": [48, 32],
    }
    labels = manifest["configs"]["labels"]
    assert labels["counts"] == {"client_00": 5, "client_01": 6, "validation": 2, "test": 2}
    assert labels["images"] == {"client_00": 3, "client_01": 3, "validation": 1, "test": 1}
    assert labels["client_names"] == {"client_00": "cat", "client_01": "dog"}
    assert (labels["known_leak"], labels["leaked_images"]) == (None, 0)
    files = {path.relative_to(out).as_posix(): path.stat().st_size for path in out.rglob("*.parquet")}
    assert {name: entry["num_bytes"] for name, entry in manifest["files"].items()} == files


@pytest.mark.parametrize(("name", "value"), [("max_side", 0), ("num_workers", -1)])
def test_options_must_make_sense(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be 1 or more, got {value}"):
        WriteOptions(**{name: value})


@pytest.mark.parametrize("window", ["40", "a,b", "40,0", "nan,400"])
def test_a_window_must_have_a_center_and_a_width(window):
    with pytest.raises(ValueError, match=f"`window` must .* got '{window}'"):
        WriteOptions(window=window)
