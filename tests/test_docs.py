"""The pages in docs/ that a new user follows: their commands run in order, and their tables are what the code does.

Commands run as they stand except for the size: a tiny model takes the place of the named one, and a run is one step on
the CPU. A block below `<!-- not run: reason -->` is not run.
"""

import importlib.util
import re
import shlex
from pathlib import Path

import datasets
import pytest
import torch

from fedvlm_hf.cli import main
from fedvlm_hf.metrics import PRIMARY, score
from raw_custom import write_csv, write_image
from tiny import save_tiny, tiny_federation


ROOT = Path(__file__).parents[1]
PAGES = ("hospital", "scores")
MAX_NOT_RUN = 1
"""Number of blocks in all pages that cannot run here."""

SMALL = {
    "llava-hf/llava-1.5-7b-hf --dtype bfloat16": "tiny --use_cpu true --bf16 false --report_to none --num_threads 1",
    "--num_rounds 10": "--num_rounds 1 --max_steps 1",
}


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def blocks(name: str) -> list[tuple[str, str, str]]:
    """Return the mark, the language and the content of each fenced block."""
    found = re.findall(
        r"(?:<!-- (not run: .+?) -->\n)?^```(\w+)\n(.*?)^```", page(name), flags=re.DOTALL | re.MULTILINE
    )
    assert len(found) == len(re.findall("^```", page(name), flags=re.MULTILINE)) / 2
    return found


def commands(block: str) -> list[list[str]]:
    """Return the words of each command of a block."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def run(words: list[str]) -> int:
    """Run `fedvlm ...` or `accelerate launch recipes/....py ...` in this process."""
    if words[0] == "fedvlm":
        return main(words[1:])
    assert words[:2] == ["accelerate", "launch"], f"the test does not know how to run {words}"
    spec = importlib.util.spec_from_file_location("recipe_of_a_page", ROOT / words[2])
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    recipe.main(words[3:])
    return 0


def write_hospitals() -> None:
    for number, site in enumerate(("north", "south")):
        rows = []
        for index in range(10):
            write_image(Path(f"hospitals/images/{site}-{index}.png"), 20 * index + number)
            answer = "yes" if index % 2 else "no"
            rows.append({"image": f"images/{site}-{index}.png", "question": "Is there an effusion?", "answer": answer})
        write_csv(Path(f"hospitals/{site}.csv"), rows)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory of a reader: the files that the pages start from, and a tiny model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    save_tiny("tiny")
    write_hospitals()
    tiny_federation({"client_00": 4, "client_01": 3}, test_rows=2).save_to_disk("data/fed")
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PAGES)
def test_every_block_of_a_page_runs_in_order(folder, name):
    for mark, language, content in blocks(name):
        if mark:
            continue
        for text, small in SMALL.items():
            content = content.replace(text, small)
        if language == "python":
            exec(compile(content, f"{name}.md", "exec"), {"__name__": f"docs_{name}"})
            continue
        assert language == "bash"
        for words in commands(content):
            assert run(words) == 0, shlex.join(words)
    left = {"hospital": ["merged/model.safetensors", "out/hospitals/report/samples.png"],
            "scores": ["scores.json", "comparison/index.html", "comparison/learning_curves.png"]}  # fmt: skip
    assert [path for path in left[name] if not (folder / path).is_file()] == []


def test_few_blocks_are_not_run():
    marked = [mark for name in PAGES for mark, _, _ in blocks(name) if mark]
    assert len(marked) == MAX_NOT_RUN


def test_the_table_of_tasks_is_what_is_scored():
    rows = re.findall(r"^\| `(\w+)` \| (`.*`) \| `(\w+)` \|$", page("scores"), flags=re.MULTILINE)
    assert {task: primary for task, _, primary in rows} == PRIMARY
    for task, metrics, _ in rows:
        answers = ["[0.1, 0.1, 0.5, 0.5]"] * 2
        assert sorted(re.findall(r"`(\w+)`", metrics)) == sorted(score(task, answers, [[text] for text in answers]))


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_pages_and_headings(name):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page(name)):
        path = (ROOT / "docs" / target) if target else ROOT / "docs" / f"{name}.md"
        assert path.exists(), target
        headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, anchor
