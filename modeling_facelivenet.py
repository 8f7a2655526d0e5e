"""FaceLiveNet+ in one file: the network, the dynamic-weight-unit and the losses, in the order of the paper.

    model = FaceLiveNetModel.from_pretrained("pretrained")
    output = model(pixel_values)                  # whitened faces (batch, 3, 160, 160)
    output.embedding                              # (batch, 1792): who
    output.expression_logits                      # (batch, expressions): which expression
    model(pixel_values, identity_labels=y, expression_labels=e).loss.backward()

    FaceLiveNetForImageClassification is branch 2 alone, behind transformers' usual interface: logits, and a loss for
    labels; its expressions may be others than those of the checkpoint it starts from.

                                           ┌─ branch 1: 2 × Block8, pool ─ embedding ─ identities    L1
    stem ─ Block35 ─ A ─ Block17 ─ B ──────┼─ dynamic-weight-unit ─ w1, w2         L3 = (1 + w1) L1 + w2 L2
           shared layers (section 3)       └─ branch 2: 2 × Block8, pool ─ 128 ─ expressions         L2

    initialisation: convolutions and linear layers Xavier uniform, every bias 0, batch norm the identity, centres 0.
    Names of the layers are those of facenet-pytorch's InceptionResnetV1, so that its published weights can be loaded.

This file imports nothing of the rest of the project, so that the Hub can ship it as it is.
"""

import difflib
import hashlib
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention
from transformers.utils import ModelOutput, can_return_tuple

EXPRESSIONS = ("neutral", "anger", "disgust", "fear", "happy", "sad", "surprise")
HEAD_TURNS = ("turn_left", "turn_right")  # what a live session may ask for beside expressions: the person's own sides
FEATURE_SIZE = 1792  # channels of the last feature map, hence of the embedding
IGNORE = -100  # the label of what nobody labelled, as everywhere in PyTorch
LEAST_THRESHOLD = 0.05  # of similarity and of an expression: of strangers, half are more alike than 0
MOST_REPEATS = 100  # of one kind of block; the full Inception-ResNet-v1 has 10
SMALLEST_IMAGE = 75  # below it the shared layers have no output
BATCH_NORM_EPS = 1e-3  # TensorFlow's
EXPRESSION_HIDDEN_SIZE = 128  # of branch 2's "one more fully connected layer"
CENTER_DECAY = 0.95  # a of c −= (1 − a) · mean(c − x): how much of a class centre one batch leaves in place
# Settings that earlier versions saved, with the value that is always used now. Another value of the former would be
# another network; the latter matter in training alone.
REMOVED_FROM_NETWORK = {
    "batch_norm_eps": BATCH_NORM_EPS,
    "expression_hidden_size": EXPRESSION_HIDDEN_SIZE,
    "embedding_size": 0,
}
REMOVED_FROM_LOSSES = {"center_decay": CENTER_DECAY, "expression_class_weights": None}
TEACHER_LOSSES = ("mse", "cosine")
# layers a decision rests on
JUDGING = ("shared.", "verification.", "length.", "covers.", "expression.", "expression_head.")
COVERED = ("eyes_covered", "mouth_covered")  # what `CoverDetector` tells
# bounds that `config.quality` holds; the latter where there is a cover detector
QUALITY = ("least_sharpness", "least_detection_probability")
MOST_COVERED = tuple(f"most_{name}" for name in COVERED)
CALIBRATED = ("similarity_threshold", "calibration", "quality", "calibrated_weights")  # void with other weights
WEIGHTINGS = ("dynamic", "static", "inverse_loss", "uncertainty", "verification", "expression")


