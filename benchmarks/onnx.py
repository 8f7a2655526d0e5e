"""The network alone, one face at a time: PyTorch against ONNX Runtime, in float32 and in 8 bits: milliseconds, size.

PyTorch runs the network as it is saved, and as `Authenticator` lays it out. With --data the same four judge the people
of a split of a prepared corpus, so that the accuracy that 8 bits cost is measured beside the time they save or lose:
the official pairs at the threshold that is best for them, all pairs' AUC, and expressions.
"""

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from authentication.authenticator import DEFAULT_MODEL, Authenticator
from authentication.onnx_network import OnnxNetwork
from benchmarks.report import medians, table
from evaluation.embeddings import embed
from evaluation.expression import expression_report
from evaluation.metrics import accuracy, best_threshold, roc
from evaluation.verification import generated_pairs, score_pairs
from face_data.pairs import read_pairs
from face_data.table import load_corpus
from hub_card.onnx_export import export, quantise
from modeling_facelivenet import FaceLiveNetModel

LARGEST_LOSS = 0.005  # of any accuracy, that 8 bits may cost
SIDES = ("PyTorch", "PyTorch, fused", "ONNX Runtime", "ONNX Runtime, 8 bits")


def add_arguments(command) -> None:
    command.add_argument(
        "--model", type=Path, default=DEFAULT_MODEL, help="folder of a saved model (default: %(default)s)"
    )
    command.add_argument("--faces", type=int, default=30, help="faces per measurement (default 30)")
    command.add_argument("--repeats", type=int, default=5, help="measurements, of which the median counts (default 5)")
    command.add_argument("--data", metavar="CORPUS", help="judge the accuracy too, on this prepared corpus")
    command.add_argument("--split", default="9", help="its split (default 9, the fold on which things are chosen)")


def run(arguments) -> dict:
    if arguments.device != "cpu":
        raise ValueError("onnx: exported graphs run on the CPU; give --device cpu")
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser advises on standard error
    with tempfile.TemporaryDirectory() as temporary:
        files = [Path(temporary) / name for name in ("float32.onnx", "int8.onnx")]
        difference = export(arguments.model, files[0])
        quantise(*files)
        ours = Authenticator.from_pretrained(arguments.model)
        plain = FaceLiveNetModel.from_pretrained(arguments.model, dtype=torch.float32).eval()
        networks = dict(zip(SIDES, (plain, ours.model, *map(OnnxNetwork, files)), strict=True))
        weights = arguments.model / "model.safetensors"
        sizes = [path.stat().st_size / 1e6 for path in (weights, weights, *files)]
    face = torch.randn(1, 3, ours.processor.size, ours.processor.size)
    times = medians(
        {name: lambda network=network: _pace(network, face, arguments.faces) for name, network in networks.items()},
        arguments.repeats,
    )
    rows = [
        {"side": name, "milliseconds": times[name], "ratio": times[SIDES[0]] / times[name], "megabytes": size}
        for name, size in zip(SIDES, sizes, strict=True)
    ]
    if arguments.data:
        for row in rows:
            row |= _judge(networks[row["side"]], ours.processor, arguments.data, arguments.split)
    about = {"weights": ours.revision, "difference": difference, "data": arguments.data, "split": arguments.split}
    return about | {"rows": rows}


@torch.inference_mode()
def _pace(network: Callable, face: torch.Tensor, count: int) -> float:
    network(face)
    began = time.perf_counter()
    for _ in range(count):
        network(face)
    return 1000 * (time.perf_counter() - began) / count


def _judge(network, processor, data: str, split: str) -> dict:
    embeddings = embed(network, processor, load_corpus(data, [split]))
    everyone = generated_pairs(embeddings, seed=0)
    judged = {
        "photographs": len(embeddings),
        "auc": roc(everyone.scores, everyone.same).auc,
        "expression_accuracy": expression_report(embeddings, seed=0)["accuracy"]["value"],
    }
    official = [pair for pair in read_pairs(data, missing_ok=True) if str(pair.fold) == split]
    if official:
        scored = score_pairs(official, embeddings)
        right = accuracy(scored.scores, scored.same, best_threshold(scored.scores, scored.same))
        judged |= {"pairs": len(official), "pair_accuracy": right}
    return judged


def text(result: dict) -> str:
    rows = result["rows"]
    measures = [name for name in ("pair_accuracy", "auc", "expression_accuracy") if name in rows[0]]
    lines = [
        table(
            ("network, one face", "ms", "/ PyTorch", "MB", *(name.replace("_", " ") for name in measures)),
            [
                (
                    row["side"], f"{row['milliseconds']:.1f}", f"{row['ratio']:.2f}", f"{row['megabytes']:.1f}",
                    *(f"{row[name]:.4f}" for name in measures),
                )
                for row in rows
            ],
        ),
        f"largest difference between PyTorch's numbers and ONNX Runtime's, float32: {result['difference']:.1g}",
    ]  # fmt: skip
    if measures:
        loss = max(rows[0][name] - rows[-1][name] for name in measures)
        verdict = "within" if np.round(loss, 9) < LARGEST_LOSS else "OVER"
        lines.append(
            f"{rows[0]['photographs']:,} photographs of {result['data']}, split {result['split']}; 8 bits lose at most "
            f"{100 * loss:.2f} points, {verdict} the {100 * LARGEST_LOSS:g} they may"
        )
    return "\n".join(lines)
