"""Bad and odd own data: each input is refused in words or accepted with a line that says so, and nothing else happens.

A case names what it writes, the message to expect, and the command. After each case no half of a dataset is left, and
the raw data are unchanged.
"""

import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedvlm_hf.cli import main
from hub_server import Fault, running
from raw_own import (
    HEADER,
    Write,
    all_rows,
    animated,
    both,
    box,
    chat,
    classes,
    coco,
    conversations,
    csv_line,
    csv_text,
    deep,
    encoded,
    encrypted_zip,
    file,
    files,
    good_zip,
    huge_png,
    huge_zip,
    image,
    json_lines,
    json_row,
    line,
    link,
    metadata,
    north,
    parquet,
    picture,
    roles,
    rotated,
    row,
    samples,
    stored,
    tar,
    texts,
    turns,
    zipped,
)
from waiting import DEADLINE, WAITS


CUSTOM = "build custom --raw raw --out out --num_workers 1 --validation_share 0 --configs noniid"
TABLE = "partition --from raw/north.csv --out out --num_workers 1"


@dataclass(frozen=True)
class Case:
    """What is written, what the command prints, and how it ends: 0 accepted, 1 failed a check, 2 refused."""

    name: str
    write: Write
    expected: str
    argv: str = CUSTOM
    status: int = 2


def accepted(name: str, write: Write, expected: str = "", argv: str = CUSTOM) -> Case:
    return Case(name, write, expected or r"10  rows kept", argv, status=0)


CSV = [
    Case("short line", csv_line("images/10.png,Why?"), r"south\.csv, line 7: 2 values for the 3 columns"),
    Case("comma outside of quotes", csv_line("images/10.png,Why, then?,no"), r"south\.csv, line 7: 4 values.*quotes"),
    Case("quote left open", csv_line('images/10.png,"Why?,no'), r"south\.csv, line 7: .*(end of|not closed)"),
    Case("text after a quote", csv_line('images/10.png,"Why"?,no'), r"south\.csv, line 7: .*CSV"),
    Case("duplicate column", file("south.csv", csv_text("a,b,c", header="image,answer,answer")),
         r"south\.csv, line 1: .*duplicate"),
    Case("unnamed column", file("south.csv", csv_text("a,b,c", header="image,,answer")),
         r"south\.csv, line 1: .*empty"),
    Case("empty table", file("south.csv", ""), r"south\.csv .*(no rows|empty)"),
    Case("header only", file("south.csv", csv_text()), r"south\.csv .*no rows"),
    Case("blank lines only", file("south.csv", "\n\n\n"), r"south\.csv"),
    Case("NUL byte", csv_line("images/10.png,Why\0?,no"), r"south\.csv, line 7.*NUL"),
    Case("Latin-1", file("south.csv", csv_text("images/10.png,Où?,là").encode("latin-1")),
         r"south\.csv.*(UTF-8|Latin-1)"),
    Case("UTF-16 without byte order mark", file("south.csv", csv_text(line(10)).encode("utf-16-le")), r"south\.csv"),
    accepted("UTF-16", file("south.csv", csv_text(*map(line, range(10, 15))).encode("utf-16"))),
    accepted("UTF-8 with byte order mark", file("south.csv", csv_text(*map(line, range(10, 15))).encode("utf-8-sig"))),
    accepted("Windows line ends", file("south.csv", csv_text(*map(line, range(10, 15)), end="\r\n"))),
    accepted("semicolons", file("south.csv", csv_text(*map(line, range(10, 15))).replace(",", ";"))),
    accepted("tabs", file("south.csv", csv_text(*map(line, range(10, 15))).replace(",", "\t"))),
    accepted("tabs in .tsv", file("south.tsv", csv_text(*map(line, range(10, 15))).replace(",", "\t"))),
    accepted("line break in quotes", file("south.csv", csv_text(*map(line, range(10, 14)), 'images/14.png,"a\nb",c'))),
    accepted("spaces around column names", file("south.csv", csv_text(*map(line, range(10, 15)),
             header="image , question, answer"))),
    Case("line number after a line break in quotes", file("south.csv", csv_text('images/10.png,"a\nb",c', "short")),
         r"south\.csv, line 4: 1 value"),
    Case("cell of 200,000 characters", csv_line(f"images/10.png,Why?,{'x' * 200_000}"),
         r"south\.csv, line 7: .*limit"),
    Case("no column with images", file("south.csv", csv_text("Why?,no", header="question,answer")),
         r"south\.csv.*image"),
    Case("no column with answers", file("south.csv", csv_text("images/10.png,Why?", header="image,question")),
         r"south\.csv.*answer"),
    Case("comment above the header", file("south.csv", "# exported\n" + csv_text(line(10))),
         r"south\.csv.*image.*# exported"),
    Case("no image", csv_line(",Why?,no"), r"south\.csv, line 7: .*image"),
    Case("no answer", csv_line("images/10.png,Why?,"), r"south\.csv, line 7: .*answer"),
    Case("answer of spaces", csv_line("images/10.png,Why?,  "), r"south\.csv, line 7: .*answer"),
    Case("placeholder in the question", csv_line("images/10.png,Why <image>?,no"), r"south\.csv, line 7: .*<image>"),
    Case("placeholder in the answer", csv_line("images/10.png,Why?,no <image>"), r"south\.csv, line 7: .*<image>"),
    accepted("ignored file", file("notes.txt", "?"), r"ignored.*notes\.txt"),
]  # fmt: skip