@strict
class FaceLiveNetConfig(PreTrainedConfig):
    """Everything that defines the network, its losses and its calibrated decision. Wrong values raise at once.

    Args:
        image_size: side of the square input in pixels. Inference works at any size from 75; the dynamic-weight-unit
            flattens the feature map and is tied to this one.
        trunk: None for the paper's shared layers, or the name of a timm backbone in their place ("resnet18"), whose
            last feature map a 1 × 1 convolution brings to 1792 channels; branches, unit and losses stay the same.
        repeats: how many Block35, Block17 and Block8. (1, 1, 1) is the paper's network of 13 million parameters,
            (5, 10, 5) the full Inception-ResNet-v1.
        batch_norm_scale: whether batch norms learn a scale (TensorFlow's default, and the paper's count, has none).
        batch_norm_momentum: 1 − TensorFlow's decay of 0.995.
        dropout: before both classifiers.
        embedding_length: embeddings of faces that resemble many strangers are shorter (`EmbeddingLength`); else all
            have length 1.
        cover_detector: whether the network tells covered eyes and mouths (`CoverDetector`).
        num_identities: people of the training set; 0 leaves the identity classifier and the centres out.
        sampled_identities: how many of them one step looks at, those of the batch among them, for millions of people
            (Partial FC, arXiv 2203.15565, here for the class-wise triplet loss too); 0 looks at all, as the paper does.
        weighting: how the two losses are weighed. "dynamic": equation 5. "static": w1 L1 + w2 L2 with static_weights
            (Table 5). "inverse_loss": w1 L1 + w2 L2, where the unit learns from w1 / L1 + w2 / L2 alone (the authors'
            next paper, arXiv 1911.03281). "uncertainty": e^-s1 L1 + e^-s2 L2 + (s1 + s2) / 2 with learnt s (Kendall,
            arXiv 1705.07115). "verification" and "expression": one task alone (section 4.2).
        static_weights: w1 and w2 of the "static" weighting.
        triplet_weight, triplet_margin: α of equation 1 and β0 of equation 3.
        cosine_scale, cosine_margin: s and m of a margin softmax, s (cos θ − m) for the own identity and s cos θ for the
            others (CosFace, arXiv 1801.09414), in place of equation 2's plain logits; a scale of 0 keeps the paper's.
        identity_weight: factor of equation 1's losses over identities in L1, beside a teacher's.
        teacher_size: length of the vectors of a teacher, a face recognition network whose answers branch 1 learns to
            give (`teacher_targets`); 0 without one.
        teacher_loss: "mse" or "cosine", how an answer is compared with the teacher's vector.
        teacher_weight, teacher_pairs_weight: factors of that loss and of the loss over the similarities of all pairs
            in a batch.
        similarity_threshold: dot product of two embeddings from which they are one person; None until it is calibrated.
        expression_threshold: probability from which the asked expression counts as seen.
        test_time_flip: average what the network says of a face and of its mirror image; costs a second pass.
        challenge_expressions: the expressions this checkpoint recognises well enough to be asked for; by default happy
            and surprise, which the paper found "most universal and easy to recognize".
        challenge_actions: everything a live session may ask for: some of challenge_expressions, and turns of the head
            ("turn_left", "turn_right", the person's own). None, and so every config from before there were turns: all
            of these expressions and both turns.
        calibration: where the thresholds come from (FAR, FRR, interval, corpus, date).
        quality: least and largest values of what a face is measured by (QUALITY, MOST_COVERED), calibrated beside the
            threshold; None sets none. Faces outside them are refused: see `pipeline_facelivenet.unusable_reason`.
        calibrated_weights: `fingerprint` of the weights they were calibrated on; with any others they do not count.
    """

    model_type = "facelivenet"

    image_size: int = 160
    trunk: str | None = None
    repeats: list[int] | tuple[int, ...] = (1, 1, 1)
    batch_norm_scale: bool = False
    batch_norm_momentum: float = 0.005
    dropout: float | int = 0.5
    embedding_length: bool = False
    cover_detector: bool = False
    num_identities: int = 0
    sampled_identities: int = 0
    weighting: str = "dynamic"
    static_weights: list[float | int] | tuple[float | int, ...] = (1.0, 1.0)
    triplet_weight: float | int = 1e-4
    triplet_margin: float | int = 10.0
    cosine_scale: float | int = 0
    cosine_margin: float | int = 0
    identity_weight: float | int = 1.0
    teacher_size: int = 0
    teacher_loss: str = "mse"
    teacher_weight: float | int = 1.0
    teacher_pairs_weight: float | int = 20.0
    similarity_threshold: float | int | None = None
    expression_threshold: float | int = 0.5
    test_time_flip: bool = False
    challenge_expressions: list[str] | tuple[str, ...] | None = None
    challenge_actions: list[str] | tuple[str, ...] | None = None
    calibration: dict | None = None
    quality: dict | None = None
    calibrated_weights: str | None = None

    def __post_init__(self, **kwargs):
        for name, value in REMOVED_FROM_NETWORK.items():
            if kwargs.pop(name, value) != value:
                raise ValueError(f"{name} was removed: every network has {value}")
        kwargs = {name: value for name, value in kwargs.items() if name not in REMOVED_FROM_LOSSES}
        for name in kwargs:
            close = difflib.get_close_matches(name, self.__dataclass_fields__, n=1, cutoff=0.85)
            if (
                close and close[0] != name
            ):  # transformers passes names of its own: only what looks like a slip is refused
                raise ValueError(f"unknown setting {name!r}: did you mean {close[0]!r}?")
        if self.id2label is None and "num_labels" not in kwargs:
            self.id2label = dict(enumerate(EXPRESSIONS))
            self.label2id = {name: index for index, name in self.id2label.items()}
        super().__post_init__(**kwargs)
        if self.label2id is None:
            self.label2id = {name: index for index, name in self.id2label.items()}
        if self.challenge_expressions is None:
            self.challenge_expressions = [name for name in self.id2label.values() if name in ("happy", "surprise")]

    def __setattr__(self, name: str, value):
        """Other labels (`config.num_labels = 3` sets them too) take along what was said about the former ones."""
        before = getattr(self, "id2label", None) if name == "id2label" else None
        super().__setattr__(name, value)
        if before and value and set(before.values()) != set(value.values()):
            asked = getattr(self, "challenge_expressions", None) or ()
            super().__setattr__("challenge_expressions", [label for label in asked if label in value.values()])

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """Labels given by name (`id2label`, or `num_labels` of another count) replace the saved expressions, and with
        them which of those may be asked for."""
        labels = {name: kwargs.pop(name) for name in ("id2label", "label2id", "num_labels") if name in kwargs}
        if "id2label" in labels or labels.get("num_labels") not in (None, len(config_dict.get("id2label") or ())):
            about = ("id2label", "label2id", "challenge_expressions", "challenge_actions")
            config_dict = {name: value for name, value in config_dict.items() if name not in about} | labels
        return super().from_dict(config_dict, **kwargs)

    @property
    def expressions(self) -> tuple[str, ...]:
        """Names of the expressions in the order of the logits."""
        return tuple(self.id2label[index] for index in range(len(self.id2label)))

    @property
    def embedding_dim(self) -> int:
        """Length of the embedding."""
        return FEATURE_SIZE

    @property
    def tasks(self) -> tuple[str, ...]:
        """What is trained: both branches, or by a single-task weighting one."""
        return (self.weighting,) if self.weighting in ("verification", "expression") else ("verification", "expression")

    def validate_network(self):
        """Called by `@strict` after construction."""
        if self.trunk is None and self.image_size < SMALLEST_IMAGE:
            raise ValueError(f"image_size must be at least {SMALLEST_IMAGE} pixels, not {self.image_size}")
        if len(self.repeats) != 3 or min(self.repeats) < 0:
            raise ValueError(f"repeats must be three counts (Block35, Block17, Block8), not {self.repeats}")
        if max(self.repeats) > MOST_REPEATS:
            raise ValueError(f"repeats must be at most {MOST_REPEATS} each, not {self.repeats}")
        if not 0 <= self.dropout <= 1:
            raise ValueError(f"dropout must lie within 0..1, not {self.dropout}")
        for name in (
            "triplet_weight",
            "triplet_margin",
            "num_identities",
            "sampled_identities",
            "cosine_scale",
            "cosine_margin",
            "identity_weight",
            "teacher_size",
            "teacher_weight",
            "teacher_pairs_weight",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative: {getattr(self, name)}")
        if self.teacher_loss not in TEACHER_LOSSES:
            raise ValueError(f"teacher_loss must be one of {', '.join(TEACHER_LOSSES)}, not {self.teacher_loss!r}")
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {self.weighting!r}")
        if len(self.static_weights) != 2 or not min(self.static_weights) >= 0:
            raise ValueError(f"static_weights must be w1 and w2, not negative: {self.static_weights}")
        if not self.batch_norm_momentum > 0:
            raise ValueError(f"batch_norm_momentum must be positive, not {self.batch_norm_momentum}")
        if self.similarity_threshold is not None and not LEAST_THRESHOLD <= self.similarity_threshold <= 1:
            raise ValueError(
                f"similarity_threshold must lie within {LEAST_THRESHOLD}..1, not {self.similarity_threshold}: with a "
                "lower one nearly everybody would be the same person"
            )
        if not LEAST_THRESHOLD <= self.expression_threshold <= 1:
            raise ValueError(
                f"expression_threshold must lie within {LEAST_THRESHOLD}..1, not {self.expression_threshold}: with a "
                "lower one an expression would count that was not seen"
            )
        bounds = {*QUALITY, *(MOST_COVERED if self.cover_detector else ())}
        if self.quality is not None and {*self.quality} != bounds:
            raise ValueError(
                f"quality must hold {', '.join(sorted(bounds))}, not {', '.join(sorted(self.quality))}: remove it from "
                "config.json and run `python -m evaluation calibrate`"
            )
        fewest = 1 if self.problem_type == "regression" else 2
        if sorted(self.id2label) != list(range(len(self.id2label))) or len(self.id2label) < fewest:
            raise ValueError(f"id2label must number two or more expressions from 0, not {self.id2label}")
        if len(set(self.id2label.values())) < len(self.id2label):
            raise ValueError(f"id2label must name each expression once, not {', '.join(self.id2label.values())}")
        unknown = set(self.challenge_expressions) - set(self.id2label.values())
        if unknown:
            raise ValueError(f"challenge_expressions names {', '.join(sorted(unknown))}, which id2label does not")
        if self.challenge_actions is not None:
            known = [name for name in self.challenge_expressions if name != "neutral"] + list(HEAD_TURNS)
            unknown = set(self.challenge_actions) - set(known)
            if unknown or not self.challenge_actions:
                named = ", ".join(sorted(unknown)) or "nothing"
                raise ValueError(f"challenge_actions names {named}: a session may ask for {', '.join(known)}")


# --------------------------------------------------------------------------------------------------------------------
# The network (section 3)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that, like TensorFlow's default, learns a shift and only on demand a scale."""

    def __init__(self, channels: int, config: FaceLiveNetConfig):
        super().__init__(channels, eps=BATCH_NORM_EPS, momentum=config.batch_norm_momentum)
        if not config.batch_norm_scale:
            self.weight = None

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is not None or not torch.is_grad_enabled() or torch.jit.is_tracing():
            return super().forward(x)
        # PyTorch's CUDA kernels give the shift no gradient where there is no scale at all
        if self.training:
            self.num_batches_tracked.add_(1)
        scale = torch.ones_like(self.bias)
        mean, variance = self.running_mean, self.running_var
        return F.batch_norm(x, mean, variance, scale, self.bias, self.training, self.momentum, self.eps)


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, config, in_channels: int, out_channels: int, kernel_size, stride: int = 1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = BatchNorm2d(out_channels, config)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class ResidualBlock(nn.Module):
    """x + scale · conv1×1(concatenated branches): Block35, Block17 and Block8 differ only in their branches."""

    def __init__(self, branches: list[nn.Module], branch_channels: int, channels: int, scale: float, relu: bool = True):
        super().__init__()
        for number, branch in enumerate(branches):
            self.add_module(f"branch{number}", branch)
        self.conv2d = nn.Conv2d(branch_channels, channels, 1)
        self.scale = scale
        self.relu = relu
        self.branches = len(branches)

    def forward(self, x: Tensor) -> Tensor:
        mixed = torch.cat([getattr(self, f"branch{number}")(x) for number in range(self.branches)], dim=1)
        x = x + self.scale * self.conv2d(mixed)
        return F.relu(x) if self.relu else x


def block35(config) -> ResidualBlock:
    branches = [
        ConvBlock(config, 256, 32, 1),
        nn.Sequential(ConvBlock(config, 256, 32, 1), ConvBlock(config, 32, 32, 3, padding=1)),
        nn.Sequential(
            ConvBlock(config, 256, 32, 1),
            ConvBlock(config, 32, 32, 3, padding=1),
            ConvBlock(config, 32, 32, 3, padding=1),
        ),
    ]
    return ResidualBlock(branches, 96, 256, scale=0.17)


def block17(config) -> ResidualBlock:
    seven = [ConvBlock(config, 128, 128, (1, 7), padding=(0, 3)), ConvBlock(config, 128, 128, (7, 1), padding=(3, 0))]
    branches = [ConvBlock(config, 896, 128, 1), nn.Sequential(ConvBlock(config, 896, 128, 1), *seven)]
    return ResidualBlock(branches, 256, 896, scale=0.10)


def block8(config, scale: float = 0.20, relu: bool = True) -> ResidualBlock:
    three = [ConvBlock(config, 192, 192, (1, 3), padding=(0, 1)), ConvBlock(config, 192, 192, (3, 1), padding=(1, 0))]
    branches = [ConvBlock(config, FEATURE_SIZE, 192, 1), nn.Sequential(ConvBlock(config, FEATURE_SIZE, 192, 1), *three)]
    return ResidualBlock(branches, 384, FEATURE_SIZE, scale, relu)


class Reduction(nn.Module):
    """Halves the side: its strided branches and a max pool, concatenated."""

    def __init__(self, branches: list[nn.Module]):
        super().__init__()
        for number, branch in enumerate(branches):
            self.add_module(f"branch{number}", branch)
        self.branches = len(branches)

    def forward(self, x: Tensor) -> Tensor:
        strided = [getattr(self, f"branch{number}")(x) for number in range(self.branches)]
        return torch.cat([*strided, F.max_pool2d(x, 3, stride=2)], dim=1)


class SharedLayers(nn.Module):
    """Stem to Reduction-B: (batch, 3, 160, 160) -> (batch, 1792, 3, 3)."""

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.conv2d_1a = ConvBlock(config, 3, 32, 3, stride=2)
        self.conv2d_2a = ConvBlock(config, 32, 32, 3)
        self.conv2d_2b = ConvBlock(config, 32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, stride=2)
        self.conv2d_3b = ConvBlock(config, 64, 80, 1)
        self.conv2d_4a = ConvBlock(config, 80, 192, 3)
        self.conv2d_4b = ConvBlock(config, 192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(block35(config) for _ in range(config.repeats[0])))
        self.mixed_6a = Reduction(  # Reduction-A
            [
                ConvBlock(config, 256, 384, 3, stride=2),
                nn.Sequential(
                    ConvBlock(config, 256, 192, 1),
                    ConvBlock(config, 192, 192, 3, padding=1),
                    ConvBlock(config, 192, 256, 3, stride=2),
                ),
            ]
        )
        self.repeat_2 = nn.Sequential(*(block17(config) for _ in range(config.repeats[1])))
        self.mixed_7a = Reduction(  # Reduction-B
            [
                nn.Sequential(ConvBlock(config, 896, 256, 1), ConvBlock(config, 256, 384, 3, stride=2)),
                nn.Sequential(ConvBlock(config, 896, 256, 1), ConvBlock(config, 256, 256, 3, stride=2)),
                nn.Sequential(
                    ConvBlock(config, 896, 256, 1),
                    ConvBlock(config, 256, 256, 3, padding=1),
                    ConvBlock(config, 256, 256, 3, stride=2),
                ),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():  # in the order they are defined
            x = layer(x)
        return x

    @staticmethod
    def side(image_size: int) -> int:
        """Side of the output for a square input, in cells."""
        side = (image_size - 3) // 2 + 1 - 2  # conv2d_1a, conv2d_2a
        side = (side - 3) // 2 + 1 - 2  # maxpool_3a, conv2d_4a
        for _ in range(3):  # conv2d_4b, Reduction-A, Reduction-B
            side = (side - 3) // 2 + 1
        return side


class TimmTrunk(nn.Module):
    """A timm backbone in place of the shared layers: (batch, 3, side, side) -> (batch, 1792, side / 32, side / 32)."""

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        try:
            import timm  # a second for what only config.trunk needs
        except ImportError as error:
            raise ImportError(f"The trunk {config.trunk} comes from timm: pip install timm") from error
        if not timm.is_model(config.trunk):
            close = difflib.get_close_matches(config.trunk, timm.list_models(), n=5, cutoff=0)
            raise ValueError(f"trunk: timm has no backbone {config.trunk!r}; similar are {', '.join(close)}")
        published = timm.get_pretrained_cfg(config.trunk)
        size = {"img_size": config.image_size} if published and published.fixed_input_size else {}
        self.body = timm.create_model(config.trunk, features_only=True, out_indices=(-1,), **size)
        [self.step], [channels] = self.body.feature_info.reduction(), self.body.feature_info.channels()
        self.channels_last = self.body.output_fmt == "NHWC"  # as Swin's are
        self.project = ConvBlock(config, channels, FEATURE_SIZE, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)[-1]
        return self.project(x.permute(0, 3, 1, 2) if self.channels_last else x)

    def side(self, image_size: int) -> int:
        if image_size % self.step:
            raise ValueError(f"image_size must be a multiple of {self.step} for this trunk, not {image_size}")
        return image_size // self.step


class Branch(nn.Module):
    """What both tasks have of their own: Block8s, the last without ReLU, and average pooling -> (batch, 1792)."""

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.repeat_3 = nn.Sequential(*(block8(config) for _ in range(config.repeats[2])))
        self.block8 = block8(config, scale=1.0, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.block8(self.repeat_3(x)).mean(dim=(2, 3))


class EmbeddingLength(nn.Module):
    """How much a face tells of its person: the length of its embedding, 1 at most.

    Some faces resemble many strangers: blurred ones, covered ones, those that look like the average. A similarity that
    is high for such a face means less. Recognisers of speakers therefore measure a voice against a cohort of strangers
    and correct the similarity by its nearest ones (adaptive score normalisation). Here a linear layer predicts from the
    embedding's direction how alike the nearest strangers are, x, in units of the least that occurs, and the length is
    1 / √x. The dot product of two embeddings is then their cosine, divided by the geometric mean of their x.
    `train/embedding_length.py` fits the layer; before that it says 1 for every face.
    """

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.crowding = nn.Linear(config.embedding_dim, 1)

    def forward(self, directions: Tensor) -> Tensor:
        """Directions (b, embedding_dim) of length 1 -> embeddings (b, embedding_dim) float32, of length 1 at most."""
        with torch.autocast(directions.device.type, enabled=False):
            crowding = F.linear(directions.float(), self.crowding.weight.float(), self.crowding.bias.float())
            return directions * crowding.clamp(min=1).rsqrt()


class CoverDetector(nn.Module):
    """Whether something covers the eyes or the mouth: a linear layer on the embedding's direction.

    Two strangers whose eyes are covered look alike to the network, and a covered mouth may look like a smile. What the
    cover looks like matters little: plain, patterned, a bar, glasses or a mask. `train/cover_detector.py` fits the
    layer when everything else is trained; before that it says 0 for every face.
    """

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.covered = nn.Linear(config.embedding_dim, len(COVERED))

    def forward(self, directions: Tensor) -> Tensor:
        """Directions (b, embedding_dim) of length 1 -> logits (b, 2) float32 of COVERED."""
        with torch.autocast(directions.device.type, enabled=False):
            return F.linear(directions.float(), self.covered.weight.float(), self.covered.bias.float())


class ExpressionHead(nn.Module):
    """Branch 2's end: dropout, one more fully connected layer with ReLU, the expressions' logits."""

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.hidden = nn.Linear(FEATURE_SIZE, EXPRESSION_HIDDEN_SIZE)
        self.classifier = nn.Linear(EXPRESSION_HIDDEN_SIZE, len(config.id2label))

    def forward(self, features: Tensor) -> Tensor:
        return self.classifier(F.relu(self.hidden(self.dropout(features))))


class DynamicWeightUnit(nn.Module):
    """The last shared layer, flattened -> (w1, w2), positive and summing to 1 (equation 6, the batch's mean).

    Normalising the flattened features keeps the softmax from saturating on their scale.
    """

    def __init__(self, side: int):
        super().__init__()
        self.fc = nn.Linear(FEATURE_SIZE * side**2, 2)

    def forward(self, shared: Tensor) -> Tensor:
        flat = shared.flatten(1)
        if flat.shape[1] != self.fc.in_features:
            raise ValueError(
                f"the dynamic-weight-unit was built for feature maps of {self.fc.in_features} values and got "
                f"{flat.shape[1]}: train at the config's image_size"
            )
        return self.fc(F.normalize(flat, dim=1)).softmax(dim=1).mean(dim=0)  # (2,)


# --------------------------------------------------------------------------------------------------------------------
# The losses (section 4.1)


class ClassWiseTripletLoss(torch.autograd.Function):
    """Equations 3 and 4 with their gradient, which is at hand when the distances are.

    Nothing of the size of the centres is made on the way or kept for the backward pass, and the centres may move as
    soon as the loss is known.
    """

    @staticmethod
    def forward(ctx, features: Tensor, labels: Tensor, centers: Tensor, margin: float) -> Tensor:
        # ‖x − c‖² = ‖x‖² + ‖c‖² − 2 x·c: (m, k) by one matrix product
        squared = features.square().sum(dim=1, keepdim=True) - 2 * (features @ centers.T)
        squared += torch.linalg.vector_norm(centers, dim=1).square()
        distances = squared.clamp_(min=0).sqrt_()
        # The own centre is the near one, where the product above cancels digits: by the plain difference.
        from_own = features - centers[labels]  # (m, d)
        own = torch.linalg.vector_norm(from_own, dim=1, keepdim=True)  # (m, 1)
        violations = F.relu(own + margin - distances).scatter_(1, labels[:, None], 0.0)
        # ∂/∂x of ‖x − c‖ is (x − c) / ‖x − c‖, and 0 where x = c.
        active = violations > 0
        push = torch.where(active & (distances > 0), 1 / distances, 0.0)  # (m, k)
        pull = torch.where(own > 0, active.sum(dim=1, keepdim=True) / own, 0.0)  # (m, 1)
        ctx.save_for_backward(pull * from_own - push.sum(dim=1, keepdim=True) * features + push @ centers)
        return violations.sum(dim=1)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad[:, None] * ctx.saved_tensors[0], None, None, None


def class_wise_triplet_loss(features: Tensor, labels: Tensor, centers: Tensor, margin: float) -> Tensor:
    """Equations 3 and 4, one value per sample: Σ_{l ≠ y_i} max(‖x_i − c_{y_i}‖ + β0 − ‖x_i − c_l‖, 0).

    Args:
        features: x, (m, d). labels: y, (m,) in 0..k−1. centers: c, (k, d), not trained by gradient. margin: β0.

    Returns:
        (m,); their sum is the paper's Lc. Memory is that of a few (m, k) matrices beside the centres.
    """
    return ClassWiseTripletLoss.apply(features, labels, centers, margin)


@torch.no_grad()
def move_centers(centers: Tensor, features: Tensor, labels: Tensor, decay: float) -> None:
    """c_l −= (1 − a) · mean over the batch's samples of class l of (c_l − x_i), in place; other classes stay.

    Labels of −100 are left out. The sums are matrix products, so that every process comes to the same bits.
    """
    known = labels != IGNORE
    people, member = labels[known].unique(return_inverse=True)  # (p,), (m,)
    member = F.one_hot(member, len(people)).T.to(centers.dtype)  # (p, m)
    mean = member @ features[known].to(centers.dtype) / member.sum(dim=1, keepdim=True)
    centers[people] -= (1 - decay) * (centers[people] - mean)


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of x over the processes of a distributed training; x itself where there is one.

    Its gradient is x's own times the number of processes, so that the processes' gradients, which
    DistributedDataParallel averages, become exactly that of the whole batch.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total + dist.get_world_size() * (x - x.detach())


def gather_from_processes(x: Tensor) -> Tensor:
    """The rows of every process, in the order of the processes, without gradient."""
    if not (dist.is_available() and dist.is_initialized()):
        return x.detach()
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.detach().contiguous())
    return torch.cat(parts)


class IdentityHead(nn.Module):
    """L1's parts in training: the linear layer to the identities, and the class centres.

    With `sampled_identities`, `classifier` holds the rows of the identities in `sample` alone; all of them lie in
    `table`. Whoever trains draws a sample before each step and puts its rows back after it.
    """

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        looked_at = min(config.sampled_identities or config.num_identities, config.num_identities)
        bias = not config.cosine_scale and not config.sampled_identities
        self.classifier = nn.Linear(config.embedding_dim, looked_at, bias=bias)
        self.register_buffer("centers", torch.zeros(config.num_identities, config.embedding_dim))
        if config.sampled_identities:
            self.register_buffer("table", torch.zeros(config.num_identities, config.embedding_dim))
            self.register_buffer("sample", torch.arange(looked_at))  # in ascending order
        self.batches_per_step = 1  # with gradient accumulation, centres move once per step too
        self.seen: list[tuple[Tensor, Tensor]] = []

    @torch.compiler.disable  # the centres move in place, which a compiled graph with gradients may not do
    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The sums of Ls1 and Lc over the known people, and how many these are: (3,).

        Args:
            features: (m, embedding_dim). labels: (m,) with −100 for unknown people.
        """
        known = labels != IGNORE
        people, centers = labels.clamp(min=0), self.centers
        if self.config.sampled_identities:
            people = torch.searchsorted(self.sample, people)
            centers = centers[self.sample]
        logits = self.logits(self.dropout(features), people)
        softmax_loss = F.cross_entropy(logits, people.where(known, IGNORE), ignore_index=IGNORE, reduction="sum")
        triplet_loss = class_wise_triplet_loss(features, people, centers, self.config.triplet_margin)
        if self.training:
            self._move_centers(features, labels)
        return torch.stack([softmax_loss, (triplet_loss * known).sum(), known.sum()])

    def logits(self, features: Tensor, labels: Tensor) -> Tensor:
        """(m, identities looked at): z of equation 2, or with a cosine_scale those of the margin softmax."""
        if not self.config.cosine_scale:
            return self.classifier(features)
        cosine = F.linear(F.normalize(features, dim=1), F.normalize(self.classifier.weight, dim=1))
        own = F.one_hot(labels, self.classifier.out_features)
        return self.config.cosine_scale * (cosine - self.config.cosine_margin * own)

    def _move_centers(self, features: Tensor, labels: Tensor) -> None:
        self.seen.append((gather_from_processes(features), gather_from_processes(labels)))
        if len(self.seen) >= self.batches_per_step:
            features, labels = map(torch.cat, zip(*self.seen, strict=True))
            move_centers(self.centers, features, labels, CENTER_DECAY)
            self.seen.clear()


class TeacherHead(nn.Module):
    """What branch 1 learns from a teacher network: its vector for each face, and the similarity of every two faces.

    Distillation needs no names, so every photograph of a face teaches. Targets are standardised: the mean vector of the
    training photographs is subtracted and the rest scaled to a mean squared length of 1. Two different people are then
    at a squared distance d² of 2 on average, and 1 − d²/2 is a similarity: 1 for the same vector, 0 for strangers.
    """

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.config = config
        self.projection = nn.Linear(config.embedding_dim, config.teacher_size)

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Features (m, embedding_dim), targets (m, teacher_size) -> (4,): the sum of the loss of each vector, how many

        vectors there are, the sum of the loss of each pair, and how many pairs there are. A target of NaN belongs to a
        face that should look like nobody: it has no vector, and its similarity to every other face should be 0.
        """
        known = ~targets.isnan().any(dim=1)
        embedding = F.normalize(features, dim=1)
        predicted, wanted = self.projection(embedding[known]), targets[known]
        if self.config.teacher_loss == "mse":
            vector_losses = (predicted - wanted).square().sum(dim=1)
        else:
            vector_losses = 1 - F.cosine_similarity(predicted, wanted)
        wanted = torch.zeros(len(features), len(features), dtype=features.dtype, device=features.device)
        rows = known.nonzero().squeeze(1)
        wanted[rows[:, None], rows] = 1 - torch.cdist(targets[known], targets[known]).square() / 2
        pairs = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
        pair_losses = (embedding @ embedding.T - wanted).square()[pairs]
        return torch.stack([vector_losses.sum(), known.sum(), pair_losses.sum(), pairs.sum()])


def expression_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """L2: (2,), the sum of the cross-entropies over the samples with a label, and how many they are.

    Args:
        logits: (m, n). labels: (m,) class indices with −100 for unknown, or (m, n) probabilities with rows of zeros.
    """
    if labels.is_floating_point():  # a row of zeros contributes 0
        known = labels.sum(dim=1) > 0
        total = F.cross_entropy(logits, labels.to(logits.dtype), reduction="sum")
    else:
        known = labels != IGNORE
        total = F.cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORE)
    return torch.stack([total, known.sum().to(total.dtype)])


def multi_task_loss(verification_loss: Tensor, expression_loss: Tensor, task_weights: Tensor) -> Tensor:
    """Equation 5: L3 = (1 + w1) L1 + w2 L2.

    By the softmax, ∂L3/∂z1 = w1 w2 (L1 − L2): descent moves weight to the task with the smaller loss.
    """
    return (1 + task_weights[0]) * verification_loss + task_weights[1] * expression_loss


class Uncertainty(nn.Module):
    """The learnt logarithms s of both tasks' variances."""

    def __init__(self):
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(2))


# --------------------------------------------------------------------------------------------------------------------
# The model


@dataclass
class FaceLiveNetOutput(ModelOutput):
    """
    Args:
        embedding: (batch, embedding_dim) of length 1, or with `embedding_length` at most 1; the dot product of two is
            their similarity.
        expression_logits: (batch, expressions), in the order of `config.expressions`.
        cover_logits: (batch, 2), of COVERED; with `cover_detector`.
        loss: what is minimised, by equation 5 L3; a scalar. This and what follows only when labels are given; in
            training over several processes they are those of the whole batch, the same everywhere.
        verification_loss: L1 = softmax_loss + α · triplet_loss, and with a teacher its two losses, each by its weight.
        softmax_loss, triplet_loss: means over known people. teacher_loss, teacher_pairs_loss: means over faces, pairs.
        expression_loss: L2, the mean over labelled expressions. task_weights: (w1, w2).
    """

    loss: Tensor | None = None
    embedding: Tensor | None = None
    expression_logits: Tensor | None = None
    cover_logits: Tensor | None = None
    verification_loss: Tensor | None = None
    softmax_loss: Tensor | None = None
    triplet_loss: Tensor | None = None
    teacher_loss: Tensor | None = None
    teacher_pairs_loss: Tensor | None = None
    expression_loss: Tensor | None = None
    task_weights: Tensor | None = None


# What the image processor says of faces beside their pixels; transformers' pipelines pass all of it on.
PROCESSOR_OUTPUTS = frozenset(
    (
        "box",
        "landmarks",
        "detection_probability",
        "face_count",
        "turn",
        "roll",
        "aside",
        "sharpness",
        "noise",
        "flat_colour",
        "index",
        "skipped",
    )
)


def refuse_unknown(arguments: dict) -> None:
    """Of what transformers may pass to any model, name what this one cannot do, and what is a slip.

    Raises:
        TypeError: such as for `lables=`, `output_hidden_states=True`.
    """
    for name, value in arguments.items():
        if name in ("output_hidden_states", "output_attentions"):
            if value:
                raise TypeError(f"{name}=True: this network gives its outputs alone")
        elif name not in PROCESSOR_OUTPUTS and name != "num_items_in_batch":  # Trainer's, for losses that are sums
            raise TypeError(f"forward() got an unexpected argument {name!r}")


class FaceLiveNetPreTrainedModel(PreTrainedModel):
    """What the network and its expression branch alone have in common: config and initialisation."""

    config_class = FaceLiveNetConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ("ResidualBlock", "Reduction")  # add what they have computed before: on one device each

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            if module.weight is not None:
                init.ones_(module.weight)
            for zero in (module.bias, module.running_mean, module.num_batches_tracked):
                init.zeros_(zero)
            init.ones_(module.running_var)
        elif isinstance(module, EmbeddingLength):
            init.zeros_(module.crowding.weight)
            init.ones_(module.crowding.bias)
        elif isinstance(module, CoverDetector):
            init.zeros_(module.covered.weight)
            init.zeros_(module.covered.bias)
        elif isinstance(module, IdentityHead):
            init.zeros_(module.centers)
            if self.config.sampled_identities:
                init.xavier_uniform_(module.table)
                init.copy_(module.sample, torch.arange(len(module.sample)))
        elif isinstance(module, Uncertainty):
            init.zeros_(module.log_variances)
        if hasattr(module, "init_non_persistent_buffers"):  # timm's, which no checkpoint holds
            module.init_non_persistent_buffers()

    @property
    def calibrated_threshold(self) -> float | None:
        """The config's similarity threshold where it was calibrated on these very weights, else None."""
        return None

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As everywhere in transformers; a threshold that was calibrated on other weights is not saved."""
        kept = {name: getattr(self.config, name) for name in CALIBRATED}
        if self.calibrated_threshold is None:
            for name in CALIBRATED:
                setattr(self.config, name, None)
        try:
            return super().save_pretrained(save_directory, *args, **kwargs)
        finally:
            for name, value in kept.items():
                setattr(self.config, name, value)


class FaceLiveNetModel(FaceLiveNetPreTrainedModel):
    """Who and which expression, in one pass (Figure 2)."""

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__(config)
        self.shared = TimmTrunk(config) if config.trunk else SharedLayers(config)
        self.verification = Branch(config)
        self.length = EmbeddingLength(config) if config.embedding_length else None
        self.covers = CoverDetector(config) if config.cover_detector else None
        self.expression = Branch(config)
        self.expression_head = ExpressionHead(config)
        self.dynamic_weight_unit = DynamicWeightUnit(self.shared.side(config.image_size))
        self.uncertainty = Uncertainty() if config.weighting == "uncertainty" else None
        self.identity_head = IdentityHead(config) if config.num_identities else None
        self.teacher_head = TeacherHead(config) if config.teacher_size else None
        self._fingerprint = (None, "")  # state of the weights, their fingerprint
        self.post_init()

    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell the weights that judge from any others, 0.1 s for 13 million of them.

        Kept until a weight is written to. The same in float32, in the float16 that they are shipped in, and in the
        bfloat16 of those; the heads that only training needs do not count.
        """
        weights = {
            name: value
            for name, value in self.state_dict(keep_vars=True).items()
            if name.startswith(JUDGING) and value.is_floating_point()
        }
        state = [(value.data_ptr(), 0 if value.is_inference() else value._version) for value in weights.values()]
        if self._fingerprint[0] != state:
            digest = hashlib.sha256()
            for name, value in sorted(weights.items()):
                digest.update(name.encode())
                digest.update(value.detach().half().bfloat16().view(torch.int16).cpu().contiguous().numpy())
            self._fingerprint = (state, digest.hexdigest()[:16])
        return self._fingerprint[1]

    @property
    def calibrated_threshold(self) -> float | None:
        """The config's similarity threshold where it was calibrated on these very weights, else None."""
        threshold, weights = self.config.similarity_threshold, self.config.calibrated_weights
        return threshold if threshold is not None and weights and weights == self.fingerprint() else None

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        identity_labels: Tensor | None = None,
        expression_labels: Tensor | None = None,
        teacher_targets: Tensor | None = None,
        known_identities: float | None = None,
        known_expressions: float | None = None,
        **kwargs,
    ) -> FaceLiveNetOutput:
        """
        Args:
            pixel_values: (batch, 3, side, side), each face whitened by itself.
            identity_labels: (batch,) 0..num_identities−1, −100 where unknown.
            expression_labels: (batch,) indices with −100 where unknown, or (batch, expressions) probabilities with
                a row of zeros where unknown.
            teacher_targets: (batch, teacher_size), the teacher's standardised vectors, rows of NaN for faces that
                should look like nobody; see `TeacherHead`.
            known_identities, known_expressions: what the sums of losses are divided by; by default how many labels
                there are, in training those of all processes. With gradient accumulation their mean over the batches
                of the step, so that the mean of the batches' losses is the loss of the whole.

        In single-task training the other branch is not run, and its output is None. With return_dict=False it is a
        tuple of what is not None.
        """
        refuse_unknown(kwargs)
        labelled = identity_labels is not None or expression_labels is not None
        if not labelled and not self.training and self.config.test_time_flip:
            return self._with_mirror_image(pixel_values)
        tasks = self.config.tasks if labelled and self.training else ("verification", "expression")
        shared = self.shared(pixel_values)  # (b, 1792, 3, 3) at 160 pixels
        output = FaceLiveNetOutput()
        if "verification" in tasks:
            features = self._features(shared)  # (b, embedding_dim)
            output.embedding, output.cover_logits = self._judge(F.normalize(features, dim=1))
        if "expression" in tasks:
            output.expression_logits = self.expression_head(self.expression(shared)).float()  # (b, expressions)
        if not labelled:
            return output

        with torch.autocast(pixel_values.device.type, enabled=False):
            of_identities, of_expressions = shared.new_zeros(3).float(), shared.new_zeros(2).float()
            of_teacher = shared.new_zeros(4).float()
            if identity_labels is not None and "verification" in tasks:
                if self.identity_head is None:
                    raise ValueError(
                        "identity_labels were given, but the network has no identity head: set num_identities"
                    )
                of_identities = self.identity_head(features, identity_labels)
            if teacher_targets is not None and "verification" in tasks:
                if self.teacher_head is None:
                    raise ValueError(
                        "teacher_targets were given, but the network has no teacher head: set teacher_size"
                    )
                of_teacher = self.teacher_head(features, teacher_targets)
            if expression_labels is not None and "expression" in tasks:
                of_expressions = expression_loss(output.expression_logits, expression_labels)
            sums = self._whole_batch(of_identities, of_expressions, of_teacher)
            softmax, triplet, identities, expressions, known, vector, vectors, pair, pairs = sums
            identities = identities.clamp(min=1) if known_identities is None else max(known_identities, 1)
            known = known.clamp(min=1) if known_expressions is None else max(known_expressions, 1)
            output.softmax_loss, output.triplet_loss = softmax / identities, triplet / identities
            output.verification_loss = output.softmax_loss + self.config.triplet_weight * output.triplet_loss  # eq. 1
            output.teacher_loss, output.teacher_pairs_loss = vector / vectors.clamp(min=1), pair / pairs.clamp(min=1)
            if self.teacher_head is not None:
                output.verification_loss = (
                    self.config.identity_weight * output.verification_loss
                    + self.config.teacher_weight * output.teacher_loss
                    + self.config.teacher_pairs_weight * output.teacher_pairs_loss
                )
            output.expression_loss = expressions / known
            output.loss, output.task_weights = self._weigh(output.verification_loss, output.expression_loss, shared)
        return output

    def _features(self, shared: Tensor) -> Tensor:
        """(batch, embedding_dim) in float32: losses and cosines need more digits than bf16 has."""
        return self.verification(shared).float()

    def _judge(self, directions: Tensor) -> tuple[Tensor, Tensor | None]:
        """The embeddings of these directions, and their cover logits."""
        embeddings = directions if self.length is None else self.length(directions)
        return embeddings, None if self.covers is None else self.covers(directions)

    def _whole_batch(self, *sums: Tensor) -> Tensor:
        sums = torch.cat(sums)
        return sum_over_processes(sums) if self.training else sums

    def _weigh(self, verification_loss: Tensor, expression_loss: Tensor, shared: Tensor) -> tuple[Tensor, Tensor]:
        """What is minimised, and (w1, w2) in it."""
        losses, kind = torch.stack([verification_loss, expression_loss]), self.config.weighting
        if kind == "dynamic":
            weights = self._dynamic_weights(shared)
            return multi_task_loss(verification_loss, expression_loss, weights), weights
        if kind == "inverse_loss":  # neither does the unit train the shared layers, nor do the losses train the unit
            weights = self._dynamic_weights(shared.detach())
            return weights.detach() @ losses + weights @ (1 / losses.detach().clamp(min=1e-3)), weights
        if kind == "uncertainty":
            weights = torch.exp(-self.uncertainty.log_variances)
            return weights @ losses + self.uncertainty.log_variances.sum() / 2, weights
        fixed = {"static": self.config.static_weights, "verification": (1, 0), "expression": (0, 1)}[kind]
        weights = torch.tensor(fixed, dtype=losses.dtype, device=losses.device)
        return weights @ losses, weights

    def _dynamic_weights(self, shared: Tensor) -> Tensor:
        weights = self.dynamic_weight_unit(shared.float())
        if self.training and dist.is_available() and dist.is_initialized():
            weights = sum_over_processes(weights) / dist.get_world_size()
        return weights

    def _with_mirror_image(self, pixel_values: Tensor) -> FaceLiveNetOutput:
        shared = self.shared(torch.cat([pixel_values, pixel_values.flip(-1)]))
        both = F.normalize(self._features(shared), dim=1).unflatten(0, (2, -1))  # (2, b, embedding_dim)
        logits = self.expression_head(self.expression(shared)).float()
        embedding, cover_logits = self._judge(F.normalize(both.mean(dim=0), dim=1))
        return FaceLiveNetOutput(
            embedding=embedding, expression_logits=mean_of_mirror_images(logits), cover_logits=cover_logits
        )


