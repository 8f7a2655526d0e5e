"""The training loop, compared with a plain one over the same network: images/s, and the share of waiting for data.

The plain loop is eager, in float32, with contiguous tensors, a DataLoader with default settings over a folder of JPEG
files, and transforms for each image. Both loops take the same steps of the same optimiser with the same batch size.
"""

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from torch.utils.data import DataLoader

from benchmarks.loading import PhotographFolder, image_transforms, write_photographs
from benchmarks.report import synchronize, table
from modeling_facelivenet import EXPRESSIONS, FaceLiveNetConfig, FaceLiveNetModel
from train.batches import DrawnBatches, TrainingFaces, row_weights
from train.config import CLIP_NORM, LOG_EVERY, TrainingConfig
from train.loop import train
from train.photographs import Photographs

SIDES = ("plain loop", "python -m train")
WARM_UP = LOG_EVERY  # steps before the measured ones: log.jsonl has one rate for all of them


def run(arguments) -> dict:
    for name in ("batch", "steps", "repeats"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')}: at least 1, not {getattr(arguments, name)}")
    with tempfile.TemporaryDirectory() as folder:
        config = TrainingConfig(
            out=str(Path(folder) / "run"),
            train=[arguments.data],
            image_size=arguments.image_size,
            resume=False,
            steps=WARM_UP + arguments.steps,
            batch_size=arguments.batch,
            validate_every=10**9,
            save_every=10**9,
            tracker="none",
            workers=arguments.workers,
            optimizer="adamw",
            learning_rate=1e-3,
            compile=arguments.compile,
            cpu=arguments.device == "cpu",
        )
        faces = TrainingFaces(Photographs(config.train, EXPRESSIONS))
        shape = (1, 1, config.batch_size)
        row_batches = list(DrawnBatches(row_weights(faces, [1.0]), config.seed, 0, config.steps, shape, 0))
        photographs = Path(folder) / "photographs"
        photographs.mkdir()
        write_photographs(faces, sorted({row for rows in row_batches for row in rows}), photographs)
        runs = []
        for _ in range(arguments.repeats):  # alternately, so that other load affects both
            runs.append(
                (
                    plain_loop(config, faces, photographs, row_batches, arguments.device),
                    training_loop(config),
                )
            )
    rows = [
        {name: median(row[name] for row in side) for name in ("images_per_second", "share_waiting_for_data")}
        for side in zip(*runs, strict=True)
    ]
    for row, name, workers in zip(rows, SIDES, (0, arguments.workers), strict=True):
        row |= {"loop": name, "workers": workers, "ratio": row["images_per_second"] / rows[0]["images_per_second"]}
    return {
        "corpus": arguments.data,
        "batch": arguments.batch,
        "image_size": arguments.image_size,
        "steps": arguments.steps,
        "precision": runs[0][1]["precision"],
        "compiled": arguments.compile,
        "rows": rows,
    }


def plain_loop(
    config: TrainingConfig, faces: TrainingFaces, folder: Path, row_batches: list[list[int]], device: str
) -> dict[str, float]:
    """Images/s and share of waiting for data, in the steps after the warm-up."""
    torch.manual_seed(config.seed)
    photographs = PhotographFolder(folder, faces, image_transforms(config))
    index_by_row = {row: index for index, row in enumerate(photographs.rows)}
    loader = DataLoader(photographs, batch_sampler=[[index_by_row[row] for row in rows] for rows in row_batches])
    network = FaceLiveNetConfig(image_size=config.image_size, num_identities=faces.labels.num_identities)
    model = FaceLiveNetModel(network).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate)
    batches = iter(loader)
    waiting_seconds = 0.0
    for number in range(len(row_batches)):
        if number == WARM_UP:
            synchronize(device)
            start, waiting_seconds = time.perf_counter(), 0.0
        requested_at = time.perf_counter()
        batch_faces, identity, expression = (tensor.to(device) for tensor in next(batches))
        waiting_seconds += time.perf_counter() - requested_at
        loss = model(batch_faces, identity, expression).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
    synchronize(device)
    seconds = time.perf_counter() - start
    images = (len(row_batches) - WARM_UP) * config.batch_size
    return {"images_per_second": images / seconds, "share_waiting_for_data": waiting_seconds / seconds}


def training_loop(config: TrainingConfig) -> dict:
    """Images/s and share of waiting for data of `train.loop.train`, from its log, and its precision."""
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the table
        precision = train(config)["precision"]
    rows = [json.loads(row) for row in (Path(config.out) / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["step"] > WARM_UP]
    seconds = [config.batch_size / row["images_per_second"] for row in rows]
    waiting_seconds = sum(
        row["share_waiting_for_data"] * row_seconds for row, row_seconds in zip(rows, seconds, strict=True)
    )
    return {
        "images_per_second": len(rows) * config.batch_size / sum(seconds),
        "share_waiting_for_data": waiting_seconds / sum(seconds),
        "precision": precision,
    }


def text(result: dict) -> str:
    rows = [
        (
            row["loop"],
            str(row["workers"]),
            f"{row['images_per_second']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['share_waiting_for_data']:.1%}",
        )
        for row in result["rows"]
    ]
    size = f"batches of {result['batch']} at {result['image_size']} pixels, {result['steps']} steps after the warm-up"
    precision = {"no": "float32"}.get(result["precision"], result["precision"])
    return "\n".join(
        [
            f"{result['corpus']}, {size}",
            f"the training loop: {precision}, channels last{', compiled' * result['compiled']}",
            table(("loop", "workers", "images/s", "/ plain", "waiting for data"), rows),
        ]
    )
