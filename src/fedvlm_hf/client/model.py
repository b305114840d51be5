"""ClientModel: the model of one process, as every client, the evaluation and the export use it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from ..lora import lora_pairs
from ..methods import ClientMethod
from ..tensors import TensorDict
from ..types import Expected, LocalPhase, State
from .adapters import Adapter, changed_weight
from .modules import keep_batch_norms_fixed
from .plan import Plan, resolve_tuning, tuning_stages


PRIVATE, PERSONAL = "private", "personal"
"""Groups of a client's state that the run keeps itself: private tensors, and the personal copy of the shared ones."""

BASE_DELTA = "base_delta.safetensors"
_PREFIX = "base_model.model."


class ClientModel:
    """Which tensors of a model train and travel, and with which values a client, an evaluation or an export starts.

    It needs no Trainer: the server of a federation whose clients are elsewhere holds one, too.

    Args:
        model ([`~peft.PeftModel`]):
            The model with its adapter.
        method ([`ClientMethod`]):
            Says what is shared and what trains, and the phases of a local round.
        tuning (`str`, *optional*), num_rounds (`int`), stage_rounds (`int`, *optional*):
            As in [`FederatedArguments`].

    Attributes:
        adapter ([`~fedvlm_hf.client.adapters.Adapter`]): The adapter.
        plan ([`~fedvlm_hf.client.plan.Plan`]): What trains in which round and phase.
        initial (`TensorDict`): Every tensor of the adapter as the run starts.
        fixed (`TensorDict`): Tensors that do not train in the current stage and are not at their initial values, or
            that the method freezes.
        base_fingerprint (`str`): Of names, shapes, dtypes and some values of the base model's weights, so that a copy
            in another folder is known to be the same.
        shared, private (`list[str]`): Names of what trains in the current stage and travels, or stays at each client.
    """

    def __init__(
        self,
        model: PeftModel,
        method: ClientMethod,
        tuning: str | None = None,
        num_rounds: int = 1,
        stage_rounds: int | None = None,
    ):
        keep_batch_norms_fixed(model)
        self.model, self.method = model, method
        self.adapter = Adapter(model)
        tuning = resolve_tuning(tuning, bool(self.adapter.connector))
        self.plan = Plan(tuning, tuning_stages(tuning, num_rounds, stage_rounds), method.phases)
        for stage in self.plan.stages:  # casts to fp32 what trains in any stage, before its initial value is read
            self.adapter.set_trainable(self._trained(stage.trains))
        self.initial = self.adapter.read(self.adapter.parameters)
        trained = dict.fromkeys(name for stage in self.plan.stages for name in self._trained(stage.trains))
        self._private = [name for name in trained if not method.is_shared(name)]
        self._initial_private = self.adapter.read(self._private)
        self._ever_shared = [name for name in trained if method.is_shared(name)]
        self.base_fingerprint = _fingerprint(model)
        self.reset()

    def _trained(self, trains: str) -> list[str]:
        return [name for name in self.adapter.names(trains) if self.method.is_trained(name)]

    def reset(self) -> None:
        """Put the model back to where the run starts."""
        self.adapter.change_base(TensorDict({}))
        self.adapter.write(self.initial)
        self.fixed = TensorDict({})
        self._enter(0)

    @property
    def base_name(self) -> str:
        """Hub id or folder of the base model; empty for one that was built in memory."""
        return self.model.get_base_model().config._name_or_path

    @property
    def is_personal(self) -> bool:
        """Whether clients have their own models, with private tensors or a personal copy of the shared ones."""
        return bool(self._private) or self.plan.is_personal

    def enter(self, round_idx: int) -> None:
        """Set what trains and travels in a round, if a stage begins with it."""
        if self.plan.stage(round_idx) != self.stage:
            self._enter(round_idx)

    def _enter(self, round_idx: int) -> None:
        self.stage = self.plan.stage(round_idx)
        self._names = self._trained(self.stage.trains)
        self.shared = [name for name in self._names if self.method.is_shared(name)]
        self.private = [name for name in self._names if not self.method.is_shared(name)]
        trains = {*self._names, *self._private}
        frozen = [name for name in self.adapter.parameters if name not in trains]
        self._initial_frozen = TensorDict.from_tensors({name: self.initial[name] for name in frozen})
        if self.stage != self.plan.stages[0]:
            self.fixed = self.adapter.read(frozen)
        else:  # at their initial values, which other hosts have drawn too; a method's may have to be the same bits
            self.fixed = self.adapter.read(name for name in frozen if not self.method.is_trained(name))
        self.set_phase(self.plan.phases[0])

    def begin_round(self, round_idx: int, tensors: TensorDict) -> tuple[TensorDict, bool]:
        """The shared tensors that a round starts from, given those of the round before; whether a stage begins."""
        if self.plan.stage(round_idx) == self.stage:
            return tensors, False
        self.load(tensors)
        self._enter(round_idx)
        return self.shared_tensors(), True

    def resume(self, round_idx: int, exported: TensorDict) -> None:
        """Continue after a round: what earlier stages trained is fixed now, and only in the round's export."""
        if self.plan.stage(round_idx) != self.stage:
            self.adapter.write(exported)
            self._enter(round_idx)

    def set_phase(self, phase: LocalPhase) -> None:
        """Let train what the phase says, and freeze all else: also what a method unfroze for the last client."""
        names = {"all": self._names, "shared": self.shared, "private": self.private}[phase.trains]
        if phase.is_personal:
            names = [name for name in names if name in self.shared]
        self.adapter.set_trainable(names)
        self.parameters: dict[str, nn.Parameter] = {name: self.adapter.parameters[name] for name in names}

    def load(
        self,
        shared: TensorDict,
        state: State | None = None,
        fixed: TensorDict | None = None,
        base: TensorDict | None = None,
    ) -> None:
        """Write every tensor of the adapter, so that nothing of another client or stage is left.

        Args:
            shared (`TensorDict`):
                The shared tensors.
            state (`State`, *optional*):
                What the client kept. Without private tensors in it, they have their initial values.
            fixed (`TensorDict`, *optional*):
                Tensors that do not train now; [`fixed`] by default.
            base (`TensorDict`, *optional*):
                Change of the base model; by default it stays as it is.
        """
        if base is not None:
            self.adapter.change_base(base)
        fixed = self.fixed if fixed is None else fixed
        if len(fixed) < len(self._initial_frozen):
            self.adapter.write(self._initial_frozen)
        self.adapter.write(fixed)
        self.adapter.write(shared)
        self.adapter.write((state or {}).get(PRIVATE, self._initial_private))

    def as_loaded(self, shared: TensorDict) -> TensorDict:
        """The shared tensors that were just loaded, in the shapes of the parameters: a lower rank is filled with 0."""
        if all(self.adapter.parameters[name].shape == shape for name, shape in shared.shapes.items()):
            return shared
        return self.shared_tensors()

    def load_personal(self, state: State) -> None:
        """Write the client's own tensors over the global ones: its private tensors and its personal copy, if any."""
        self.adapter.write(state.get(PRIVATE, self._initial_private))
        if self.plan.is_personal:
            self.load_personal_copy(state)

    def load_personal_copy(self, state: State) -> None:
        """Write the client's personal copy over the global tensors, and leave its private tensors as they are."""
        self.adapter.write(state.get(PERSONAL, self.initial_shared()))

    def initial_shared(self) -> TensorDict:
        """The shared tensors of the current stage, as the run starts."""
        return TensorDict.from_tensors({name: self.initial[name] for name in self.shared})

    def initial_of_all_stages(self) -> TensorDict:
        """The tensors that are shared in any stage, as the run starts."""
        return TensorDict.from_tensors({name: self.initial[name] for name in self._ever_shared})

    def shared_tensors(self, expected: Expected | None = None) -> TensorDict:
        """Read the shared tensors out of the model, in the shapes that are expected."""
        if expected is None:
            return self.adapter.read(self.shared)
        return self.adapter.read(expected.tensors, {name: spec.shape for name, spec in expected.tensors.items()})

    def own_tensors(self) -> State:
        """Read the private tensors out of the model, if there are any."""
        return {PRIVATE: self.adapter.read(self._private)} if self._private else {}

    def export(self, folder: Path, shared: TensorDict, base: TensorDict) -> None:
        """Save the global model of a round.

        Args:
            folder (`Path`):
                A new or empty folder. Stock `PeftModel.from_pretrained(base_model, folder)` loads it. With a change of
                the base model it gets `base_delta.safetensors`, see [`apply_base_delta`].
            shared (`TensorDict`), base (`TensorDict`):
                The shared tensors, and the change of the base model.
        """
        self.load(shared, base=base)
        self.adapter.export(folder)
        if base:
            self._export_base(folder, base)

    def _export_base(self, folder: Path, base: TensorDict) -> None:
        from safetensors.torch import save_file

        pairs = self.adapter.lora_pairs(base)
        scales = {module.removeprefix(_PREFIX): pair.scale for module, pair in pairs.items()}
        tensors = {name.removeprefix(_PREFIX): tensor.clone() for name, tensor in base.items()}
        save_file(tensors, folder / BASE_DELTA, {"scales": json.dumps(scales)})


