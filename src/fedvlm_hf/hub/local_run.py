"""The run here that goes on from a round there."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from ..client.store import ClientStore
from ..run_description import RunDescription


@dataclass(frozen=True)
class LocalRun:
    """The run that is to go on from a round of a repository.

    Attributes:
        output_dir (`str` or `os.PathLike`): Its folder, without rounds or with earlier ones of the same run.
        run ([`RunDescription`]): What it is.
        shapes (`Mapping[str, torch.Size]`): Names and shapes of its adapter's tensors.
        store (`ClientStore`): Where its clients' states go.
        client_ids (`Collection[str]`): The clients that it trains.
        is_continuous (`bool`): Whether a client's optimizer goes on from round to round, as in `central`.
    """

    output_dir: str | os.PathLike[str]
    run: RunDescription
    shapes: Mapping[str, torch.Size]
    store: ClientStore
    client_ids: Collection[str]
    is_continuous: bool = False
