"""The precision of a run: what was asked for, or what the device computes in."""

import os

import torch
from transformers.utils import is_torch_bf16_gpu_available, is_torch_xla_available, logging


logger = logging.get_logger(__name__)


def choose_precision(bf16: bool | None, fp16: bool, use_cpu: bool) -> tuple[bool, bool]:
    """Choose bf16 where nothing was asked for and the accelerator computes in it. TRL's default is bf16 everywhere.

    Args:
        bf16 (`bool`, *optional*), fp16 (`bool`):
            What the arguments of the run say; `None` is no answer. Then `accelerate launch --mixed_precision` is
            followed, if it was given.
        use_cpu (`bool`):
            Whether the run stays on the CPU where there is an accelerator.

    Returns:
        `tuple[bool, bool]`: `bf16` and `fp16`. With neither, the run is in fp32.

    Raises:
        `ValueError`: if bf16 was asked for, and the device has none.
    """
    if bf16 is None:
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION")
        fp16 = fp16 or launched == "fp16"
        bf16 = not fp16 and (launched == "bf16" or (not use_cpu and _accelerator_has_bf16()))
    if not bf16:
        return False, fp16
    if not (use_cpu or is_torch_bf16_gpu_available() or is_torch_xla_available()):
        found = "the accelerator here has no bf16" if torch.accelerator.is_available() else "there is no accelerator"
        raise ValueError(
            f"`bf16` is set, but {found}. Leave `bf16` out, and it is used only where the accelerator has it, or set "
            "`use_cpu` to train in bf16 on the CPU."
        )
    if not (_cpu_has_bf16() if use_cpu else _accelerator_has_bf16()):
        logger.warning(
            "`bf16` is set, but this device may only emulate it, which is slower than fp32. Leave `bf16` out to train "
            "in fp32 here."
        )
    return True, fp16


def _accelerator_has_bf16() -> bool:
    """Return whether there is an accelerator that computes in bf16. MPS may emulate it, and torch does not say."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return is_torch_xla_available() or (is_torch_bf16_gpu_available() and not torch.backends.mps.is_available())


def _cpu_has_bf16() -> bool:
    """Return whether the CPU has instructions for bf16."""
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
