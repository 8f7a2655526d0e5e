"""A checkpoint run over a prepared corpus, once: every protocol judges what comes out of here."""

import hashlib
import inspect
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset, Image
from huggingface_hub import snapshot_download
from tqdm import tqdm

from evaluation.cache import EmbeddingCache, digest
from face_data.table import FEATURES, column
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import FaceLiveNetModel

UNUSED = ("image", "box", "crop", "landmarks", "detection_probability")  # columns no protocol looks at
PER_PHOTOGRAPH = ("keys", "identities", "expressions", "sources", "splits", "votes")  # lists of Embeddings


@dataclass(frozen=True)
class Checkpoint:
    """A saved model as it is evaluated.

    folder: where it lies locally. sha256: of its model.safetensors. trained_on: source of photographs -> the splits it
    was trained on, from `training.json`; None where that does not say.
    """

    model: FaceLiveNetModel
    processor: FaceLiveNetImageProcessor
    name: str
    folder: Path
    sha256: str
    trained_on: dict[str, list[str]] | None

    @property
    def record(self) -> dict[str, str]:
        """By which a report knows it."""
        return {"name": self.name, "sha256": self.sha256}


@dataclass(frozen=True)
class Embeddings:
    """What the network says about n photographs.

    keys: (n,) unique names. embeddings: (n, 1792) float32 of length 1. expression_probabilities: (n, classes) in the
    order of `classes`, the model's names. identities, expressions: (n,) the corpus's labels, None where it has none.
    sources, splits: (n,) the corpus a photograph comes from, and its split there. votes: (n,) the annotators' 8
    probabilities in the order of `face_data.table.EXPRESSIONS`, or None; empty where the corpus has no such column.
    attributes: the corpus's further columns, such as gender: (n,) each.
    """

    keys: list[str]
    embeddings: np.ndarray
    expression_probabilities: np.ndarray
    identities: list[str | None]
    expressions: list[str | None]
    sources: list[str]
    splits: list[str]
    classes: tuple[str, ...]
    votes: list[Sequence[float] | None] = field(default_factory=list)
    attributes: dict[str, list[str | None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, rows: Sequence[int]) -> "Embeddings":
        """Only these photographs, in this order."""
        lists = {name: getattr(self, name) for name in PER_PHOTOGRAPH}
        return replace(
            self,
            embeddings=self.embeddings[rows],
            expression_probabilities=self.expression_probabilities[rows],
            **{name: [values[row] for row in rows] if values else [] for name, values in lists.items()},
            attributes={name: [values[row] for row in rows] for name, values in self.attributes.items()},
        )

    def of_splits(self, splits: Sequence[str]) -> "Embeddings":
        """Only the photographs of these splits, in the same order."""
        return self.select([row for row, split in enumerate(self.splits) if split in splits])

    def seen_splits(self, trained_on: Mapping[str, Sequence[str]] | None) -> frozenset[str] | None:
        """Which splits of these photographs' corpora a network was trained on; None where nobody recorded it."""
        if trained_on is None:
            return None
        return frozenset(split for source in set(self.sources) for split in trained_on.get(source, ()))


def training_warning(seen: frozenset[str] | None, splits: Iterable[str]) -> str | None:
    """What makes a result on these splits less than one about people never seen in training; None where nothing does.

    Args:
        seen: as `Embeddings.seen_splits` says it.
    """
    if seen is None:
        return "UNKNOWN which people the network was trained on: maybe on these"
    trained = sorted(seen & set(splits))
    return f"OPTIMISTIC: the network was trained on split {', '.join(trained)}" if trained else None


def load_checkpoint(name: str | Path, device: str) -> Checkpoint:
    """Load model and image processor from a local folder or a Hub id.

    Raises:
        FileNotFoundError: neither a folder nor a Hub id, or a file of the checkpoint is missing.
    """
    folder = Path(name)
    if not folder.is_dir():
        if str(name).count("/") != 1 or str(name).startswith((".", "/")):
            raise FileNotFoundError(f"{name}: no such folder; give a saved model's folder, or its Hub id user/name")
        folder = Path(snapshot_download(str(name)))
    for file in ("config.json", "model.safetensors", "preprocessor_config.json"):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder / file} is missing: {name} is not a whole saved model")
    with (folder / "model.safetensors").open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    model = FaceLiveNetModel.from_pretrained(folder, dtype=torch.float32).eval()
    if model.config.similarity_threshold is not None and model.calibrated_threshold is None:
        print(f"{name}: its thresholds belong to other weights and do not count: calibrate it", file=sys.stderr)
        model.config.similarity_threshold = None
    return Checkpoint(
        model=model.to(device),
        processor=FaceLiveNetImageProcessor.from_pretrained(folder),
        name=str(name),
        folder=folder,
        sha256=sha256,
        trained_on=read_record(folder).get("trained_on"),
    )


def read_record(folder: Path) -> dict:
    """The `training.json` of a saved model, empty where it has none.

    Raises:
        ValueError: it is damaged.
    """
    path = folder / "training.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); save the model again, or remove the file") from None


