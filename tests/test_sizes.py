"""The sizes this project holds: what grows past them is two ideas in one place, to be split rather than excused."""

import ast
from pathlib import Path
from statistics import median

import pytest


ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "recipes", "hub_datasets")
MAX_FILE = 350
MAX_FUNCTION, MEDIAN_FUNCTION = 70, 12


def file_lengths() -> dict[str, int]:
    """Lines per file."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}


def function_lengths(source: str) -> dict[str, int]:
    """Lines per function, from `def` to its last line, docstring included."""
    nodes = ast.walk(ast.parse(source))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {f"{node.lineno} {node.name}": node.end_lineno - node.lineno + 1 for node in functions}


@pytest.fixture(scope="module")
def functions() -> dict[str, int]:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    lengths = {path.relative_to(ROOT): function_lengths(path.read_text()) for path in paths}
    return {f"{path}:{name}": length for path, found in lengths.items() for name, length in found.items()}


def test_no_file_is_too_long():
    lengths = file_lengths()
    assert {name: length for name, length in lengths.items() if length > MAX_FILE} == {}


def test_no_function_is_too_long(functions):
    assert {name: length for name, length in functions.items() if length > MAX_FUNCTION} == {}


def test_functions_are_short(functions):
    assert median(functions.values()) <= MEDIAN_FUNCTION


def test_a_function_is_measured_from_def_to_its_last_line():
    source = '@decorator\ndef f(\n    x,\n):\n    """Doc."""\n\n    def g(): return x\n    return g\n'
    assert function_lengths(source) == {"2 f": 7, "7 g": 1}
