"""A dataset of a few drawn images, for tests of the code that all builders share."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image, ImageDraw

from fedvlm_hf.building.builders.base import Builder, Example, Partition, Source
from fedvlm_hf.building.images import ImageFile
from fedvlm_hf.building.templates import chat
from fedvlm_hf.building.work import Work


LABELS = ("cat", "dog")


@dataclass(frozen=True)
class ToyBuilder(Builder):
    """Questions about drawn images, with clients by label, or by turns."""

    num_turns: int = field(default=2, metadata={"help": "Clients of `turns`."})

    title: ClassVar[str] = "Toy"
    summary: ClassVar[str] = "Drawn images of cats and dogs."
    layout: ClassVar[str] = "rows.json\nimages/<name>.png"
    sources: ClassVar[tuple[Source, ...]] = (
        Source("Drawings", "https://example.org/drawings", "CC0 1.0 (ours)", "None.", "Nobody, 2024."),
    )
    licence: ClassVar[str] = "cc0-1.0"
    rules: ClassVar[tuple[str, ...]] = ("One client per label [ours].",)
    limits: ClassVar[tuple[str, ...]] = ("They are not photographs.",)
    templates: ClassVar[tuple[str, ...]] = ("vqa",)
    paper_counts: ClassVar[dict[str, int]] = {"vqa": 1234}
    partition_column: ClassVar[str] = "label"

    def read(self, raw: Path, work: Work) -> list[Example]:
        """Return the rows of rows.json that have an answer."""
        rows = json.loads(work.source(raw / "rows.json").read_text())
        kept = [row for row in rows if row["answer"]]
        work.counts.read("rows of rows.json", len(rows))
        work.counts.exclude("rows without an answer", len(rows) - len(kept), "nothing to learn")
        return [self._example(row, raw) for row in kept]

    def _example(self, row: dict[str, Any], raw: Path) -> Example:
        task = row.get("task", "vqa")
        fields = {"expression": row["question"]} if task == "grounding" else {"question": row["question"]}
        return Example(
            id=row["id"],
            image=ImageFile(row["image"], raw / row["image"]),
            split=row["split"],
            **chat(task, row["answer"], self.wording, **fields),
            task=task,
            references=(row["answer"],),
            columns={"label": row["label"], "subset": row.get("subset")},
        )

    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """Return `labels` and `turns`, with the same held-out rows."""
        by_label = [f"client_{LABELS.index(e.columns['label']):02d}" for e in examples]
        in_turn = [f"client_{place % self.num_turns:02d}" for place in range(len(examples))]
        names = {"client_00": "cat", "client_01": "dog"}
        return [
            self._partition("labels", "One client per label.", examples, by_label, names),
            self._partition("turns", "Rows by turns.", examples, in_turn, {}),
        ]

    def _partition(
        self, name: str, rule: str, examples: Sequence[Example], clients: list[str], names: dict[str, str]
    ) -> Partition:
        is_held_out = [example.split != "train" for example in examples]
        splits = [e.split if held else client for e, held, client in zip(examples, is_held_out, clients, strict=True)]
        ids = [client if held else None for held, client in zip(is_held_out, clients, strict=True)]
        return Partition(name, rule, tuple(splits), tuple(ids), names)


@dataclass(frozen=True)
class OwnLayout(ToyBuilder):
    """The same rows with another test set in `turns`, so that configurations share no file."""

    def partitions(self, examples: Sequence[Example]) -> list[Partition]:
        """Return `labels` as above; in `turns` the last training image is held out in place of the test rows."""
        labels, turns = super().partitions(examples)
        last = [e.image.key for e in examples if e.split == "train"][-1]
        clients = [f"client_{place % self.num_turns:02d}" for place in range(len(examples))]
        splits = ["test" if e.image.key == last else c for e, c in zip(examples, clients, strict=True)]
        ids = [c if s == "test" else None for c, s in zip(clients, splits, strict=True)]
        return [labels, Partition("turns", turns.rule, tuple(splits), tuple(ids))]


@dataclass(frozen=True)
class Restricted(ToyBuilder):
    """The same with a source whose rows may not be redistributed."""

    sources: ClassVar[tuple[Source, ...]] = (
        *ToyBuilder.sources,
        Source("Secret X-rays", "https://example.org/x", "by agreement", "Sign.", "A, 2020.", is_restricted=True),
    )
    public_columns: ClassVar[tuple[str, ...]] = ("label",)


def toy_rows(num_images: int = 8, rows_per_image: int = 2) -> list[dict[str, Any]]:
    """Return rows of `num_images` images: labels alternate, the last two images are validation and test."""
    rows = []
    for image in range(num_images):
        split = {num_images - 2: "validation", num_images - 1: "test"}.get(image, "train")
        for question in range(rows_per_image):
            rows.append(
                {
                    "id": f"toy-{image}-{question}",
                    "image": f"images/{image}.png",
                    "split": split,
                    "question": f"Question {question} on image {image}?",
                    "answer": f"answer {question}",
                    "label": LABELS[image % 2],
                }
            )
    return rows


def draw(number: int, size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Draw an image that differs for every number."""
    image = Image.new("RGB", size, (number * 37 % 256, number * 91 % 256, 255 - number % 256))
    ImageDraw.Draw(image).rectangle((4, 4, 8 + number % 16, 12), fill=(255, 255, 255))
    return image


def write_toy(folder: Path, rows: list[dict[str, Any]] | None = None, size: tuple[int, int] = (48, 32)) -> Path:
    """Write `rows.json` and an image for each name in it."""
    rows = toy_rows() if rows is None else rows
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "rows.json").write_text(json.dumps(rows))
    for number, name in enumerate(dict.fromkeys(row["image"] for row in rows)):
        draw(number, size).save(folder / name)
    return folder
