"""Pretrain the base model of Fed-Nature mini, which is in src/fedvlm_hf/mini/llava.

```bash
python recipes/pretrain_mini.py --output_dir pretrained/llava --work_dir pretrained/work
```

This takes about half an hour on 2 CPU cores. A stopped run continues from `--work_dir`. Only the public digits (0 to
899) are used, and no digit of a client. The same seed, torch build and CPU type give the same weights.
"""

from dataclasses import dataclass, field

import torch
from transformers import HfArgumentParser

from fedvlm_hf.mini.pretrain import PretrainConfig, pretrain_mini


@dataclass
class ScriptArguments:
    """Seed and folders."""

    output_dir: str = field(
        default="pretrained/llava",
        metadata={"help": "Folder of the model. It is replaced when the new model is complete."},
    )
    work_dir: str = field(default="pretrained/work", metadata={"help": "Folder of the checkpoints, to continue from."})
    seed: int = field(default=0, metadata={"help": "Seed of the weights, the scenes and the questions."})


if __name__ == "__main__":
    (arguments,) = HfArgumentParser(ScriptArguments).parse_args_into_dataclasses()
    # One thread trains and one process draws scenes. A second thread would gain little for a model of this size, and
    # change the bits.
    torch.set_num_threads(1)
    scores = pretrain_mini(arguments.output_dir, arguments.work_dir, PretrainConfig(seed=arguments.seed))
    print(f"Wrote {arguments.output_dir}. Scores on unseen digits, in the public conventions:")
    for kind, score in scores.items():
        print(f"  {kind:<24}{score:.3f}")
