"""The types of columns as `datasets` has them. Not in `data.spec`, since importing `datasets` takes a second."""

from datasets import Features, Image, List, Value


_MESSAGES = List({"role": Value("string"), "content": Value("string")})

FEATURES = Features(
    {
        "id": Value("string"),
        "images": List(Image()),
        "prompt": _MESSAGES,
        "completion": _MESSAGES,
        "task": Value("string"),
        "references": List(Value("string")),
    }
)
"""Types of the columns that every row of ours has; builders add their own columns."""

ALL_FEATURES = Features({**FEATURES, "chosen": _MESSAGES, "rejected": _MESSAGES})
"""Types of the columns of all row formats."""
