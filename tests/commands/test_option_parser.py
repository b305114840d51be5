"""Options of the commands that build datasets: those that transformers' parser would make, without importing it."""

import re
from dataclasses import dataclass, field
from typing import Literal

import pytest
from transformers import HfArgumentParser

from fedvlm_hf.building.builders.base import BUILDERS
from fedvlm_hf.building.builders.from_dataset import FromDataset
from fedvlm_hf.building.writing.options import WriteOptions
from fedvlm_hf.commands import HelpFormatter
from fedvlm_hf.commands.build import FolderArguments
from fedvlm_hf.commands.option_parser import OptionParser


@dataclass
class Kinds:
    text: str = field(metadata={"help": "needed"})
    number: int = field(default=3, metadata={"help": "an integer"})
    share: float | None = field(default=None, metadata={"help": "a share", "aliases": ["--of"]})
    long_name: str | None = field(default=None, metadata={"help": "two words"})
    off: bool = field(default=False, metadata={"help": "off"})
    turned_on: bool = field(default=True, metadata={"help": "on"})
    unknown: bool | None = field(default=None, metadata={"help": "neither"})
    one: Literal["a", "b"] = field(default="a", metadata={"help": "one of two"})
    many: list[int] = field(default_factory=lambda: [1, 2], metadata={"help": "several"})


BOTH = {"prog": "fedvlm", "formatter_class": HelpFormatter}
DATACLASSES = [Kinds, FromDataset, *map(BUILDERS.get, BUILDERS.names())]


@pytest.mark.parametrize("dataclass_type", DATACLASSES, ids=lambda dataclass_type: dataclass_type.__name__)
def test_help_is_that_of_transformers(dataclass_type):
    types = (FolderArguments, dataclass_type, WriteOptions)
    assert OptionParser(*types, **BOTH).format_help() == HfArgumentParser(types, **BOTH).format_help()


@pytest.mark.parametrize(
    "argv",
    [
        "--text a",
        "--text a --number -4 --of 0.5 --long-name b --off --many 5 6",
        "--text=a --off false --turned_on no --unknown yes --one b --long_name=",
        "--text a --no_turned_on --off 1 --share 1e-3",
        "--text a --no-turned-on --off TRUE",
    ],
)
def test_values_are_those_of_transformers(argv):
    found = OptionParser(Kinds, **BOTH).parse_into_dataclasses(argv.split())
    assert found == HfArgumentParser(Kinds, **BOTH).parse_args_into_dataclasses(argv.split())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", "required: `--text`"),
        ("--text a --number x", "`--number`: invalid int value: 'x'"),
        ("--text a --off maybe", "'maybe' is neither true nor false"),
        ("--text a --one c", "`--one`: invalid choice: 'c'"),
        ("--text a --numbers 3", "`--numbers` is not an option. Did you mean `--number`?"),
    ],
)
def test_wrong_values_are_refused(argv, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        OptionParser(Kinds, **BOTH).parse_into_dataclasses(argv.split())
