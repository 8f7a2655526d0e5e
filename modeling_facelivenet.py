"""FaceLiveNet+ in one file: the network, the dynamic-weight-unit and the losses, in the order of the paper.

    model = FaceLiveNetModel.from_pretrained("pretrained")
    output = model(pixel_values)                  # whitened faces (batch, 3, 160, 160)
    output.embedding                              # (batch, 1792), unit length: who
    output.expression_logits                      # (batch, expressions): which expression
    model(pixel_values, identity_labels=y, expression_labels=e).loss.backward()

                                           ┌─ branch 1: 2 × Block8, pool ─ embedding ─ identities    L1
    stem ─ Block35 ─ A ─ Block17 ─ B ──────┼─ dynamic-weight-unit ─ w1, w2         L3 = (1 + w1) L1 + w2 L2
           shared layers (section 3)       └─ branch 2: 2 × Block8, pool ─ 128 ─ expressions         L2

    initialisation: convolutions and linear layers Xavier uniform, every bias 0, batch norm the identity, centres 0.
    Names of the layers are those of facenet-pytorch's InceptionResnetV1, so that its published weights can be loaded.

This file imports nothing of the rest of the project, so that the Hub can ship it as it is.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

EXPRESSIONS = ("neutral", "anger", "disgust", "fear", "happy", "sad", "surprise")
FEATURE_SIZE = 1792  # channels of the last feature map, hence of the embedding
IGNORE = -100  # the label of what nobody labelled, as everywhere in PyTorch
SMALLEST_IMAGE = 75  # below it the shared layers have no output

INCEPTION_RESNET_V1_URLS = {  # published by facenet-pytorch
    "vggface2": "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
    "casia-webface": "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180408-102900-casia-webface.pt",
}


@strict
class FaceLiveNetConfig(PreTrainedConfig):
    """Everything that defines the network, its losses and its calibrated decision. Wrong values raise at once.

    Args:
        image_size: side of the square input in pixels. Inference works at any size from 75; the dynamic-weight-unit
            flattens the feature map and is tied to this one.
        repeats: how many Block35, Block17 and Block8. (1, 1, 1) is the paper's network of 13 million parameters,
            (5, 10, 5) the full Inception-ResNet-v1.
        batch_norm_scale: whether batch norms learn a scale (TensorFlow's default, and the paper's count, has none).
        batch_norm_momentum, batch_norm_eps: 1 − TensorFlow's decay of 0.995, and its epsilon.
        dropout: before both classifiers.
        expression_hidden_size: branch 2's "one more fully connected layer".
        num_identities: people of the training set; 0 leaves the identity classifier and the centres out.
        triplet_weight, triplet_margin: α of equation 1 and β0 of equation 3.
        center_decay: a of c −= (1 − a) · mean(c − x), how much of a class centre one batch leaves in place.
        cosine_scale, cosine_margin: s and m of a margin softmax, s (cos θ − m) for the own identity and s cos θ for the
            others (CosFace, arXiv 1801.09414), in place of equation 2's plain logits; a scale of 0 keeps the paper's.
        similarity_threshold: cosine similarity from which two faces are one person; None until it is calibrated.
        expression_threshold: probability from which the asked expression counts as seen.
        challenge_expressions: the expressions this checkpoint recognises well enough to be asked for; by default happy
            and surprise, which the paper found "most universal and easy to recognize".
        calibration: where the thresholds come from (FAR, FRR, interval, corpus, date).
    """

    model_type = "facelivenet"

    image_size: int = 160
    repeats: list[int] | tuple[int, ...] = (1, 1, 1)
    batch_norm_scale: bool = False
    batch_norm_momentum: float = 0.005
    batch_norm_eps: float = 1e-3
    dropout: float | int = 0.5
    expression_hidden_size: int = 128
    num_identities: int = 0
    triplet_weight: float | int = 1e-4
    triplet_margin: float | int = 10.0
    center_decay: float | int = 0.95
    cosine_scale: float | int = 0
    cosine_margin: float | int = 0
    similarity_threshold: float | int | None = None
    expression_threshold: float | int = 0.5
    challenge_expressions: list[str] | tuple[str, ...] | None = None
    calibration: dict | None = None

    def __post_init__(self, **kwargs):
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
        if self.challenge_expressions is None:
            self.challenge_expressions = [name for name in self.id2label.values() if name in ("happy", "surprise")]

    @property
    def expressions(self) -> tuple[str, ...]:
        """Names of the expressions in the order of the logits."""
        return tuple(self.id2label[index] for index in range(len(self.id2label)))

    def validate_network(self):
        """Called by `@strict` after construction."""
        if self.image_size < SMALLEST_IMAGE:
            raise ValueError(f"image_size must be at least {SMALLEST_IMAGE} pixels, not {self.image_size}")
        if len(self.repeats) != 3 or min(self.repeats) < 0:
            raise ValueError(f"repeats must be three counts (Block35, Block17, Block8), not {self.repeats}")
        for name in ("dropout", "center_decay", "expression_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie within 0..1, not {getattr(self, name)}")
        for name in ("triplet_weight", "triplet_margin", "num_identities", "cosine_scale", "cosine_margin"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative: {getattr(self, name)}")
        for name in ("batch_norm_momentum", "batch_norm_eps", "expression_hidden_size"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if self.similarity_threshold is not None and not -1 <= self.similarity_threshold <= 1:
            raise ValueError(f"similarity_threshold is a cosine, -1..1, not {self.similarity_threshold}")
        if sorted(self.id2label) != list(range(len(self.id2label))) or len(self.id2label) < 2:
            raise ValueError(f"id2label must number two or more expressions from 0, not {self.id2label}")
        unknown = set(self.challenge_expressions) - set(self.id2label.values())
        if unknown:
            raise ValueError(f"challenge_expressions names {', '.join(sorted(unknown))}, which id2label does not")


# --------------------------------------------------------------------------------------------------------------------
# The network (section 3)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that, like TensorFlow's default, learns a shift and only on demand a scale."""

    def __init__(self, channels: int, config: FaceLiveNetConfig):
        super().__init__(channels, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)
        if not config.batch_norm_scale:
            self.weight = None


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


