"""Benchmarks of speed and memory, each compared with the usual alternative in the same run.

    python -m benchmarks inference
    python -m benchmarks live --clients 8 --frame-seconds 0.1 --minutes 10
    python -m benchmarks hostile
    python -m benchmarks loss
    python -m benchmarks loading --data corpora/drawn:train
    python -m benchmarks training --data corpora/drawn:train --steps 20
    python -m benchmarks prepare lfw DATA/lfw
    python -m benchmarks onnx --data corpora/lfw --split 9
    python -m benchmarks start
    python -m benchmarks page

inference  from camera frame to decision, compared with MTCNN, InceptionResnetV1 and a second network: frames/s
loss       the class-wise triplet loss, compared with torch.cdist and plain broadcasting: memory, time, equal results
loading    batches of images from a prepared corpus, compared with ImageFolder and transforms for each image: images/s
live       the demo's server with simulated users: frames/s, response times, memory
hostile    the demo's server under attack: response times of genuine visitors, memory
onnx       the network alone, PyTorch compared with its exported graph in 32 and 8 bits: milliseconds, size, accuracy
prepare    detecting, aligning and saving faces, compared with facenet-pytorch's MTCNN in a loop: photographs/s
start      time of commands until they answer and until they decide, in units of `import torch`
training   the training loop, compared with a plain one with the same network: images/s, share of waiting for data
page       writes the tables of docs/demo.md from saved numbers

Compare the ratios. Times depend on the machine and on other load, so both sides of a ratio are measured alternately.
OMP_NUM_THREADS sets the number of threads, --device cpu ignores a GPU, --json FILE saves the numbers.
"""

import argparse
import ast
import importlib
import json
import sys
from pathlib import Path

from benchmarks.arguments import ARGUMENTS
from checkpoints import find_checkpoint
from face_data.corpus import require_corpus, split_corpus


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "page":
            return _write_page(arguments)
        _require_inputs(arguments)
    except (OSError, ValueError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    import torch  # takes seconds: a missing file was reported before
    from huggingface_hub.errors import StrictDataclassError

    from benchmarks.report import machine, machine_text
    from train.loop import Stopped

    benchmark = importlib.import_module(f"benchmarks.{arguments.command}")
    try:
        if arguments.device is None:
            arguments.device = "cuda" if torch.cuda.is_available() else "cpu"
        if arguments.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("--device cuda: PyTorch finds no GPU here")
        result = {"machine": machine(arguments.device)} | benchmark.run(arguments)
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except (OSError, ValueError, StrictDataclassError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except Stopped:
        print("benchmarks: stopped", file=sys.stderr)
        return 130
    print(machine_text(result["machine"]))
    print(benchmark.text(result))
    return 0


def _write_page(arguments) -> int:
    from benchmarks import page

    for file in page.write(arguments.results, arguments.page):
        print(f"benchmarks: no {file}: its table is not changed", file=sys.stderr)
    return 0


def _require_inputs(arguments) -> None:
    """Raise OSError or ValueError if a model, a corpus, a clip or a folder does not exist."""
    if arguments.json and not arguments.json.parent.is_dir():  # fail before the work
        raise ValueError(f"--json {arguments.json}: no folder {arguments.json.parent}")
    if getattr(arguments, "model", None):
        find_checkpoint(arguments.model)
    if getattr(arguments, "data", None):
        require_corpus(split_corpus(arguments.data)[0])
    if getattr(arguments, "clip", None) and not arguments.clip.exists():
        raise FileNotFoundError(f"{arguments.clip}: no such file")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add_arguments in ARGUMENTS.items():
        source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        description = ast.get_docstring(ast.parse(source))  # importing it would take seconds
        command = commands.add_parser(
            name,
            help=description.splitlines()[0],
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_arguments(command)
        if name == "page":
            continue
        command.add_argument("--device", choices=("cpu", "cuda"), help="device (default: cuda if there is a GPU)")
        command.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers to FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
