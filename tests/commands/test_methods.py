"""`fedvlm methods` as a user types it."""

import subprocess
import sys
from dataclasses import dataclass, field, fields

import pytest

from fedvlm_hf.cli import main
from fedvlm_hf.methods import CLIENT_METHODS, STRATEGIES
from fedvlm_hf.transforms import TRANSFORMS, Transform


def rows(printed: str) -> list[list[str]]:
    """The cells of each line of the tables."""
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in printed.splitlines() if "|" in line]


def test_every_method_transform_and_knob_is_listed(capsys):
    assert main(["methods"]) == 0
    printed = capsys.readouterr().out
    found = rows(printed)
    for registry in (STRATEGIES, CLIENT_METHODS, TRANSFORMS):
        for name in registry.names():
            assert any(row[0] == name for row in found)
            for knob in fields(registry.get(name)):
                assert any(row[:2] == [name, knob.name] for row in found)


def test_a_method_with_its_paper_and_knobs(capsys):
    assert main(["methods", "fedavgm"]) == 0
    found = rows(capsys.readouterr().out)
    paper = "https://huggingface.co/papers/1909.06335"
    assert found[2][:3] == ["fedavgm", "server", paper]
    assert found[5][:4] == ["fedavgm", "server_lr", "float", "1.0"]
    assert found[7][:4] == ["fedavgm", "variant", "str", "'paper'"]
    assert len(found) == 8


def test_a_transform_with_its_help(capsys):
    assert main(["methods", "clip"]) == 0
    found = rows(capsys.readouterr().out)
    assert found[2][:2] == ["clip", "https://huggingface.co/papers/1710.06963"]
    assert found[5] == ["clip", "max_norm", "float", "required", "Largest L2 norm of a client's whole change."]


def test_a_transform_of_another_package(capsys, monkeypatch):
    @dataclass(frozen=True)
    class Plugin(Transform):
        """Does nothing.

        In many words.
        """

        sizes: list[int] = field(default_factory=lambda: [1, 2])

    monkeypatch.setitem(TRANSFORMS._classes, "plugin", Plugin)
    assert main(["methods", "plugin"]) == 0
    found = rows(capsys.readouterr().out)
    assert found[2] == ["plugin", "-", "Does nothing."]
    assert found[5] == ["plugin", "sizes", "list[int]", "[1, 2]"]


def test_an_unknown_name_is_an_error(capsys):
    assert main(["methods", "fedyogy"]) == 2
    assert "fedvlm methods: error: `names` 'fedyogy' is unknown. Did you mean 'fedyogi'" in capsys.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["methods", "--help"])
    assert stop.value.code == 0
    assert "--transform_kwargs" in capsys.readouterr().out


def test_it_needs_neither_transformers_nor_datasets():
    code = "import sys; from fedvlm_hf.cli import main; main(['methods']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"transformers", "trl", "peft", "datasets"} & set(done.stderr.split())