JSON = [
    Case("JSON Lines cut off", json_lines('{"image": "images/12.png", "ans'), r"south\.jsonl, line 3.*JSON"),
    Case("line is a list", json_lines("[1, 2]"), r"south\.jsonl, line 3.*object"),
    Case("line is text", json_lines('"row"'), r"south\.jsonl, line 3.*object"),
    accepted("blank lines", json_lines("", json.dumps(row(12)), "", json.dumps(row(13)), json.dumps(row(14)))),
    Case("list cut off", file("south.json", json.dumps([row(10), row(11)])[:-9]), r"south\.json.*complete"),
    Case("comma at the end", file("south.json", json.dumps([row(10)])[:-1] + ",]"), r"south\.json"),
    Case("text after the list", file("south.json", json.dumps([row(10)]) + "x"), r"south\.json"),
    Case("object of unknown keys", file("south.json", '{"rows": 3}'), r"south\.json.*(list|object)"),
    Case("number", file("south.json", "3"), r"south\.json"),
    Case("empty list", file("south.json", "[]"), r"south\.json.*no rows"),
    Case("empty file", file("south.json", ""), r"south\.json"),
    Case("list of lists", file("south.json", "[[1], [2]]"), r"south\.json, row 0.*object"),
    Case("nested 100,000 deep", file("south.json", "[" * 100_000 + "]" * 100_000), r"south\.json.*(deep|nested)"),
    Case("line nested 100,000 deep", json_lines('{"image": ' + "[" * 100_000 + "]" * 100_000 + "}"),
         r"south\.jsonl, line 3.*(deep|nested)"),
    Case("UTF-16 without byte order mark", file("south.json", json.dumps([row(10)]).encode("utf-16-le")),
         r"south\.json"),
    Case("lone surrogate", json_row(answer="\ud800"), r"south\.json, row 2.*surrogate"),
    Case("lone surrogate in the question", json_row(question="a\udc00"), r"south\.json, row 2.*surrogate"),
    Case("answer NaN", json_row(answer=float("nan")), r"south\.json, row 2.*answer"),
    Case("answer null", json_row(answer=None), r"south\.json, row 2.*answer"),
    Case("answer empty", json_row(answer=""), r"south\.json, row 2.*answer"),
    Case("answer is an object", json_row(answer={"a": 1}), r"south\.json, row 2.*answer.*dict"),
    Case("answer is a list of lists", json_row(answer=[["a"]]), r"south\.json, row 2.*answer"),
    accepted("answers are numbers", all_rows(answer=3)),
    accepted("answers are booleans", all_rows(answer=True)),
    accepted("answer of 300 digits", all_rows(answer=10**300)),
    Case("references are a number", json_row(references=3), r"south\.json, row 2.*references"),
    accepted("empty reference", json_row(references=["a", ""]), r"8  rows kept"),
    Case("references are objects", json_row(references=[{"a": 1}]), r"south\.json, row 2.*references"),
    Case("question is a list", json_row(question=["Why?"]), r"south\.json, row 2.*question"),
    accepted("question null", json_row(question=None), r"1  of task caption"),
    Case("question and prompt", json_row(prompt="Why?"), r"south\.json, row 2.*question.*prompt"),
    Case("unknown task", json_row(task="translation"), r"south\.json, row 2.*task.*translation.*vqa"),
    Case("task of other case", json_row(task="VQA"), r"south\.json, row 2.*task.*VQA"),
    Case("task is a list", json_row(task=["vqa"]), r"south\.json, row 2.*task"),
    Case("unknown split", json_row(split="holdout"), r"south\.json, row 2.*split.*holdout"),
    Case("image is a number", json_row(image=3), r"south\.json, row 2.*image"),
    Case("image null", json_row(image=None), r"south\.json, row 2.*image"),
    Case("two images", json_row(image=["images/12.png", "images/13.png"]), r"south\.json, row 2.*image|2 images"),
    Case("id twice", both(json_row(), file("south.json", json.dumps([row(10, id="a"), row(11, id="a")]))),
         r"south\.json, row 1.*id.*'a'"),
    Case("id of another client", both(json_row(id="x"), file("west.json", json.dumps([row(13, id="x")]))),
         r"west\.json, row 0.*id.*'x'"),
    Case("reserved column", json_row(image_digest="0"), r"south\.json, row 2.*image_digest.*rename"),
    Case("client_id is a list", json_row(client_id=["a"]), r"south\.json, row 2.*client_id"),
    Case("label is an object", json_row(label={"a": 1}), r"south\.json, row 2.*label"),
    Case("choices without the answer", json_row(choices=["a", "b"], answer="c"),
         r"south\.json, row 2.*answer.*choices"),
    Case("letter beyond the choices", json_row(choices=["x", "y"], answer="C"), r"south\.json, row 2.*answer.*'C'"),
    accepted("choices are numbers", json_row(choices=[1, 2], answer="A"), r"8  rows kept"),
    Case("an empty choice", json_row(choices=["a", ""], answer="a"), r"south\.json, row 2.*choices"),
    Case("box in reversed order", json_row(task="grounding", expression="x", question=...,
         answer="[0.9, 0.1, 0.2, 0.5]"),
         r"south\.json, row 2.*(box|x1)"),
    Case("box in percent", json_row(task="grounding", expression="x", question=..., answer="[10, 10, 50, 60]"),
         r"south\.json, row 2.*(box|0 to 1)"),
    Case("box of three numbers", json_row(task="grounding", expression="x", question=..., answer="[0.1, 0.2, 0.3]"),
         r"south\.json, row 2.*box"),
    Case("box without area", json_row(task="grounding", expression="x", question=..., answer="[0.1, 0.2, 0.1, 0.5]"),
         r"south\.json, row 2.*box"),
    Case("two boxes", json_row(task="detection", target="x", question=...,
         answer="[0.1, 0.1, 0.2, 0.2] [0.3, 0.3, 0.5, 0.5]"), r"south\.json, row 2.*(two|2|several|one) box"),
    Case("grounding without expression", json_row(task="grounding", question=..., answer="[0.1, 0.1, 0.2, 0.2]"),
         r"south\.json, row 2.*expression"),
    accepted("very long text", all_rows(question="long " * 50_000)),
    accepted("unknown columns", all_rows(**{"weight (kg)": 3, "ward.no": "4"})),
]  # fmt: skip

