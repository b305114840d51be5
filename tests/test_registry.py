"""Registries of classes by name."""

import importlib

import pytest

from fedvlm_hf.methods import CLIENT_METHODS, STRATEGIES
from fedvlm_hf.registry import Registry, unknown_name_message


def test_built_in_methods_are_found():
    assert "fedavg" in STRATEGIES.names()
    assert {"central", "local"} <= set(CLIENT_METHODS.names())
    assert STRATEGIES.get("no_such_method") is None


def test_a_name_is_taken_once():
    registry: Registry = Registry("strategy", "fedvlm_hf.methods")
    first = registry.register("mine")(type("First", (), {}))
    assert registry.register("mine")(first) is first
    with pytest.raises(ValueError, match="already registered"):
        registry.register("mine")(type("Second", (), {}))


@pytest.mark.parametrize("name", ["FedAvg", "fed-avg", "fed avg", ""])
def test_names_are_lower_case_identifiers(name):
    with pytest.raises(ValueError, match="lower-case identifier"):
        STRATEGIES.register(name)


def test_a_plugin_that_cannot_be_imported_is_an_error_at_every_call(tmp_path, monkeypatch):
    """Later calls once hid the error and went on without the plugins that had not been imported."""
    for name, code in [("broken_plugin", "raise RuntimeError('no driver')"), ("whole_plugin", "")]:
        (tmp_path / f"{name}.py").write_text(code)
        distribution = tmp_path / f"{name}-1.0.dist-info"
        distribution.mkdir()
        (distribution / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (distribution / "entry_points.txt").write_text(f"[fedvlm_hf.transforms]\n{name} = {name}\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry = Registry("transform", "fedvlm_hf.transforms")
    for ask in (registry.names, registry.names, lambda: registry.get("clip")):
        with pytest.raises(RuntimeError, match="no driver") as error:
            ask()
        assert error.value.__notes__ == [
            "This came from the entry point 'broken_plugin' of the package 'broken_plugin', in the group "
            "'fedvlm_hf.transforms'. Repair or uninstall that package."
        ]
    (tmp_path / "broken_plugin.py").write_text("")
    assert isinstance(registry.names(), list)


def test_message_suggests_the_nearest_name():
    message = unknown_name_message("method", "fedavgg", ["central", "fedavg"])
    assert message == "`method` 'fedavgg' is unknown. Did you mean 'fedavg'? Valid are: central, fedavg."


def test_a_class_in_the_module_of_its_name_is_found_without_importing_the_others(tmp_path, monkeypatch):
    """`slow` cannot be imported, which `names` notices and `get("quick")` does not."""
    package = tmp_path / "some_plugins"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from fedvlm_hf.registry import Registry\nPLUGINS = Registry('plugin', 'some_plugins')\n"
    )
    (package / "quick.py").write_text(
        "from . import PLUGINS\n@PLUGINS.register('quick')\nclass Quick:\n    pass\n"
        "@PLUGINS.register('other')\nclass Other:\n    pass\n"
    )
    (package / "slow.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    plugins = importlib.import_module("some_plugins").PLUGINS
    quick = plugins.get("quick")
    assert quick.__name__ == "Quick"
    assert (plugins.name_of(quick), plugins.name_of(int)) == ("quick", None)
    assert plugins.get("other").__name__ == "Other"
    with pytest.raises(RuntimeError, match="imported"):
        plugins.get("slow")
    with pytest.raises(RuntimeError, match="imported"):
        plugins.names()
