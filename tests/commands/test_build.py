"""`fedvlm build` as a user types it."""

import json
from dataclasses import fields

import pytest
from datasets import load_dataset

from fedvlm_hf.building.builders.base import BUILDERS
from fedvlm_hf.building.writing.options import WriteOptions
from fedvlm_hf.cli import main
from toy_builder import Restricted, ToyBuilder, draw, write_toy


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    BUILDERS.names()  # finds the built-in ones first
    monkeypatch.setitem(BUILDERS._classes, "toy_drawings", ToyBuilder)
    monkeypatch.setitem(BUILDERS._classes, "toy_xrays", Restricted)


def test_it_builds_what_load_dataset_reads(tmp_path, capsys):
    raw, out = write_toy(tmp_path / "raw"), tmp_path / "out"
    arguments = ["build", "toy-drawings", "--raw", str(raw), "--out", str(out), "--num_turns", "3"]
    assert main([*arguments, "--num_workers", "1", "--max_side", "24", "--configs", "turns"]) == 0
    printed = capsys.readouterr().out
    assert "+        16  rows of rows.json" in printed
    assert "turns: 3 clients, validation 2, test 2" in printed
    assert f'load_dataset("{out}", "turns")' in printed
    loaded = load_dataset(str(out), "turns", cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"client_00", "client_01", "client_02", "validation", "test"}
    assert loaded["client_00"][0]["images"][0].size == (24, 16)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["builder"] == "toy_drawings"
    assert manifest["options"]["num_turns"] == 3
    assert (out / "report" / "partition-turns.png").exists()


def test_the_same_command_again_changes_nothing(tmp_path, capsys):
    arguments = ["build", "toy-drawings", "--raw", str(write_toy(tmp_path / "raw")), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert main(arguments) == 0
    assert "Nothing has changed since" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    assert main([*arguments, "--seed", "1"]) == 2
    assert "seed: 0 before, 1 now. Nothing is overwritten: use `--rebuild`" in capsys.readouterr().err


def test_a_rebuild_replaces_an_outdated_build_and_says_why(tmp_path, capsys):
    raw, out = write_toy(tmp_path / "raw"), tmp_path / "out"
    arguments = ["build", "toy-drawings", "--raw", str(raw), "--out", str(out)]
    assert main(arguments) == 0
    draw(99).save(raw / "images" / "0.png")
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "is another build: 1 changed (images/0.png). Nothing is overwritten: use `--rebuild`" in error
    assert main([*arguments, "--rebuild"]) == 0
    printed = capsys.readouterr().out
    assert f"{out} was built again. Changes since the last build: 1 changed (images/0.png)." in printed
    assert "turns: 2 clients" in printed
    assert (out / "report" / "partition-turns.png").exists()
    assert main(arguments) == 0


@pytest.mark.parametrize("argv", [["build"], ["build", "--help"]])
def test_the_help_lists_the_datasets(argv, capsys):
    assert main(argv) == 0
    printed = capsys.readouterr().out
    for name in BUILDERS.names():
        assert f"  {name.replace('_', '-')} " in printed
        assert BUILDERS.get(name).summary in printed


@pytest.mark.parametrize("name", ["toy_xrays", *BUILDERS.names()])
def test_the_help_of_a_dataset_says_where_to_get_it(name, capsys):
    builder_class = BUILDERS.get(name)
    with pytest.raises(SystemExit) as stop:
        main(["build", name.replace("_", "-"), "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert builder_class.summary in printed
    assert all(line in printed for line in builder_class.layout.strip().splitlines())
    for source in builder_class.sources:
        assert all(text in printed for text in (source.name, source.url, source.licence, source.terms))
        assert not source.is_restricted or "--push uploads only ids and the partition" in printed
    assert all(f"--{option.name}" in printed for option in (*fields(builder_class), *fields(WriteOptions)))


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["toy-drawing"], "`NAME` 'toy-drawing' is unknown. Did you mean 'toy-drawings'"),
        (["toy-drawings", "--raw", "nowhere", "--out", "out"], "there is no file nowhere/rows.json"),
        (["toy-drawings", "--raw", "nowhere", "--out", "out", "--max_side", "0"], "`max_side` must be 1 or more"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(argv, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["build", *argv]) == 2
    error = capsys.readouterr().err
    assert "fedvlm build: error: " in error
    assert expected in error
    assert list(tmp_path.iterdir()) == []


def test_the_output_says_what_is_not_uploaded(tmp_path, monkeypatch, capsys):
    """Uploads are intercepted."""
    sent = []
    monkeypatch.setattr(
        "fedvlm_hf.building.writing.push.push_dataset", lambda folder, repo_id: sent.append((folder, repo_id)) or "URL"
    )
    raw = str(write_toy(tmp_path / "raw"))
    for name, secret in (("toy-drawings", False), ("toy-xrays", True)):
        out = tmp_path / name
        assert main(["build", name, "--raw", raw, "--out", str(out), "--push", f"alice/{name}"]) == 0
        printed = capsys.readouterr().out
        assert "Pushed to URL" in printed
        assert ("Rows and images were NOT uploaded: Secret X-rays may not be redistributed." in printed) == secret
        assert sent[-1][1] == f"alice/{name}"
        assert (sent[-1][0] / "data").exists() != secret