IMAGES = [
    Case("text with the name of an image", image(b"not an image"), r"images/10\.png.*needed by.*cannot be read"),
    Case("empty", image(b""), r"images/10\.png.*cannot be read"),
    Case("PNG cut off", image(encoded(10)[:60]), r"images/10\.png.*cannot be read"),
    Case("JPEG cut off", image(encoded(picture(1, (64, 64)), "JPEG")[:400], "images/x.jpg"),
         r"images/x\.jpg.*cannot be read"),
    Case("only zeros", image(bytes(1000)), r"images/10\.png.*cannot be read"),
    Case("3.6 billion pixels", image(huge_png()), r"images/10\.png.*(pixels|bomb)"),
    Case("SVG", image(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "images/x.svg"), r"images/x\.svg.*cannot be read"),
    Case("missing", csv_line("images/77.png,Why?,no"), r"images/77\.png.*allow_missing_images"),
    Case("a folder", csv_line("images,Why?,no"), r"south\.csv, line 7.*images"),
    Case("absolute path", csv_line("/etc/hostname,Why?,no"), r"south\.csv, line 7.*/etc.*relative"),
    Case("path out of the folder", csv_line("../outside/99.png,Why?,no"), r"south\.csv, line 7.*\.\."),
    Case("URL", csv_line("https://example.org/1.png,Why?,no"), r"south\.csv, line 7.*https"),
    Case("backslashes", csv_line("images\\77.png,Why?,no"), r"images/77\.png.*allow_missing_images"),
    Case("link out of the folder", both(link("images/99.png", "../../outside/99.png",
         csv_line("images/99.png,Why?,no"))),
         r"images/99\.png.*(link|outside)"),
    Case("link to nothing", link("images/99.png", "nothing.png", csv_line("images/99.png,Why?,no")),
         r"images/99\.png"),
    Case("link to itself", link("images/99.png", "99.png", csv_line("images/99.png,Why?,no")), r"images/99\.png"),
    accepted("16 bits", image(deep("I;16")), r"1 .*16[- ]bit|more than 8 bits"),
    accepted("32 bits", image(deep("I", "TIFF"), "images/x.tif"), r"more than 8 bits"),
    accepted("real numbers", image(deep("F", "TIFF", 0.001), "images/x.tif"), r"more than 8 bits"),
    accepted("CMYK", image(encoded(picture(10, mode="CMYK"), "JPEG"), "images/x.jpg")),
    accepted("palette", image(encoded(picture(10, mode="P"), transparency=3))),
    accepted("transparency", image(encoded(picture(10, mode="RGBA")))),
    accepted("one bit", image(encoded(picture(10, mode="1")))),
    accepted("one pixel", image(encoded(picture(10, (1, 1))))),
    accepted("rotated by EXIF", image(rotated(), "images/x.jpg")),
    accepted("JPEG named .png", image(encoded(picture(10), "JPEG"))),
    accepted("animation", image(animated(), "images/x.gif"), r"1  images with several frames  \(only the first"),
]  # fmt: skip

