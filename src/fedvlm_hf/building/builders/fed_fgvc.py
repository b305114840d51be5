"""Fed-FGVC: classify aircraft by manufacturer, with one client per manufacturer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import ClassVar

from ..leaks import without_shared_images
from ..partitions.assemble import assemble, to_example_indices, train_rows
from ..partitions.by_column import by_column
from ..partitions.dirichlet import draw_dirichlet
from ..partitions.iid import iid_by_label
from ..readers import fgvc
from ..templates import chat
from ..work import Work
from .base import BUILDERS, Builder, Example, Partition, Source, column


ALPHAS = (0.05, 0.1, 0.5, 1)
"""The coefficients of the Dirichlet configurations."""

_MERGED = {"noniid": 1, "noniid-10": 3, "noniid-5": 6}
"""For each configuration by manufacturer, the number of manufacturers per client."""

_EVEN = {"iid": 1, "iid-10": 3}
"""For each even configuration, the number of manufacturers divided by the number of clients."""

_DIRICHLET = "rows of each manufacturer divided by shares from a Dirichlet distribution with alpha "


@BUILDERS.register("fed_fgvc")
@dataclass(frozen=True)
class FedFGVC(Builder):
    """Fed-FGVC. It has only the options that all datasets have."""

    title: ClassVar[str] = "Fed-FGVC"
    summary: ClassVar[str] = (
        "Naming the manufacturer of the aircraft in a photograph of FGVC-Aircraft, up to 30 clients by manufacturer."
    )
    layout: ClassVar[str] = """\
fgvc-aircraft-2013b/               --raw is this folder, or its data/
  data/manufacturers.txt
  data/images_manufacturer_train.txt
  data/images_manufacturer_val.txt
  data/images_manufacturer_test.txt
  data/images/<7 digits>.jpg"""
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            name="FGVC-Aircraft 2013b",
            url="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz (2.75 GB)",
            licence="Images exclusively for non-commercial research, copyright of the photographers, according to the "
            "official README",
            terms="Nothing to sign; any other use needs permission of the photographers. Consider this before a "
            "public push.",
            citation="Maji et al., Fine-Grained Visual Classification of Aircraft, 2013, "
            "https://huggingface.co/papers/1306.5151",
        ),
    )
    licence: ClassVar[str] = "other"
    rules: ClassVar[tuple[str, ...]] = (
        "The answer is the manufacturer [paper: the key attribute, 30 categories].",
        "The copyright banner, 20 pixels at the bottom of each image, is cropped [official README]; the rest is "
        "stored as JPEG of quality 95 [ours].",
        "The official train, val and test splits become the rows of the clients, `validation` and `test` [ours].",
        "If an image, compared by pixels, is in two splits, its rows in the earlier split are left out, in the order "
        "training, validation, test [ours].",
        "`noniid`: one client per manufacturer, 30 clients [paper]. `noniid-10` and `noniid-5`: three [paper] and six "
        "[code: 5 clients] neighbouring manufacturers of the sorted list are merged [ours]. With n instead of 30 "
        "manufacturers there are n, n / 3 and n / 6 clients, rounded up.",
        "`iid` and `iid-10`: as many clients as `noniid` and `noniid-10`; the rows of every manufacturer are spread "
        "evenly [paper: evenly], drawn with the seed [ours].",
        "`dirichlet-0.05`, `-0.1`, `-0.5`, `-1`: as many clients as `noniid`; the rows of each manufacturer are "
        "divided by shares drawn from a Dirichlet distribution with this coefficient. The paper has four coefficients "
        "and does not give their values [ours]. A draw that leaves a client without rows is repeated with the seed "
        "plus 1,000,003.",
        "The `client_id` of a validation or test row is a client whose training rows have the same manufacturer, in "
        "proportion to the clients' shares of these rows [ours].",
    )
    limits: ClassVar[tuple[str, ...]] = (
        "Table 2 of the paper has 9,967 rows, 33 fewer than the 10,000 of the archive (from memory, not counted). The "
        "paper does not say which ones are missing. Neither leaving out whole variants, which have 100 images each "
        "(from memory), nor leaving out a split gives this number, and as a prime it is not a number of equal "
        "clients. Leaving out one split of one variant (33 or 34 images) could, and so could 33 images that are "
        "unreadable or equal: only the download can tell. No rule here tries to match it.",
        "Only a third of the photographs is used for training, since the official splits are kept. Clients have few "
        "rows, about 33 for the smallest manufacturers.",
        "In `noniid` each client has the same answer to all its questions, so it can be right without the image.",
        "The official README mentions 10,200 images and 41 manufacturers; the build uses what the files list.",
    )
    configs: ClassVar[dict[str, int]] = {
        "noniid": 30,
        "noniid-10": 10,
        "noniid-5": 5,
        "iid": 30,
        "iid-10": 10,
        **{f"dirichlet-{alpha}": 30 for alpha in ALPHAS},
    }
    templates: ClassVar[tuple[str, ...]] = ("classification",)
    paper_counts: ClassVar[dict[str, int]] = {"classification": 9967}
    partition_column: ClassVar[str] = "manufacturer"

    def read(self, raw: Path, work: Work) -> list[Example]:
        """Return the photographs in the order of the files: training, validation, test."""
        photographs = fgvc.read(raw)
        for path in fgvc.annotation_files(raw):
            work.source(path)
        for split in fgvc.SPLITS.values():
            work.counts.read(f"{split} images", sum(photograph.given_split == split for photograph in photographs))
        work.counts.note(
            "manufacturers", len({photograph.manufacturer for photograph in photographs}), "the paper has 30"
        )
        return without_shared_images([self._example(photograph) for photograph in photographs], work)

    def _example(self, photograph: fgvc.Photograph) -> Example:
        name = photograph.manufacturer
        return Example(
            id=f"fgvc-{photograph.image_id}",
            image=photograph.image,
            split=photograph.given_split,
            **chat("classification", name, self.wording, attribute="manufacturer", subject="aircraft"),
            task="classification",
            references=(name,),
            columns={"manufacturer": name, "image_id": photograph.image_id},
        )

    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """Return the configurations by manufacturer, with merged manufacturers, even, and by Dirichlet shares."""
        train, names = train_rows(examples), column(examples, "manufacturer")
        labels = [names[row] for row in train]
        num_names = len(set(labels))

        def make(
            name: str, rule: str, clients: Sequence[Sequence[int]], client_names: Sequence[str] | None = None
        ) -> Partition:
            splits, indices = column(examples, "split"), to_example_indices(clients, train)
            return assemble(name, rule, splits, indices, names, client_names)

        found = []
        for name, size in _MERGED.items():
            clients, values = by_column(labels, ceil(num_names / size))
            rule = f"{len(clients)} clients with at most {size} neighbouring manufacturers of the sorted list each."
            found.append(make(name, rule, clients, [", ".join(value) for value in values]))
        for name, size in _EVEN.items():
            clients = iid_by_label(labels, ceil(num_names / size), self.seed)
            rule = f"{len(clients)} clients; the rows of every manufacturer are spread evenly."
            found.append(make(name, rule, clients))
        for alpha in ALPHAS:
            draw = draw_dirichlet(labels, num_names, alpha, self.seed)
            rule = f"{num_names} clients, {_DIRICHLET}{alpha}; draw {draw.num_draws}, with seed {draw.seed}."
            partition = make(f"dirichlet-{alpha}", rule, draw.clients)
            found.append(replace(partition, draw={"seed": draw.seed, "num_draws": draw.num_draws}))
        return found
