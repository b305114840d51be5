"""Build Fed-SLAKE from the official downloads, as `fedvlm build fed-slake` does.

    python hub_datasets/fed_slake/build.py --raw PATH --out DIR

`--help` says where to get the raw files, and under which terms.
"""

import sys

from fedvlm_hf.cli import main


if __name__ == "__main__":
    sys.exit(main(["build", "fed-slake", *sys.argv[1:]]))