CLIENTS = [
    Case("no client", files({"notes.txt": "?"}), r"no (table|client|source)"),
    Case("empty folder", lambda raw: raw.mkdir(exist_ok=True), r"`raw`"),
    Case("only splits", both(north, lambda raw: (raw / "north.csv").rename(raw / "test.csv")), r"no client"),
    Case("train, val and test side by side", both(
         lambda raw: north(raw, "train.csv"), file("val.csv", csv_text(line(10), line(11))),
         file("test.csv", csv_text(line(12), line(13))), lambda raw: (raw / "north.csv").unlink()),
         r"train\.csv, line 2.*client_id.*--from"),
    accepted("val is validation", file("val.csv", csv_text(line(10), line(11))), r"validation 2"),
    accepted("valid is validation", file("valid.csv", csv_text(line(10), line(11))), r"validation 2"),
    Case("name twice", both(file("south.csv", csv_text(line(10))), file("south.json", json.dumps([row(11)]))),
         r"also called 'south'"),
    Case("names that are equal after cleaning", both(
         file("a-b.csv", csv_text(*map(line, range(10, 12)))), file("a_b.csv", csv_text(*map(line, range(12, 14))))),
         r"a-b.*a_b"),
    accepted("punctuation", file("---.csv", csv_text(*map(line, range(10, 15)))), r"---"),
    accepted("umlaut", file("köln.csv", csv_text(*map(line, range(10, 15)))), r"köln"),
    accepted("space", file("site 1.csv", csv_text(*map(line, range(10, 15)))), r"site 1"),
    accepted("dots", file("v1.2.csv", csv_text(*map(line, range(10, 15)))), r"v1\.2"),
    accepted("200 characters", file(f"{'x' * 200}.csv", csv_text(*map(line, range(10, 15)))), r"x{200}"),
    Case("every row of a client held out", all_rows(split="test"), r"south.*(held out|no (training )?row)"),
    Case("one image per client", file("south.csv", csv_text(line(10))), r"south.*(image|row)"),
    accepted("image of two clients", file("south.csv", csv_text(*map(line, [0, 1, *range(10, 13)]))),
         r"10  rows kept"),
    Case("image in training and test", file("test.csv", csv_text(line(0))), r"images/0\.png|held out"),
    Case("pixels in training and test", both(file("images/x.bmp", encoded(0, "BMP")),
         file("test.csv", csv_text(line(0).replace("0.png", "x.bmp")))), r"equal pixels.*remove"),
    Case("test rows of an unknown client", file("test.csv", csv_text(f"{line(10)},west",
         header=f"{HEADER},client_id")),
         r"test\.csv, line 2.*client_id.*'west'"),
    Case("link to a folder above", link("loop", "..", north), r"loop"),
    Case("link to itself", link("loop", "loop", north), r"loop"),
    Case("link to a table outside", both(link("west.csv", "../outside/west.csv", north),
         lambda raw: (raw / "../outside/west.csv").write_text(csv_text(line(1)))), r"west\.csv.*(link|outside)"),
    Case("folder named as a table", lambda raw: (north(raw), (raw / "south.csv").mkdir()), r"south\.csv"),
    Case("empty client folder", lambda raw: (north(raw), (raw / "south").mkdir()), r"south.*not a client|south.*no "),
]  # fmt: skip

FOLDERS = [
    accepted("text beside the images of a class", classes({"cat/notes.txt": b"?"}), r"ignored.*south/cat/notes\.txt"),
    accepted("empty class", both(classes(), lambda raw: (raw / "south" / "bird").mkdir()), r"10  rows kept"),
    Case("class image is text", classes({"cat/99.png": b"text"}), r"cat/99\.png.*cannot be read"),
    accepted("folder in a class", classes({"cat/more/99.png": encoded(99)}), r"ignored.*south/cat/more/"),
    accepted("image above the classes", classes({"99.png": encoded(99)}), r"6  images without a row"),
    Case("link to an image outside", link("south/cat/99.png", "../../../outside/99.png", classes()),
         r"99\.png.*(link|outside)"),
    Case("metadata names a missing file", metadata(*(f"{number}.png,Why?,no" for number in [*range(10, 14), 99])),
         r"south/99\.png.*allow_missing_images"),
    Case("metadata without file_name", metadata("Why?,no", header="question,answer"),
         r"metadata\.csv.*image|file_name"),
    Case("metadata with a file name of other case", metadata(*(f"{number}.PNG,Why?,no" for number in range(10, 15))),
         r"south/10\.PNG.*allow_missing_images"),
    accepted("metadata leaves images out", metadata(*(f"{number}.png,Why?,no" for number in range(10, 13))),
             r"7  images without a row"),
    accepted("two rows of an image", metadata(*(f"{number}.png,Why?,no" for number in [*range(10, 15), 10])),
             r"11  rows kept"),
    Case("empty metadata", metadata(), r"metadata\.csv.*no rows"),
    accepted("metadata in both forms", both(metadata(*(f"{number}.png,Why?,no" for number in range(10, 15))),
             metadata('{"file_name": "10.png"}', header="", name="metadata.jsonl")),
         r"ignored.*south/metadata\.jsonl"),
]  # fmt: skip

