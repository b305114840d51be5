"""`fedvlm report`: runs are compared only if they had the same data, and the page needs nothing else."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedvlm_hf.cli import main
from fedvlm_hf.commands import report
from records import HISTORY, record, write_run


def write(folder: Path, method: str, history=HISTORY, clients=None, evaluations=None, **config) -> str:
    """Write a run with what the comparison reads of it."""
    write_run(folder, method, history)
    path = folder / "run.json"
    run = json.loads(path.read_text())
    run |= {
        "base_model": "/home/somebody/models/base",
        "clients": {"a": "1", "b": "2"} if clients is None else clients,
        "evaluations": {"test": "3"} if evaluations is None else evaluations,
        "config": {"seed": 1, "learning_rate": 0.1, "output_dir": "x", "logging_dir": "/home/somebody/logs", **config},
    }
    path.write_text(json.dumps(run))
    return str(folder)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.text += " " if tag in ("td", "th") else ""

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def compared(tmp_path, capsys) -> tuple[Page, str, Path]:
    runs = [
        write(tmp_path / "one", "fedavg"),
        write(tmp_path / "two", "central", [record(0, 0.5), record(3, 1.0, 0.5, losses=(2.0,))], learning_rate=0.2),
    ]
    assert main(["report", *runs, "--output_dir", str(tmp_path / "comparison")]) == 0
    html = (tmp_path / "comparison" / "index.html").read_text()
    return Page(html), capsys.readouterr().out, tmp_path / "comparison"


def test_scores_are_side_by_side(compared):
    """fedavg ends at 0.75, central at 1.0: 75 %. At round 0 both had 0.5."""
    page, printed, folder = compared
    (line,) = re.findall(r"^\| vqa +\| accuracy .*$", printed, flags=re.MULTILINE)
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "vqa",
        "accuracy",
        "0.500",
        "0.750",
        "1.000",
        "75%",
    ]
    assert (folder / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "learning_curves.png"]
    for text in ("0.750", "1.000", "75%", "What differs", "learning_rate", "Clients, evaluation set test"):
        assert text in page.text


def test_only_what_differs_is_listed(compared):
    page, _, _ = compared
    listed = page.text[page.text.index("What differs") : page.text.index("mean client loss")]
    assert "learning_rate" in listed
    assert "base_model" not in listed
    assert "output_dir" not in listed
    assert "somebody" not in page.text


def test_the_runs_are_named_with_their_length_and_traffic(compared):
    """Three records of 4.5 s are 0.2 minutes; two clients in two rounds receive 1 MB each and send 2 MB."""
    page, _, _ = compared
    start = page.text[: page.text.index("Evaluation set")].split()
    assert start[start.index("fedavg") :][:7] == ["fedavg", "one", "base", "2", "0.2", "4.00", "8.00"]
    assert start[start.index("central") :][:7] == ["central", "two", "base", "3", "0.1", "1.00", "2.00"]


def test_the_page_loads_nothing(compared):
    """Images are part of the page, and there are neither scripts nor links."""
    page, _, _ = compared
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "a"} == set()
    images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 1
    assert images[0].startswith("data:image/png;base64,")
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_names_are_text_and_never_tags(tmp_path):
    """A run, or a Hub repository, is written by others."""
    evil = "<script>alert(1)</script>"
    history = [record(0, 0.5), record(1, 0.75)]
    for line in history:
        line.evaluations["test"].clients[evil] = {"vqa_accuracy": 0.5}
    runs = [write(tmp_path / name, f"{name} {evil}", history, {evil: "1"}) for name in ("one", "two")]
    report.run([*runs, "--output_dir", str(tmp_path / "comparison")])
    page = Page((tmp_path / "comparison" / "index.html").read_text())
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(evil) > 4


def test_runs_of_one_method_are_named_by_their_folders(tmp_path, capsys):
    (tmp_path / "x").mkdir()
    runs = [write(tmp_path / "one", "fedavg"), write(tmp_path / "x" / "one", "fedavg"), write(tmp_path / "c", "local")]
    report.run([*runs, "--output_dir", str(tmp_path / "comparison")])
    printed = capsys.readouterr().out
    for label in (f"fedavg ({tmp_path}/one)", f"fedavg ({tmp_path}/x/one)", "| local"):
        assert label in printed
    report.run([runs[0], write(tmp_path / "two", "fedavg"), "--output_dir", str(tmp_path / "comparison")])
    printed = capsys.readouterr().out
    assert "**fedavg (one)**" in printed
    assert " fedavg (two)" in printed


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"clients": {"a": "1", "b": "9"}}, "training rows of client 'b': differs"),
        ({"clients": {"a": "1"}}, "training rows of client 'b': only in .*one"),
        ({"evaluations": {"test": "9"}}, "evaluation set 'test': differs"),
        ({"evaluations": {"test": "3", "extra": "4"}}, "evaluation set 'extra': only in .*two"),
        ({"clients": {str(number): "1" for number in range(8)}}, "; and 5 more"),
        ({"history": [record(0, None)]}, "two' was never evaluated"),
    ],
    ids=["other rows", "a client less", "other test rows", "one more set", "many", "no scores"],
)
def test_runs_that_cannot_be_compared_are_refused(tmp_path, other, reason):
    runs = [write(tmp_path / "one", "fedavg"), write(tmp_path / "two", "local", **other)]
    with pytest.raises(ValueError, match=reason):
        report.run([*runs, "--output_dir", str(tmp_path / "comparison")])
    assert not (tmp_path / "comparison").exists()


def test_a_run_without_the_names_of_its_clients_is_compared_in_either_order(tmp_path):
    """Its clients are numbered in the order of their names. Other rows under the same numbers are refused."""
    named = write(tmp_path / "one", "fedavg")
    numbered = write(tmp_path / "two", "local", clients={"client_00": "1", "client_01": "2"})
    report.run([named, numbered, "--output_dir", str(tmp_path / "comparison")])
    report.run([numbered, named, "--output_dir", str(tmp_path / "comparison")])
    other = write(tmp_path / "three", "local", clients={"client_00": "2", "client_01": "1"})
    with pytest.raises(ValueError, match=r"training rows of client 'a': only in .*one"):
        report.run([named, other, "--output_dir", str(tmp_path / "other")])


def test_wrong_arguments_are_refused(tmp_path):
    one, two = write(tmp_path / "one", "fedavg"), write(tmp_path / "two", "local")
    for runs in ([one], [one, one]):
        with pytest.raises(ValueError, match="two or more different runs"):
            report.run([*runs, "--output_dir", str(tmp_path / "comparison")])
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        report.run([one, two, "--output_dir", str(tmp_path / "file")])
    with pytest.raises(ValueError, match=r"holds no run|no metrics.jsonl"):
        report.run([one, str(tmp_path), "--output_dir", str(tmp_path / "comparison")])
