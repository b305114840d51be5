"""The run here that goes on from a round there."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..state import ClientStore


@dataclass(frozen=True)
class LocalRun:
    """The run that is to go on from a round of a repository.

    Attributes:
        output_dir (`str` or `os.PathLike`): Its folder, without rounds or with earlier ones of the same run.
        run (`Mapping[str, Any]`): What it is: what `describe_run` returned.
        shapes (`Mapping[str, torch.Size]`): Names and shapes of its adapter's tensors.
        store (`ClientStore`): Where its clients' states go.
        client_ids (`Collection[str]`): The clients that it trains.
        is_continuous (`bool`): Whether a client's optimizer goes on from round to round, as in `central`.
    """

    output_dir: str | os.PathLike[str]
    run: Mapping[str, Any]
    shapes: Mapping[str, torch.Size]
    store: ClientStore
    client_ids: Collection[str]
    is_continuous: bool = False
