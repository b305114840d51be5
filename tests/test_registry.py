"""Registries of classes by name."""

import importlib
import sys

import pytest

from fedvlm_hf.methods import CLIENT_METHODS, STRATEGIES
from fedvlm_hf.registry import Registry, did_you_mean, unknown_name_message


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


def install(folder, plugins, group):
    """Write modules with an entry point each, as distributions of the same name."""
    for name, code in plugins.items():
        (folder / f"{name}.py").write_text(code)
        distribution = folder / f"{name}-1.0.dist-info"
        distribution.mkdir()
        (distribution / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-dist\nVersion: 1.0\n")
        (distribution / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}\n")


@pytest.fixture
def halves(tmp_path, monkeypatch):
    """A package with two registries for the halves of a method, and the folder for its plugins."""
    package = tmp_path / "some_methods"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from fedvlm_hf.registry import Registry\n"
        "SERVER = Registry('strategy', 'some_methods')\n"
        "CLIENT = Registry('client method', 'some_methods', SERVER)\n"
    )
    (package / "built_in.py").write_text("from . import SERVER\n@SERVER.register('plain')\nclass Plain:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("some_methods")
    for name in [
        name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))
    ]:
        del sys.modules[name]


SERVER_HALF = "from some_methods import SERVER\n@SERVER.register('{0}')\nclass {0}Server:\n    pass\n"
CLIENT_HALF = "from some_methods import CLIENT\n@CLIENT.register('{0}')\nclass {0}Client:\n    pass\n"


def test_a_broken_plugin_is_left_out_with_one_warning(tmp_path, halves, caplog):
    """It stopped every run before, also those that do not use it. What it registered before it failed is gone too:
    half of a method would be combined with FedAvg."""
    plugins = {
        "broken": SERVER_HALF.format("half") + "raise RuntimeError('no driver')",
        "missing": "import no_such_module",
        "whole": SERVER_HALF.format("whole") + CLIENT_HALF.format("whole"),
    }
    install(tmp_path, plugins, "some_methods")
    for _ in range(2):
        assert halves.CLIENT.get("half") is None
        assert halves.SERVER.get("half") is None
        assert halves.SERVER.names() == ["plain", "whole"]
        assert halves.CLIENT.names() == ["whole"]
    assert sorted(record.getMessage() for record in caplog.records) == [
        "The plugin 'broken' of the package 'broken-dist' is disabled, because broken cannot be imported "
        "(RuntimeError: no driver). Repair or uninstall that package. Its entry point is in the group 'some_methods'.",
        "The plugin 'missing' of the package 'missing-dist' is disabled, because missing cannot be imported "
        "(ModuleNotFoundError: No module named 'no_such_module'). Repair or uninstall that package. Its entry point "
        "is in the group 'some_methods'.",
    ]


def test_two_modules_cannot_share_a_name_between_the_halves(tmp_path, halves, caplog):
    """`method="mine"` would silently combine the client half of one package with the server half of another."""
    install(tmp_path, {"first": SERVER_HALF.format("mine"), "second": CLIENT_HALF.format("mine")}, "some_methods")
    assert halves.SERVER.names() == ["mine", "plain"]
    assert halves.CLIENT.names() == []
    [warning] = [record.getMessage() for record in caplog.records]
    assert "client method 'mine' of second has the name of a strategy of first" in warning
    with pytest.raises(
        ValueError, match=r"client method 'plain' of .* has the name of a strategy of some_methods.built_in"
    ):
        halves.CLIENT.register("plain")(type("Plain", (), {}))


def test_a_broken_built_in_module_is_an_error_at_every_call(tmp_path, halves):
    """Later calls once hid the error and went on without the modules that had not been imported."""
    (tmp_path / "some_methods" / "failing.py").write_text("raise RuntimeError('no driver')")
    for ask in (halves.SERVER.names, halves.SERVER.names, lambda: halves.SERVER.get("other")):
        with pytest.raises(RuntimeError, match="no driver"):
            ask()


def test_message_suggests_the_nearest_name():
    message = unknown_name_message("method", "fedavgg", ["central", "fedavg"])
    assert message == "`method` 'fedavgg' is unknown. Did you mean 'fedavg'? Valid are: central, fedavg."


def test_close_names_are_suggested_in_the_quotes_that_are_asked_for():
    known = ["--num_rounds", "--num_round", "--seed"]
    assert did_you_mean("--nun_rounds", known) == " Did you mean '--num_rounds' or '--num_round'?"
    assert did_you_mean("--nun_rounds", known, quote="`", most=1) == " Did you mean `--num_rounds`?"
    assert did_you_mean("zzz", known) == ""


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