CHATS = [
    accepted("LLaVA", conversations(turns("human: <image>\nWhat?", "gpt: this"))),
    accepted("placeholder at the end", conversations(turns("human: What?\n<image>", "gpt: this"))),
    Case("placeholder in the middle", conversations(turns("human: Is <image> this?", "gpt: yes")),
         r"south\.json, row 2.*<image>"),
    Case("two placeholders", conversations(turns("human: <image><image>\nWhat?", "gpt: this")),
         r"south\.json, row 2.*(<image>|image)"),
    Case("unknown role", conversations(turns("human: What?", "robot: this")), r"south\.json, row 2.*robot"),
    Case("answer first", conversations(turns("gpt: this", "human: What?")), r"south\.json, row 2"),
    Case("no answer", conversations(turns("human: What?")), r"south\.json, row 2"),
    Case("empty answer", conversations(turns("human: What?", "gpt: ")), r"south\.json, row 2.*(empty|answer)"),
    Case("no turns", conversations([]), r"south\.json, row 2"),
    Case("turns are text", conversations("What?"), r"south\.json, row 2.*conversations"),
    Case("turn without value", conversations([{"from": "human"}, {"from": "gpt", "value": "x"}]),
         r"south\.json, row 2.*value"),
    Case("value is a number", conversations([{"from": "human", "value": 3}, {"from": "gpt", "value": "x"}]),
         r"south\.json, row 2"),
    Case("conversation without image", conversations(turns("human: What?", "gpt: this"), image=...),
         r"south\.json, row 2.*image"),
    Case("placeholder in the answer", conversations(turns("human: What?", "gpt: <image>")),
         r"south\.json, row 2.*<image>"),
    accepted("several turns", conversations(turns("human: What?", "gpt: this", "human: Why?", "gpt: so")),
             r"11  rows kept"),
    accepted("messages", chat(roles("user: What?", "assistant: this"))),
    accepted("message with TRL's image part", chat([{"role": "user", "content": [{"type": "image"}, {"type": "text",
             "text": "What?"}]}, *roles("assistant: this")])),
    Case("message placeholder in the middle", chat(roles("user: Is <image> this?", "assistant: yes")),
         r"south\.jsonl, line 3.*<image>"),
    Case("messages end with the user", chat(roles("assistant: this", "user: What?")),
         r"south\.jsonl, line 3.*assistant"),
    Case("message of an unknown role", chat(roles("human: What?", "assistant: this")), r"south\.jsonl, line 3.*human"),
    Case("message content is a number", chat([{"role": "user", "content": 3}, *roles("assistant: this")]),
         r"south\.jsonl, line 3"),
    Case("no messages", chat([]), r"south\.jsonl, line 3"),
    Case("message with a video", chat([{"role": "user", "content": [{"type": "video"}]}, *roles("assistant: this")]),
         r"south\.jsonl, line 3.*video"),
]  # fmt: skip

COCO = [
    accepted("boxes", coco()),
    Case("annotation of an unknown image", coco([box(99)]), r"south\.json.*99"),
    Case("annotation of an unknown category", coco([box(10, category_id=7)]), r"south\.json.*categor.*7"),
    Case("no categories", coco(drop="categories"), r"south\.json.*(categor|COCO)"),
    Case("no images", coco(drop="images"), r"south\.json"),
    accepted("crowd", coco([box(10, iscrowd=1)]), r"1 .*crowd"),
    accepted("box without area", coco([box(11, category_id=2, bbox=[1, 1, 0, 3])]), r"1  boxes without area in south"),
    Case("box outside of the image", coco([box(11, category_id=2, bbox=[6, 1, 9, 3])]), r"south\.json.*(box|bbox)"),
    Case("box of three numbers", coco([box(11, category_id=2, bbox=[6, 1, 9])]), r"south\.json.*(box|bbox)"),
    accepted("several boxes of a category", coco([box(11, bbox=[2, 2, 3, 3])]), r"(several|more than one|2) "),
    accepted("image without annotations", coco(annotations=(), images=[
             {"id": number, "file_name": f"images/{number}.png", "width": 8, "height": 6} for number in range(10, 15)
             ] + [{"id": 99, "file_name": "images/1.png", "width": 8, "height": 6}]),
         r"1  images without annotations in south\.json"),
    Case("missing image file", coco([box(99)], images=[
         {"id": number, "file_name": f"images/{number}.png", "width": 8, "height": 6} for number in [*range(10, 15),
         99]
         ]), r"images/99\.png"),
    Case("id of two images", coco(images=[
         {"id": 10, "file_name": f"images/{number}.png", "width": 8, "height": 6} for number in (10, 11)
         ], annotations=[box(10)]), r"south\.json.*10"),
]  # fmt: skip

ARCHIVES = [
    accepted("Parquet", parquet({"image": stored(*range(10, 15)), **texts()})),
    Case("Parquet is text", file("south.parquet", "text"), r"south\.parquet.*Parquet"),
    Case("Parquet cut off", both(parquet({"image": stored(*range(10, 15)), **texts()}),
         lambda raw: os.truncate(raw / "south.parquet", 900)), r"south\.parquet.*Parquet"),
    Case("Parquet without images", parquet(texts()), r"south\.parquet.*image"),
    Case("Parquet without rows", parquet({"image": pa.array([], pa.binary()), "answer": pa.array([], pa.string())}),
         r"south\.parquet.*no rows"),
    Case("Parquet with a null image", parquet({"image": stored(10, None, 12, 13, 14), **texts()}),
         r"south\.parquet, row 1.*image"),
    Case("Parquet with a null answer", parquet({"image": stored(10, 11),
         "question": ["a", "b"], "answer": ["a", None]}),
         r"south\.parquet, row 1.*answer"),
    Case("Parquet image is text", parquet({"image": [{"bytes": b"text", "path": None}] * 5, **texts()}),
         r"south\.parquet.*cannot be read"),
    accepted("WebDataset", tar(samples(*range(10, 15)))),
    Case("tar cut off", tar(samples(*range(10, 15)), keep=0.3), r"south\.tar.*(cut off|complete|truncated|end)"),
    Case("tar is text", file("south.tar", "text"), r"south\.tar"),
    Case("empty tar", tar([]), r"south\.tar"),
    Case("tar with a link", tar([*samples(10), ("0011.png", "-> /etc/hostname"), ("0011.json", b"{}")]),
         r"south\.tar.*0011"),
    Case("tar member twice", tar([*samples(10, 11), *samples(10)]), r"south\.tar.*0010"),
    Case("tar sample without image", tar([*samples(10, 11), ("0012.json", b'{"answer": "x"}')]),
         r"south\.tar.*0012.*image"),
    Case("tar sample without text", tar([*samples(10, 11), ("0012.png", encoded(12))]), r"south\.tar.*0012"),
    Case("tar sample with bad JSON", tar([*samples(10), ("0011.png", encoded(11)), ("0011.json", b"{")]),
         r"south\.tar.*0011"),
    accepted("zip", zipped(good_zip())),
    Case("zip is text", file("south.zip", "text"), r"south\.zip.*zip"),
    Case("empty zip", zipped({}), r"south\.zip"),
    Case("zip member out of the folder", zipped(good_zip({"../evil.csv": "x"})), r"south\.zip.*\.\./evil\.csv"),
    Case("zip member with an absolute path", zipped(good_zip({"/evil.csv": "x"})), r"south\.zip.*/evil\.csv"),
    Case("encrypted zip", file("south.zip", encrypted_zip()), r"south\.zip.*(encrypt|password)"),
    Case("damaged zip", zipped(good_zip(), damage=True), r"south\.zip"),
    Case("zip in a zip", zipped({"inner.zip": b"PK"}), r"south\.zip"),
    Case("zip of a petabyte", file("south.zip", huge_zip()), r"south\.zip.*GB"),
]  # fmt: skip

