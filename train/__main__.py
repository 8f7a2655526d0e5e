"""One stage of training (section 4.2 of the paper) with Accelerate, on one CPU, one GPU or many.

    accelerate launch -m train --config train/presets/dynamic.yaml
    accelerate launch -m train --config train/presets/static_1_2.yaml --fold all --train corpora/ckplus
    python -m train --config train/presets/dynamic.yaml train/presets/drawn.yaml

Writes to OUT: log.jsonl (losses, w1, w2, learning rate of every step), checkpoints/ (from which the same command goes
on), best/ (the model that validated best) and last/, both ready for `FaceLiveNetModel.from_pretrained`, training.json,
weights.png and losses.png (the paper's Figures 6 and 7), and what the tracker makes.
"""

import sys

from accelerate import PartialState
from safetensors import SafetensorError

from face_data.table import CorpusError
from train.checkpoint import CheckpointError
from train.config import parse_config
from train.folds import train_folds
from train.loop import NonFiniteLossError, Stopped, train


def main(argv: list[str] | None = None) -> int:
    config = parse_config(argv)
    try:
        train_folds(config) if config.fold else train(config)
        PartialState().destroy_process_group()
    except Stopped as stopped:
        print(f"train: {stopped}", file=sys.stderr)
        return 130
    except (CorpusError, CheckpointError, NonFiniteLossError, OSError, SafetensorError, ValueError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
