"""Private names of other libraries: each is listed with its reason, and still there."""

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import fedvlm_hf
from fedvlm_hf.private_names import PRIVATE_NAMES


ROOT = Path(fedvlm_hf.__file__).parent
LISTED = {entry.name for entry in PRIVATE_NAMES}


@pytest.mark.parametrize("entry", PRIVATE_NAMES, ids=lambda entry: f"{entry.owner}.{entry.name}")
def test_a_listed_name_is_still_there(entry):
    """As an attribute, or, where only instances have it, in the source of its owner."""
    module, _, attribute = entry.owner.rpartition(".")
    try:
        owner = import_module(entry.owner)
    except ModuleNotFoundError:
        owner = getattr(import_module(module), attribute)
    if hasattr(owner, entry.name):
        return
    if not inspect.isclass(owner):
        import_module(f"{entry.owner}.{entry.name}")
        return
    sources = [inspect.getsource(cls) for cls in inspect.getmro(owner) if cls is not object]
    assert any(entry.name in source for source in sources)


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def names_of_our_own(trees):
    """Every private name that the package itself defines or assigns."""
    own = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                own.add(node.attr)
    return own


def uses(source):
    """Private attributes that a file reads of another object than `self` and `cls`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            found |= {alias.name for alias in node.names if is_private(alias.name)}
        if not isinstance(node, ast.Attribute) or not is_private(node.attr):
            continue
        owner = node.value
        is_super = isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "super"
        if not is_super and not (isinstance(owner, ast.Name) and owner.id in ("self", "cls", "os")):
            found.add(node.attr)
    return found


def test_no_class_uses_a_private_attribute_of_another():
    """Only of other libraries, and only those that are listed with their reasons."""
    unlisted = {
        f"{path.relative_to(ROOT)}: {name}" for path in ROOT.rglob("*.py") for name in uses(path.read_text()) - LISTED
    }
    assert not unlisted


def test_the_scan_finds_what_it_looks_for():
    assert uses("trainer._store.load(1)\nself._own\nsuper()._up()\ncls._made") == {"_store"}
    assert uses("from torch.utils._x import a\nfrom torch import _y, b") == {"_y"}


def test_the_trainer_uses_no_private_name_that_is_not_listed():
    """Names that the client's mixins read of, or override in, the Trainer that they are mixed into."""
    paths = [ROOT / "client" / "run.py", ROOT / "federated.py"]
    trees = [ast.parse(path.read_text()) for path in paths]
    own = names_of_our_own(trees)
    read = {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and is_private(node.attr) and isinstance(node.ctx, ast.Load)
    }
    from trl import DPOTrainer, SFTTrainer

    overridden = {name for name in own if is_private(name) and any(hasattr(c, name) for c in (SFTTrainer, DPOTrainer))}
    assert (read - own) | overridden <= LISTED