def mean_of_mirror_images(logits: Tensor) -> Tensor:
    """Logits of faces and then of their mirror images, (2 · batch, n) -> logarithms of the mean probabilities."""
    return logits.unflatten(0, (2, -1)).softmax(dim=-1).mean(dim=0).log()


class FaceLiveNetForImageClassification(FaceLiveNetPreTrainedModel):
    """Shared layers and branch 2: which expression, or whatever else a face's photograph can be classified by.

    It loads any checkpoint of `FaceLiveNetModel`, whose branch 1 it leaves out. For other classes:

        FaceLiveNetForImageClassification.from_pretrained("pretrained", num_labels=3, ignore_mismatched_sizes=True)
    """

    accepts_loss_kwargs = False  # the loss is the mean over the batch: Trainer divides it among accumulated batches
    _keys_to_ignore_on_load_unexpected = (
        r"^verification\.",
        r"^length\.",
        r"^covers\.",
        r"^dynamic_weight_unit\.",
        r"^identity_head\.",
        r"^teacher_head\.",
        r"^uncertainty\.",
    )

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__(config)
        self.shared = TimmTrunk(config) if config.trunk else SharedLayers(config)
        self.expression = Branch(config)
        self.expression_head = ExpressionHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, **kwargs
    ) -> ImageClassifierOutputWithNoAttention:
        """
        Args:
            pixel_values: (batch, 3, side, side), each face whitened by itself.
            labels: (batch,) indices with −100 where unknown, or (batch, classes) probabilities; by config.problem_type
                (batch, classes) of 0 and 1 ("multi_label_classification") or numbers ("regression").

        Returns:
            logits (batch, classes), and with labels the loss, the mean cross-entropy over the labelled; by
            config.problem_type the mean binary cross-entropy or squared error.
        """
        refuse_unknown(kwargs)
        mirrored = self.config.test_time_flip and not self.training and labels is None
        faces = torch.cat([pixel_values, pixel_values.flip(-1)]) if mirrored else pixel_values
        logits = self.expression_head(self.expression(self.shared(faces))).float()
        if mirrored:
            logits = mean_of_mirror_images(logits)
        loss = None
        if labels is not None and self.config.problem_type == "multi_label_classification":
            loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        elif labels is not None and self.config.problem_type == "regression":
            loss = F.mse_loss(logits, labels.to(logits.dtype).reshape(logits.shape))
        elif labels is not None:
            total, known = expression_loss(logits, labels)
            loss = total / known.clamp(min=1)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)


FaceLiveNetConfig.register_for_auto_class()
FaceLiveNetModel.register_for_auto_class("AutoModel")
FaceLiveNetForImageClassification.register_for_auto_class("AutoModelForImageClassification")

__all__ = ["FaceLiveNetConfig", "FaceLiveNetForImageClassification", "FaceLiveNetModel", "FaceLiveNetOutput"]
