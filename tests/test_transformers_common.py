"""The common tests of transformers, run on the network and the image processor of this project.

Only the source distribution of transformers contains them. `make test` downloads that of the installed version into
`transformers_source` of the environment; without it, the tests are skipped. NOT_APPLICABLE lists the tests that do not
apply, with the reason. All others run.
"""

import importlib
import sys
import types
import unittest
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from demo.examples import WELL_KNOWN
from face_data.drawn import drawn_photograph
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetForImageClassification, FaceLiveNetModel

SOURCE = Path(sys.prefix) / "transformers_source" / transformers.__version__
if not (SOURCE / "transformers_tests" / "test_modeling_common.py").exists():
    pytest.skip(
        f"transformers' source distribution is not in {SOURCE}; `make test` fetches it", allow_module_level=True
    )


# Modules that the tests import but no distribution contains: mixins for the generation of text and for the exporters of
# transformers, and a file that downloads images.
ABSENT = {
    "transformers_tests.exporters": {},
    "transformers_tests.exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    "transformers_tests.generation": {},
    "transformers_tests.generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    "fetch_hub_objects_for_ci": {"url_to_local_path": str},
}


def common(name: str) -> types.ModuleType:
    """A module of transformers' tests."""
    if str(SOURCE) not in sys.path:
        sys.path.append(str(SOURCE))
    for absent, content in ABSENT.items():
        if absent not in sys.modules:
            sys.modules[absent] = types.ModuleType(absent)
            vars(sys.modules[absent]).update(content)
    return importlib.import_module(f"transformers_tests.{name}")


HIDDEN_STATES = "the network only returns its outputs, and refuses output_hidden_states=True by name"
FIXED_PICTURES = "a face is always RGB of one size: there is no do_convert_rgb to set"
NOT_APPLICABLE = {
    "test_hidden_states_output": HIDDEN_STATES,
    "test_retain_grad_hidden_states_attentions": HIDDEN_STATES,
    "test_model_outputs_equivalence": f"it asks for hidden states too: {HIDDEN_STATES}; tuples: tests/test_modeling.py",
    "test_model_get_set_embeddings": "no tokens, so no table of their embeddings",
    "test_model_is_small": "the paper's network has one width, 13 million parameters with a single block of each kind",
    "test_call_numpy_4_channels": f"it sets do_convert_rgb: {FIXED_PICTURES}; RGBA is laid over white",
    "test_image_processor_from_dict_with_kwargs_has_attributes": FIXED_PICTURES,
    "test_image_processor_save_load_with_autoimageprocessor": (
        "our code has to be trusted, which the test does not do; tests/hub_card and tests/test_pipeline.py do"
    ),
}


def skip_not_applicable(case: type) -> type:
    for name, reason in NOT_APPLICABLE.items():
        if hasattr(case, name):
            setattr(case, name, unittest.skip(reason)(getattr(case, name)))
    return case


class SmallNetwork:
    """A small network and random faces, in the form that the mixin expects."""

    def __init__(self, parent):
        self.parent, self.batch_size, self.is_training = parent, 3, True
        self.config = FaceLiveNetConfig(image_size=80, repeats=[1, 1, 1], num_identities=5, dropout=0.0)

    def get_config(self) -> FaceLiveNetConfig:
        return self.config

    def prepare_config_and_inputs_for_common(self):
        torch.manual_seed(0)
        return self.config, {"pixel_values": torch.randn(self.batch_size, 3, 80, 80)}


@skip_not_applicable
class TestModels(common("test_modeling_common").ModelTesterMixin, unittest.TestCase):
    all_model_classes = (FaceLiveNetModel, FaceLiveNetForImageClassification)
    pipeline_model_mapping = {}  # noqa: RUF012 – a convention of the mixin
    has_attentions = False
    test_resize_embeddings = False
    test_torch_exportable = False

    def setUp(self):
        self.model_tester = SmallNetwork(self)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = dict(inputs_dict)
        if return_labels:
            labels = torch.arange(len(inputs["pixel_values"])) % 2
            if model_class is FaceLiveNetModel:
                inputs |= {"identity_labels": labels, "expression_labels": labels}
            else:
                inputs["labels"] = labels
        return inputs


@skip_not_applicable
class TestImageProcessor(common("test_image_processing_common").ImageProcessingTestMixin, unittest.TestCase):
    class image_processor_tester_class(common("test_image_processing_common").ImageProcessingTester):
        size = {"height": 80, "width": 80}  # noqa: RUF012

        def __init__(self, parent):
            super().__init__(parent, batch_size=3)

        def _get_image_processing_classes(self):
            return {"torchvision": FaceLiveNetImageProcessor}

        def prepare_image_processor_dict(self):
            return {"size": 80}

        def prepare_image_inputs(self, numpify=False, torchify=False, **kwargs):
            """Photographs in which the processor finds a face, in place of noise."""
            photographs = [np.asarray(drawn_photograph(who, "neutral", 0, seed=0)) for who in WELL_KNOWN[:3]]
            if torchify:
                return [torch.tensor(photograph).permute(2, 0, 1) for photograph in photographs]
            return photographs if numpify else [Image.fromarray(photograph) for photograph in photographs]
