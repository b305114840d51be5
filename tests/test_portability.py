"""What only Linux has, or Windows lacks, is not needed: `os.sched_getaffinity`, `fcntl`, `resource`."""

import ast
import subprocess
import sys
from pathlib import Path

import fedvlm_hf


ROOT = Path(fedvlm_hf.__file__).parent
# As on macOS, whose ru_maxrss counts bytes; and as on Windows, which has neither of the two modules.
ELSEWHERE = """
import os, sys
del os.sched_getaffinity
import torch, transformers, trl, datasets, peft  # what they need of their platform is not ours to test
sys.modules["resource"] = sys.modules["fcntl"] = None
sys.path.insert(0, {tests!r})
import pkgutil, importlib, fedvlm_hf
for module in pkgutil.walk_packages(fedvlm_hf.__path__, "fedvlm_hf."):
    importlib.import_module(module.name)
from fedvlm_hf.launch import use_threads
use_threads(None)
from fedvlm_hf import rounds
del sys.modules["resource"]
rounds.sys = type("darwin", (), {{"platform": "darwin"}})
import resource
assert rounds.peak_memory() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print("imported")
"""


def test_every_module_imports_without_them():
    code = ELSEWHERE.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("imported"), done.stderr[-2000:]


def test_no_file_names_them_but_where_the_platform_is_asked_first():
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "sched_getaffinity":
                found.add((path.name, node.attr))
            elif isinstance(node, ast.Import):
                found |= {(path.name, alias.name) for alias in node.names if alias.name in ("fcntl", "resource")}
    assert found == {("rounds.py", "resource")}
