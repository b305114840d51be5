"""A miniature of COCO-QA in its exact format: cocoqa/{train,test}/ with four files of one item a line each."""

from pathlib import Path


def rows() -> dict[str, list[tuple[str, str, str, str]]]:
    """Return `(question, answer, image id, type)` of the lines of `train` and `test`.

    Training: what is shown and how many, on each of the images 1 to 20 and 26 to 28; types in turn. Test: image 501.
    """
    train = []
    for k in [*range(1, 21), 26, 27, 28]:
        train.append((f"what sits in picture number {k}", "cat", str(k), "0"))
        train.append((f"how many people stand in picture {k}", "one", str(k), "1"))
    train[0] = ("what is the color of the cat", "black", "1", "2")
    train[2] = ("where is the cat", "room", "2", "3")
    return {"train": train, "test": [("what barks ?", "dog", "501", "0")]}


def write_raw(folder: Path, ends_with_newline: bool = True) -> Path:
    """Write cocoqa/ into a folder and return the folder."""
    for split, lines in rows().items():
        (folder / "cocoqa" / split).mkdir(parents=True)
        for name, column in zip(("questions", "answers", "img_ids", "types"), zip(*lines, strict=True), strict=True):
            text = "\n".join(column) + "\n" * ends_with_newline
            (folder / "cocoqa" / split / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder
