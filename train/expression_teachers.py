"""Expression teachers: branch 2 learns the mean of the probabilities of other checkpoints of this project.

    --expression_teachers MODEL [MODEL ...]     folders, addresses, or owner/name on the Hub

The target of a labelled face is half its label and half the mean of the teachers. A face without a label has only the
mean, so corpora without labels teach branch 2 too. The teachers get the faces after mixing, before deceptions and
augmentation. Covered faces have the uniform target, not that of a teacher.

Called by `data`. Next to read: train/teacher.py, which teaches branch 1.
"""

import torch
from torch import Tensor, nn

from checkpoints import SUFFIX, Checkpoint, find_checkpoint, load_checkpoint
from face_data.corpus import one_line
from train.teacher import TeacherError

LABEL_SHARE = 0.5  # of the label in the target of a labelled face


class ExpressionTeachers(nn.Module):
    """Frozen checkpoints that compute expression probabilities of faces.

    Args:
        checkpoints: with the same expressions in the same order.
    """

    def __init__(self, checkpoints: list[Checkpoint]):
        super().__init__()
        networks = [checkpoint.network.eval().requires_grad_(False) for checkpoint in checkpoints]
        self.networks = nn.ModuleList(networks).to(memory_format=torch.channels_last)
        self.processors = [checkpoint.processor for checkpoint in checkpoints]
        self.records = [checkpoint.training for checkpoint in checkpoints]
        self.revisions = ", ".join(checkpoint.revision for checkpoint in checkpoints)

    @torch.no_grad()
    def forward(self, faces: Tensor) -> Tensor:
        """(b, n) float32: the mean of the probabilities of all teachers.

        Args:
            faces: aligned RGB faces (b, 3, h, w), 0..255.
        """
        probabilities = []
        for network, processor in zip(self.networks, self.processors, strict=True):
            images = processor.whiten(faces).contiguous(memory_format=torch.channels_last)
            logits = network.expression_head(network.expression(network.shared(images)))  # without branch 1
            probabilities.append(logits.float().softmax(dim=1))
        return torch.stack(probabilities).mean(dim=0)

    def targets(self, faces: Tensor, expression: Tensor) -> Tensor:
        """(b, n) the targets of faces, given their labels (b, n): probabilities, zeros if unknown."""
        taught = self(faces)
        known = expression.any(dim=1, keepdim=True)
        return torch.where(known, LABEL_SHARE * expression + (1 - LABEL_SHARE) * taught, taught)


def load_expression_teachers(names: list[str], expressions: tuple[str, ...], alignment: str) -> ExpressionTeachers:
    """The checkpoints that `--expression_teachers` names.

    Args:
        expressions, alignment: of the network that learns.

    Raises:
        TeacherError: one of them cannot be loaded, recognises other expressions, or needs another alignment.
    """
    try:
        return ExpressionTeachers([_checkpoint(name, expressions, alignment) for name in names])
    except (OSError, ValueError) as error:
        raise TeacherError(f"--expression_teachers: {one_line(error)}") from None


def _checkpoint(name: str, expressions: tuple[str, ...], alignment: str) -> Checkpoint:
    if find_checkpoint(name).suffix == SUFFIX:
        raise ValueError(f"{name}: an exported graph cannot teach; give the model it was exported from")
    checkpoint = load_checkpoint(name)
    theirs = tuple(checkpoint.network.config.expressions)
    if theirs != expressions:
        raise ValueError(f"{name} recognises {', '.join(theirs)}; the network {', '.join(expressions)}")
    if checkpoint.processor.alignment != alignment:
        raise ValueError(f"{name} needs faces aligned by {checkpoint.processor.alignment}, not by {alignment}")
    return checkpoint
