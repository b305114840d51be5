"""The contract of a transform's two halves, how names become transforms, and the order in which they run."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..methods import Method
from ..registry import Registry, unknown_name_message
from ..tensors import TensorDict
from ..types import Aggregate, ClientTask, ClientUpdate, Expected, State


TRANSFORMS: Registry[type["Transform"]] = Registry("transform", "fedvlm_hf.transforms")


@dataclasses.dataclass(frozen=True)
class TransformContext:
    """Where and when a half of a transform runs.

    Args:
        seed (`int`):
            Seed of the run. With round and client it makes a transform's random numbers the same in every engine.
        round_idx (`int`):
            The round.
        client_id (`str`, *optional*):
            The client whose update it is; `None` for `on_server`.
        current (`TensorDict`):
            What the client was sent, or for `on_server` the shared tensors that the round started from.
    """

    seed: int
    round_idx: int
    client_id: str | None
    current: TensorDict

    def generator(self, purpose: str) -> torch.Generator:
        """Random numbers that depend on seed, round, client and purpose alone."""
        key = f"{purpose}/{self.seed}/{self.round_idx}/{self.client_id}"
        digest = hashlib.blake2b(key.encode(), digest_size=4).digest()
        # 32 bits: torch's CPU generator silently drops the others
        return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


@dataclasses.dataclass(frozen=True)
class Transform:
    """Changes updates between client and server, whatever the method and the engine.

    Subclasses are frozen dataclasses whose fields are the transform's knobs. Transforms see changes: client weights
    minus the weights that the client was sent. Without any transform weights travel, so that the mean stays exact.

    `update.state` at the client and `aggregate.state` at the server are the transform's own: they hold what it left
    there in the last round, and what it leaves there is kept and saved with the round.
    """

    def check_use(self, method: Method, before: Sequence["Transform"]) -> None:
        """Refuse a method, or earlier transforms, with which this one has no meaning.

        Raises:
            `ValueError`: in a sentence that says why.
        """

    def layout(self, expected: Expected) -> Expected:
        """What an update holds after `on_client`, from what it holds before."""
        return expected

    def on_client(self, update: ClientUpdate, context: TransformContext) -> ClientUpdate:
        """Change what leaves a client, at the client. Transforms run in their order."""
        return update

    def on_receive(self, update: ClientUpdate, context: TransformContext) -> ClientUpdate:
        """Undo a change of format, at the server, for each update. Transforms run in reverse order."""
        return update

    def on_server(self, aggregate: Aggregate, context: TransformContext) -> Aggregate:
        """Change the aggregated change of all clients, at the server. Transforms run in reverse order."""
        return aggregate


@dataclasses.dataclass(frozen=True)
class TransformChain:
    """The transforms of a run, in the order in which they change an update at the client.

    Args:
        transforms (`Sequence[Transform]`, *optional*):
            None by default: then weights travel as they are.
        seed (`int`, *optional*, defaults to `42`):
            Seed of the run.
    """

    transforms: Sequence[Transform] = ()
    seed: int = 42

    def __bool__(self) -> bool:
        return bool(self.transforms)

    def layout(self, task: ClientTask) -> Expected:
        """What travels in answer to a task."""
        expected = task.expected
        for transform in self.transforms:
            expected = transform.layout(expected)
        return expected

    def encode(self, update: ClientUpdate, task: ClientTask, state: State) -> tuple[ClientUpdate, State]:
        """Run the client halves on an update of weights.

        Args:
            update (`ClientUpdate`):
                The update, with weights.
            task (`ClientTask`):
                What the client was asked.
            state (`State`):
                What the transforms kept at this client.

        Returns:
            `tuple[ClientUpdate, State]`: what travels, and what the transforms keep at this client.
        """
        if not self.transforms:
            return update, {}
        context = TransformContext(self.seed, task.round_idx, task.client_id, task.tensors)
        kept: dict[str, TensorDict] = {}
        method_state, flat = update.state, _flat(update)
        update = dataclasses.replace(update, tensors=task.tensors.with_flat(flat - task.tensors.flat))
        for key, transform in self._keyed():
            update = transform.on_client(dataclasses.replace(update, state=_own(state, key)), context)
            kept |= {f"{key}{group}": tensors for group, tensors in update.state.items()}
        return dataclasses.replace(update, state=method_state), kept

    def decode(self, update: ClientUpdate, task: ClientTask) -> ClientUpdate:
        """Turn what travelled back into weights, at the server."""
        if not self.transforms:
            return update
        context = TransformContext(self.seed, task.round_idx, task.client_id, task.tensors)
        for _, transform in reversed(self._keyed()):
            update = transform.on_receive(update, context)
        return dataclasses.replace(update, tensors=task.tensors.with_flat(_flat(update) + task.tensors.flat))

    def on_server(
        self, aggregate: Aggregate, current: TensorDict, round_idx: int, state: State
    ) -> tuple[Aggregate, State]:
        """Run the server halves on an aggregate of weights.

        Returns:
            `tuple[Aggregate, State]`: the aggregate, and what the transforms keep at the server.
        """
        if all(type(transform).on_server is Transform.on_server for transform in self.transforms):
            return aggregate, {}
        context = TransformContext(self.seed, round_idx, None, current)
        kept: dict[str, TensorDict] = {}
        delta = aggregate.tensors.with_flat(aggregate.tensors.flat - current.flat)
        aggregate = dataclasses.replace(aggregate, tensors=delta)
        for key, transform in reversed(self._keyed()):
            aggregate = transform.on_server(dataclasses.replace(aggregate, state=_own(state, key)), context)
            kept |= {f"{key}{group}": tensors for group, tensors in aggregate.state.items()}
        weights = current.with_flat(current.flat + aggregate.tensors.flat)
        return dataclasses.replace(aggregate, tensors=weights, state={}), kept

    def _keyed(self) -> list[tuple[str, Transform]]:
        """Each transform with the prefix of its state's groups."""
        return [(f"{PREFIX}{i}.{type(t).__name__}.", t) for i, t in enumerate(self.transforms)]


