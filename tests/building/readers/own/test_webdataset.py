"""Tar files in the layout of WebDataset."""

import io
import json
import tarfile

import pytest

from fedvlm_hf.building.readers.own.sources import open_source
from fedvlm_hf.building.work import Work
from own_archives import png, write_tar


def read(path, work=None):
    (source,) = open_source(path, work or Work(raw=path.parent)).sources
    return list(source.rows())


def test_samples_are_members_with_the_same_name(tmp_path):
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    members = {
        "./a/0001.jpg": png(1),
        "./a/0001.json": json.dumps({"question": "Which?", "answer": "one", "note": None}),
        "a/0002.v2.png": b"no image",
        "b/0001.TXT": "a caption\n",
        "b/0001.PNG": png(2),
        "c.png": png(3),
        "c.cls": "dog",
        "d.png": png(4),
        "d.json": json.dumps({"messages": messages}),
        "d.txt": "unused",
        "d.cls": "7",
        "e.json": json.dumps({"answer": "no image"}),
        "f.png": png(5),
        "f.jpeg": png(6),
        "__MACOSX/._f.png": b"",
    }
    write_tar(tmp_path / "a.tar", {"a/": None, **members})
    work = Work(raw=tmp_path)
    rows = read(tmp_path / "a.tar", work)
    assert [row.name for row in rows] == ["a/0001", "a/0002", "b/0001", "c", "d", "e", "f"]
    assert [row.num_images for row in rows] == [1, 0, 1, 1, 1, 0, 2]
    assert [row.values for row in rows] == [
        {"question": "Which?", "answer": "one"},
        {},
        {"answer": "a caption"},
        {"label": "dog", "answer": "dog", "task": "classification"},
        {"messages": messages, "label": "7"},
        {"answer": "no image"},
        {},
    ]
    assert rows[0].image.key == "a.tar/./a/0001.jpg"
    assert rows[0].where == f"{tmp_path / 'a.tar'}, sample 'a/0001'"
    assert [row.image.load() for row in rows if row.image] == [png(1), png(2), png(3), png(4)]
    assert [(line["what"], line["count"]) for line in work.counts.lines] == [
        ("members .v2.png of a.tar that are not read", 1)
    ]


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"a.png": b"1", "b.png": b"2", "a.txt": b"c"}, r"a\.tar: the sample 'a' occurs twice"),
        ({"a.png": b"1", "b.png": b"2", "./a.txt": b"c"}, r"a\.tar: the sample 'a' occurs twice"),
        ({"a.png": b"1", "./a.png": b"2"}, r"a\.tar: the member '\./a\.png' occurs twice"),
        ({"a.json": b"{"}, r"a\.tar, a\.json: not complete JSON"),
        ({"a.json": b"[1]"}, r"a\.tar, a\.json: expected is an object, got a list"),
        ({"a.json": b"[" * 100_000}, r"a\.tar, a\.json: .*nested too deep"),
        ({"a.txt": b"\xff"}, r"a\.tar, a\.txt is not text in UTF-8"),
        ({}, r"a\.tar has no samples"),
        ({"a/": None}, r"a\.tar has no samples"),
    ],
)
def test_broken_samples_are_named(tmp_path, members, problem):
    write_tar(tmp_path / "a.tar", members)
    with pytest.raises(ValueError, match=problem):
        read(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (tarfile.SYMTYPE, "'a.png' is a link"),
        (tarfile.LNKTYPE, "'a.png' is a link"),
        (tarfile.FIFOTYPE, "'a.png' is not a plain file"),
        (tarfile.CHRTYPE, "'a.png' is not a plain file"),
    ],
)
def test_links_and_devices_are_refused(tmp_path, kind, problem):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("a.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(ValueError, match=rf"a\.tar: the member {problem}"):
        read(tmp_path / "a.tar")


def test_every_cut_is_found(tmp_path):
    write_tar(tmp_path / "whole.tar", {f"{index}.txt": b"x" * 600 for index in range(3)})
    content = (tmp_path / "whole.tar").read_bytes()
    assert len(read(tmp_path / "whole.tar")) == 3
    for end in (0, 100, 512, 513, 1000, 1536, 2048, 2600, 4000, 4608):
        (tmp_path / "a.tar").write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"a\.tar is not a complete tar file"):
            read(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w:gz"), ("a.tar", "w:xz"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz")]
)
def test_compressed_tars_are_refused_with_the_remedy(tmp_path, name, mode):
    with tarfile.open(tmp_path / name, mode) as archive:
        member = tarfile.TarInfo("a.txt")
        archive.addfile(member, io.BytesIO())
    with pytest.raises(ValueError, match=rf"{name} is a compressed tar, .* Unpack it"):
        read(tmp_path / name)
    if name != "a.tar":
        with pytest.raises(ValueError, match=rf"{name} is a compressed tar, .* Unpack it"):
            read(tmp_path)


def test_members_do_not_pile_up_in_memory(tmp_path):
    write_tar(tmp_path / "a.tar", {f"{index:05d}.txt": "a" for index in range(3000)})
    assert len(read(tmp_path / "a.tar")) == 3000
