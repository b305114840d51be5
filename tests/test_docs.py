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
NOT_RUN = {"hospital": 1, "scores": 0, "errors": 1}
"""Number of blocks of each page that cannot run here."""

SMALL = {
    "llava-hf/llava-1.5-7b-hf --dtype bfloat16": "tiny --use_cpu true --report_to none --num_threads 1",
    "llava-hf/llava-1.5-7b-hf": "tiny --num_threads 1",
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


def small(content: str) -> str:
    for text, replacement in SMALL.items():
        content = content.replace(text, replacement)
    return content


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
        content = small(content)
        if language == "python":
            exec(compile(content, f"{name}.md", "exec"), {"__name__": f"docs_{name}"})
            continue
        assert language == "bash"
        for words in commands(content):
            assert run(words) == 0, shlex.join(words)
    left = {"hospital": ["merged/model.safetensors", "out/hospitals/report/samples.png"],
            "scores": ["scores.json", "comparison/index.html", "comparison/learning_curves.png"]}  # fmt: skip
    assert [path for path in left[name] if not (folder / path).is_file()] == []


def write_mistakes() -> None:
    """Write the folders that the page of errors starts from: each has one mistake."""
    for name, change in {
        "no-image": {"image": "images/7.png"},
        "no-answer": {"answer": ""},
        "placeholder": {"question": "In <image>, is there an effusion?"},
        "columns": {},
    }.items():
        rows = []
        for index in range(10):
            write_image(Path(f"mistakes/{name}/images/{index + 10}.png"), 20 * index)
            rows.append({"image": f"images/{index + 10}.png", "question": "Is it there?", "answer": "yes"})
        rows[3] |= change
        if name == "columns":
            rows = [{"file": row["image"], "frage": row["question"], "answer": row["answer"]} for row in rows]
        write_csv(Path(f"mistakes/{name}/north.csv"), rows)
    data = tiny_federation({"client_00": 4, "client_01": 3}, test_rows=2)
    renamed = {name: rows.rename_column("prompt", "question") for name, rows in data.items()}
    datasets.DatasetDict(renamed).save_to_disk("mistakes/no-prompt")
    datasets.DatasetDict(train=data["client_00"], test=data["test"]).save_to_disk("mistakes/no-clients")
    data["test"] = data["test"].remove_columns("client_id")
    data.save_to_disk("mistakes/no-client-id")


def refusal(words: list[str], monkeypatch, capsys) -> str:
    """Return the message with which a command is refused. Words such as `NAME=1` before it set variables."""
    capsys.readouterr()
    with monkeypatch.context() as patch:
        while "=" in words[0]:
            assert words.pop(0) == "HF_HUB_OFFLINE=1"
            patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        try:
            assert run(words) != 0, shlex.join(words)
        except (ValueError, OSError) as error:
            return str(error)
    return capsys.readouterr().err


@pytest.mark.timeout(900)
def test_each_error_of_the_page_is_the_real_one(folder, monkeypatch, capsys):
    """The last command of a block is refused with the message in the block below, and the others succeed."""
    write_mistakes()
    found = blocks("errors")
    shown = [block for block in found if not block[0]]
    assert [language for _, language, _ in shown] == ["bash", "text"] * (len(shown) // 2)
    for (_, _, block), (_, _, message) in zip(shown[::2], shown[1::2], strict=True):
        if "there is no accelerator" in message and torch.accelerator.is_available():
            continue
        *first, last = commands(small(block))
        for words in first:
            assert run(words) == 0, shlex.join(words)
        pattern = ".*".join(re.escape(" ".join(part.split())) for part in message.split("..."))
        printed = " ".join(refusal(last, monkeypatch, capsys).split())
        assert re.search(pattern, printed), f"{message}\n{printed}"


@pytest.mark.parametrize("name", NOT_RUN)
def test_few_blocks_are_not_run(name):
    assert len([mark for mark, _, _ in blocks(name) if mark]) == NOT_RUN[name]


def test_the_table_of_tasks_is_what_is_scored():
    rows = re.findall(r"^\| `(\w+)` \| (`.*`) \| `(\w+)` \|$", page("scores"), flags=re.MULTILINE)
    assert {task: primary for task, _, primary in rows} == PRIMARY
    for task, metrics, _ in rows:
        answers = ["[0.1, 0.1, 0.5, 0.5]"] * 2
        assert sorted(re.findall(r"`(\w+)`", metrics)) == sorted(score(task, answers, [[text] for text in answers]))


@pytest.mark.parametrize("name", NOT_RUN)
def test_links_lead_to_pages_and_headings(name):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page(name)):
        path = (ROOT / "docs" / target) if target else ROOT / "docs" / f"{name}.md"
        assert path.exists(), target
        headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, anchor
