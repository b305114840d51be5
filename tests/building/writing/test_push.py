"""What is uploaded, and what is not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fedvlm_hf.building.writing.build import build_dataset
from fedvlm_hf.building.writing.options import WriteOptions
from fedvlm_hf.building.writing.push import files_to_push, push_dataset
from hub_server import running
from toy_builder import Restricted, ToyBuilder, toy_rows, write_toy


def build(folder: Path, builder) -> Path:
    return build_dataset(builder, write_toy(folder / "raw"), folder / "out", WriteOptions(num_workers=1))


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_unrestricted_rows_are_pushed_unchanged(tmp_path):
    out = build(tmp_path, ToyBuilder())
    assert files_to_push(out, ToyBuilder()) == out


def test_only_ids_and_splits_of_restricted_rows_are_pushed(tmp_path):
    """Ids, splits, clients and the public columns of the builder, but no texts and images."""
    out = build(tmp_path, Restricted())
    public = files_to_push(out, Restricted())
    assert names(public) == ["README.md", "manifest.json", "partition/labels.parquet", "partition/turns.parquet"]
    found = pq.read_table(public / "partition" / "labels.parquet").to_pylist()
    rows = {row["id"]: row for row in toy_rows()}
    clients = {"cat": "client_00", "dog": "client_01"}
    assert [row["id"] for row in found] == sorted(rows)
    for row in found:
        source = rows[row["id"]]
        client, is_held_out = clients[source["label"]], source["split"] != "train"
        assert row == {
            "id": row["id"],
            "split": source["split"] if is_held_out else client,
            "client_id": client if is_held_out else None,
            "label": source["label"],
        }
    everything = b"".join(path.read_bytes() for path in public.rglob("*") if path.is_file())
    secrets = [row[key].encode() for row in rows.values() for key in ("question", "answer")]
    secrets += [path.read_bytes()[20:60] for path in (tmp_path / "raw" / "images").iterdir()]
    assert not [secret for secret in secrets if secret in everything]
    assert files_to_push(out, Restricted()) == public


def test_rows_of_a_restricted_source_are_refused(tmp_path):
    out = build(tmp_path, Restricted())
    with pytest.raises(ValueError, match="has rows of Secret X-rays, which may not be redistributed"):
        push_dataset(out, "alice/toy")
    with pytest.raises(ValueError, match="is not a built dataset"):
        push_dataset(tmp_path, "alice/toy")


PUSH = """
import sys
from fedvlm_hf.building.writing.push import push_dataset
print(push_dataset(sys.argv[1], "alice/toy"))
"""
LOAD = """
import json
from datasets import load_dataset
from huggingface_hub import HfApi
info = HfApi().dataset_info("alice/toy")
rows = {config: {split: len(rows) for split, rows in load_dataset("alice/toy", config).items()} for config in CONFIGS}
size = load_dataset("alice/toy")["test"][0]["images"][0].size
commits = len(HfApi().list_repo_commits("alice/toy", repo_type="dataset"))
print(json.dumps([rows, size, info.private, sorted(file.rfilename for file in info.siblings), commits]))
"""


def test_the_real_clients_push_and_load(tmp_path):
    """Two pushes: files of the first push that the second does not have are deleted."""
    out = build(tmp_path, ToyBuilder())
    fewer = WriteOptions(num_workers=1, configs="labels")
    other = build_dataset(ToyBuilder(), tmp_path / "raw", tmp_path / "other", fewer)
    with running(tmp_path / "hub", {"hf_alice": ("alice", "write")}) as hub:

        def child(code: str, *arguments: str, home: str) -> str:
            command = [sys.executable, "-c", code, *arguments]
            environment = hub.environment("hf_alice", tmp_path / home)
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-3000:]
            return done.stdout.splitlines()[-1]

        assert child(PUSH, str(out), home="a") == f"{hub.endpoint}/datasets/alice/toy"
        rows, size, private, files, commits = json.loads(
            child(LOAD.replace("CONFIGS", "['labels', 'turns']"), home="b")
        )
        manifest = json.loads((out / "manifest.json").read_text())
        assert rows == {name: config["counts"] for name, config in manifest["configs"].items()}
        assert (size, private, commits) == ([48, 32], True, 2)
        assert [name for name in files if name != ".gitattributes"] == [n for n in names(out) if n != "inputs.json"]
        child(PUSH, str(other), home="a")
        rows, _, _, files, _ = json.loads(child(LOAD.replace("CONFIGS", "['labels']"), home="c"))
        assert list(rows) == ["labels"]
        assert [name for name in files if name != ".gitattributes"] == [n for n in names(other) if n != "inputs.json"]
    shutil.rmtree(tmp_path / "hub")
