"""One client per owner, such as a file, a folder or a site."""

import re
from collections.abc import Sequence

from ...data.naming import CLIENT_PREFIX


def by_file(owners: Sequence[str]) -> tuple[list[list[int]], list[str]]:
    """Assign each row to its owner, and derive client ids from the owners' names.

    The id of an owner is `client_<owner>`, or the name itself if it starts with `client_`. Ids become names of splits,
    in which `datasets` only allows letters, digits and underscores. Other characters become underscores: the id of
    `hospital-a` is `client_hospital_a`.

    Args:
        owners (`Sequence[str]`):
            The owner of each row, such as the stem of its file.

    Returns:
        `tuple[list[list[int]], list[str]]`: the rows of each client, ascending, and the id of each client, in the
            order of the ids. The owner of a client is `owners[rows[0]]`.

    Raises:
        `ValueError`: if a row has no owner, two owners have the same id, or there is no row.
    """
    if not owners:
        raise ValueError("`owners` is empty: without rows there are no clients.")
    owner_of: dict[str, str] = {}
    rows_of: dict[str, list[int]] = {}
    for row, owner in enumerate(owners):
        if not owner:
            raise ValueError(f"`owners`: row {row} has the owner {owner!r}. Every row needs an owner.")
        client_id = _client_id(owner)
        if owner_of.setdefault(client_id, owner) != owner:
            raise ValueError(
                f"`owners`: {owner_of[client_id]!r} and {owner!r} (row {row}) would both be {client_id!r}. Rename one "
                "of them, using letters, digits and underscores."
            )
        rows_of.setdefault(client_id, []).append(row)
    client_ids = sorted(rows_of)
    return [rows_of[client_id] for client_id in client_ids], client_ids


def _client_id(owner: str) -> str:
    name = re.sub(r"\W", "_", owner)
    return name if name.startswith(CLIENT_PREFIX) else CLIENT_PREFIX + name