PREFIX = "transform."
"""Groups of a state that belong to transforms begin with it."""


def _own(state: State, key: str) -> State:
    return {group.removeprefix(key): tensors for group, tensors in state.items() if group.startswith(key)}


def _flat(update: ClientUpdate) -> torch.Tensor:
    if not isinstance(update.tensors, TensorDict):
        raise ValueError(
            "A transform left an update in another format than fp32 tensors, and the next step needs those: put "
            "transforms that change the format, such as `quantize`, last in `transforms`."
        )
    return update.tensors.flat


def resolve_transforms(
    transforms: "Sequence[str | Transform] | None", kwargs: Mapping[str, Any] | None, method: Method
) -> tuple[Transform, ...]:
    """Find transforms by name, set their knobs, and check that they have a meaning together and with the method.

    Args:
        transforms (`Sequence[str | Transform]`, *optional*):
            Registered names, or objects, in the order in which they change an update at the client.
        kwargs (`Mapping[str, Any]`, *optional*):
            Knobs. Each goes to every named transform that has a knob of this name.
        method (`Method`):
            The run's method.

    Returns:
        `tuple[Transform, ...]`: the transforms.

    Raises:
        `ValueError`: on an unknown name or knob, a knob that is missing or out of its range, or a combination without
            a meaning.

    Example:

    ```python
    >>> from fedvlm_hf.methods import resolve_method
    >>> from fedvlm_hf.transforms import resolve_transforms

    >>> resolve_transforms(["quantize"], None, resolve_method("fedavg"))
    (Quantize(bits=8),)
    ```
    """
    if isinstance(transforms, str):
        raise ValueError(f"`transforms` must be a list of names, such as ['clip', 'gaussian'], got {transforms!r}.")
    classes = [t if isinstance(t, Transform) else _find(t) for t in transforms or ()]
    _check_knobs([cls for cls in classes if isinstance(cls, type)], kwargs or {})
    made = tuple(
        cls(**{key: value for key, value in (kwargs or {}).items() if key in _knobs(cls)})
        if isinstance(cls, type)
        else cls
        for cls in classes
    )
    if made and not method.client.takes_strategy:
        raise ValueError(
            f"`transforms` changes what travels between clients and server, and with `method` "
            f"{type(method.client).__name__} nothing does. Leave `transforms` out."
        )
    for index, transform in enumerate(made):
        transform.check_use(method, made[:index])
    # any tensor shows whether each transform takes the format that the one before it leaves
    TransformChain(made).layout(ClientTask(0, "", TensorDict({"w": torch.Size([1])})))
    return made


def _knobs(cls: type[Transform]) -> dict[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(cls) if field.init}


def _check_knobs(classes: Sequence[type[Transform]], kwargs: Mapping[str, Any]) -> None:
    """Refuse knobs that no transform has, and transforms without a knob that they need."""
    valid = sorted({name for cls in classes for name in _knobs(cls)})
    for key in kwargs:
        if key not in valid:
            raise ValueError(
                unknown_name_message("transform_kwargs", key, valid)
                if valid
                else f"`transform_kwargs` has {key!r}, but no transform in `transforms` has knobs."
            )
    for cls in classes:
        for name, field in _knobs(cls).items():
            if name not in kwargs and field.default is field.default_factory is dataclasses.MISSING:
                raise ValueError(
                    f"`transform_kwargs` has no {name!r}, which {cls.__name__} in `transforms` needs: "
                    f"{field.metadata.get('help', 'it has no default.')}"
                )


def _find(name: Any) -> type[Transform]:
    found = TRANSFORMS.get(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(unknown_name_message("transforms", str(name), TRANSFORMS.names()))
    return found
