"""FaceLiveNet+ in one file: the network, the dynamic-weight-unit and the losses, in the order of the paper.

    model = FaceLiveNetModel.from_pretrained("pretrained")
    output = model(pixel_values)                  # whitened faces (batch, 3, 160, 160)
    output.embedding                              # (batch, 1792): who
    output.expression_logits                      # (batch, expressions): which expression
    model(pixel_values, identity_labels=y, expression_labels=e).loss.backward()

    FaceLiveNetForImageClassification is branch 2 alone, with the usual interface of transformers: logits, and a loss if
    labels are given. Its classes may differ from the expressions of the checkpoint from which it starts.

                                           ┌─ branch 1: 2 × Block8, pool ─ embedding ─ identities    L1
    stem ─ Block35 ─ A ─ Block17 ─ B ──────┼─ dynamic-weight-unit ─ w1, w2         L3 = (1 + w1) L1 + w2 L2
           shared layers (section 3)       └─ branch 2: 2 × Block8, pool ─ 128 ─ expressions         L2

    Initialisation: Xavier uniform for convolutions and linear layers, 0 for biases and class centres, the identity for
    batch norms. Layers have the names of facenet-pytorch's InceptionResnetV1, so its published weights can be loaded.

This file does not import other files of the project, because the Hub ships it alone.
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
HEAD_TURNS = ("turn_left", "turn_right")  # other actions of a live session; left and right as the person sees them
FEATURE_SIZE = 1792  # channels of the last feature map, and length of the embedding
IGNORE = -100  # label of samples without a label, as in PyTorch
LEAST_THRESHOLD = 0.05  # smallest threshold of both kinds; half of the pairs of strangers have a similarity above 0
MOST_REPEATS = 100  # largest number of blocks of one kind; the full Inception-ResNet-v1 has 10
SMALLEST_IMAGE = 75  # side of the smallest image for which the shared layers have an output
BATCH_NORM_EPS = 1e-3  # the default of TensorFlow
EXPRESSION_HIDDEN_SIZE = 128  # size of branch 2's "one more fully connected layer"
CENTER_DECAY = 0.95  # a of c −= (1 − a) · mean(c − x)
# Settings of earlier versions, with the value that all networks use now. A config with another value is refused if the
# setting is in the first table, because it describes another network. Those of the second table affect only training.
REMOVED_FROM_NETWORK = {
    "batch_norm_eps": BATCH_NORM_EPS,
    "expression_hidden_size": EXPRESSION_HIDDEN_SIZE,
    "embedding_size": 0,
    "test_time_flip": False,
}
REMOVED_FROM_LOSSES = {"center_decay": CENTER_DECAY, "expression_class_weights": None}
TEACHER_LOSSES = ("mse", "cosine")
# layers that affect decisions
JUDGING = ("shared.", "verification.", "length.", "covers.", "expression.", "expression_head.")
COVERED = ("eyes_covered", "mouth_covered")  # the outputs of `CoverDetector`
# keys of `config.quality`; the second ones if there is a cover detector
QUALITY = ("least_sharpness", "least_detection_probability")
MOST_COVERED = tuple(f"most_{name}" for name in COVERED)
CALIBRATED = ("similarity_threshold", "calibration", "quality", "calibrated_weights")  # not valid with other weights
WEIGHTINGS = ("dynamic", "static", "inverse_loss", "uncertainty", "verification", "expression")


@strict
class FaceLiveNetConfig(PreTrainedConfig):
    """The settings of the network, its losses and its calibrated decision. Impossible values raise an error.

    Args:
        image_size: side of the square input in pixels. Inference works with every size from 75. Training with the
            dynamic-weight-unit, which flattens the feature map, needs this size.
        trunk: None for the shared layers of the paper, or the name of a timm backbone that replaces them ("resnet18").
            A 1 × 1 convolution gives its last feature map 1792 channels; branches, unit and losses are the same.
        repeats: numbers of Block35, Block17 and Block8. (1, 1, 1) is the network of the paper with 13 million
            parameters, (5, 10, 5) the full Inception-ResNet-v1.
        batch_norm_scale: whether batch norms learn a scale; they do not by default in TensorFlow, and in the paper's
            number of parameters.
        batch_norm_momentum: 1 − decay; the decay of TensorFlow is 0.995.
        dropout: probability of the dropout before both classifiers.
        embedding_length: whether embeddings of faces that resemble many strangers are shorter (`EmbeddingLength`).
            Otherwise all have length 1.
        cover_detector: whether the network detects covered eyes and mouths (`CoverDetector`).
        num_identities: number of people in the training data; 0 for a network without identity classifier and centres.
        sampled_identities: number of people that a training step uses, those of the batch included, for data with
            millions of people (Partial FC, arXiv 2203.15565, here also for the class-wise triplet loss). 0 for all
            people, as in the paper.
        weighting: how the two losses are combined. "dynamic": equation 5. "static": w1 L1 + w2 L2 with static_weights
            (Table 5). "inverse_loss": w1 L1 + w2 L2, and the unit minimises only w1 / L1 + w2 / L2 (the authors' next
            paper, arXiv 1911.03281). "uncertainty": e^-s1 L1 + e^-s2 L2 + (s1 + s2) / 2 with learnt s (Kendall et al.,
            arXiv 1705.07115). "verification", "expression": one task alone (section 4.2).
        static_weights: w1 and w2 of the "static" weighting.
        triplet_weight, triplet_margin: α of equation 1 and β0 of equation 3.
        cosine_scale, cosine_margin: s and m of a margin softmax, with logits s (cos θ − m) for the correct identity and
            s cos θ for the others (CosFace, arXiv 1801.09414). With a scale of 0 logits are those of equation 2.
        identity_weight: factor of the losses of equation 1 in L1, if there is also a teacher.
        teacher_size: length of the vectors of a teacher, a face recognition network whose output branch 1 learns to
            predict (`teacher_targets`); 0 without a teacher.
        teacher_loss: "mse" or "cosine": the loss between the predicted and the teacher's vector.
        teacher_weight, teacher_pairs_weight: factors of this loss, and of the loss over the similarities of all pairs
            in a batch.
        similarity_threshold: two embeddings belong to the same person if their dot product is at least this; None
            before calibration.
        expression_threshold: an expression counts if its probability is at least this.
        challenge_expressions: expressions that this checkpoint recognises reliably enough for a challenge. Default:
            happy and surprise, in the paper "most universal and easy to recognize".
        challenge_actions: the actions that a live session may request: some of challenge_expressions, and turns of the
            head ("turn_left", "turn_right", as the person sees them). Default, also for configs of versions without
            turns: all of these expressions and both turns.
        calibration: origin of the thresholds: FAR, FRR, interval, corpus, date.
        quality: smallest and largest allowed values of the measures QUALITY and MOST_COVERED, calibrated together with
            the threshold; None for no limits. See `pipeline_facelivenet.unusable_reason`.
        calibrated_weights: `fingerprint` of the weights of the calibration. With other weights it is not valid.
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
            # other names may be those of transformers, so only names that look like spelling mistakes are refused
            if close and close[0] != name:
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
        """New labels, which `config.num_labels = 3` also sets, remove old ones from `challenge_expressions`."""
        before = getattr(self, "id2label", None) if name == "id2label" else None
        super().__setattr__(name, value)
        if before and value and set(before.values()) != set(value.values()):
            asked = getattr(self, "challenge_expressions", None) or ()
            super().__setattr__("challenge_expressions", [label for label in asked if label in value.values()])

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """If `id2label`, or another number in `num_labels`, is given, it replaces the saved expressions.
        `challenge_expressions` and `challenge_actions` then have their default values."""
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
        """The tasks that are trained: both, or the one of a single-task weighting."""
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
    """Batch normalisation that learns a shift, and a scale only with `batch_norm_scale`."""

    def __init__(self, channels: int, config: FaceLiveNetConfig):
        super().__init__(channels, eps=BATCH_NORM_EPS, momentum=config.batch_norm_momentum)
        if not config.batch_norm_scale:
            self.weight = None

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is not None or not torch.is_grad_enabled() or torch.jit.is_tracing():
            return super().forward(x)
        # without a scale PyTorch's CUDA kernels do not compute the gradient of the shift
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
    """x + scale · conv1×1(concatenated branches). Block35, Block17 and Block8 differ only in their branches."""

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
    """Halves the side of the feature map: strided branches and a max pooling, concatenated."""

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
        for layer in self.children():  # in the order of their definition
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
    """A timm backbone as shared layers: (batch, 3, side, side) -> (batch, 1792, side / 32, side / 32)."""

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        try:
            import timm  # takes a second, and only config.trunk needs it
        except ImportError as error:
            raise ImportError(f"The trunk {config.trunk} comes from timm: pip install timm") from error
        if not timm.is_model(config.trunk):
            close = difflib.get_close_matches(config.trunk, timm.list_models(), n=5, cutoff=0)
            raise ValueError(f"trunk: timm has no backbone {config.trunk!r}; similar are {', '.join(close)}")
        published = timm.get_pretrained_cfg(config.trunk)
        size = {"img_size": config.image_size} if published and published.fixed_input_size else {}
        self.body = timm.create_model(config.trunk, features_only=True, out_indices=(-1,), **size)
        [self.step], [channels] = self.body.feature_info.reduction(), self.body.feature_info.channels()
        self.channels_last = self.body.output_fmt == "NHWC"  # Swin, for example
        self.project = ConvBlock(config, channels, FEATURE_SIZE, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)[-1]
        return self.project(x.permute(0, 3, 1, 2) if self.channels_last else x)

    def side(self, image_size: int) -> int:
        if image_size % self.step:
            raise ValueError(f"image_size must be a multiple of {self.step} for this trunk, not {image_size}")
        return image_size // self.step


