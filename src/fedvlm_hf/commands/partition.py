"""`fedvlm partition`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..launch.errors import OneLineParser
from . import HelpFormatter, dedented
from .check import open_federation
from .option_parser import OptionParser


@dataclass
class OutArguments:
    """
    The destination of a dataset.

    Parameters:
        out (`str`):
            Folder to write.
        rebuild (`bool`, *optional*, defaults to `False`):
            Replace a build of other data or with other options.
    """

    out: str = field(metadata={"help": "Folder to write."})
    rebuild: bool = field(
        default=False,
        metadata={
            "help": "Replace a build in --out that was made from other data or with other options. It stays until the "
            "new one is complete."
        },
    )


def run(argv: Sequence[str]) -> None:
    r"""Show how a federated dataset is partitioned, or divide a dataset into clients.

    For a federated dataset, prints the labels, tasks and modalities of each client,
    sizes, distances from the pool and shared images, and writes PNG and Markdown.

    With --from, a dataset on the Hub or your own files become a federated dataset:
    `fedvlm partition --from DATASET --help` lists the options.

    examples:
      The partition of a folder that `fedvlm build` wrote:
        fedvlm partition out/fed-slake --config noniid
      A dataset on the Hub, divided into clients in three ways:
        fedvlm partition --from org/dataset --by modality --iid --num_clients 3 \
            --dirichlet 0.1 --label modality --out out/fed-dataset
    """
    if any(argument.split("=")[0] == "--from" for argument in argv):
        _from_dataset(argv)
    else:
        _report(argv)


def _report(argv: Sequence[str]) -> None:
    parser = OneLineParser("fedvlm partition", description=dedented(run.__doc__), formatter_class=HelpFormatter)
    parser.add_argument("dataset", help="Folder, or name of a federated dataset on the Hub.")
    parser.add_argument("--config", help="The configuration; all configurations by default.")
    parser.add_argument("--by", help="Column to compare clients by. Default: the one in the manifest, or task.")
    parser.add_argument("--out", help="Folder for figures and pages; report/ in the dataset's folder by default.")
    arguments = parser.parse_args(argv)
    # Slow imports are in the functions, so that `fedvlm --help` does not wait for them
    from ..building.report.pages import read_report, report_text, write_report

    federation = open_federation(arguments.dataset)
    if arguments.out is None and not Path(arguments.dataset).is_dir():
        raise ValueError(f"`--out` is required, because {arguments.dataset} is not a folder to write the report to.")
    out = Path(arguments.out or Path(arguments.dataset) / "report")
    for config in [arguments.config] if arguments.config else federation.configs:
        report = read_report(federation, config, arguments.by)
        page = write_report(report, out)
        print(f"{report_text(report)}\nWritten to {page}, with the figure {page.with_suffix('.png')}")


def _from_dataset(argv: Sequence[str]) -> None:
    """Divide a dataset without clients into clients.

    fedvlm partition --from DATASET --out DIR [OPTIONS]

    DATASET is a dataset on the Hub, a folder of `save_to_disk`, or a file or folder
    in one of the forms that `fedvlm build custom --help` lists.

    --by, --dirichlet and --iid define clients; each of them adds a configuration.
    Rows with prompt and completion, with messages, or with LLaVA's conversations
    need no options; otherwise set the columns with --question and --answer. The
    splits test and validation of the source are kept; without a split test, a share
    of the images is held out. Training rows whose image is held out are left out.
    """
    from ..building.builders.from_dataset import FromDataset
    from ..building.report.pages import add_partition_reports
    from ..building.writing.build import build_dataset
    from ..building.writing.card import summary
    from ..building.writing.options import WriteOptions

    parser = OptionParser(
        OutArguments,
        FromDataset,
        WriteOptions,
        prog="fedvlm partition",
        description=dedented(_from_dataset.__doc__),
        formatter_class=HelpFormatter,
    )
    folder, builder, options = parser.parse_into_dataclasses(argv)
    path = Path(builder.dataset)
    raw = path.parent if path.is_file() else path
    out = build_dataset(builder, raw, folder.out, options, folder.rebuild, notify=print)
    add_partition_reports(out)
    print(summary(builder, json.loads((out / "manifest.json").read_text(encoding="utf-8")), out))
