"""What happens to an update on its way: clipping, noise, quantisation, sparsification. One file each."""

from .base import TRANSFORMS, Transform, TransformChain, TransformContext, resolve_transforms


__all__ = ["TRANSFORMS", "Transform", "TransformChain", "TransformContext", "resolve_transforms"]
