"""Own data in every form of the table in docs/datasets.md: the printed command, from raw files to a trained round."""

import json
import re
import shlex
from pathlib import Path

import pytest

from federation import federated
from fedvlm_hf.cli import main
from fedvlm_hf.launch import load_federation
from raw_forms import FORMS


DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"
_LINE = re.compile(r"^\| (?P<form>[^|]+?) +\| (?P<files>[^|]+?) +\| `(?P<command>fedvlm [^`]+)` +\|$", re.MULTILINE)


def commands() -> dict[str, str]:
    """Return the command of each form, as the table has it."""
    return {match["form"]: match["command"] for match in _LINE.finditer(DOCS.read_text(encoding="utf-8"))}


def test_the_table_lists_every_form():
    assert list(commands()) == list(FORMS)


@pytest.mark.parametrize("form", FORMS)
def test_from_raw_files_to_a_trained_round(form, tmp_path, monkeypatch, capsys):
    """The command as printed builds a federation that passes all checks and trains every client for one round."""
    monkeypatch.chdir(tmp_path)
    FORMS[form]()
    _, *arguments = shlex.split(commands()[form])
    assert main([*arguments, "--num_workers", "1"]) == 0, capsys.readouterr().err
    assert main(["check", "fed", "--num_workers", "1"]) == 0, capsys.readouterr().out
    config = next(iter(json.loads(Path("fed/manifest.json").read_text(encoding="utf-8"))["configs"]))
    splits = load_federation("fed", config)
    clients = {name: rows for name, rows in splits.items() if name.startswith("client_")}
    assert len(clients) == 2
    trainer = federated(tmp_path / "run", clients, num_rounds=1, max_steps=1)
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert set(lines[-1]["clients"]) == set(clients)
