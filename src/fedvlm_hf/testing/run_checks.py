"""Checks of a whole method in real runs on a tiny LLaVA. Each raises [`Mismatch`] or `NotApplicable`, or passes."""

from collections.abc import Mapping, Sequence

from ..client.model import PERSONAL, PRIVATE
from ..methods import ClientMethod, Method, resolve_method
from ..methods.fedavg import FedAvg
from ..tensors import TensorDict
from ..types import State
from .fingerprint import changes, fingerprint
from .recorder import NUM_ROUNDS, message_digests
from .report import Mismatch, NotApplicable
from .subject import STOP_AFTER, Subject, reference_models


# Relative to the distance that training covers. FedAvg with another rounding is 1e-6 away from FedAvg after three
# rounds, FedProx with a tenth of its default mu 4e-4.
_SAME = 1e-5


def runs(subject: Subject) -> None:
    """Three rounds of training finish, and the models of the clients have changed."""
    if subject.whole.models().digest() == subject.whole.initial_models.digest():
        raise Mismatch("models changed by training", "the initial ones", "a step of 0, or updates not applied.")


def differs_from_fedavg(subject: Subject) -> None:
    """Three rounds of five steps on unequal clients give other weights than FedAvg and than each half alone.

    A method that is declared as an alias gives the same bits as the other method.
    """
    mine, method = subject.whole.models(), subject.fresh()
    if subject.alias_of is not None:
        _, theirs = reference_models(resolve_method(subject.alias_of), subject.config)
        if mine.digest() != theirs.digest():
            raise Mismatch(
                f"the bits of {subject.alias_of!r}, as it is declared as an alias",
                "other weights",
                "a method of another formula: leave `alias_of` out.",
            )
        return
    rivals = _rivals(subject, method)
    if not rivals:
        raise NotApplicable("it is FedAvg")
    for name, rival in rivals.items():
        start, theirs = reference_models(rival, subject.config)
        if mine.shapes != theirs.shapes:  # it also changes the base model
            continue
        moved = (theirs.flat - start.flat).norm().item()
        gap = (mine.flat - theirs.flat).norm().item()
        if gap <= _SAME * moved:
            raise Mismatch(
                f"other weights than {name} gives",
                f"the same weights (their distance is {gap / moved:.1e} of that covered by training)",
                "a hook that is misspelled or never called, a correction that stays 0, or a knob at its neutral "
                "value. If it is the same method by another name, declare it: `alias_of='fedavg'`.",
            )


def _rivals(subject: Subject, method: Method) -> dict[str, Method]:
    rivals = {"FedAvg": Method(ClientMethod(), FedAvg())}
    if isinstance(subject.method, str) and "+" in subject.method:
        rivals["its client half alone"] = Method(method.client, FedAvg())
        rivals["its server half alone"] = Method(ClientMethod(), method.strategy)
    return {name: rival for name, rival in rivals.items() if rival != method}


def resumes_to_the_bit(subject: Subject) -> None:
    """A run that is stopped and resumed in new objects ends with the same bits, server and client states included."""
    whole, resumed = subject.whole, subject.resumed()
    whole_end, end = whole.watch.ends[-1], resumed.watch.ends[-1]
    pairs: dict[str, tuple[object, object]] = {
        "global tensors": (end.tensors.digest(), whole_end.tensors.digest()),
        "clients' models": (resumed.models().digest(), whole.models().digest()),
        "server state": (_digests(end.state.tensors), _digests(whole_end.state.tensors)),
        "server scalars": (dict(end.state.scalars), dict(whole_end.state.scalars)),
    }
    for name in sorted(whole.clients):
        pairs[f"state of {name}"] = _digests(resumed.store.load(name)), _digests(whole.store.load(name))
    if different := [what for what, (mine, theirs) in pairs.items() if mine != theirs]:
        raise Mismatch(
            f"a run of {NUM_ROUNDS} rounds that is resumed after round {STOP_AFTER} to end like an uninterrupted one",
            f"different bits in {', '.join(different)}",
            "state on the object, in a module or in a closure: keep it in `ServerState`, or in the `state` of a "
            "client's update.",
        )


