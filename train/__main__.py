"""Trains one stage (section 4.2 of the paper) with Accelerate, on a CPU, a GPU or several.

    accelerate launch -m train --config train/presets/dynamic.yaml
    accelerate launch -m train --config train/presets/static_1_2.yaml --fold all --train corpora/ckplus
    python -m train --config train/presets/dynamic.yaml train/presets/drawn.yaml

Writes to OUT: log.jsonl (losses, w1, w2 and learning rate of every step), checkpoints/ (from which the same command
continues), best/ (the model with the best validation result) and last/, both for `FaceLiveNetModel.from_pretrained`,
training.json, weights.png and losses.png (the paper's Figures 6 and 7), and the files of the tracker. This file only
reads the arguments. Next to read: train/config.py, train/command.py.
"""

import os
import sys

from face_data.corpus import CorpusError
from machines import MachineError, refuse_unconnected_launch
from startup import large_imports
from train.config import checked, parse_settings, require_corpora


def main(argv: list[str] | None = None) -> int:
    try:
        refuse_unconnected_launch()
        parser, settings = parse_settings(argv)
        require_corpora(settings)
    except (CorpusError, MachineError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    with large_imports():
        config = checked(parser, settings)
        from train.command import run  # imports PyTorch: wrong arguments were reported before

    return run(config)


if __name__ == "__main__":
    status = main()
    if status == 2 and "WORLD_SIZE" in os.environ:
        sys.stderr.flush()
        os._exit(status)  # sys.exit would wait for processes that have ended already
    sys.exit(status)
