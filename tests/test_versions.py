"""setup.cfg, constraints.txt (the newest versions) and constraints-lowest.txt agree."""

from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


ROOT = Path(__file__).parents[1]
TESTED_EXTRAS = ("radgenome", "tensorboard", "test")


def requirements(text: str) -> dict[str, Requirement]:
    """Read requirements, without those on the package's own extras."""
    lines = [line.strip() for line in text.splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "fedvlm_hf["))]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def pins(name: str) -> dict[str, Version]:
    """Read a file of constraints; every line is a pin."""
    pinned = {}
    for package, requirement in requirements((ROOT / name).read_text()).items():
        [specifier] = requirement.specifier
        assert specifier.operator == "==", f"{name} does not pin {package}"
        pinned[package] = Version(specifier.version)
    return pinned


@pytest.fixture(scope="module")
def bounds():
    """What setup.cfg asks for, by package."""
    setup = ConfigParser(comment_prefixes=("#",))
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    return requirements("\n".join([setup["options"]["install_requires"], *(extras[name] for name in TESTED_EXTRAS)]))


def test_every_lower_bound_is_tested(bounds):
    lowest, wanted = pins("constraints-lowest.txt"), {}
    for package, requirement in bounds.items():
        [specifier] = requirement.specifier
        assert specifier.operator == ">=", f"setup.cfg has no lower bound for {package}"
        wanted[package] = Version(specifier.version)
    assert {package: lowest.get(package) for package in wanted} == wanted


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-lowest.txt"])
def test_every_pin_is_allowed(bounds, name):
    pinned = pins(name)
    missing = bounds.keys() - pinned.keys()
    outside = [package for package in bounds if not bounds[package].specifier.contains(pinned[package])]
    assert (missing, outside) == (set(), [])
