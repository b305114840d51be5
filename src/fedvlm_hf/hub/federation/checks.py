"""Every update is checked before it touches the sum; one that fails is refused by name, with the reason."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ...files import file_sha256
from ...rounds import UpdateError
from ...tensors import TensorDict
from ...types import State
from .documents import DocumentError
from .protocol import REPLY, TENSORS, Announcement, Reply
from .tensorfile import TensorFileError, read_state, size_range


MAX_REPLY = 64 * 1024
"""Bytes of a reply's JSON."""
MAX_METRICS = 100
BLOCK = 2**20
UNUSUAL = 100
"""By default an update may be so many times as long as the global tensors are: an update beyond is no training."""


class RefusedUpdate(UpdateError):
    """An update that does not reach the sum."""


class StaleUpdate(RefusedUpdate):
    """No answer to this round yet: nothing, or what was sent in an earlier one."""


@dataclass(frozen=True)
class Limits:
    """What is too much.

    Args:
        max_update_norm (`float`, *optional*):
            Longest change of the global tensors by one client, in L2 norm. By default 100 times the global tensors'
            own norm, or 100 where that is below 1: it stops what would drown everyone else, such as weights that
            overflowed, and no training that works. Set it to what your clients' updates measure to be stricter.
        max_num_samples (`int`, *optional*, defaults to `10_000_000`):
            Most rows that a client may claim, since it weighs by them.
        is_weighted (`bool`, *optional*, defaults to `True`):
            Whether clients weigh by their rows; where they weigh the same, each must claim 1.
    """

    max_update_norm: float | None = None
    max_num_samples: int = 10_000_000
    is_weighted: bool = True


def check_files(files: Mapping[str, int]) -> None:
    """Check names and sizes, which the Hub tells, before anything is downloaded.

    Args:
        files (`Mapping[str, int]`):
            Path below the client's folder to size in bytes.

    Raises:
        `StaleUpdate`: if there is nothing yet.
        `RefusedUpdate`: if there are other files than the two expected ones, or the reply is too large.
    """
    if not files:
        raise StaleUpdate("its place is empty")
    if unexpected := sorted(files.keys() - {REPLY, TENSORS}):
        raise RefusedUpdate(f"it has the file {unexpected[0]!r:.100}; only {REPLY} and {TENSORS} are read")
    if missing := sorted({REPLY, TENSORS} - files.keys()):
        raise RefusedUpdate(f"it lacks the file {missing[0]}")
    if files[REPLY] > MAX_REPLY:
        raise RefusedUpdate(f"{REPLY} has {files[REPLY]} bytes; {MAX_REPLY} is the most")


def check_size(size: int, announcement: Announcement) -> None:
    """Check the size of the tensors' file, before it is downloaded.

    Raises:
        `RefusedUpdate`: if no file of the tensors that were asked for can have it.
    """
    least, most = size_range(update_layout(announcement))
    if size > most:
        raise RefusedUpdate(f"{TENSORS} has {size} bytes, too many for the tensors asked for: {most} is the most")
    if size < least:
        raise RefusedUpdate(f"{TENSORS} has {size} bytes, too few for the tensors asked for: it is cut off")