def leaks_nothing_between_clients(subject: Subject) -> None:
    """A client's update does not depend on which client ran before it in the same process."""
    exchanges = subject.last_exchanges()
    if len(exchanges) < 2:
        raise NotApplicable(f"there is only the client {exchanges[0].task.client_id!r}")
    trainer = subject.copy_of_clients("reversed")
    for exchange in reversed(exchanges):  # the last client now runs first, in a new trainer
        update = trainer.run_alone(exchange.task)
        if different := changes(exchange.update_before, message_digests(update)):
            raise Mismatch(
                f"the same update of {update.client_id!r} whether it runs first or last",
                f"different values in {', '.join(different[:3])}",
                "something of one client that reaches the next: on the method, on the model (a hook, a buffer, a "
                "weight that does not train), or through the random generator.",
            )


def holds_nothing_on_self(subject: Subject) -> None:
    """A run changes nothing on the method object or its class."""
    whole = subject.whole
    if different := changes(whole.method_before, fingerprint(whole.method)):
        raise Mismatch(
            "a method object that a run does not change",
            f"changed: {', '.join(different[:3])}",
            "state on the object, which is lost when a run resumes: keep it in `ServerState`, or in the `state` of a "
            "client's update.",
        )


def keeps_private_tensors(subject: Subject) -> None:
    """What stays at a client (private tensors, a personal copy) is saved, and is there again in its next round."""
    local = subject.whole.local
    if not local.is_personal:
        raise NotApplicable("no tensor stays at a client")
    first, last = local.plan.phases[0].name, local.plan.phases[-1].name
    personal = [phase.name for phase in local.plan.phases if phase.is_personal][-1:]
    kept: dict[str, State] = {}
    for exchange in subject.whole.exchanges:
        client_id, round_idx = exchange.task.client_id, exchange.task.round_idx
        before, after = kept.get(client_id), exchange.kept
        kept[client_id] = after
        for group, names, start, end in (
            (PRIVATE, local.private, first, last),
            *((PERSONAL, local.shared, phase, phase) for phase in personal),
        ):
            if names and not _holds(after, group, names, exchange.phases[end][1]):
                what = (
                    f"the {group} tensors of {client_id!r} to be saved after round {round_idx}, as they were trained"
                )
            elif names and before is not None and not _holds(before, group, names, exchange.phases[start][0]):
                what = f"{client_id!r} to start round {round_idx} from the {group} tensors that it had kept"
            else:
                continue
            raise Mismatch(
                what,
                "others, or none",
                "a client state that replaces what the run keeps, or an `on_start` that overwrites it.",
            )


def _holds(state: State, group: str, names: Sequence[str], model: TensorDict) -> bool:
    """Return whether a group of a client's state has these tensors with the values that the model has."""
    return group in state and all(name in state[group] and state[group][name].equal(model[name]) for name in names)


def trains_and_sends_what_it_says(subject: Subject) -> None:
    """What does not train keeps its initial value at every client, and only what trains and is shared is sent."""
    local, client = subject.whole.local, subject.whole.method.client
    names = list(local.adapter.parameters)
    frozen = [name for name in names if not client.is_trained(name)]
    secret = {name for name in names if name in frozen or not client.is_shared(name)}
    for exchange in subject.whole.exchanges:
        who = f"of {exchange.task.client_id!r} in round {exchange.task.round_idx}"
        for _, after in exchange.phases.values():
            if moved := [name for name in frozen if not after[name].equal(local.initial[name])]:
                raise Mismatch(
                    f"the tensor {moved[0]!r} {who} to keep its initial value, since `is_trained` is False for it",
                    f"another value, as for {len(moved)} of {len(frozen)} such tensors",
                    "an `on_start` that writes to it or sets `requires_grad`.",
                )
        groups = [exchange.update.tensors, *exchange.update.control.values()]
        if sent := [name for group in groups for name in group if name in secret]:
            raise Mismatch(
                f"no update with the tensor {sent[0]!r}, since it is not shared or does not train",
                f"the update {who} with {len(sent)} such tensors",
                "a task whose `expects` names it, or an `on_finish` that adds it to a control group.",
            )


def _digests(groups: State) -> Mapping[str, str]:
    return {group: tensors.digest() for group, tensors in groups.items()}
