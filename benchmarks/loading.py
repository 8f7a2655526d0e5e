"""Batches of images: a prepared corpus with augmentation of whole batches, compared with a folder of JPEG files.

The usual torchvision code is ImageFolder, which decodes with Pillow, and transforms for each image. It reads the same
images in the same order, from files in one folder per person, with the same result. "decoded" measures until a batch of
uint8 images, "augmented" until a whitened batch for the network.
"""

import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.report import medians, synchronize, table
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import EXPRESSIONS
from train.augmentation import prepare
from train.batches import Batch, TrainingFaces, no_collate
from train.config import TrainingConfig
from train.photographs import Photographs, decode

FOLDER, CORPUS = SIDES = ("ImageFolder", "prepared corpus")


class PhotographFolder(ImageFolder):
    """The same images as an ImageFolder: (image, identity, expression), −100 for a missing label."""

    def __init__(self, folder: Path, faces: TrainingFaces, transform: Callable):
        super().__init__(folder, transform)
        self.rows = [int(Path(path).stem) for path, _ in self.samples]
        expression = torch.from_numpy(faces.labels.expression)[self.rows]
        self.expression = expression.argmax(dim=1).where(expression.any(dim=1), -100)
        self.identity = torch.from_numpy(faces.labels.identity)[self.rows]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        image, _ = super().__getitem__(index)
        return image, self.identity[index], self.expression[index]


def write_photographs(faces: TrainingFaces, rows: list[int], folder: Path) -> None:
    """Write one folder per person, and one JPEG file per row, named by the row; stored JPEGs are not encoded again."""
    for row, encoded in zip(rows, faces.photographs.encoded(rows), strict=True):
        person = folder / f"person_{faces.labels.identity[row]}"
        person.mkdir(exist_ok=True)
        with PIL.Image.open(io.BytesIO(encoded)) as image:
            if image.format != "JPEG":
                image.convert("RGB").save(person / f"{row}.jpg", quality=95)
                continue
        (person / f"{row}.jpg").write_bytes(encoded)


def image_transforms(config: TrainingConfig) -> v2.Compose:
    """For each image what `prepare` does for a batch, with torchvision's nearest equivalents."""
    size, light = config.image_size, config.light
    shift, scale = (config.shift, config.shift), (1 - config.crop_scale, 1 + config.crop_scale)
    return v2.Compose(
        [
            v2.Resize((size, size)),
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(config.rotation, shift, scale, interpolation=v2.InterpolationMode.BILINEAR),
            v2.ColorJitter(brightness=light, contrast=light),
            v2.RandomGrayscale(config.gray),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            whitened,
        ]
    )


def whitened(face: Tensor) -> Tensor:
    return (face - face.mean()) / face.std()


# the command