def check_reply(
    content: bytes, client_id: str, announcement: Announcement, announcement_sha256: str, limits: Limits
) -> Reply:
    """Check what a client says of its update.

    Args:
        content (`bytes`):
            The reply's JSON.
        client_id (`str`):
            Whose branch or pull request it came in.
        announcement ([`Announcement`]), announcement_sha256 (`str`):
            What was asked for, and its hash.
        limits ([`Limits`]):
            What is too much.

    Raises:
        `StaleUpdate`: if it answers an earlier round.
        `RefusedUpdate`: if it is no answer to this announcement by this client.
    """
    try:
        reply = Reply.from_bytes(content)
    except DocumentError as error:
        raise RefusedUpdate(f"{REPLY} cannot be used: {error}") from None
    if reply.client_id != client_id:
        raise RefusedUpdate(f"it came from the place of {client_id!r} but says that it is of {reply.client_id!r:.100}")
    if client_id not in announcement.cohort:
        raise RefusedUpdate(f"{client_id!r} was not asked in round {announcement.round_idx}")
    if reply.round_idx < announcement.round_idx:
        raise StaleUpdate(f"it answers round {reply.round_idx}, which is over")
    if reply.round_idx > announcement.round_idx:
        raise RefusedUpdate(f"it answers round {reply.round_idx}, which was not announced yet")
    if reply.base_sha256 != announcement.base_sha256:
        raise RefusedUpdate("it was trained on another base model: its weight files have other hashes")
    if reply.config_sha256 != announcement.config_sha256:
        raise RefusedUpdate("it was trained with another configuration")
    if reply.announcement_sha256 != announcement_sha256:
        raise RefusedUpdate("it answers another announcement of this round: a replay, or the server was started anew")
    _check_numbers(reply, limits)
    return reply


def check_tensors(path: Path, reply: Reply, announcement: Announcement, current: TensorDict, limits: Limits) -> State:
    """Check the tensors of an update and read them.

    Args:
        path (`Path`):
            The file.
        reply ([`Reply`]):
            What the client says of it.
        announcement ([`Announcement`]):
            What was asked for.
        current (`TensorDict`):
            The global tensors that the round started from.
        limits ([`Limits`]):
            What is too much.

    Returns:
        `State`: the group `update`, and what else the method sends.

    Raises:
        `RefusedUpdate`: with the reason.
    """
    if file_sha256(path) != reply.tensors_sha256:
        raise RefusedUpdate(f"{TENSORS} is not the file that {REPLY} names: their SHA-256 sums differ")
    try:
        state = read_state(path, update_layout(announcement))
    except TensorFileError as error:
        raise RefusedUpdate(f"{TENSORS} {error}") from None
    for group, tensors in state.items():
        for name, tensor in tensors.items() if not tensors.flat.sum().isfinite() else ():
            if not tensor.isfinite().all():
                raise RefusedUpdate(f"{TENSORS} has values that are not finite in {group}:{name}")
    length = _norm(state["update"].flat, current.flat)
    if length > (limit := _longest(current, limits)):
        raise RefusedUpdate(f"it changes the global tensors by {length:.3g} in L2 norm; {limit:.3g} is the most")
    return state


def update_layout(announcement: Announcement) -> dict[str, dict[str, list[int]]]:
    """What a reply must hold: an update of the global tensors, and of every other group that was sent."""
    return {"update" if group == "global" else group: tensors for group, tensors in announcement.layout.items()}


def _check_numbers(reply: Reply, limits: Limits) -> None:
    most = limits.max_num_samples if limits.is_weighted else 1
    if not 1 <= reply.num_samples <= most:
        raise RefusedUpdate(f"its `num_samples` is {reply.num_samples!r:.40}; it must be from 1 to {most}")
    if len(reply.metrics) > MAX_METRICS:
        raise RefusedUpdate(f"it has {len(reply.metrics)} metrics; {MAX_METRICS} is the most")
    if unusable := [name for name in reply.metrics if not name.isidentifier() or len(name) > 100]:
        raise RefusedUpdate(f"it has the metric {unusable[0]!r:.100}, which is no name")
    if "train_loss" not in reply.metrics:
        raise RefusedUpdate("its metrics lack `train_loss`")


def _longest(current: TensorDict, limits: Limits) -> float:
    if limits.max_update_norm is not None:
        return limits.max_update_norm
    return UNUSUAL * max(1.0, _norm(current.flat))


def _norm(flat: torch.Tensor, origin: torch.Tensor | None = None) -> float:
    """L2 distance from another buffer, or from zero, in fp64; in blocks, which need little memory."""
    blocks = torch.split(flat, BLOCK)
    origins = torch.split(origin, BLOCK) if origin is not None else (torch.zeros(()) for _ in blocks)
    return math.hypot(*((b.double() - o.double()).norm().item() for b, o in zip(blocks, origins, strict=True)))
