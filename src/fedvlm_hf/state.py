"""Named groups of tensors as safetensors files of our own."""

from pathlib import Path

from .tensors import TensorDict
from .types import State


def save_state(path: Path, state: State) -> None:
    """Save named groups of tensors as safetensors, under a temporary name first."""
    from safetensors.torch import save_file

    tensors = {f"{group}:{name}": tensor for group, values in state.items() for name, tensor in values.items()}
    partial = path.with_suffix(".partial")
    # safetensors orders tensors by size and name; the layout is kept beside them, empty groups too
    layout = "\n".join(f"{group}:{name}" for group, values in state.items() for name in values or [""])
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, partial, {"layout": layout})
    partial.replace(path)


def load_state(path: Path) -> State:
    """Load what `save_state` saved, in the same order."""
    from safetensors import safe_open

    groups: dict[str, dict] = {}
    with safe_open(path, framework="pt") as file:
        for key in filter(None, file.metadata()["layout"].split("\n")):
            group, name = key.split(":", 1)
            tensors = groups.setdefault(group, {})
            if name:
                tensors[name] = file.get_tensor(key)
    return {group: TensorDict.from_tensors(tensors) for group, tensors in groups.items()}