DIVIDING = [
    Case("nothing there", north, r"nowhere", "partition --from nowhere/at/all --out out --iid --num_clients 2"),
    Case("no name of a dataset", north, r"`dataset`", "partition --from  '' --out out --iid --num_clients 2"),
    Case("no clients asked for", north, r"--by.*--dirichlet.*--iid", TABLE),
    accepted("by chance", north, r"5  rows", f"{TABLE} --iid --num_clients 2"),
    Case("more clients than rows", north, r"num_clients", f"{TABLE} --iid --num_clients 50"),
    Case("no client", north, r"num_clients", f"{TABLE} --iid --num_clients 0"),
    Case("negative number of clients", north, r"num_clients", f"{TABLE} --iid --num_clients -1"),
    Case("number of clients missing", north, r"num_clients", f"{TABLE} --iid"),
    Case("number of clients in words", north, r"num_clients", f"{TABLE} --iid --num_clients two", 2),
    Case("unknown column", north, r"by='ward'.*question", f"{TABLE} --by ward"),
    Case("unknown label", north, r"label='ward'.*question", f"{TABLE} --dirichlet 1 --label ward --num_clients 2"),
    Case("label missing", north, r"label", f"{TABLE} --dirichlet 1 --num_clients 2"),
    Case("alpha 0", north, r"alpha|dirichlet", f"{TABLE} --dirichlet 0 --label answer --num_clients 2"),
    Case("alpha below 0", north, r"alpha|dirichlet", f"{TABLE} --dirichlet -1 --label answer --num_clients 2"),
    Case("alpha NaN", north, r"alpha|dirichlet", f"{TABLE} --dirichlet nan --label answer --num_clients 2"),
    Case("alpha infinite", north, r"alpha|dirichlet", f"{TABLE} --dirichlet inf --label answer --num_clients 2"),
    Case("alpha too small", file("north.csv", csv_text(*map(line, range(5)))), r"alpha|dirichlet",
         f"{TABLE} --dirichlet 1e-9 --label task --num_clients 4"),
    accepted("alpha large", north, r"5  rows", f"{TABLE} --dirichlet 1e6 --label answer --num_clients 2"),
    Case("share of 0", north, r"test_share", f"{TABLE} --iid --num_clients 2 --test_share 0"),
    Case("share of 1", north, r"test_share", f"{TABLE} --iid --num_clients 2 --test_share 1"),
    Case("share NaN", north, r"test_share", f"{TABLE} --iid --num_clients 2 --test_share nan"),
    Case("unknown split", north, r"split='other'", f"{TABLE} --iid --num_clients 2 --split other"),
    Case("unknown answer", north, r"reply.*question", f"{TABLE} --iid --num_clients 2 --answer reply"),
    Case("unknown question", north, r"question='ask'.*answer", f"{TABLE} --iid --num_clients 2 --question ask"),
    Case("unknown image", north, r"image='scan'", f"{TABLE} --iid --num_clients 2 --image scan"),
    Case("unknown task", north, r"task.*poetry", f"{TABLE} --iid --num_clients 2 --task poetry"),
    Case("value missing in the column", lambda raw: (north(raw), (raw / "north.csv").write_text(csv_text(
         *(f"{line(number)},{'ab'[number % 2] if number else ''}" for number in range(5)), header=f"{HEADER},ward"))),
         r"by='ward'.*no value|ward", f"{TABLE} --by ward"),
    Case("Parquet with NaN in the column", lambda raw: (north(raw),
         pq.write_table(pa.table({"image": stored(*range(5)),
         **texts(), "ward": [1.0, 2.0, float("nan"), 1.0, 2.0]}), raw / "x.parquet")),
         r"by='ward'.*no value", "partition --from raw/x.parquet --out out --by ward --num_workers 1"),
]  # fmt: skip

