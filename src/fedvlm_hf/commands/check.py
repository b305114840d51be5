"""`fedvlm check`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..launch.errors import OneLineParser
from . import HelpFormatter, dedented


if TYPE_CHECKING:
    from ..building.dataset import FederatedDataset


def run(argv: Sequence[str]) -> int:
    """Check a federated dataset, and list the first rows with problems.

    Every row is read once and every distinct image is decoded once. The command
    checks files, split names and columns; texts, answers, boxes and images; that
    ids are unique, no row is in two splits, and no client has an image of test or
    validation; and the counts, partitions and contents given in manifest.json.

    The exit status is 1 if there is any problem, and 2 if the dataset cannot be
    read.

    examples:
      A folder that `fedvlm build` wrote:
        fedvlm check out/fed-slake
      A dataset on the Hub, or a DatasetDict that was saved to disk:
        fedvlm check fedvlmbench/fed-slake
    """
    parser = OneLineParser("fedvlm check", description=dedented(run.__doc__), formatter_class=HelpFormatter)
    parser.add_argument("dataset", help="Folder, or name of a dataset on the Hub.")
    parser.add_argument("--num_workers", type=int, help="Number of worker processes; one per CPU core by default.")
    arguments = parser.parse_args(argv)
    # Slow imports are here, so that `fedvlm --help` does not wait for them
    from ..building.checking.check import check_federation
    from ..building.checking.findings import failed
    from ..building.work import Work, default_workers

    federation = open_federation(arguments.dataset)
    checks = check_federation(federation, Work(num_workers=arguments.num_workers or default_workers()))
    print(f"{federation.name}: {len(federation.configs)} configurations, {', '.join(federation.configs)}")
    print("\n".join(map(str, checks)))
    wrong = failed(checks)
    if wrong:
        found = f"{federation.name} fails {len(wrong)} of {len(checks)} checks: {', '.join(wrong)}."
        print(f"fedvlm check: error: {found}", file=sys.stderr)
    return 1 if wrong else 0


def open_federation(name: str) -> "FederatedDataset":
    """Open a federated dataset by the name that the user gave.

    Args:
        name (`str`):
            A folder in the Hub's layout, a folder that `DatasetDict.save_to_disk` wrote, or a dataset on the Hub.

    Raises:
        `ValueError`: if it is none of these.
    """
    from ..building.dataset import from_splits, read_folder

    if (Path(name) / "dataset_dict.json").exists():
        from ..launch import load_federation

        return from_splits(name, {"default": load_federation(name)})
    if Path(name).exists():
        return read_folder(name)
    return _hub_federation(name)


def _hub_federation(name: str) -> "FederatedDataset":
    """Download the original files, because `load_dataset` keeps copies in Arrow's format without the manifest."""
    from huggingface_hub import snapshot_download

    from ..building.dataset import read_folder
    from ..repository.requests import check_on_hub, plain_errors

    check_on_hub("dataset", name, "dataset")
    with plain_errors(name):
        folder = snapshot_download(name, repo_type="dataset")
    federation = read_folder(folder)
    federation.name = name
    return federation
