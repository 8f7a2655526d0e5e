"""The command-line arguments of each benchmark; `__main__` adds them to its parser.

This module imports no PyTorch, so that --help and wrong arguments are answered at once.
"""

from pathlib import Path

from checkpoints import DEFAULT_MODEL, MODEL_HELP, WEIGHTS_HELP
from face_data.__main__ import LAYOUTS
from face_data.protocol import LFW

REPOSITORY = Path(__file__).resolve().parent.parent


def add_inference(command) -> None:
    command.add_argument("--model", default=str(DEFAULT_MODEL), help=f"{WEIGHTS_HELP} (default: %(default)s)")
    command.add_argument("--clip", type=Path, metavar="FILE", help="frames of this clip (default: a drawn person)")
    command.add_argument("--frames", type=int, default=48, help="frames per measurement (default 48)")
    command.add_argument(
        "--repeats", type=int, default=3, help="number of measurements; the median is reported (default 3)"
    )


def add_live(command) -> None:
    command.add_argument("--model", default=str(DEFAULT_MODEL), help=f"{MODEL_HELP} (default: %(default)s)")
    command.add_argument(
        "--clients", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers of simultaneous users (default: 1 2 4 8)"
    )
    command.add_argument(
        "--frame-seconds",
        type=float,
        nargs="+",
        default=[0.0, 0.1, 0.2],
        help="seconds between the frames of each user, if the server is fast enough (default: 0 0.1 0.2)",
    )
    command.add_argument("--minutes", type=float, default=0.25, help="duration of each row (default: %(default)g)")


def add_hostile(command) -> None:
    command.add_argument("--model", default=str(DEFAULT_MODEL), help="folder of a saved model (default: %(default)s)")
    command.add_argument("--clients", type=int, default=2, help="genuine visitors (default: %(default)s)")
    command.add_argument(
        "--seconds", type=float, default=20, help="duration of each attack, twice that of a quiet phase (default: 20)"
    )
    command.add_argument(
        "--minutes", type=float, default=5, help="duration of all attacks together (default: %(default)g)"
    )
    command.add_argument(
        "--crowd", type=int, default=20, help="simultaneous attempts during all attacks (default: %(default)s)"
    )


def add_loss(command) -> None:
    command.add_argument("--batch", type=int, default=90, help="features per step (default 90, as in the paper)")
    command.add_argument(
        "--identities", type=int, default=85742, help="number of centres (default 85742, as in MS-Celeb-1M refined)"
    )
    command.add_argument("--size", type=int, default=1792, help="length of a feature (default 1792, as in the network)")
    command.add_argument(
        "--table-identities",
        type=int,
        default=200_000,
        help="for training on sampled identities: people in the tables; half of them is measured, too (default 200000)",
    )
    command.add_argument(
        "--sample", type=int, default=10_000, help="identities in the sample of one step (default 10000)"
    )
    command.add_argument("--repeats", type=int, default=5, help="timed steps; the median is reported (default 5)")


def add_loading(command) -> None:
    command.add_argument(
        "--data", required=True, metavar="CORPUS", help="prepared corpus as FOLDER or FOLDER:SPLIT,SPLIT"
    )
    command.add_argument("--batch", type=int, default=64, help="photographs per batch (default 64)")
    command.add_argument("--batches", type=int, default=10, help="batches per measurement (default 10)")
    command.add_argument("--workers", default="0,2", help="numbers of loading processes to measure (default 0,2)")
    command.add_argument("--image-size", type=int, default=96, help="side of the network's input (default 96)")
    command.add_argument(
        "--repeats", type=int, default=5, help="number of measurements; the median is reported (default 5)"
    )


def add_onnx(command) -> None:
    command.add_argument("--model", default=DEFAULT_MODEL, help=f"{WEIGHTS_HELP} (default: %(default)s)")
    command.add_argument("--faces", type=int, default=30, help="faces per measurement (default 30)")
    command.add_argument(
        "--repeats", type=int, default=5, help="number of measurements; the median is reported (default 5)"
    )
    command.add_argument("--data", metavar="CORPUS", help="also measure the accuracy on this prepared corpus")
    text = "split of the corpus (default %(default)s, the fold on which choices are made)"
    command.add_argument("--split", default=LFW.validation[0], help=text)


def add_training(command) -> None:
    command.add_argument(
        "--data", required=True, metavar="CORPUS", help="prepared corpus as FOLDER or FOLDER:SPLIT,SPLIT"
    )
    command.add_argument("--image-size", type=int, default=96, help="side of the network's input (default 96)")
    command.add_argument("--batch", type=int, default=64, help="photographs per batch (default 64)")
    command.add_argument("--steps", type=int, default=20, help="measured steps, after a warm-up (default 20)")
    command.add_argument("--workers", type=int, default=2, help="loading processes of the training loop (default 2)")
    command.add_argument("--repeats", type=int, default=1, help="runs of each; the median is reported (default 1)")
    command.add_argument("--compile", action="store_true", help="compile the training loop's network")


def add_prepare(command) -> None:
    command.add_argument("layout", choices=sorted(set(LAYOUTS) - {"hub"}), help="as for `python -m face_data prepare`")
    command.add_argument("source", nargs="+", type=Path, help="the publisher's folders or archives")
    command.add_argument("--photographs", type=int, default=500, help="number of photographs (default 500)")
    command.add_argument(
        "--repeats", type=int, default=3, help="number of measurements; the median is reported (default 3)"
    )


def add_start(command) -> None:
    command.add_argument("--model", default=str(DEFAULT_MODEL), help="folder of a saved model (default: %(default)s)")
    command.add_argument("--repeats", type=int, default=3, help="runs of each; the median is reported (default 3)")


def add_page(command) -> None:
    command.add_argument(
        "--results",
        type=Path,
        default=REPOSITORY / "docs" / "results",
        help="folder of the numbers (default: docs/results)",
    )
    command.add_argument(
        "--page", type=Path, default=REPOSITORY / "docs" / "demo.md", help="page to write (default: docs/demo.md)"
    )


ARGUMENTS = {
    "inference": add_inference,
    "live": add_live,
    "hostile": add_hostile,
    "loss": add_loss,
    "loading": add_loading,
    "onnx": add_onnx,
    "training": add_training,
    "prepare": add_prepare,
    "start": add_start,
    "page": add_page,
}