class Branch(nn.Module):
    """What both tasks have of their own: Block8s, the last without ReLU, and average pooling -> (batch, 1792)."""

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.repeat_3 = nn.Sequential(*(block8(config) for _ in range(config.repeats[2])))
        self.block8 = block8(config, scale=1.0, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.block8(self.repeat_3(x)).mean(dim=(2, 3))


class ExpressionHead(nn.Module):
    """Branch 2's end: dropout, one more fully connected layer with ReLU, the expressions' logits."""

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.hidden = nn.Linear(FEATURE_SIZE, config.expression_hidden_size)
        self.classifier = nn.Linear(config.expression_hidden_size, len(config.id2label))

    def forward(self, features: Tensor) -> Tensor:
        return self.classifier(F.relu(self.hidden(self.dropout(features))))


class DynamicWeightUnit(nn.Module):
    """The last shared layer, flattened -> (w1, w2), positive and summing to 1 (equation 6, the batch's mean).

    Normalising the flattened features keeps the softmax from saturating on their scale.
    """

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.fc = nn.Linear(FEATURE_SIZE * feature_map_side(config.image_size) ** 2, 2)

    def forward(self, shared: Tensor) -> Tensor:
        flat = shared.flatten(1)
        if flat.shape[1] != self.fc.in_features:
            raise ValueError(
                f"the dynamic-weight-unit was built for feature maps of {self.fc.in_features} values and got "
                f"{flat.shape[1]}: train at the config's image_size"
            )
        return self.fc(F.normalize(flat, dim=1)).float().softmax(dim=1).mean(dim=0)  # (2,)


def feature_map_side(image_size: int) -> int:
    """Side of the shared layers' output for a square input, in cells."""
    side = (image_size - 3) // 2 + 1 - 2  # conv2d_1a, conv2d_2a
    side = (side - 3) // 2 + 1 - 2  # maxpool_3a, conv2d_4a
    for _ in range(3):  # conv2d_4b, Reduction-A, Reduction-B
        side = (side - 3) // 2 + 1
    return side


# --------------------------------------------------------------------------------------------------------------------
# The losses (section 4.1)


def class_wise_triplet_loss(features: Tensor, labels: Tensor, centers: Tensor, margin: float) -> Tensor:
    """Equations 3 and 4, one value per sample: Σ_{l ≠ y_i} max(‖x_i − c_{y_i}‖ + β0 − ‖x_i − c_l‖, 0).

    Args:
        features: x, (m, d). labels: y, (m,) in 0..k−1. centers: c, (k, d), not trained by gradient. margin: β0.

    Returns:
        (m,); their sum is the paper's Lc. Memory is that of (m, k) distances; no (m, k, d) difference is ever built.
    """
    distances = torch.cdist(features, centers, compute_mode="use_mm_for_euclid_dist")  # (m, k)
    # The own centre is the near one, where the matrix product above would cancel digits: by the plain difference.
    own = torch.linalg.vector_norm(features - centers[labels], dim=1, keepdim=True)  # (m, 1)
    violations = F.relu(own + margin - distances)
    return violations.scatter(1, labels[:, None], 0.0).sum(dim=1)


@torch.no_grad()
def move_centers(centers: Tensor, features: Tensor, labels: Tensor, decay: float) -> None:
    """c_l −= (1 − a) · mean over the batch's samples of class l of (c_l − x_i), in place; other classes stay."""
    difference = centers[labels] - features.to(centers.dtype)  # (m, d)
    count = torch.bincount(labels, minlength=len(centers))[labels].unsqueeze(1)  # (m, 1) samples of the same class
    centers.index_add_(0, labels, difference / count, alpha=-(1 - decay))


class IdentityHead(nn.Module):
    """L1's parts in training: the linear layer to the identities, and the class centres."""

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(FEATURE_SIZE, config.num_identities, bias=not config.cosine_scale)
        self.register_buffer("centers", torch.zeros(config.num_identities, FEATURE_SIZE))

    @torch.compiler.disable  # the number of known people differs from batch to batch, and the centres move in place
    def forward(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Features (m, 1792), labels (m,) with -100 for unknown people -> the means of Ls1 and Lc over the known."""
        known = labels != IGNORE
        features, labels = features[known], labels[known]
        softmax_loss = F.cross_entropy(self.logits(self.dropout(features), labels).float(), labels, reduction="sum")
        triplet_loss = class_wise_triplet_loss(features, labels, self.centers.clone(), self.config.triplet_margin)
        if self.training:
            move_centers(self.centers, features, labels, self.config.center_decay)
        return softmax_loss / max(len(labels), 1), triplet_loss.sum() / max(len(labels), 1)

    def logits(self, features: Tensor, labels: Tensor) -> Tensor:
        """(m, identities): z of equation 2, or with a cosine_scale those of the margin softmax."""
        if not self.config.cosine_scale:
            return self.classifier(features)
        cosine = F.linear(F.normalize(features, dim=1), F.normalize(self.classifier.weight, dim=1))
        own = F.one_hot(labels, self.config.num_identities)
        return self.config.cosine_scale * (cosine - self.config.cosine_margin * own)


def expression_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """L2: cross-entropy over the samples with a label, averaged; 0 where there is none.

    Args:
        logits: (m, n). labels: (m,) class indices with -100 for unknown, or (m, n) probabilities with rows of zeros.
    """
    if labels.is_floating_point():
        known = labels.sum(dim=1) > 0
        losses = F.cross_entropy(logits, labels.to(logits.dtype), reduction="none")  # a row of zeros contributes 0
    else:
        known = labels != IGNORE
        losses = F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORE)
    return losses.sum() / known.sum().clamp(min=1)


def multi_task_loss(verification_loss: Tensor, expression_loss: Tensor, task_weights: Tensor) -> Tensor:
    """Equation 5: L3 = (1 + w1) L1 + w2 L2.

    By the softmax, ∂L3/∂z1 = w1 w2 (L1 − L2): descent moves weight to the task with the smaller loss.
    """
    return (1 + task_weights[0]) * verification_loss + task_weights[1] * expression_loss


# --------------------------------------------------------------------------------------------------------------------
# The model


@dataclass
class FaceLiveNetOutput(ModelOutput):
    """
    Args:
        embedding: (batch, 1792) of unit length; the cosine of two is their similarity.
        expression_logits: (batch, expressions), in the order of `config.expressions`.
        loss: L3, a scalar; this and what follows only when labels are given.
        verification_loss: L1 = softmax_loss + α · triplet_loss. softmax_loss, triplet_loss: means over known people.
        expression_loss: L2. task_weights: (w1, w2).
    """

    loss: Tensor | None = None
    embedding: Tensor | None = None
    expression_logits: Tensor | None = None
    verification_loss: Tensor | None = None
    softmax_loss: Tensor | None = None
    triplet_loss: Tensor | None = None
    expression_loss: Tensor | None = None
    task_weights: Tensor | None = None


class FaceLiveNetModel(PreTrainedModel):
    """Who and which expression, in one pass (Figure 2)."""

    config_class = FaceLiveNetConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, config: FaceLiveNetConfig):
        super().__init__(config)
        self.shared = SharedLayers(config)
        self.verification = Branch(config)
        self.expression = Branch(config)
        self.expression_head = ExpressionHead(config)
        self.dynamic_weight_unit = DynamicWeightUnit(config)
        self.identity_head = IdentityHead(config) if config.num_identities else None
        self.post_init()

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
        elif isinstance(module, IdentityHead):
            init.zeros_(module.centers)

    def forward(
        self,
        pixel_values: Tensor,
        identity_labels: Tensor | None = None,
        expression_labels: Tensor | None = None,
        **kwargs,
    ) -> FaceLiveNetOutput:
        """
        Args:
            pixel_values: (batch, 3, side, side), each face whitened by itself.
            identity_labels: (batch,) 0..num_identities−1, −100 where unknown.
            expression_labels: (batch,) indices with −100 where unknown, or (batch, expressions) probabilities with
                a row of zeros where unknown.
        """
        shared = self.shared(pixel_values)  # (b, 1792, 3, 3) at 160 pixels
        features = self.verification(shared).float()  # (b, 1792); losses and cosines need more digits than bf16 has
        logits = self.expression_head(self.expression(shared)).float()  # (b, expressions)
        output = FaceLiveNetOutput(embedding=F.normalize(features, dim=1), expression_logits=logits)
        if identity_labels is None and expression_labels is None:
            return output

        nothing = logits.sum() * 0.0  # keeps every parameter in the graph when a batch lacks one kind of label
        output.softmax_loss = output.triplet_loss = nothing
        output.expression_loss = nothing
        if identity_labels is not None:
            if self.identity_head is None:
                raise ValueError("identity_labels were given, but the network has no identity head: set num_identities")
            output.softmax_loss, output.triplet_loss = self.identity_head(features, identity_labels)
        if expression_labels is not None:
            output.expression_loss = expression_loss(logits, expression_labels)
        output.verification_loss = output.softmax_loss + self.config.triplet_weight * output.triplet_loss  # equation 1
        output.task_weights = self.dynamic_weight_unit(shared)
        output.loss = multi_task_loss(output.verification_loss, output.expression_loss, output.task_weights)
        return output


def load_inception_resnet_v1(model: FaceLiveNetModel, source: str | Path) -> None:
    """Start the shared layers and both branches from weights in facenet-pytorch's InceptionResnetV1 format.

    Args:
        model: with repeats (5, 10, 5) and batch_norm_scale, as those weights were trained.
        source: a `.pt` file of that state dict, or "vggface2" or "casia-webface" to download the published one.

    Raises:
        ValueError: the network has another shape than the weights. FileNotFoundError: neither a file nor such a name.
    """
    config = model.config
    if tuple(config.repeats) != (5, 10, 5) or not config.batch_norm_scale:
        raise ValueError(
            "Inception-ResNet-v1 weights need repeats=(5, 10, 5) and batch_norm_scale=True, "
            f"not repeats={tuple(config.repeats)} and batch_norm_scale={config.batch_norm_scale}"
        )
    if str(source) in INCEPTION_RESNET_V1_URLS:
        weights = torch.hub.load_state_dict_from_url(INCEPTION_RESNET_V1_URLS[str(source)], "cpu", weights_only=True)
    elif Path(source).is_file():
        weights = torch.load(source, map_location="cpu", weights_only=True)
    else:
        raise FileNotFoundError(f"{source}: no such file, and not one of {', '.join(INCEPTION_RESNET_V1_URLS)}")
    own = {name: value for name, value in weights.items() if not name.startswith(("last_", "logits."))}
    in_branch = {name: value for name, value in own.items() if name.startswith(("repeat_3.", "block8."))}
    model.shared.load_state_dict({name: value for name, value in own.items() if name not in in_branch})
    model.verification.load_state_dict(in_branch)
    model.expression.load_state_dict(in_branch)


FaceLiveNetConfig.register_for_auto_class()
FaceLiveNetModel.register_for_auto_class("AutoModel")

__all__ = ["FaceLiveNetConfig", "FaceLiveNetModel", "FaceLiveNetOutput", "load_inception_resnet_v1"]