OPTIONS = [
    Case("no raw folder", north, r"`raw='nothing'`", CUSTOM.replace("raw --out", "nothing --out")),
    Case("raw is a file", north, r"notes|north", CUSTOM.replace("raw --out", "raw/north.csv --out")),
    Case("raw missing", north, r"--raw", "build custom --out out", 2),
    Case("out missing", north, r"--out", "build custom --raw raw", 2),
    Case("unknown option", north, r"--split_by", f"{CUSTOM} --split_by x", 2),
    Case("unknown dataset", north, r"custm.*custom", "build custm --raw raw --out out"),
    Case("out in raw", north, r"out", CUSTOM.replace("--out out", "--out raw/out")),
    Case("out is raw", north, r"`out`.*raw", CUSTOM.replace("--out out", "--out raw")),
    Case("raw in out", lambda raw: (north(raw), (raw.parent / "out").mkdir(), raw.rename(raw.parent / "out/raw")),
         r"`out`", CUSTOM.replace("--raw raw", "--raw out/raw")),
    Case("out is a file", both(north, lambda raw: (raw.parent / "out").write_text("mine")), r"`out`"),
    Case("out has other files", both(north, lambda raw: ((raw.parent / "out").mkdir(),
         (raw.parent / "out" / "mine.txt").write_text("mine"))), r"`out`"),
    Case("share below 0", north, r"test_share", f"{CUSTOM} --test_share -0.5"),
    Case("shares of 1", north, r"test_share", f"{CUSTOM} --test_share 1"),
    Case("share NaN", north, r"test_share", f"{CUSTOM} --test_share nan"),
    Case("unknown configuration", north, r"configs.*'dirichlet'.*noniid", CUSTOM.replace("noniid", "dirichlet")),
    Case("configuration twice", north, r"configs.*twice", CUSTOM.replace("noniid", "iid,iid")),
    Case("unknown wording", north, r"wording", f"{CUSTOM} --wording rude"),
    Case("side of 0", north, r"max_side", f"{CUSTOM} --max_side 0"),
    Case("no workers", north, r"num_workers", CUSTOM.replace("_workers 1", "_workers 0")),
]  # fmt: skip


