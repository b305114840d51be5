"""Dtypes and modes of the modules of a model: fp32 connectors in bf16 models, and what stays in `eval()`."""

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map


_HOOKED: WeakSet[nn.Module] = WeakSet()
"""Modules that have their hooks already: a second trainer on the same model must not stack them."""


def cast_around(module: nn.Module, dtype: torch.dtype) -> None:
    """Let an fp32 module work inside a model of another dtype.

    Inputs go in as fp32, and outputs leave in the dtype of the inputs.

    Args:
        module (`torch.nn.Module`):
            The module.
        dtype (`torch.dtype`):
            Dtype of the outputs where no input is floating point, such as the token ids that Ovis2 looks up.
    """
    if module in _HOOKED:
        return
    _HOOKED.add(module)
    dtypes: list[torch.dtype] = []

    def is_float(value: object) -> bool:
        return isinstance(value, torch.Tensor) and value.is_floating_point()

    def before(_: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        dtypes[:] = [*(value.dtype for value in tree_leaves((args, kwargs)) if is_float(value)), dtype][:1]
        return tree_map(lambda value: value.float() if is_float(value) else value, (args, kwargs))

    def after(_: nn.Module, args: tuple, output: object) -> object:
        return tree_map(lambda value: value.to(dtypes[0]) if is_float(value) else value, output)

    module.register_forward_pre_hook(before, with_kwargs=True)
    module.register_forward_hook(after)


def keep_batch_norms_fixed(model: nn.Module) -> None:
    """Keep each BatchNorm whose parameters are frozen in `eval()`, whatever mode the model is put in.

    Trainer calls `model.train()` before each step. Running statistics would drift, in image tokenizers (Emu3) and in
    vision towers (FastVLM), and the export of a round does not contain them.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module not in _HOOKED:
            _HOOKED.add(module)
            module.register_forward_pre_hook(_put_in_eval)


def _put_in_eval(module: nn.Module, _: tuple) -> None:
    # nothing is returned: a hook's value would replace the input
    if not any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
        module.eval()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into `eval()`, and each of its modules back into its mode afterwards.

    For each module, because a frozen part may be in `eval()` while the rest trains.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
