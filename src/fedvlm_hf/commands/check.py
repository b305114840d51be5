"""`fedvlm check`."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import HelpFormatter, dedented


if TYPE_CHECKING:
    from ..building.dataset import FederatedDataset


def run(argv: Sequence[str]) -> None:
    """Verify a federated dataset, and name the first rows where it is wrong.

    Every row is read once and every different image decoded once. Looked at are
    the files, split names and columns; texts, answers, boxes and images; that no
    id comes twice, no row is in two splits, and no image of test or validation is
    a client's; and the counts and partitions that manifest.json names.

    The exit status is 1 where anything is wrong.

    examples:
      A folder that `fedvlm build` wrote:
        fedvlm check out/fed-slake
      A dataset on the Hub, or a DatasetDict that was saved to disk:
        fedvlm check fedvlmbench/fed-slake
    """
    parser = ArgumentParser("fedvlm check", description=dedented(run.__doc__), formatter_class=HelpFormatter)
    parser.add_argument("dataset", help="Folder, or name of a dataset on the Hub.")
    parser.add_argument("--num_workers", type=int, help="Processes; by default one a core.")
    arguments = parser.parse_args(argv)
    # Imports that take seconds are here, so that `fedvlm --help` does not wait for them
    from ..building.checking.check import check_federation
    from ..building.checking.findings import failed
    from ..building.work import Work, default_workers

    federation = open_federation(arguments.dataset)
    checks = check_federation(federation, Work(num_workers=arguments.num_workers or default_workers()))
    print(f"{federation.name}: {len(federation.configs)} configurations, {', '.join(federation.configs)}")
    print("\n".join(map(str, checks)))
    wrong = failed(checks)
    if wrong:
        raise ValueError(f"{federation.name} fails {len(wrong)} of {len(checks)} checks: {', '.join(wrong)}.")


def open_federation(name: str) -> "FederatedDataset":
    """A federated dataset by what a user calls it.

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
    """Downloads the files themselves: what `load_dataset` keeps is a copy in Arrow's format, without the manifest."""
    from huggingface_hub import snapshot_download

    from ..building.dataset import read_folder

    try:
        folder = snapshot_download(name, repo_type="dataset")
    except (ValueError, OSError) as error:
        raise ValueError(
            f"`dataset`: there is no folder {name}, and it cannot be loaded from the Hub ({error})."
        ) from error
    federation = read_folder(folder)
    federation.name = name
    return federation
