"""Build Fed-VQA-RAD from the official downloads, as `fedvlm build fed-vqa-rad` does.

    python hub_datasets/fed_vqa_rad/build.py --raw PATH --out DIR

`--help` says where to get the raw files, and under which terms.
"""

import sys

from fedvlm_hf.cli import main


if __name__ == "__main__":
    sys.exit(main(["build", "fed-vqa-rad", *sys.argv[1:]]))