def run(arguments) -> dict:
    for name in ("batch", "batches", "image_size", "repeats"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')}: at least 1, not {getattr(arguments, name)}")
    workers = arguments.workers.split(",")
    if not all(count.strip().isdecimal() for count in workers):
        raise ValueError(f"--workers: numbers such as 0,2, not {arguments.workers!r}")
    config = TrainingConfig(image_size=arguments.image_size)
    faces = TrainingFaces(Photographs([arguments.data], EXPRESSIONS))
    order = np.resize(np.random.default_rng(0).permutation(len(faces)), (arguments.batches, arguments.batch))
    row_batches = order.tolist()
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(faces, sorted({row for rows in row_batches for row in rows}), Path(folder))
        rows = [
            row for count in workers for row in _rates(Path(folder), faces, row_batches, config, int(count), arguments)
        ]
        costs = _costs(faces, row_batches[0], config, arguments)
    return {
        "corpus": arguments.data,
        "batch": arguments.batch,
        "image_size": arguments.image_size,
        "rows": rows,
        "microseconds_per_image": costs,
    }


def _rates(
    folder: Path, faces: TrainingFaces, row_batches: list[list[int]], config, workers: int, arguments
) -> list[dict]:
    """Images/s of both sides with this number of workers, decoded and augmented."""
    device = arguments.device
    # The workers stay between measurements, and nothing is loaded before a measurement starts.
    settings = {"num_workers": workers, "persistent_workers": workers > 0, "pin_memory": device == "cuda"}
    whiten = FaceLiveNetImageProcessor(size=config.image_size).whiten

    def folder_loader(transform: Callable) -> DataLoader:
        photographs = PhotographFolder(folder, faces, transform)
        index_by_row = {row: index for index, row in enumerate(photographs.rows)}
        return DataLoader(
            photographs, batch_sampler=[[index_by_row[row] for row in rows] for rows in row_batches], **settings
        )

    corpus = DataLoader(faces, batch_sampler=row_batches, collate_fn=no_collate, **settings)
    decoded_loader = folder_loader(v2.PILToTensor())
    augmented_loader = folder_loader(image_transforms(config))

    def rate(loader: DataLoader, finish: Callable) -> float:
        start = time.perf_counter()
        count = sum(len(finish(batch)) for batch in loader)
        synchronize(device)
        return count / (time.perf_counter() - start)

    def augmented(batch: Batch) -> Tensor:
        return prepare(batch.faces.to(device, non_blocking=True), config, whiten)

    measure = {
        ("decoded", FOLDER): lambda: rate(decoded_loader, lambda batch: batch[0]),
        ("decoded", CORPUS): lambda: rate(corpus, lambda batch: batch.faces),
        ("augmented", FOLDER): lambda: rate(augmented_loader, lambda batch: batch[0].to(device, non_blocking=True)),
        ("augmented", CORPUS): lambda: rate(corpus, augmented),
    }
    medians(measure, 1)  # starts the workers, and loads files into the memory cache
    rates = medians(measure, arguments.repeats)
    return [
        {
            "up_to": up_to,
            "side": side,
            "workers": workers,
            "images_per_second": value,
            "ratio": value / rates[up_to, FOLDER],
        }
        for (up_to, side), value in rates.items()
    ]


def _costs(faces: TrainingFaces, rows: list[int], config, arguments) -> dict[str, float]:
    """Time of each step of loading from the prepared corpus without workers, in microseconds per image."""
    encoded = faces.photographs.encoded(rows)
    images = faces.__getitems__(rows).faces.to(arguments.device)
    whiten = FaceLiveNetImageProcessor(size=config.image_size).whiten

    def timed(function: Callable) -> float:
        start = time.perf_counter()
        function()
        synchronize(arguments.device)
        return 1e6 * (time.perf_counter() - start) / len(rows)

    steps = {
        "read": lambda: faces.photographs.encoded(rows),
        "decode": lambda: [decode(image) for image in encoded],
        "whole loader": lambda: faces.__getitems__(rows),
        "augment and whiten": lambda: prepare(images, config, whiten),
    }
    measure = {name: lambda function=function: timed(function) for name, function in steps.items()}
    medians(measure, 1)
    return medians(measure, arguments.repeats)


def text(result: dict) -> str:
    rows = [
        (
            f"{row['up_to']}, {row['side']}",
            str(row["workers"]),
            f"{row['images_per_second']:,.0f}",
            f"{row['ratio']:.2f}",
        )
        for row in result["rows"]
    ]
    rate = {(row["up_to"], row["side"], row["workers"]): row["images_per_second"] for row in result["rows"]}
    loading_lines = [
        f"if a GPU augments, the CPU only loads: {rate['decoded', CORPUS, workers]:,.0f} images/s, "
        f"{rate['decoded', CORPUS, workers] / rate['augmented', FOLDER, workers]:.2f} of ImageFolder augmented "
        f"({workers} workers; computed)"
        for workers in dict.fromkeys(row["workers"] for row in result["rows"])
        if result["machine"]["device"] == "cpu"
    ]
    costs = [f"{name} {value:.0f}" for name, value in result["microseconds_per_image"].items()]
    return "\n".join(
        [
            f"{result['corpus']}, batches of {result['batch']}, augmented at {result['image_size']} pixels",
            table(("batches", "workers", "images/s", "/ ImageFolder"), rows),
            *loading_lines,
            f"prepared corpus, microseconds per photograph: {', '.join(costs)}",
        ]
    )