class Branch(nn.Module):
    """The layers of one task: Block8s, the last one without ReLU, and average pooling -> (batch, 1792)."""

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.repeat_3 = nn.Sequential(*(block8(config) for _ in range(config.repeats[2])))
        self.block8 = block8(config, scale=1.0, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.block8(self.repeat_3(x)).mean(dim=(2, 3))


class EmbeddingLength(nn.Module):
    """Gives embeddings their length: 1 for distinctive faces, less for faces that resemble many strangers.

    Blurred, covered and average faces resemble many strangers. A high similarity to such a face means less. Speaker
    recognition solves the same problem by comparing a voice with a cohort of strangers, and correcting the similarity
    by that of the nearest ones (adaptive score normalisation). Here a linear layer predicts the similarity x of the
    nearest strangers from the direction of the embedding, in units of the smallest x in the training data. The length
    is 1 / √x. So the dot product of two embeddings is their cosine, divided by the geometric mean of both x.
    `train/embedding_length.py` fits the layer. Before that all lengths are 1.
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
    """Detects covered eyes and mouths: a linear layer on the direction of the embedding.

    To the network two strangers with covered eyes are similar, and a covered mouth may look like a smile. It detects
    all kinds of covers: plain or patterned, bars, glasses and masks. `train/cover_detector.py` fits the layer after the
    training of all others. Before that its logits are 0.
    """

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.covered = nn.Linear(config.embedding_dim, len(COVERED))

    def forward(self, directions: Tensor) -> Tensor:
        """Directions (b, embedding_dim) of length 1 -> logits (b, 2) float32 of COVERED."""
        with torch.autocast(directions.device.type, enabled=False):
            return F.linear(directions.float(), self.covered.weight.float(), self.covered.bias.float())


class ExpressionHead(nn.Module):
    """The last layers of branch 2: dropout, one more fully connected layer with ReLU, and the classifier."""

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.hidden = nn.Linear(FEATURE_SIZE, EXPRESSION_HIDDEN_SIZE)
        self.classifier = nn.Linear(EXPRESSION_HIDDEN_SIZE, len(config.id2label))

    def forward(self, features: Tensor) -> Tensor:
        return self.classifier(F.relu(self.hidden(self.dropout(features))))


class DynamicWeightUnit(nn.Module):
    """The flattened output of the shared layers -> (w1, w2), positive, with sum 1 (equation 6, mean of the batch).

    The flattened features are normalised. Otherwise their scale would saturate the softmax.
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
    """Equations 3 and 4. The forward pass also computes the gradient, from the same distances.

    No other tensor has the size of the centres, and the backward pass does not need the centres, so they may be changed
    before it.
    """

    @staticmethod
    def forward(ctx, features: Tensor, labels: Tensor, centers: Tensor, margin: float) -> Tensor:
        # ‖x − c‖² = ‖x‖² + ‖c‖² − 2 x·c: (m, k) by one matrix product
        squared = features.square().sum(dim=1, keepdim=True) - 2 * (features @ centers.T)
        squared += torch.linalg.vector_norm(centers, dim=1).square()
        distances = squared.clamp_(min=0).sqrt_()
        # The distance to the centre of the same person is small, and the product above would lose digits.
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
        (m,); their sum is Lc of the paper. It needs memory for a few (m, k) matrices.
    """
    return ClassWiseTripletLoss.apply(features, labels, centers, margin)


@torch.no_grad()
def move_centers(centers: Tensor, features: Tensor, labels: Tensor, decay: float) -> None:
    """c_l −= (1 − a) · mean of (c_l − x_i) over the samples of class l in the batch, in place.

    Samples with the label −100 are ignored. The sums are matrix products, which give the same bits in all processes.
    """
    known = labels != IGNORE
    people, member = labels[known].unique(return_inverse=True)  # (p,), (m,)
    member = F.one_hot(member, len(people)).T.to(centers.dtype)  # (p, m)
    mean = member @ features[known].to(centers.dtype) / member.sum(dim=1, keepdim=True)
    centers[people] -= (1 - decay) * (centers[people] - mean)


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of x over all processes of a distributed training; x itself in a single process.

    The gradient of x is multiplied by the number of processes. DistributedDataParallel then averages the gradients of
    the processes, and the result is the gradient of the complete batch.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total + dist.get_world_size() * (x - x.detach())


def gather_from_processes(x: Tensor) -> Tensor:
    """The rows of all processes, in the order of the processes, without gradient."""
    if not (dist.is_available() and dist.is_initialized()):
        return x.detach()
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.detach().contiguous())
    return torch.cat(parts)


class IdentityHead(nn.Module):
    """The layers of L1, for training only: the linear classifier of identities, and the class centres.

    With `sampled_identities`, `classifier` has only the rows of the identities in `sample`, and `table` has all rows.
    The training loop draws a sample before each step, and writes its rows back to the table after it.
    """

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        classes = min(config.sampled_identities or config.num_identities, config.num_identities)
        bias = not config.cosine_scale and not config.sampled_identities
        self.classifier = nn.Linear(config.embedding_dim, classes, bias=bias)
        self.register_buffer("centers", torch.zeros(config.num_identities, config.embedding_dim))
        if config.sampled_identities:
            self.register_buffer("table", torch.zeros(config.num_identities, config.embedding_dim))
            self.register_buffer("sample", torch.arange(classes))  # in ascending order
        self.batches_per_step = 1  # with gradient accumulation centres are updated once per step
        self.seen: list[tuple[Tensor, Tensor]] = []

    @torch.compiler.disable  # it changes the centres in place, which is not possible in a compiled graph
    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(3,): the sums of Ls1 and Lc over the samples with a label, and their number.

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
        """(m, classes): z of equation 2, or with a cosine_scale the logits of the margin softmax."""
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
    """The losses of a teacher network: branch 1 predicts its vector of each face, and the similarity of each pair.

    Distillation needs no identity labels, so all photographs of faces can be used. Targets are standardised: the mean
    vector of the training photographs is subtracted, and the rest is scaled to a mean squared length of 1. Two vectors
    of different people then have a squared distance d² of 2 on average, and 1 − d²/2 is a similarity: 1 for equal
    vectors, and 0 on average for strangers.
    """

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.config = config
        self.projection = nn.Linear(config.embedding_dim, config.teacher_size)

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """(4,): the sum of the losses of all vectors, their number, the sum of the losses of all pairs, their number.

        Args:
            features: (m, embedding_dim).
            targets: (m, teacher_size). A row of NaN is a face that must not resemble anybody: it has no vector, and
                its similarity to all other faces should be 0.
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
    """L2 as (2,): the sum of the cross-entropies over the samples with a label, and their number.

    Args:
        logits: (m, n). labels: (m,) class indices, −100 if unknown, or (m, n) probabilities, zeros if unknown.
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

    With the softmax of equation 6, ∂L3/∂z1 = w1 w2 (L1 − L2): gradient descent gives more weight to the task with the
    smaller loss.
    """
    return (1 + task_weights[0]) * verification_loss + task_weights[1] * expression_loss


class Uncertainty(nn.Module):
    """s1 and s2 of the "uncertainty" weighting: the learnt logarithms of the variances of both tasks."""

    def __init__(self):
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(2))