def damage(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change a file of a built dataset; the first one that matches."""

    def write(out: Path) -> None:
        path = sorted(out.glob(name))[0]
        path.write_bytes(change(path.read_bytes()))

    return write


def edit_rows(change: Callable[[list[dict]], list[dict]]) -> Callable[[Path], None]:
    """Change the rows of the first client of a built dataset."""

    def write(out: Path) -> None:
        path = sorted(out.glob("data/**/client_north*.parquet"))[0]
        stored = pq.read_table(path)
        pq.write_table(pa.Table.from_pylist(change(stored.to_pylist()), schema=stored.schema), path)

    return write


def edit_manifest(**values: object) -> Callable[[Path], None]:
    return damage("manifest.json", lambda content: json.dumps({**json.loads(content), **values}).encode())


BUILT = {
    "no card": (lambda out: (out / "README.md").unlink(), r"README\.md"),
    "empty card": (damage("README.md", lambda content: b""), r"README\.md.*configs"),
    "card without YAML": (damage("README.md", lambda content: b"# Data"), r"README\.md.*configs"),
    "broken YAML": (damage("README.md", lambda content: b"---\na: [\n---\n"), r"README\.md.*YAML"),
    "missing file": (lambda out: sorted(out.glob("data/**/*.parquet"))[0].unlink(), r"no such file"),
    "file cut off": (damage("data/**/*.parquet", lambda content: content[:500]), r"not a complete Parquet"),
    "file is text": (damage("data/**/*.parquet", lambda content: b"text"), r"not a complete Parquet"),
    "unlisted file": (lambda out: (out / "data" / "more.parquet").write_bytes(
        sorted(out.glob("data/**/*.parquet"))[0].read_bytes()), r"data/more\.parquet"),
    "manifest is text": (damage("manifest.json", lambda content: b"text"), r"manifest\.json.*JSON"),
    "manifest is a list": (damage("manifest.json", lambda content: b"[]"), r"manifest\.json.*list"),
    "wrong total": (edit_manifest(num_rows=7), r"manifest.*7"),
    "row left out": (edit_rows(lambda rows: rows[1:]), r"manifest"),
    "row twice": (edit_rows(lambda rows: [*rows, rows[0]]), r"north-2"),
    "other answer": (edit_rows(lambda rows: [{**rows[0], "references": ["no"]}, *rows[1:]]), r"manifest|digest"),
    "no answer": (edit_rows(lambda rows: [{**rows[0], "references": []}, *rows[1:]]), r"reference"),
    "unknown task": (edit_rows(lambda rows: [{**rows[0], "task": "poetry"}, *rows[1:]]), r"poetry"),
    "image is text": (edit_rows(lambda rows: [{**rows[0], "images": [{"bytes": b"text", "path": None}]}, *rows[1:]]),
                      r"image"),
    "no image": (edit_rows(lambda rows: [{**rows[0], "images": []}, *rows[1:]]), r"image"),
    "message of an unknown role": (edit_rows(lambda rows: [
        {**rows[0], "prompt": [{"role": "human", "content": "x"}]}, *rows[1:]]), r"human"),
}  # fmt: skip


UNREADABLE = ("no card", "empty card", "card without YAML", "broken YAML", "manifest is text", "manifest is a list")
"""What `fedvlm check` cannot open as a dataset; in the others it finds problems."""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    north(folder / "raw")
    argv = CUSTOM.replace("--raw raw --out out", f"--raw {folder}/raw --out {folder}/out")
    assert main(shlex.split(argv)) == 0
    return folder / "out"


@pytest.mark.parametrize("name", BUILT)
def test_damaged_datasets(name, built, tmp_path, monkeypatch, capsys, caplog):
    """`fedvlm check` names what is wrong, and changes nothing."""
    change, expected = BUILT[name]
    shutil.copytree(built, tmp_path / "built")
    monkeypatch.chdir(tmp_path)
    change(tmp_path / "built")
    before = snapshot(tmp_path)
    status = 2 if name in UNREADABLE else 1
    run(Case(name, north, expected, "check built --num_workers 1", status), tmp_path, capsys, caplog)
    assert snapshot(tmp_path) == before


@WAITS
@pytest.mark.parametrize("command", ["check", "partition --iid --num_clients 2 --out out --from"])
def test_a_hub_that_does_not_answer_ends_at_once(command, tmp_path):
    """It closes each connection without an answer. It is asked once: there are no retries for half a minute."""
    with running(tmp_path / "hub", {}) as hub:
        hub.faults.append(Fault(".", cut=True, times=10**6))
        done = subprocess.run(
            [sys.executable, "-m", "fedvlm_hf.cli", *shlex.split(command), "no-group/no-dataset"],
            cwd=tmp_path, env=hub.environment("", tmp_path / "home"), capture_output=True, text=True, timeout=DEADLINE,
        )  # fmt: skip
    assert hub.log == ["GET /api/datasets/no-group/no-dataset"]
    assert done.returncode == 2
    assert "no-group/no-dataset" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def snapshot(folder: Path) -> dict[str, object]:
    return {
        path.relative_to(folder).as_posix(): (
            os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
        )
        for path in sorted(folder.rglob("*"))
    }


def run(case: Case, tmp_path: Path, capsys, caplog) -> str:
    """Run the command, and return what it printed and logged. An exception that is not expected fails the test."""
    capsys.readouterr()
    with caplog.at_level(logging.WARNING):
        try:
            status = main(shlex.split(case.argv))
        except SystemExit as stop:
            status = stop.code
    printed = capsys.readouterr()
    text = printed.out + printed.err + caplog.text
    assert status == case.status, text
    assert re.search(case.expected, text, flags=re.DOTALL), text
    assert "Traceback" not in text
    assert not re.search(r"object at 0x|at 0x[0-9a-f]{6}", text)
    assert "download it again" not in text.lower()
    return text


def check_case(case: Case, tmp_path: Path, monkeypatch, capsys, caplog) -> None:
    monkeypatch.chdir(tmp_path)
    case.write(tmp_path / "raw")
    before = snapshot(tmp_path)
    run(case, tmp_path, capsys, caplog)
    after = snapshot(tmp_path)
    assert {name: after.get(name) for name in before} == before
    new = {name.split("/")[0] for name in after.keys() - before.keys()}
    if case.status == 0:
        assert new == {"out"}
        assert main(["check", "out", "--num_workers", "1"]) == 0, capsys.readouterr()
        return
    # What an interrupted build has worked out may be kept, in one hidden folder
    assert new <= {".out.build"}
    hidden = (tmp_path / ".out.build").rglob("*")
    kept = [path for path in hidden if path.is_file() and path.name not in ("lock", "plan.json")]
    assert bool(kept) == bool(new)
    assert not [path for path in kept if path.suffix == ".parquet"]


def table(cases: list[Case]) -> pytest.MarkDecorator:
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    return pytest.mark.parametrize("case", cases, ids=names)


@table(CSV)
def test_tables(case, tmp_path, monkeypatch, capsys, caplog):
    check_case(case, tmp_path, monkeypatch, capsys, caplog)


@table(JSON)
def test_json(case, tmp_path, monkeypatch, capsys, caplog):
    check_case(case, tmp_path, monkeypatch, capsys, caplog)


@table(IMAGES)
def test_images(case, tmp_path, monkeypatch, capsys, caplog):
    check_case(case, tmp_path, monkeypatch, capsys, caplog)


@table(CLIENTS)
def test_clients(case, tmp_path, monkeypatch, capsys, caplog):
    check_case(case, tmp_path, monkeypatch, capsys, caplog)


@table(FOLDERS)
def test_image_folders(case, tmp_path, monkeypatch, capsys, caplog):
    check_case(case, tmp_path, monkeypatch, capsys, caplog)


@table(CHATS)
def test_conversations_and_messages(case, tmp_path, monkeypatch, capsys, caplog):
    check_case(case, tmp_path, monkeypatch, capsys, caplog)


@table(COCO)
def test_coco(case, tmp_path, monkeypatch, capsys, caplog):
    check_case(case, tmp_path, monkeypatch, capsys, caplog)


@table(ARCHIVES)
def test_parquet_tar_and_zip(case, tmp_path, monkeypatch, capsys, caplog):
    check_case(case, tmp_path, monkeypatch, capsys, caplog)


@table(DIVIDING)
def test_dividing(case, tmp_path, monkeypatch, capsys, caplog):
    check_case(case, tmp_path, monkeypatch, capsys, caplog)


@table(OPTIONS)
def test_options(case, tmp_path, monkeypatch, capsys, caplog):
    check_case(case, tmp_path, monkeypatch, capsys, caplog)
