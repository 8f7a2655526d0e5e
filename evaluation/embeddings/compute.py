"""Runs a network over a prepared corpus once; every protocol then evaluates the resulting table.

The command calls `embed_checkpoint`. Read `table` next, which describes the result, then `cache`.
"""

import hashlib
import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset, Image
from tqdm import tqdm

from checkpoints import Checkpoint
from evaluation.embeddings.cache import EmbeddingCache, digest
from evaluation.embeddings.table import Embeddings
from face_data.table import column
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import FaceLiveNetModel
from onnx_network import OnnxNetwork
from pipeline_facelivenet import REFERENCE_VIEWS, reference_embeddings, reference_views

BATCH_SIZE = 64

Network = FaceLiveNetModel | OnnxNetwork


def embed_checkpoint(
    checkpoint: Checkpoint,
    corpus: Dataset,
    batch_size: int = BATCH_SIZE,
    cache: Path | None = None,
    are_compared: bool | None = None,
) -> Embeddings:
    """The embeddings of a corpus by a loaded checkpoint, as probes and as references.

    Args:
        cache: the folder of the embedding cache; None disables it.
        are_compared: whether a protocol compares images of this corpus; by default if they have identities. Otherwise
            no reference is computed, which would take REFERENCE_VIEWS times as long.
    """
    if are_compared is None:
        are_compared = any(identity is not None for identity in column(corpus, "identity"))
    network, processor = checkpoint.network, checkpoint.processor
    probes, *as_references = (
        embed(
            network,
            processor,
            corpus,
            batch_size=batch_size,
            cache=cache_for(checkpoint, cache, is_reference) if cache else None,
            is_reference=is_reference,
        )
        for is_reference in ([False, True] if are_compared else [False])
    )
    return replace(probes, references=as_references[0].embeddings) if are_compared else probes


def cache_for(checkpoint: Checkpoint, folder: Path, is_reference: bool = False) -> EmbeddingCache:
    """The cache for this network with this code, image size and kind of device."""
    parts = (FaceLiveNetModel, FaceLiveNetImageProcessor, *([reference_views] if is_reference else []))
    code = b"".join(Path(inspect.getfile(part)).read_bytes() for part in parts)
    side = "_references" if is_reference else ""
    settings = f"{checkpoint.processor.size}px{side}_{checkpoint.network.device.type}"
    return EmbeddingCache(folder, f"{checkpoint.sha256[:32]}_{hashlib.sha256(code).hexdigest()[:8]}_{settings}")


def embed(
    network: Network,
    processor: FaceLiveNetImageProcessor,
    corpus: Dataset,
    *,
    batch_size: int = BATCH_SIZE,
    cache: EmbeddingCache | None = None,
    is_reference: bool = False,
) -> Embeddings:
    """Run the network over a prepared corpus (`face_data.table.load_corpus`), at the processor's image size.

    Several processes (`accelerate launch`) share the batches. Every process returns the whole table, with the same
    numbers as a single process.

    Args:
        network: in evaluation mode, on the device to use.
        cache: from `cache_for`; cached images are not computed again.
        is_reference: whether the images are reference photographs (`pipeline_facelivenet.reference_views`). The
            `references` of the table are its `embeddings` in both cases.

    Raises:
        ValueError: the corpus is empty or repeats a key, or the network returned NaN or infinite numbers; the message
            names the images.
    """
    if is_reference:
        batch_size = max(1, batch_size // REFERENCE_VIEWS)
    keys = column(corpus, "key")
    if not keys:
        raise ValueError("the corpus has no image to evaluate")
    if len(set(keys)) != len(keys):
        repeated = next(key for key, count in Counter(keys).items() if count > 1)
        raise ValueError(f"the corpus has the key {repeated} more than once; keys must be unique")
    state = PartialState()
    digests, cached, stored = [], np.zeros(len(keys), dtype=bool), None
    if cache is not None:
        encoded = corpus.select_columns("image").cast_column("image", Image(decode=False))
        digests = [digest(row["image"]["bytes"]) for row in encoded]
        [(cached, *stored)] = broadcast_object_list([cache.read(digests) if state.is_main_process else None])
    missing = np.flatnonzero(~cached)
    computed = None
    if len(missing):
        computed = _run(network, processor, corpus.select(missing), batch_size, is_reference, state)
    if stored is None or not cached.any():
        embeddings, probabilities = computed
    elif computed is None:
        embeddings, probabilities = stored
    else:
        order = np.argsort(np.concatenate([np.flatnonzero(cached), missing]))
        embeddings, probabilities = (np.concatenate(pair)[order] for pair in zip(stored, computed, strict=True))
    finite = np.isfinite(embeddings).all(1) & np.isfinite(probabilities).all(1)
    if not finite.all():
        broken = [keys[row] for row in np.flatnonzero(~finite)]
        raise ValueError(f"the network gave NaN or infinite numbers for {len(broken)} images: {_shortened(broken)}")
    if cache is not None and computed is not None and state.is_main_process:
        cache.write([digests[row] for row in missing], *computed)
    return Embeddings.from_corpus(corpus, embeddings, embeddings, probabilities, network.config.expressions)


@torch.inference_mode()
def _run(
    network: Network,
    processor: FaceLiveNetImageProcessor,
    corpus: Dataset,
    batch_size: int,
    is_reference: bool,
    state: PartialState,
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, d) and expression probabilities (n, classes) of all images, in every process."""
    starts = range(0, len(corpus), batch_size)
    computed = {}  # start of a batch -> its outputs
    description = "references" if is_reference else "network"
    with tqdm(total=len(corpus), unit="face", desc=description, disable=not state.is_main_process) as progress:
        for start in starts[state.process_index :: state.num_processes]:
            images = corpus[start : start + batch_size]["image"]
            computed[start] = embed_batch(network, processor, images, batch_size, is_reference)
            progress.update(min(len(images) * state.num_processes, len(corpus) - progress.n))
    batches = {}
    for process_batches in gather_object([computed]):
        batches |= process_batches
    embeddings, probabilities = zip(*(batches[start] for start in starts), strict=True)
    return np.concatenate(embeddings), np.concatenate(probabilities)


@torch.inference_mode()
def embed_batch(
    network: Network,
    processor: FaceLiveNetImageProcessor,
    images: Sequence,
    batch_size: int,
    is_reference: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, d) and expression probabilities (n, classes), both float32, of at most batch_size face crops.

    The probabilities of a reference are those of one of its views, and nothing uses them.
    """
    pixels = processor(images, detect=False)["pixel_values"].to(network.device)  # (n, 3, size, size)
    # Padded to the full batch size, because the last digits of an output depend on the size of its batch.
    faces = F.pad(pixels, (0, 0, 0, 0, 0, 0, 0, batch_size - len(images)))
    output = network(reference_views(faces) if is_reference else faces)
    embeddings, probabilities = output.embedding.float().cpu().numpy(), output.expression_logits.float().softmax(-1)
    if is_reference:
        embeddings, probabilities = (
            reference_embeddings(embeddings).astype(np.float32),
            probabilities[::REFERENCE_VIEWS],
        )
    return embeddings[: len(images)], probabilities[: len(images)].cpu().numpy()


def _shortened(names: Sequence[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