# --------------------------------------------------------------------------------------------------------------------
# The model


@dataclass
class FaceLiveNetOutput(ModelOutput):
    """
    Args:
        embedding: (batch, embedding_dim) of length 1, or at most 1 with `embedding_length`. The dot product of two
            embeddings is their similarity.
        expression_logits: (batch, expressions), in the order of `config.expressions`.
        cover_logits: (batch, 2), in the order of COVERED; only with `cover_detector`.
        loss: the scalar that is minimised, L3 of equation 5. The loss and all following values are None without labels.
            In a training with several processes they are values of the complete batch, equal in all processes.
        verification_loss: L1 = softmax_loss + α · triplet_loss; with a teacher, its factor is identity_weight, and the
            weighted losses of the teacher are added.
        softmax_loss, triplet_loss: means over the faces with an identity label.
        teacher_loss, teacher_pairs_loss: means over faces, and over pairs of faces.
        expression_loss: L2, the mean over the faces with an expression label.
        task_weights: (w1, w2).
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


# Other outputs of the image processor, which the pipelines of transformers pass to the model.
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
    """Refuse arguments of `forward` that this network does not support, or that are misspelt.

    Raises:
        TypeError: for example for `output_hidden_states=True` or `lables=`.
    """
    for name, value in arguments.items():
        if name in ("output_hidden_states", "output_attentions"):
            if value:
                raise TypeError(f"{name}=True: this network only returns its outputs")
        elif name not in PROCESSOR_OUTPUTS and name != "num_items_in_batch":  # passed by Trainer
            raise TypeError(f"forward() got an unexpected argument {name!r}")


class FaceLiveNetPreTrainedModel(PreTrainedModel):
    """The common base class of both models: config and initialisation."""

    config_class = FaceLiveNetConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ("ResidualBlock", "Reduction")  # each needs all its layers on one device

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
        if hasattr(module, "init_non_persistent_buffers"):  # of timm; they are not in checkpoints
            module.init_non_persistent_buffers()

    @property
    def calibrated_threshold(self) -> float | None:
        """The config's similarity threshold where it was calibrated on these very weights, else None."""
        return None

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As in transformers, but thresholds that were calibrated with other weights are not saved."""
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
    """The complete network of Figure 2: identity and expression in one pass."""

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
        """16 hexadecimal digits of a hash of all weights that affect decisions; takes 0.1 s for 13 million weights.

        It is cached until a weight changes. It is the same for the weights in float32, in float16 as they are shipped,
        and in bfloat16. Layers that only the training needs are not included.
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
            pixel_values: (batch, 3, side, side), whitened faces.
            identity_labels: (batch,) 0..num_identities−1, −100 if unknown.
            expression_labels: (batch,) indices, −100 if unknown, or (batch, expressions) probabilities, zeros if
                unknown.
            teacher_targets: (batch, teacher_size), the standardised vectors of a teacher, NaN for faces that must not
                resemble anybody; see `TeacherHead`.
            known_identities, known_expressions: the numbers by which the sums of the losses are divided. Default: the
                numbers of labels, in training those of all processes. With gradient accumulation give the means over
                the batches of the step. Then the mean of the losses of all batches is the loss of the complete step.

        In single-task training the other branch is not computed, and its output is None. With return_dict=False the
        result is a tuple of the outputs that are not None.
        """
        refuse_unknown(kwargs)
        labelled = identity_labels is not None or expression_labels is not None
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
        """(batch, embedding_dim) in float32, because bf16 has too few digits for losses and cosines."""
        return self.verification(shared).float()

    def _judge(self, directions: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embeddings and cover logits of faces with these directions."""
        embeddings = directions if self.length is None else self.length(directions)
        return embeddings, None if self.covers is None else self.covers(directions)

    def _whole_batch(self, *sums: Tensor) -> Tensor:
        sums = torch.cat(sums)
        return sum_over_processes(sums) if self.training else sums

    def _weigh(self, verification_loss: Tensor, expression_loss: Tensor, shared: Tensor) -> tuple[Tensor, Tensor]:
        """The loss that is minimised, and (w1, w2)."""
        losses, kind = torch.stack([verification_loss, expression_loss]), self.config.weighting
        if kind == "dynamic":
            weights = self._dynamic_weights(shared)
            return multi_task_loss(verification_loss, expression_loss, weights), weights
        if kind == "inverse_loss":  # the unit does not train the shared layers, and the losses do not train the unit
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


class FaceLiveNetForImageClassification(FaceLiveNetPreTrainedModel):
    """Shared layers and branch 2: classifies faces by their expression, or by other classes.

    It loads the checkpoints of `FaceLiveNetModel`, without branch 1. For other classes:

        FaceLiveNetForImageClassification.from_pretrained("pretrained", num_labels=3, ignore_mismatched_sizes=True)
    """

    accepts_loss_kwargs = False  # the loss is a mean, so Trainer divides it by the number of accumulated batches
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
            pixel_values: (batch, 3, side, side), whitened faces.
            labels: (batch,) indices, −100 if unknown, or (batch, classes) probabilities. If config.problem_type is
                "multi_label_classification" they are (batch, classes) of 0 and 1, and if it is "regression" numbers.

        Returns:
            logits (batch, classes), and with labels the loss: the mean cross-entropy over the faces with a label, or
            by config.problem_type the mean binary cross-entropy or squared error.
        """
        refuse_unknown(kwargs)
        logits = self.expression_head(self.expression(self.shared(pixel_values))).float()
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
