"""A checkpoint that is quick to make, and images of drawn people."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from face_data.drawn import draw_face
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel


@pytest.fixture(scope="session")
def happy_model(tmp_path_factory) -> Path:
    """A model folder with random weights. For this model every face is happy and all faces are similar.

    Its decisions have no meaning. Loading, calling and reporting work as with a trained model.
    """
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = FaceLiveNetConfig(image_size=80, similarity_threshold=0.5, challenge_expressions=["happy"])
    model = FaceLiveNetModel(config)
    with torch.no_grad():
        model.expression_head.classifier.bias[config.expressions.index("happy")] = 20
    config.calibrated_weights = model.fingerprint()
    model.save_pretrained(folder)
    FaceLiveNetImageProcessor(size=80).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def portrait() -> Image.Image:
    """A drawn person, 250x250 RGB."""
    return draw_face(0, "neutral", np.random.default_rng(0))


@pytest.fixture(scope="session")
def group() -> Image.Image:
    """Three drawn people side by side."""
    picture = Image.new("RGB", (750, 250))
    for place in range(3):
        picture.paste(draw_face(place, "neutral", np.random.default_rng(place)), (250 * place, 0))
    return picture
