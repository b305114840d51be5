"""Find the vision tower, the connector and the language model of a VLM by a rule.

transformers has `get_decoder()` and `get_encoder("image")`, but no accessor for the connector, and `get_encoder()`
returns the model itself if it has no tower. The rule was compared with 77 families of transformers that SFTTrainer
could train: it is right for 74 of them.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel


# Names of direct children of a base model that are no connector
_OTHER_TOWER = re.compile(r"(vision|visual|image)_(tower|model|encoder)")
_OTHER_PART = re.compile(r"^vq|audio|video|generation|(^|_)action(_|$)")
# Names of connectors that are children of a tower
_MERGER = re.compile(r"(deepstack_|patch_)?merger(s|_list)?|aligner|projector|connector")


@dataclass(frozen=True)
class VLMParts:
    """Module paths of a VLM, relative to the model with its head and without PEFT, as in `named_modules()`.

    Args:
        decoder (`str`):
            The language model. Other parts may be inside it, such as Chameleon's image tokenizer, and do not belong to
            it.
        tower (`str`, *optional*):
            The vision encoder, or `None` if the model has none.
        connector (`tuple[str, ...]`, *optional*):
            The modules between tower and language model, in the form that PEFT's `modules_to_save` takes. Bare
            parameters beside them, such as LLaVA-NeXT's `image_newline`, are not modules and stay frozen.
        image_tokenizer (`str`, *optional*):
            The module that turns pixels into discrete tokens. It is always frozen, because no gradient passes through
            it.
        head (`str`, *optional*):
            The output embeddings. Always taken from the model.
    """

    decoder: str
    tower: str | None = None
    connector: tuple[str, ...] = ()
    image_tokenizer: str | None = None
    head: str | None = None

    def paths(self) -> dict[str, tuple[str, ...]]:
        """Return the paths of each part that the model has, by the name of the part."""
        paths = {
            "vision tower": (self.tower,),
            "connector": self.connector,
            "image tokenizer": (self.image_tokenizer,),
            "language model": (self.decoder, self.head),
        }
        return {part: tuple(filter(None, own)) for part, own in paths.items() if any(own)}

    def part_of(self, name: str) -> str:
        """Return the part that a module or a parameter belongs to, by its path: such as `"vision tower"`."""
        # other parts can be inside the decoder, and the connector can be inside the tower
        order = ("connector", "vision tower", "image tokenizer", "language model")
        paths = self.paths()
        return next((part for part in order if inside(name, paths.get(part, ()))), "other modules")

    def __str__(self) -> str:
        return "; ".join(f"{part} {', '.join(paths)}" for part, paths in self.paths().items())


def find_parts(model: PreTrainedModel) -> VLMParts:
    """Find the parts of a model from the names and places of its modules.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model with its head, without or below PEFT.

    Raises:
        `ValueError`: If there is a tower and no connector, or if nothing in the model takes images. The message has
            the call of [`register_vlm`] to complete.
    """
    base = model.base_model
    names = {id(module): name for name, module in model.named_modules()}
    decoder, tower = model.get_decoder(), model.get_encoder("image")
    children = dict(base.named_children())
    decoder = next((child for child in children.values() if any(m is decoder for m in child.modules())), decoder)
    tower = None if tower is model or tower is base else tower
    candidates = {
        name: child
        for name, child in children.items()
        if child is not decoder
        and child is not tower
        and not _OTHER_TOWER.search(name)
        and not _OTHER_PART.search(name)
        and _has_parameters(child)
    }
    connector = list(candidates.values()) if decoder is not base else []
    if tower is not None:
        connector += [child for name, child in tower.named_children() if _MERGER.fullmatch(name)]
    # PEFT's modules_to_save calls the modules that it wraps, and a ModuleList cannot be called
    connector = [part for child in connector for part in (child if isinstance(child, nn.ModuleList) else [child])]
    parts = VLMParts(
        decoder=names[id(decoder)],
        tower=None if tower is None else names[id(tower)],
        connector=tuple(names[id(part)] for part in connector),
        image_tokenizer=names[id(children["vqmodel"])] if "vqmodel" in children else None,
        head=head_path(model),
    )
    if parts.tower and not connector:
        raise _refused(
            model, parts, f"no connector was found between its vision tower {parts.tower!r} and its decoder"
        )
    if not (parts.tower or connector or parts.image_tokenizer):
        raise _refused(model, parts, "no part of it takes images")
    return parts


def check_connector(model: PreTrainedModel, parts: VLMParts) -> None:
    """Check that a weight of the connector has the width of the language model.

    Raises:
        `ValueError`: If none has, so that what was found is no connector.
    """
    width = next(model.get_input_embeddings().parameters()).shape[-1]
    weights = [weight for path in parts.connector for weight in model.get_submodule(path).parameters()]
    if weights and not any(weight.dim() > 1 and width in weight.shape for weight in weights):
        found = ", ".join(parts.connector)
        raise _refused(model, parts, f"no weight of {found} has the width of the language model, as a connector has")


def head_path(model: PreTrainedModel) -> str | None:
    """Return the path of the output embeddings."""
    head = model.get_output_embeddings()
    return next((name for name, module in model.named_modules() if module is head), None)


def inside(name: str, paths: Iterable[str]) -> bool:
    """Return whether the path of a module or a parameter is one of some paths or below one."""
    return any(name == path or name.startswith(f"{path}.") for path in paths)


def modules_near_root(model: nn.Module) -> str:
    """Return the paths of the outer modules of a model, for a message about a path that is wrong."""
    return ", ".join(name for name, _ in model.named_modules() if name and name.count(".") <= 1)


def _refused(model: PreTrainedModel, parts: VLMParts, problem: str) -> ValueError:
    known = {"decoder": parts.decoder, "tower": parts.tower}
    keywords = ", ".join(f"{part}={path!r}" for part, path in known.items())
    return ValueError(
        f"`model`: in a {type(model).__name__} (model type {model.config.model_type!r}), {problem}. Name its parts: "
        f"`fedvlm_hf.register_vlm({model.config.model_type!r}, {keywords}, connector=...)`, or on the command line of "
        f"a recipe `--vlm_parts '{json.dumps(known)[:-1]}, \"connector\": ...}}'`, with names from "
        "`model.named_modules()`. A part that the model does not have is `None`, in JSON `null`. Modules near the "
        f"root: {modules_near_root(model)}."
    )


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