def _fingerprint(model: PeftModel) -> str:
    """Of the base model's weights: names, shapes, dtypes, and the first and last values of each tensor."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in model.get_base_model().state_dict().items():
        if ".lora_" in name or ".modules_to_save." in name:  # of an adapter
            continue
        values = tensor.detach().reshape(-1)
        ends = torch.cat([values[:8], values[-8:]]).contiguous().cpu().view(torch.uint8)
        digest.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode() + ends.numpy().tobytes())
    return digest.hexdigest()


def load_base_delta(path: Path) -> TensorDict:
    """Read the change of the base model that a round's export holds, by the names that [`Adapter`] has."""
    from safetensors.torch import load_file

    return TensorDict.from_tensors({f"{_PREFIX}{name}": tensor for name, tensor in load_file(path).items()})


def apply_base_delta(model: PreTrainedModel, folder: str | Path) -> PreTrainedModel:
    """Put the change of the base model that a round's export holds on a base model, in place.

    Methods such as FLoRA and FedEx-LoRA change the base. Their exports are loaded with two calls; other exports have
    no such file, and the model is returned as it is.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The base model, as the run started from it.
        folder (`str` or `Path`):
            A round's folder.

    Returns:
        [`~transformers.PreTrainedModel`]: the same model.

    Raises:
        `ValueError`: if the change does not fit the model.

    Example:

    ```python
    >>> base = apply_base_delta(base, "out/rounds/round-0003")  # doctest: +SKIP
    >>> model = PeftModel.from_pretrained(base, "out/rounds/round-0003")  # doctest: +SKIP
    ```
    """
    from safetensors import safe_open

    path = Path(folder) / BASE_DELTA
    if not path.exists():
        return model
    with safe_open(path, framework="pt") as file:
        scales = json.loads((file.metadata() or {}).get("scales", "{}"))
        pairs = lora_pairs({name: file.get_tensor(name) for name in file.keys()}, scales)  # noqa: SIM118
    modules: Mapping[str, nn.Module] = dict(model.named_modules())
    for name, pair in pairs.items():
        weight = getattr(modules.get(name), "weight", None)
        is_transposed = type(modules.get(name)).__name__ == "Conv1D"
        shape = (pair.b.shape[0], pair.a.shape[1])
        if weight is None or tuple(weight.shape) != (shape[::-1] if is_transposed else shape):
            raise ValueError(
                f"`model` does not fit {str(path)!r}: the module {name!r} is missing or its weight is not of shape "
                f"{shape}. Pass the base model that the run started from."
            )
        with torch.no_grad():
            weight.copy_(changed_weight(weight, pair, is_transposed))
    return model
