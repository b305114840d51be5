"""Write the cards of this folder again: from the builders, and the manifest of a build where one lies beside them.

python hub_datasets/cards.py
"""

import json
from pathlib import Path

from fedvlm_hf.building.builders.base import BUILDERS
from fedvlm_hf.building.writing.card import card


ROOT = Path(__file__).parent


def cards() -> dict[Path, str]:
    """Each dataset's `README.md` and what it should hold."""
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
