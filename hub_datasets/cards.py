"""Write the cards in this folder again, from the builders and from the manifest of a build if there is one.

python hub_datasets/cards.py
"""

import json
from pathlib import Path

from fedvlm_hf.building.builders.base import BUILDERS
from fedvlm_hf.building.writing.card import card


ROOT = Path(__file__).parent


def cards() -> dict[Path, str]:
    """Return the path and the text of the `README.md` of each dataset."""
    found = {}
    for folder in sorted(path.parent for path in ROOT.glob("*/build.py")):
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        found[folder / "README.md"] = card(BUILDERS.get(folder.name)(), manifest)
    return found


if __name__ == "__main__":
    for path, text in cards().items():
        path.write_text(text, encoding="utf-8")
        print(path)
