"""Fed-FGVC: who built the aircraft, a client a manufacturer."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import ClassVar

from ..leaks import without_shared_images
from ..partitions.assemble import assemble, lift, train_rows
from ..partitions.by_column import by_column
from ..partitions.dirichlet import dirichlet
from ..partitions.iid import iid_by_label
from ..readers import fgvc
from ..templates import chat
from ..work import Work
from .base import BUILDERS, Builder, Example, Partition, Source, column


ALPHAS = (0.05, 0.1, 0.5, 1)
"""Of the Dirichlet configurations."""

_MERGED = {"noniid": 1, "noniid-10": 3, "noniid-5": 6}
"""Configuration to manufacturers a client."""

_EVEN = {"iid": 1, "iid-10": 3}
"""Configuration to manufacturers for each client that there is."""

_DIRICHLET = "each manufacturer's rows in shares from a Dirichlet distribution with alpha "

_MAX_DRAWS, _NEXT_SEED = 1000, 1_000_003


@BUILDERS.register("fed_fgvc")
@dataclass(frozen=True)
class FedFGVC(Builder):
    """Fed-FGVC. Its only options are those of every dataset."""

    title: ClassVar[str] = "Fed-FGVC"
    summary: ClassVar[str] = (
        "Naming the manufacturer of the aircraft on a photograph of FGVC-Aircraft, up to 30 clients by manufacturer."
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
            licence="Images exclusively for non-commercial research, copyright with the photographers, as the "
            "official README says",
            terms="None to sign; for any other use the photographers must be asked. Think of this before a public "
            "push.",
            citation="Maji et al., Fine-Grained Visual Classification of Aircraft, 2013, "
            "https://huggingface.co/papers/1306.5151",
        ),
    )
    licence: ClassVar[str] = "other"
    rules: ClassVar[tuple[str, ...]] = (
        "The answer is the manufacturer [paper: the key attribute, 30 categories].",
        "The copyright banner, 20 pixels at the bottom of each image, is cropped [official README]; the rest is "
        "stored as JPEG of quality 95 [ours].",
        "Official train, val and test: clients' rows, `validation`, `test` [ours].",
        "Should an image, by its pixels, be in two parts, the rows of the earlier one are left out, training before "
        "validation before test [ours].",
        "`noniid`: a client a manufacturer, 30 [paper]. `noniid-10` and `noniid-5`: three [paper] and six [code: 5 "
        "clients] neighbouring manufacturers of the sorted list merged [ours]. Of n manufacturers, where it is not "
        "30: n clients, n / 3 and n / 6, rounded up.",
        "`iid` and `iid-10`: as many clients as `noniid` and `noniid-10`, each with its even share of every "
        "manufacturer's rows [paper: evenly], drawn with the seed [ours].",
        "`dirichlet-0.05`, `-0.1`, `-0.5`, `-1`: as many clients as `noniid`; each manufacturer's rows are spread in "
        "shares drawn from a Dirichlet distribution with that coefficient. The paper has four coefficients and does "
        "not say which [ours]. A draw that leaves a client without rows is drawn again from the seed plus 1,000,003.",
        "A validation or test row carries the `client_id` of a client whose training rows have its manufacturer, in "
        "proportion to the clients' shares of them [ours].",
    )
    limits: ClassVar[tuple[str, ...]] = (
        "Table 2 of the paper has 9,967 rows, 33 fewer than the 10,000 of the archive (recalled, not counted); which "
        "ones are missing is not said, and no rule here aims at them.",
        "A third of the photographs trains, since the official parts are kept: clients hold few rows, the smallest "
        "manufacturers about 33.",
        "In `noniid` a client has one answer to all its questions: it can be right without looking.",
        "The official README speaks of 10,200 images and 41 manufacturers; what is built is what its files list.",
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
        """The photographs in the files' order: training, validation, test."""
        photographs = fgvc.read(raw)
        for path in fgvc.annotation_files(raw):
            work.source(path)
        for split in fgvc.SPLITS.values():
            work.tally.read(f"{split} images", sum(photograph.given_split == split for photograph in photographs))
        work.tally.note(
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
        """By manufacturer, merged, evenly, and four Dirichlet ones."""
        train, names = train_rows(examples), column(examples, "manufacturer")
        labels = [names[row] for row in train]
        num_names = len(set(labels))

        def place(
            name: str, rule: str, clients: Sequence[Sequence[int]], told: Sequence[str] | None = None
        ) -> Partition:
            return assemble(name, rule, column(examples, "split"), lift(clients, train), names, told)

        found = []
        for name, size in _MERGED.items():
            clients, values = by_column(labels, ceil(num_names / size))
            rule = f"{len(clients)} clients, at most {size} of the sorted manufacturers each."
            found.append(place(name, rule, clients, [", ".join(value) for value in values]))
        for name, size in _EVEN.items():
            clients = iid_by_label(labels, ceil(num_names / size), self.seed)
            found.append(place(name, f"{len(clients)} clients, every manufacturer's rows spread evenly.", clients))
        for alpha in ALPHAS:
            clients, draw = _drawn(labels, num_names, alpha, self.seed)
            found.append(place(f"dirichlet-{alpha}", f"{len(clients)} clients, {_DIRICHLET}{alpha}; {draw}.", clients))
        return found


def _drawn(labels: Sequence[str], num_clients: int, alpha: float, seed: int) -> tuple[list[list[int]], str]:
    """The first draw that leaves no client without rows, and which one it is."""
    for draw in range(_MAX_DRAWS):
        drawn_with = seed + draw * _NEXT_SEED
        try:
            return dirichlet(labels, num_clients, alpha, drawn_with), f"draw {draw + 1}, of seed {drawn_with}"
        except ValueError as error:
            last = error
    raise ValueError(
        f"dirichlet-{alpha}: each of {_MAX_DRAWS} draws from `seed={seed}` on leaves a client without rows; there are "
        f"{len(labels)} training rows for {num_clients} clients. Is the download whole? Another `seed` may do."
    ) from last
