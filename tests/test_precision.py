"""bf16 follows the device unless it is asked for; an explicit value stays, or is refused in words."""

import logging

import pytest
import torch

from fedvlm_hf import FederatedConfig, FederatedDPOConfig, precision


CLASSES = [FederatedConfig, FederatedDPOConfig]


def device(monkeypatch, *, cuda=None, other=False):
    """Pretend that there is a CUDA device with native (`True`), emulated (`False`) or no (`None`) bf16."""
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or cuda)
    monkeypatch.setattr(precision, "is_torch_bf16_gpu_available", lambda: cuda is not None or other)
    monkeypatch.setattr(precision, "is_torch_xla_available", lambda: False)


@pytest.mark.parametrize("config_class", CLASSES)
@pytest.mark.skipif(torch.accelerator.is_available(), reason="This is about machines without an accelerator.")
def test_a_machine_without_an_accelerator_trains_in_fp32_unless_asked(tmp_path, config_class):
    """Trap: TRL's default is bf16, which transformers refuses on such a machine."""
    args = config_class(str(tmp_path))
    assert (args.bf16, args.fp16) == (False, False)
    with pytest.raises(ValueError, match=r"`bf16` is set, but there is no accelerator. Leave `bf16` out"):
        config_class(str(tmp_path), bf16=True)


@pytest.mark.parametrize("config_class", CLASSES)
def test_on_the_cpu_bf16_is_used_only_if_asked_for(tmp_path, config_class):
    assert config_class(str(tmp_path), use_cpu=True).bf16 is False
    assert config_class(str(tmp_path), use_cpu=True, bf16=True).bf16 is True


@pytest.mark.parametrize(
    ("devices", "arguments", "expected"),
    [
        ({"cuda": True}, (None, False, False), (True, False)),
        ({"cuda": True}, (False, False, False), (False, False)),
        ({"cuda": True}, (None, True, False), (False, True)),
        ({"cuda": True}, (None, False, True), (False, False)),
        ({"cuda": False}, (None, False, False), (False, False)),
        ({"cuda": False}, (True, False, False), (True, False)),
        ({}, (None, False, False), (False, False)),
        ({"other": True}, (None, False, False), (True, False)),
    ],
)
def test_what_is_chosen(monkeypatch, devices, arguments, expected):
    device(monkeypatch, **devices)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert precision.choose_precision(*arguments) == expected


def test_mps_which_may_emulate_it_has_it_only_if_asked_for(monkeypatch):
    device(monkeypatch, other=True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert precision.choose_precision(None, False, False) == (False, False)
    assert precision.choose_precision(True, False, False) == (True, False)


@pytest.mark.parametrize(
    ("launched", "expected"), [("bf16", (True, False)), ("fp16", (False, True)), ("no", (True, False))]
)
def test_what_accelerate_was_told_counts_as_asked_for(monkeypatch, launched, expected):
    device(monkeypatch, cuda=launched == "no" or None, other=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    assert precision.choose_precision(None, False, False) == expected
    assert precision.choose_precision(False, False, False) == (False, False)


def test_emulated_bf16_is_warned_of(monkeypatch, caplog):
    device(monkeypatch, cuda=False)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        precision.choose_precision(True, False, False)
    assert "this device may only emulate it" in caplog.text
    caplog.clear()
    device(monkeypatch, cuda=True)
    precision.choose_precision(True, False, False)
    assert not caplog.text
