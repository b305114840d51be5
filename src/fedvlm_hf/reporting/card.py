"""The model card of a run: what was trained on what, how, how well, and how to load it."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import ModelCard

from ..callbacks import RoundCallback, RoundEnd
from ..files import write_atomic
from ..types import RoundRecord
from . import card_sections
from .card_data import card_data
from .run_info import RunInfo
from .runs import Run


TEMPLATE = "---\n{{ card_data }}\n---\n\n{{ text }}"


class CardCallback(RoundCallback):
    """Writes `README.md`, the model card, after each round, and `card.json`, from which it can be written again.

    Args:
        output_dir (`str` or `os.PathLike`):
            The run's folder; its name is the model's name.
        info (`RunInfo`):
            What the card says beside the scores.
    """

    def __init__(self, output_dir: str | os.PathLike[str], info: RunInfo):
        self.output_dir, self.info = Path(output_dir), info
        self._history: list[RoundRecord] = []

    def on_start(self, history: Sequence[RoundRecord], num_rounds: int) -> None:
        """Take up the rounds of a resumed run."""
        self._history = list(history)
        content = json.dumps(asdict(self.info), indent=2, default=str)
        write_atomic(self.output_dir / "card.json", f"{content}\n")

    def on_round_end(self, end: RoundEnd) -> None:
        """Write the card of the rounds so far."""
        self._history.append(end.record)
        self._write()

    def on_end(self, history: Sequence[RoundRecord]) -> None:
        """Write the card of the whole run."""
        self._history = list(history)
        self._write()

    def _write(self) -> None:
        card = model_card(self.info, self._history, self.output_dir.resolve().name)
        write_atomic(self.output_dir / "README.md", f"{card}\n")


def model_card(info: RunInfo, history: Sequence[RoundRecord], name: str, *, is_public: bool = False) -> ModelCard:
    """The card of a run, without any path or name of the machine that it ran on.

    Args:
        info (`RunInfo`):
            What the card says beside the scores. With a `hub_model_id` rounds are loaded from there.
        history (`Sequence[RoundRecord]`):
            The run's records, round 0 first.
        name (`str`):
            Name of the model.
        is_public (`bool`, *optional*, defaults to `False`):
            Whether it leaves the machine: then it shows no image of the evaluation rows.
    """
    run = Run(info.method, history)
    sections = {
        f"# {name}": card_sections.summary(info, run),
        "## Results": card_sections.results(run, is_public),
        "## Use": card_sections.usage(info, run, name),
        "## Training": card_sections.training(info, run),
        "## Limits": card_sections.limits(info),
        "## Reproduce": card_sections.reproduction(info),
    }
    text = "\n".join(f"{title}\n\n{section}" for title, section in sections.items())
    return ModelCard.from_template(card_data(info, history, name), template_str=TEMPLATE, text=text.rstrip())
