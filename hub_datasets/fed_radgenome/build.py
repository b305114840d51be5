"""Build Fed-RadGenome from the official downloads, as `fedvlm build fed-radgenome` does.

    python hub_datasets/fed_radgenome/build.py --raw PATH --out DIR

`--help` says where to get the raw files, and under which terms.
"""

import sys

from fedvlm_hf.cli import main


if __name__ == "__main__":
    sys.exit(main(["build", "fed-radgenome", *sys.argv[1:]]))
