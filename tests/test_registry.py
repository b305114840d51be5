"""A name resolves to a file."""

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
    with pytest.raises(ValueError, match="registered already"):
        registry.register("mine")(type("Second", (), {}))


@pytest.mark.parametrize("name", ["FedAvg", "fed-avg", "fed avg", ""])
def test_names_are_lower_case_identifiers(name):
    with pytest.raises(ValueError, match="lower-case identifier"):
        STRATEGIES.register(name)


def test_message_suggests_the_nearest_name():
    message = unknown_name_message("method", "fedavgg", ["central", "fedavg"])
    assert message == "`method` 'fedavgg' is unknown. Did you mean 'fedavg'? Valid are: central, fedavg."
