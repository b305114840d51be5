"""`fedvlm check` as a user types it: on a folder, on a saved DatasetDict, and on the Hub."""

import json
import subprocess
import sys

import pytest
from datasets import load_dataset

from federated_folder import clean_configs, clean_files, write_folder
from fedvlm_hf.cli import main
from hub_server import running


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "fed", clean_files(), clean_configs())


def test_a_clean_folder(folder, capsys):
    assert main(["check", str(folder), "--num_workers", "1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{folder}: 2 configurations, noniid, iid"
    assert len(printed) == 17
    assert all(line.startswith("ok     ") for line in printed[1:])


def test_a_problem_is_named_and_the_status_is_one(tmp_path, capsys):
    files = clean_files()
    files["iid/test"][2]["references"] = [""]
    folder = write_folder(tmp_path / "fed", files, clean_configs())
    assert main(["check", str(folder), "--num_workers", "1"]) == 1
    printed = capsys.readouterr()
    assert "         data/iid/test.parquet, row 2, id 't2': column `references`: a reference is not" in printed.out
    assert printed.err == f"fedvlm check: error: {folder} fails 1 of 16 checks: answers.\n"


def test_a_saved_dataset(folder, tmp_path, capsys):
    loaded = load_dataset(str(folder), "iid", cache_dir=str(tmp_path / "cache"))
    loaded.save_to_disk(tmp_path / "saved")
    assert main(["check", str(tmp_path / "saved"), "--num_workers", "1"]) == 0
    assert "all 4 files with 14 rows" in capsys.readouterr().out
    renamed = loaded["client_00"]
    loaded["train"] = renamed
    loaded.save_to_disk(tmp_path / "renamed")
    assert main(["check", str(tmp_path / "renamed"), "--num_workers", "1"]) == 1
    assert "default/train: a split must be client_* or one of validation, test" in capsys.readouterr().out


def test_a_folder_that_does_not_exist(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 2
    assert "is not a federated dataset" in capsys.readouterr().err


HUB = """
import io, json, sys
from contextlib import redirect_stdout
from datasets import Dataset, load_dataset
from huggingface_hub import HfApi
from fedvlm_hf.cli import main

folder, plain, out = sys.argv[1:]
api = HfApi()
for name, path in {"fed": folder, "plain": plain}.items():
    api.create_repo(f"alice/{name}", repo_type="dataset")
    api.upload_folder(repo_id=f"alice/{name}", folder_path=path, repo_type="dataset")
printed = io.StringIO()
with redirect_stdout(printed):
    statuses = [
        main(["check", "alice/fed"]),
        main(["partition", "alice/fed", "--config", "noniid", "--out", f"{out}/report"]),
        main(["partition", "alice/fed"]),
        main(["partition", "--from", "alice/plain", "--by", "modality", "--out", f"{out}/cut"]),
        main(["check", f"{out}/cut"]),
        main(["check", "alice/nothing"]),
    ]
print(json.dumps({
    "statuses": statuses, "printed": printed.getvalue(), "test": load_dataset("alice/fed", "noniid")["test"]["id"][:],
}))
"""


def test_datasets_of_the_hub(folder, tmp_path):
    """Checked, reported and divided into clients by name, with the real Hub clients."""
    plain = tmp_path / "plain"
    plain.mkdir()
    for place, name in enumerate(("client_00.client_00", "client_01.client_00", "client_01.client_01")):
        content = (folder / f"data/clients/{name}.parquet").read_bytes()
        (plain / f"train-{place:05d}-of-00003.parquet").write_bytes(content)
    with running(tmp_path / "hub", {"hf_alice": ("alice", "write")}) as hub:
        done = subprocess.run(
            [sys.executable, "-c", HUB, str(folder), str(plain), str(tmp_path / "out")],
            env=hub.environment("hf_alice", tmp_path / "home"), capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["statuses"] == [0, 0, 2, 0, 0, 2]
    assert "alice/fed: 2 configurations, noniid, iid" in seen["printed"]
    assert (tmp_path / "out/report/partition-noniid.png").exists()
    assert seen["test"] == ["t0", "t1", "t2", "t3"]
    assert "`--out` is required, because alice/fed is not a folder" in done.stderr
    assert "`dataset` 'alice/nothing' is not a folder in " in done.stderr
    assert "There is no repository alice/nothing" in done.stderr
