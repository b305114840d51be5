"""Every example in a docstring runs, and every public name has a docstring."""

import ast
import doctest
import re
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1] / "src" / "fedvlm_hf"


def examples() -> list[tuple[str, str]]:
    """`(place, code)` of each fenced example; the fences themselves would be read as expected output."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            for code in re.findall(r"```python\n(.*?)```", ast.get_docstring(node) or "", flags=re.DOTALL):
                if ">>>" in code:
                    found.append((f"{path.relative_to(ROOT)}:{getattr(node, 'name', '')}", code))
    return found


def test_there_are_examples():
    assert len(examples()) >= 10


@pytest.mark.parametrize(("place", "code"), examples(), ids=lambda value: value if ":" in value[:80] else "")
def test_example_runs(place, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(code, {}, place, place, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    output: list[str] = []
    runner.run(test, out=output.append)
    assert not runner.failures, "".join(output)
