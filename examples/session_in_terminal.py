"""A live session in the terminal, from a webcam or a video file. Only the instructions are displayed.

    python examples/session_in_terminal.py anna.jpg /dev/video0          # a webcam (Linux)
    python examples/session_in_terminal.py anna.jpg 0 --format avfoundation   # macOS
    python examples/session_in_terminal.py anna.jpg video="Camera" --format dshow   # Windows
    python examples/session_in_terminal.py anna.jpg recording.mp4

Exit status: 0 accepted, 1 rejected, 2 unusable input. PyAV reads the frames; OpenCV is not needed. Read
`authentication.attempt` next.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this script runs from a clone

import av
from PIL import Image

from authentication.attempt import Attempt
from authentication.authenticator import Authenticator
from authentication.session import ChallengeSession, draw_challenge
from authentication.video import read_frames
from checkpoints import DEFAULT_MODEL

FRAMES_PER_SECOND = 10


def read_source(source: str, format: str | None) -> Iterator[tuple[float, Image.Image]]:
    """(seconds, frame) of a file with its own times, or of a webcam when its frames arrive, until the source ends."""
    if Path(source).is_file():
        yield from read_frames(source, rate=FRAMES_PER_SECOND)
        return
    with av.open(source, format=format) as camera:
        next_time = 0.0
        for frame in camera.decode(video=0):
            if time.monotonic() >= next_time:  # drop frames in between, so that the newest one is judged
                next_time = time.monotonic() + 1 / FRAMES_PER_SECOND
                yield time.monotonic(), frame.to_image()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", help="photograph of the person, with nobody else on it")
    parser.add_argument("source", help="video file or webcam")
    parser.add_argument(
        "--format", default="v4l2", help="format of the webcam: v4l2, avfoundation or dshow (default v4l2)"
    )
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="folder, Hub id or .onnx file (default: the shipped one)"
    )
    arguments = parser.parse_args(argv)
    try:
        authenticator = Authenticator.from_pretrained(arguments.model)
        template = authenticator.template([arguments.reference])
        session = ChallengeSession(draw_challenge(authenticator.actions), alternatives=authenticator.actions)
        attempt = Attempt(authenticator, template, session)
        requested = None
        for seconds, frame in read_source(arguments.source, arguments.format):
            view = attempt.observe(frame, seconds)
            if view.moments[-1].asked != requested:
                requested = view.moments[-1].asked
                print(f"{seconds:6.1f} s  please show: {requested}", flush=True)
            if (decision := view.progress.decision) is not None:
                print("ACCEPTED" if decision.accepted else f"REJECTED: {decision.reason}")
                return 0 if decision.accepted else 1
    except (OSError, ValueError) as error:
        print(f"session_in_terminal: {error}", file=sys.stderr)
        return 2
    print("REJECTED: the video ended before the session did")
    return 1


if __name__ == "__main__":
    sys.exit(main())
