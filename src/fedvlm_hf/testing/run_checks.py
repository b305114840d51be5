"""Checks of a whole method in real runs on a tiny LLaVA. Each raises [`Mismatch`] or `NotApplicable`, or passes."""

from collections.abc import Mapping

from ..methods import ClientMethod, Method, resolve_method
from ..methods.fedavg import FedAvg
from ..tensors import TensorDict
from ..types import State
from .fingerprint import changes, fingerprint
from .recorder import NUM_ROUNDS, message_digests
from .report import Mismatch, NotApplicable
from .subject import STOP_AFTER, Subject, reference_models


# Relative to how far training goes. FedAvg by another way of rounding is 1e-6 away from FedAvg after three rounds;
# FedProx with a tenth of its default mu is 4e-4 away.
_SAME = 1e-5


def runs(subject: Subject) -> None:
    """Three rounds of training end, and the models of the clients have moved."""
    if subject.whole.models().digest() == subject.whole.initial_models.digest():
        raise Mismatch("models that training has changed", "the initial ones", "a step of 0, or updates not applied.")


def differs_from_fedavg(subject: Subject) -> None:
    """Three rounds of five steps on unequal clients give other weights than FedAvg and than each half alone.

    A method that was declared an alias gives the same bits as what it is an alias of.
    """
    mine, method = subject.whole.models(), subject.fresh()
    if subject.alias_of is not None:
        _, theirs = reference_models(resolve_method(subject.alias_of), subject.config)
        if mine.digest() != theirs.digest():
            raise Mismatch(
                f"the bits of {subject.alias_of!r}, of which it is declared an alias",
                _distance(mine, theirs),
                "no alias: leave `alias_of` out.",
            )
        return
    rivals = _rivals(subject, method)
    if not rivals:
        raise NotApplicable("it is FedAvg")
    for name, rival in rivals.items():
        start, theirs = reference_models(rival, subject.config)
        moved = (theirs.flat - start.flat).norm().item()
        gap = (mine.flat - theirs.flat).norm().item()
        if gap <= _SAME * moved:
            raise Mismatch(
                f"other weights than {name} gives",
                f"the same ones ({gap / moved:.1e} of the way that training goes)",
                "a hook that is never called or misspelled, a correction that stays 0, or a knob at its neutral "
                "value. If both are one method by another name, declare it: `alias_of='fedavg'`.",
            )


def _rivals(subject: Subject, method: Method) -> dict[str, Method]:
    rivals = {"FedAvg": Method(ClientMethod(), FedAvg())}
    if isinstance(subject.method, str) and "+" in subject.method:
        rivals["its client half alone"] = Method(method.client, FedAvg())
        rivals["its server half alone"] = Method(ClientMethod(), method.strategy)
    return {name: rival for name, rival in rivals.items() if rival != method}


def resumes_to_the_bit(subject: Subject) -> None:
    """A run that was stopped and went on in new objects ends in the same bits, states of server and clients too."""
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
            f"a run of {NUM_ROUNDS} rounds that was stopped after round {STOP_AFTER} to end as the unbroken one does",
            f"other bits in {', '.join(different)}",
            "something that is kept on the object, in a module or in a closure: keep it in `ServerState`, or in the "
            "`state` of a client's update.",
        )


def leaks_nothing_between_clients(subject: Subject) -> None:
    """A client's update is the same whoever ran before it, model, optimizer, random state and counters included."""
    exchanges = subject.last_exchanges()
    if len(exchanges) < 2:
        raise NotApplicable(f"there is only the client {exchanges[0].task.client_id!r}")
    trainer = subject.copy_of_clients("reversed")
    for exchange in reversed(exchanges):  # the last one now runs first, in a trainer that ran nobody
        update = trainer.run_alone(exchange.task)
        if different := changes(exchange.update_before, message_digests(update)):
            raise Mismatch(
                f"the same update of {update.client_id!r} whether it runs first or last",
                f"another one, in {', '.join(different[:3])}",
                "the client half keeps something of one client for the next: on itself, on the model (a hook, a "
                "buffer, a weight that does not train), or from the random generator.",
            )


def holds_nothing_on_self(subject: Subject) -> None:
    """The method is the same object with the same content after a run, its class attributes included."""
    whole = subject.whole
    if different := changes(whole.method_before, fingerprint(whole.method)):
        raise Mismatch(
            "a method that a run leaves as it was",
            f"changed: {', '.join(different[:3])}",
            "state on the object, which is lost when a run resumes: keep it in `ServerState`, or in the `state` of a "
            "client's update.",
        )


def _digests(groups: State) -> Mapping[str, str]:
    return {group: tensors.digest() for group, tensors in groups.items()}


def _distance(mine: TensorDict, theirs: TensorDict) -> str:
    return f"others, {(mine.flat - theirs.flat).norm().item():.3g} away"
