"""What an object holds: every place where a method could keep something must show."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import pytest
import torch

from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.testing.fingerprint import changes, fingerprint


def counter():
    calls = [0]

    def count(step=[1]):  # noqa: B006 - a default value that can change is what is looked for
        calls[0] += 1
        step.append(2)

    return count


@dataclass(frozen=True)
class Holder:
    knob: float = 1.0
    values: dict = field(default_factory=lambda: {"a": [torch.zeros(2)], "b": {1}})
    count: object = field(default_factory=counter)
    tensors: TensorDict = field(default_factory=lambda: TensorDict.from_tensors({"w": torch.zeros(1)}))
    shared: ClassVar[list] = []

    @cached_property
    def doubled(self):
        return 2 * self.knob


def _set_on_class(holder):
    Holder.shared.append(1)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda h: object.__setattr__(h, "knob", 2.0), ".knob"),
        (lambda h: object.__setattr__(h, "other", None), ".other"),
        (lambda h: h.values["a"][0].add_(1), ".values['a'][0]"),
        (lambda h: h.values["a"].append(1), ".values['a']"),
        (lambda h: h.values["b"].add(2), ".values['b']"),
        (lambda h: h.values.update(c=1), ".values"),
        (lambda h: h.tensors.flat.add_(1), ".tensors"),
        (lambda h: h.count(), ".count.calls[0]"),
        (lambda h: h.count(), ".count.default0"),
        (lambda h: h.doubled, ".doubled"),
        (_set_on_class, ".Holder.shared"),
    ],
    ids=["field", "attribute", "tensor", "list", "set", "dict", "TensorDict", "closure", "default", "cache", "class"],
)
def test_a_change_shows_where_it_is(change, path):
    holder = Holder()
    before = fingerprint(holder)
    assert changes(before, fingerprint(holder)) == []
    change(holder)
    assert path in changes(before, fingerprint(holder))


def test_looking_at_a_tensor_is_no_change():
    """TensorDict makes its views when a name is asked for."""
    holder = Holder()
    before = fingerprint(holder)
    assert holder.tensors["w"].item() == 0.0
    assert changes(before, fingerprint(holder)) == []


def test_an_object_that_holds_itself_ends():
    values = [1]
    values.append(values)
    assert fingerprint(values) == {"[0]": "1", "": "list of 2"}


def test_signs_and_dtypes_of_tensors_show():
    prints = [fingerprint(tensor)[""] for tensor in (torch.zeros(1), -torch.zeros(1), torch.zeros(1).bfloat16())]
    assert len(set(prints)) == 3
