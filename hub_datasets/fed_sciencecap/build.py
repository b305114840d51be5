"""Build Fed-ScienceCap from the official downloads, as `fedvlm build fed-sciencecap` does.

    python hub_datasets/fed_sciencecap/build.py --raw PATH --out DIR

`--help` says where to get the raw files, and under which terms.
"""

import sys

from fedvlm_hf.cli import main


if __name__ == "__main__":
    sys.exit(main(["build", "fed-sciencecap", *sys.argv[1:]]))
