"""One Hub with a few pushed runs for the tests that read them."""

import pytest

from hub_children import programs
from hub_runs import push_all
from hub_server import running


@pytest.fixture(scope="package")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("pushed")


@pytest.fixture(scope="package")
def hub(home):
    with running(home / "hub", {"hf_alice": ("alice", "write"), "hf_bob": ("bob", "read")}) as hub:
        yield hub


@pytest.fixture(scope="package")
def run(hub, home):
    with programs(hub, home / "programs", "hf_alice") as run:
        yield run


@pytest.fixture(scope="package")
def whole(run, home):
    """What each run was when it had trained three rounds without a stop. Nothing of it is on the disk."""
    return push_all(run, home)
