"""A run's model -> the checkpoint that is shipped: half precision, and without the Python files, which stand beside it.

python -m train.export runs/dynamic/last pretrained --challenge happy
python -m evaluation calibrate --model pretrained --data corpora/lfw --splits 9 --far 0.001
"""

import argparse
import json
import shutil
from pathlib import Path

import torch

from modeling_facelivenet import FaceLiveNetModel


def export(source: Path, out: Path, challenge: list[str]) -> None:
    """Write config.json, model.safetensors (fp16), preprocessor_config.json and training.json of `source` to `out`.

    Args:
        challenge: the expressions a session may ask for: those that validation shows to be recognised reliably.
    """
    model = FaceLiveNetModel.from_pretrained(source, dtype=torch.float16)
    model.config.challenge_expressions = challenge
    model.config.validate()
    model.save_pretrained(out)
    for name in ("preprocessor_config.json", "training.json"):
        shutil.copy(source / name, out / name)
    for code in out.glob("*.py"):
        code.unlink()
    for name in ("config.json", "preprocessor_config.json"):  # auto_map names the code that is not there
        settings = json.loads((out / name).read_text(encoding="utf-8"))
        settings.pop("auto_map", None)
        (out / name).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a folder `python -m train` saved: RUN/best or RUN/last")
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--challenge", nargs="+", required=True, metavar="EXPRESSION", help="what sessions may ask for, such as happy"
    )
    arguments = parser.parse_args()
    export(arguments.source, arguments.out, arguments.challenge)
