"""Rows that name their client themselves: a file, a folder or a site each."""

import re
from collections.abc import Sequence

from ...data.naming import CLIENT_PREFIX


def by_file(owners: Sequence[str]) -> tuple[list[list[int]], list[str]]:
    """Gives each row to the client it names, and keeps the names as client ids.

    An owner's id is `client_<owner>`, or the owner itself where it starts so already. Ids become names of splits, in
    which `datasets` allows letters, digits and underscores only: other characters become underscores, `hospital-a` is
    `client_hospital_a`.

    Args:
        owners (`Sequence[str]`):
            Each row's owner, such as the stem of its file.

    Returns:
        `tuple[list[list[int]], list[str]]`: each client's rows, ascending, and each client's id; the clients in the
        order of their ids. A client's owner is `owners[rows[0]]`.

    Raises:
        `ValueError`: if a row has no owner, two owners have one id, or there is no row.
    """
    if not owners:
        raise ValueError("`owners` is empty: there is no row, so there is no client.")
    owner_of: dict[str, str] = {}
    rows_of: dict[str, list[int]] = {}
    for row, owner in enumerate(owners):
        if not owner:
            raise ValueError(f"`owners`: row {row} names {owner!r} as its client. Every row needs one.")
        client_id = _client_id(owner)
        if owner_of.setdefault(client_id, owner) != owner:
            raise ValueError(
                f"`owners`: {owner_of[client_id]!r} and {owner!r} (row {row}) would both be {client_id!r}. Rename "
                "one, with letters, digits and underscores."
            )
        rows_of.setdefault(client_id, []).append(row)
    client_ids = sorted(rows_of)
    return [rows_of[client_id] for client_id in client_ids], client_ids


def _client_id(owner: str) -> str:
    name = re.sub(r"\W", "_", owner)
    return name if name.startswith(CLIENT_PREFIX) else CLIENT_PREFIX + name
