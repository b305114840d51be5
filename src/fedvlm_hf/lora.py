"""LoRA pairs (A, B, scale) by module: what methods for LoRA are written over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from .tensors import TensorDict


_A, _B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class LoraPair:
    """The adapter of one linear module, W + scale B A.

    Args:
        a (`torch.Tensor`):
            A, of shape (rank, in_features).
        b (`torch.Tensor`):
            B, of shape (out_features, rank).
        scale (`float`, *optional*, defaults to `1.0`):
            lora_alpha / rank as PEFT sets it up. A server does not need it: all clients have the same.
    """

    a: torch.Tensor
    b: torch.Tensor
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """Number of rows of A."""
        return self.a.shape[0]

    def delta(self) -> torch.Tensor:
        """The change of the module's weight, scale B A, of shape (out_features, in_features), in the dtype of A."""
        return (self.b @ self.a) * self.scale

    def compact(self) -> "LoraPair":
        """The same change with a rank of at most the smaller side of the weight.

        A pair that grew by stacking can become larger than the weight itself. Its product is then kept, with an
        identity as the other half.
        """
        rows, columns = self.b.shape[0], self.a.shape[1]
        if self.rank <= min(rows, columns):
            return self
        product = self.b @ self.a
        if columns <= rows:
            return LoraPair(torch.eye(columns, dtype=product.dtype), product, self.scale)
        return LoraPair(product, torch.eye(rows, dtype=product.dtype), self.scale)


def is_lora(name: str) -> bool:
    """Whether a tensor of an adapter is the A or B of a linear module."""
    return name.endswith((_A, _B))


def is_lora_a(name: str) -> bool:
    """Whether a tensor of an adapter is the A of a linear module."""
    return name.endswith(_A)


def is_lora_b(name: str) -> bool:
    """Whether a tensor of an adapter is the B of a linear module."""
    return name.endswith(_B)


def lora_pairs(tensors: Mapping[str, torch.Tensor], scales: Mapping[str, float] | None = None) -> dict[str, LoraPair]:
    """The LoRA pairs among an adapter's tensors, as views.

    Args:
        tensors (`Mapping[str, torch.Tensor]`):
            By the names of a PEFT export, such as `"base_model.model.lm.q_proj.lora_A.weight"`. What belongs to no
            pair is left out.
        scales (`Mapping[str, float]`, *optional*):
            Scale of each module. 1 by default.

    Returns:
        `dict[str, LoraPair]`: by the module's name, such as `"base_model.model.lm.q_proj"`.

    Raises:
        `ValueError`: if one half of a pair is missing, the two do not fit, or the module is no linear one.

    Example:

    ```python
    >>> import torch
    >>> from fedvlm_hf.lora import lora_pairs

    >>> pairs = lora_pairs({"q.lora_A.weight": torch.ones(2, 3), "q.lora_B.weight": torch.ones(4, 2)})
    >>> pairs["q"].delta().shape
    torch.Size([4, 3])
    ```
    """
    modules = dict.fromkeys(name.removesuffix(_A).removesuffix(_B) for name in tensors if is_lora(name))
    pairs = {}
    for module in modules:
        a, b = tensors.get(module + _A), tensors.get(module + _B)
        if a is None or b is None:
            missing = _A if a is None else _B
            raise ValueError(f"`tensors` has no {module + missing!r}, so the LoRA pair of {module!r} is incomplete.")
        if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1]:
            raise ValueError(
                f"`tensors` has the LoRA pair of {module!r} with shapes {tuple(a.shape)} and {tuple(b.shape)}; a "
                "linear module has (rank, in_features) and (out_features, rank)."
            )
        pairs[module] = LoraPair(a, b, (scales or {}).get(module, 1.0))
    return pairs


def pair_tensors(pairs: Mapping[str, LoraPair]) -> dict[str, torch.Tensor]:
    """The tensors of pairs by their names in an adapter: what [`lora_pairs`] reads."""
    return {module + end: half for module, pair in pairs.items() for end, half in ((_A, pair.a), (_B, pair.b))}


def stack_pairs(pairs: Sequence[LoraPair], weights: Sequence[float]) -> LoraPair:
    """One pair whose product is the weighted sum of the products, sum_k w_k B_k A_k (FLoRA, equation 3).

    B is [B_1 ... B_K] side by side and A is [w_1 A_1; ...; w_K A_K] one below the other, so ranks may differ and add
    up. The scale is that of the first pair.
    """
    a = torch.cat([weight * pair.a for pair, weight in zip(pairs, weights, strict=True)])
    return LoraPair(a, torch.cat([pair.b for pair in pairs], dim=1), pairs[0].scale)


def add_pairs(base: TensorDict, change: Mapping[str, LoraPair]) -> TensorDict:
    """The sum of two changes of a base model, as the tensors of LoRA pairs.

    Args:
        base (`TensorDict`):
            The first change, as [`pair_tensors`] names its tensors; it may be empty.
        change (`Mapping[str, LoraPair]`):
            The second one, by module. Two pairs of a module are stacked, and kept no larger than its weight.
    """
    pairs = lora_pairs(base)
    for module, pair in change.items():
        stacked = stack_pairs([pairs[module], pair], [1, 1]) if module in pairs else pair
        pairs[module] = stacked.compact()
    return TensorDict.from_tensors(pair_tensors(pairs))


def at_rank(tensors: TensorDict, rank: int) -> TensorDict:
    """An adapter's tensors with its LoRA pairs cut to their first `rank` components."""
    cut = {}
    for name, tensor in tensors.items():
        cut[name] = tensor[:rank] if is_lora_a(name) else tensor[:, :rank] if is_lora_b(name) else tensor
    return TensorDict.from_tensors(cut)
