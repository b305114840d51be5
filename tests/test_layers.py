"""The rooms of CONTRIBUTING.md, read from the imports: no room imports from a higher layer, and there is no circle."""

import ast
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


PACKAGE = "fedvlm_hf"
ROOT = Path(__file__).parents[1] / "src" / PACKAGE

# A room is a top-level module or folder of the package. `FACE` is the package's own __init__.py.
FACE = "__init__"
LAYERS = {
    0: {"tensors", "types", "lora", "registry", "sampling", "files", "lazy", "private_names"},
    1: {
        "config",
        "precision",
        "data",
        "models",
        "metrics",
        "methods",
        "transforms",
        "exchange",
        "repository",
        "callbacks",
    }
    | {"figures", "markdown"},
    2: {"client", "evaluation", "engines", "reporting", "progress", "mini", "launch"},
    3: {"rounds", "run_description", "checkpoint", "hub", "federation"},
    4: {"federated", "trainer", "dpo"},
    5: {"building", "testing", "commands", "cli", FACE},
}
LAYER_OF = {room: layer for layer, rooms in LAYERS.items() for room in rooms}

# What a room may not know although the layers allow it.
LAYER_0_MAY_IMPORT = {"torch", PACKAGE} | sys.stdlib_module_names
THE_SERVER_KNOWS_NO = {"transformers", "trl", "datasets"}
ONLY_COMMANDS_KNOW = {"building"}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(source: str, path: Path) -> set[tuple[str, str]]:
    """`(module, name)` of every import, those inside functions included; modules absolute, name "" for `import x`."""
    package = [PACKAGE, *path.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {(module, alias.name) for alias in node.names}
    return found


def imported_rooms(source: str, path: Path) -> set[str]:
    """Rooms of the package that a file imports; `from . import x` is the room x where there is one, else the face."""
    rooms = set()
    for module, name in imports(source, path):
        top, *rest = module.split(".")
        if top != PACKAGE or (not rest and name == "__version__"):  # the version is there before any room is
            continue
        rooms.add(rest[0] if rest else name if name in LAYER_OF else FACE)
    return rooms


def breaches(source: str, path: Path) -> list[str]:
    """What a file imports against the table, in words."""
    room, where = room_of(path), path.relative_to(ROOT.parent)
    unplaced = [name for name in sorted({room} | imported_rooms(source, path)) if name not in LAYER_OF]
    if unplaced:
        return [f"{where}: {name!r} has no layer: place it in LAYERS here and in CONTRIBUTING.md" for name in unplaced]
    layer = LAYER_OF[room]
    up = [name for name in sorted(imported_rooms(source, path)) if LAYER_OF[name] > layer]
    found = [f"{where}: layer {layer} imports {name!r} of layer {LAYER_OF[name]}" for name in up]
    for module, name in sorted(imports(source, path)):
        top = module.split(".")[0]
        if layer == 0 and top not in LAYER_0_MAY_IMPORT:
            found.append(f"{where}: layer 0 imports torch and the standard library only, not {top}")
        if room == "rounds" and top in THE_SERVER_KNOWS_NO:
            found.append(f"{where}: the server loop may not import {top}")
        if room in ("federated", "client") and top == "trl" and name.endswith("Trainer"):
            found.append(f"{where}: the mixin serves any Trainer and may not import {name}")
    secret = imported_rooms(source, path) & ONLY_COMMANDS_KNOW - {room} if room != "commands" else set()
    return [*found, *(f"{where}: only commands may import {name!r}" for name in sorted(secret))]


def room_graph(sources: Mapping[Path, str]) -> dict[str, set[str]]:
    """Each room with the other rooms that its files import."""
    graph: dict[str, set[str]] = {}
    for path, source in sources.items():
        graph.setdefault(room_of(path), set()).update(imported_rooms(source, path) - {room_of(path)})
    return graph


def draw_order(graph: Mapping[str, set[str]]) -> tuple[list[list[str]], list[str]]:
    """The rooms from the bottom up, each line importing from the lines before it alone, and what is left: circles."""
    lines, placed = [], set()
    while ready := sorted(room for room, below in graph.items() if room not in placed and below <= placed):
        lines.append(ready)
        placed.update(ready)
    return lines, sorted(graph.keys() - placed)


def sources() -> dict[Path, str]:
    return {path: path.read_text() for path in sorted(ROOT.rglob("*.py"))}


def test_no_circle_of_rooms():
    """Also inside a layer. Rooms that only depend on a circle are named too."""
    lines, left = draw_order(room_graph(sources()))
    assert len(lines) > 5
    assert not left, "these rooms import each other in a circle, or depend on one:\n" + ", ".join(left)


@pytest.mark.parametrize(
    ("file", "line", "circle"),
    [
        ("methods/fedprox.py", "from ..transforms import Transform", {"methods", "transforms"}),
        ("reporting/card.py", "def f():\n    from ..hub.push import push_run", {"reporting", "hub"}),
        ("data/clients.py", "from ..client.model import ClientModel", {"data", "client"}),
    ],
)
def test_a_planted_circle_is_found(file, line, circle):
    planted = sources()
    planted[ROOT / file] += f"\n{line}\n"
    _, left = draw_order(room_graph(planted))
    assert circle <= set(left)


def test_the_table_in_contributing_is_this_one():
    text = (ROOT.parents[1] / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (\d) \| ([^|]*) \|", text, flags=re.MULTILINE)
    assert {int(layer): set(re.findall(r"`(\w+)`", rooms)) for layer, rooms in rows} == LAYERS


def test_no_file_imports_up():
    files = sorted(ROOT.rglob("*.py"))
    assert files
    found = [breach for path in files for breach in breaches(path.read_text(), path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("rounds.py", "from .trainer import FederatedTrainer", "layer 3 imports 'trainer' of layer 4"),
        ("methods/fedprox.py", "from ..rounds import run_rounds", "layer 1 imports 'rounds' of layer 3"),
        ("methods/fedprox.py", "def f():\n    from .. import cli", "layer 1 imports 'cli' of layer 5"),
        ("metrics/x/x.py", "import fedvlm_hf.evaluation", "layer 1 imports 'evaluation' of layer 2"),
        ("engines/flower.py", "from .. import FederatedTrainer", "layer 2 imports '__init__' of layer 5"),
        ("rounds.py", "import datasets", "the server loop may not import datasets"),
        ("rounds.py", "def f():\n    from transformers.utils import logging", "may not import transformers"),
        ("federated.py", "from trl import SFTTrainer", "the mixin serves any Trainer and may not import SFTTrainer"),
        ("tensors.py", "import numpy as np", "torch and the standard library only, not numpy"),
        ("utils.py", "import torch", "'utils' has no layer: place it in LAYERS"),
        ("trainer.py", "from .helpers import f", "'helpers' has no layer"),
        ("testing/tiny.py", "from ..building.work import Work", "only commands may import 'building'"),
    ],
)
def test_a_breach_is_found(file, line, expected):
    found = breaches(line, ROOT / file)
    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("rounds.py", "from .engines import Engine\nfrom .methods.base import Strategy"),
        ("methods/fedprox.py", "from .base import ClientMethod\nfrom ..tensors import TensorDict"),
        ("client/adapters.py", "import peft\nfrom ..models import vlm_parts"),
        ("federated.py", "from trl.data_utils import apply_chat_template"),
        ("reporting/card.py", "from .. import __version__"),
        ("commands/build.py", "from ..building.work import Work"),
        ("__init__.py", "from .trainer import FederatedTrainer"),
    ],
)
def test_what_is_allowed_passes(file, line):
    assert breaches(line, ROOT / file) == []
