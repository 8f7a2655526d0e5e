"""The network alone with one face, in PyTorch and in ONNX Runtime, in float32 and in 8 bits: milliseconds and size.

"Authenticator" is what the app and the command line use on this machine. With --data all four are also evaluated on a
split of a prepared corpus, to measure how much accuracy 8 bits lose: published pairs at their best threshold, the AUC
of generated pairs, and expressions.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from authentication.authenticator import Authenticator
from benchmarks.report import medians, table
from checkpoints import WEIGHTS, load_checkpoint
from evaluation.embeddings.compute import embed
from evaluation.protocols.expression import expression_report
from evaluation.protocols.pairs import generated_pairs, score_pairs
from evaluation.statistics.curves import roc
from face_data.pairs import pairs_of_splits
from face_data.table import load_corpus
from face_data.thresholds import accuracy, best_threshold
from hub_card.onnx_export import export, quantise
from onnx_network import OnnxNetwork

LARGEST_LOSS = 0.005  # target: how much of any accuracy 8 bits may lose
SIDES = ("PyTorch", "Authenticator", "ONNX Runtime", "ONNX Runtime, 8 bits")


def run(arguments) -> dict:
    if arguments.device != "cpu":
        raise ValueError("onnx: exported graphs run on the CPU; use --device cpu")
    with tempfile.TemporaryDirectory() as temporary:
        graph_files = [Path(temporary) / name for name in ("float32.onnx", "int8.onnx")]
        difference = export(arguments.model, graph_files[0])
        quantise(*graph_files)
        authenticator = Authenticator.from_pretrained(arguments.model)
        checkpoint = load_checkpoint(arguments.model)
        networks = dict(
            zip(SIDES, (checkpoint.network, authenticator.model, *map(OnnxNetwork, graph_files)), strict=True)
        )
        weights = checkpoint.path / WEIGHTS
        sizes = [path.stat().st_size / 1e6 for path in (weights, weights, *graph_files)]
    face = torch.randn(1, 3, authenticator.processor.size, authenticator.processor.size)
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
            row |= _evaluate(networks[row["side"]], authenticator.processor, arguments.data, arguments.split)
    source = {
        "weights": authenticator.revision,
        "difference": difference,
        "data": arguments.data,
        "split": arguments.split,
    }
    return source | {"rows": rows}


@torch.inference_mode()
def _pace(network: Callable, face: torch.Tensor, count: int) -> float:
    network(face)
    start = time.perf_counter()
    for _ in range(count):
        network(face)
    return 1000 * (time.perf_counter() - start) / count


def _evaluate(network, processor, corpus_name: str, split: str) -> dict:
    embeddings = embed(network, processor, load_corpus(corpus_name, [split]))
    scored_pairs = generated_pairs(embeddings, seed=0)
    result = {
        "photographs": len(embeddings),
        "auc": roc(scored_pairs.scores, scored_pairs.same).auc,
        "expression_accuracy": expression_report(embeddings, seed=0).accuracy.value,
    }
    if published_pairs := pairs_of_splits(corpus_name, [split], embeddings.keys):
        scored = score_pairs(published_pairs, embeddings)
        pair_accuracy = accuracy(scored.scores, scored.same, best_threshold(scored.scores, scored.same))
        result |= {"pairs": len(published_pairs), "pair_accuracy": pair_accuracy}
    return result


def text(result: dict) -> str:
    rows = result["rows"]
    measures = [name for name in ("pair_accuracy", "auc", "expression_accuracy") if name in rows[0]]
    lines = [
        table(
            ("network, one face", "ms", "/ PyTorch", "MB", *(name.replace("_", " ") for name in measures)),
            [
                (
                    row["side"],
                    f"{row['milliseconds']:.1f}",
                    f"{row['ratio']:.2f}",
                    f"{row['megabytes']:.1f}",
                    *(f"{row[name]:.4f}" for name in measures),
                )
                for row in rows
            ],
        ),
        f"largest difference between PyTorch's numbers and ONNX Runtime's, float32: {result['difference']:.1g}",
    ]
    if measures:
        loss = max(rows[0][name] - rows[-1][name] for name in measures)
        verdict = "within" if np.round(loss, 9) < LARGEST_LOSS else "OVER"
        lines.append(
            f"{rows[0]['photographs']:,} photographs of {result['data']}, split {result['split']}; 8 bits lose at most "
            f"{100 * loss:.2f} points, {verdict} the target of {100 * LARGEST_LOSS:g}"
        )
    return "\n".join(lines)