def embed(
    model: FaceLiveNetModel,
    processor: FaceLiveNetImageProcessor,
    corpus: Dataset,
    *,
    batch_size: int = 64,
    cache: EmbeddingCache | None = None,
) -> Embeddings:
    """Run the network over a prepared corpus (`face_data.table.load_corpus`), at the processor's image size.

    Several processes (`accelerate launch`) share the batches, each of them as one process alone would make it, and all
    return the whole.

    Args:
        model: in evaluation mode, on the device to use; its config says whether mirror images are averaged in.
        cache: of this network run in this way (`cache_for`); photographs it knows are not computed again.

    Raises:
        ValueError: the corpus is empty or names a photograph twice, or the network gave NaN or infinite numbers; names
            the photographs.
    """
    columns = {name: column(corpus, name) for name in corpus.column_names if name not in UNUSED}
    keys = columns["key"]
    if not keys:
        raise ValueError("the corpus holds no photograph to evaluate")
    if len(set(keys)) != len(keys):
        twice = next(key for key, count in Counter(keys).items() if count > 1)
        raise ValueError(f"the corpus names {twice} more than once; keys must be unique")
    state = PartialState()
    digests, known, kept = [], np.zeros(len(keys), dtype=bool), None
    if cache is not None:
        encoded = corpus.select_columns("image").cast_column("image", Image(decode=False))
        digests = [digest(row["image"]["bytes"]) for row in encoded]
        [(known, *kept)] = broadcast_object_list([cache.read(digests) if state.is_main_process else None])
    missing = np.flatnonzero(~known)
    computed = _run(model, processor, corpus.select(missing), batch_size, state) if len(missing) else None
    if kept is None or not known.any():
        embeddings, probabilities = computed
    elif computed is None:
        embeddings, probabilities = kept
    else:
        place = np.argsort(np.concatenate([np.flatnonzero(known), missing]))
        embeddings, probabilities = (np.concatenate(pair)[place] for pair in zip(kept, computed, strict=True))
    finite = np.isfinite(embeddings).all(1) & np.isfinite(probabilities).all(1)
    if not finite.all():
        broken = [keys[row] for row in np.flatnonzero(~finite)]
        raise ValueError(f"the network gave NaN or infinite numbers for {len(broken)} photographs: {_some(broken)}")
    if cache is not None and computed is not None and state.is_main_process:
        cache.write([digests[row] for row in missing], *computed)
    names = corpus.features["expression"].names
    return Embeddings(
        keys=keys,
        embeddings=embeddings,
        expression_probabilities=probabilities,
        identities=columns["identity"],
        expressions=[None if label is None else names[label] for label in columns["expression"]],
        sources=columns["source"],
        splits=columns["split"],
        classes=tuple(model.config.expressions),
        votes=columns["expression_votes"],
        attributes={name: values for name, values in columns.items() if name not in FEATURES},
    )


def embed_checkpoint(checkpoint: Checkpoint, corpus: Dataset, batch_size: int, cache: Path | None) -> Embeddings:
    """`embed` for a loaded checkpoint, with what is kept of it in the folder `cache`; None: nothing is."""
    kept = cache_for(checkpoint, cache) if cache else None
    return embed(checkpoint.model, checkpoint.processor, corpus, batch_size=batch_size, cache=kept)


def cache_for(checkpoint: Checkpoint, folder: Path) -> EmbeddingCache:
    """The cache of this network as it is run now: by this code, at its image size, on this kind of device."""
    code = b"".join(Path(inspect.getfile(one)).read_bytes() for one in (FaceLiveNetModel, FaceLiveNetImageProcessor))
    flip = "_flip" if checkpoint.model.config.test_time_flip else ""
    way = f"{checkpoint.processor.size}px{flip}_{checkpoint.model.device.type}"
    return EmbeddingCache(folder, f"{checkpoint.sha256[:32]}_{hashlib.sha256(code).hexdigest()[:8]}_{way}")


@torch.inference_mode()
def _run(
    model: FaceLiveNetModel, processor: FaceLiveNetImageProcessor, corpus: Dataset, batch_size: int, state: PartialState
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, 1792) and expression probabilities (n, classes) of all photographs, in every process."""
    starts = range(0, len(corpus), batch_size)
    own = {}  # start of a batch -> what the network says of it
    with tqdm(total=len(corpus), unit="face", desc="network", disable=not state.is_main_process) as progress:
        for start in starts[state.process_index :: state.num_processes]:
            images = corpus[start : start + batch_size]["image"]
            pixels = processor(images, detect=False)["pixel_values"].to(model.device)  # (b, 3, size, size)
            # always of one size: the last digit must not depend on who else is in the batch
            filled = F.pad(pixels, (0, 0, 0, 0, 0, 0, 0, batch_size - len(images)))
            own[start] = [part[: len(images)].cpu().numpy() for part in _forward(model, filled)]
            progress.update(min(len(images) * state.num_processes, len(corpus) - progress.n))
    whole = {start: parts for one in gather_object([own]) for start, parts in one.items()}
    embeddings, probabilities = zip(*(whole[start] for start in starts), strict=True)
    return np.concatenate(embeddings), np.concatenate(probabilities)


def _forward(model: FaceLiveNetModel, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings (b, 1792) and expression probabilities (b, classes), both float32."""
    output = model(pixels)
    return output.embedding.float(), output.expression_logits.float().softmax(-1)


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
