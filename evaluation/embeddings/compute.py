"""A network run over a prepared corpus, once; every protocol evaluates the resulting table.

`embed_checkpoint` is what the command calls; `table` describes the result, `cache` where it is kept.
"""

import hashlib
import inspect
from collections import Counter
from collections.abc import Sequence
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

BATCH_SIZE = 64

Network = FaceLiveNetModel | OnnxNetwork


def embed_checkpoint(
    checkpoint: Checkpoint, corpus: Dataset, batch_size: int = BATCH_SIZE, cache: Path | None = None
) -> Embeddings:
    """`embed` for a loaded checkpoint, with its cache in the folder `cache`; None disables caching."""
    store = cache_for(checkpoint, cache) if cache else None
    return embed(checkpoint.network, checkpoint.processor, corpus, batch_size=batch_size, cache=store)


def cache_for(checkpoint: Checkpoint, folder: Path) -> EmbeddingCache:
    """The cache of this network as it is run now: by this code, at its image size, on this kind of device."""
    code = b"".join(Path(inspect.getfile(part)).read_bytes() for part in (FaceLiveNetModel, FaceLiveNetImageProcessor))
    flip = "_flip" if checkpoint.network.config.test_time_flip else ""
    way = f"{checkpoint.processor.size}px{flip}_{checkpoint.network.device.type}"
    return EmbeddingCache(folder, f"{checkpoint.sha256[:32]}_{hashlib.sha256(code).hexdigest()[:8]}_{way}")


def embed(
    network: Network,
    processor: FaceLiveNetImageProcessor,
    corpus: Dataset,
    *,
    batch_size: int = BATCH_SIZE,
    cache: EmbeddingCache | None = None,
) -> Embeddings:
    """Run the network over a prepared corpus (`face_data.table.load_corpus`), at the processor's image size.

    Several processes (`accelerate launch`) share the batches, each computed as a single process would compute it, and
    all of them return the whole table.

    Args:
        network: in evaluation mode, on the device to use; its config says whether mirror images are averaged in.
        cache: of this network run in this way (`cache_for`); cached images are not computed again.

    Raises:
        ValueError: the corpus is empty or repeats a key, or the network gave NaN or infinite numbers; names the images.
    """
    keys = column(corpus, "key")
    if not keys:
        raise ValueError("the corpus has no image to evaluate")
    if len(set(keys)) != len(keys):
        repeated = next(key for key, count in Counter(keys).items() if count > 1)
        raise ValueError(f"the corpus has {repeated} more than once; keys must be unique")
    state = PartialState()
    digests, cached, stored = [], np.zeros(len(keys), dtype=bool), None
    if cache is not None:
        encoded = corpus.select_columns("image").cast_column("image", Image(decode=False))
        digests = [digest(row["image"]["bytes"]) for row in encoded]
        [(cached, *stored)] = broadcast_object_list([cache.read(digests) if state.is_main_process else None])
    missing = np.flatnonzero(~cached)
    computed = _run(network, processor, corpus.select(missing), batch_size, state) if len(missing) else None
    if stored is None or not cached.any():
        embeddings, probabilities = computed
    elif computed is None:
        embeddings, probabilities = stored
    else:
        place = np.argsort(np.concatenate([np.flatnonzero(cached), missing]))
        embeddings, probabilities = (np.concatenate(pair)[place] for pair in zip(stored, computed, strict=True))
    finite = np.isfinite(embeddings).all(1) & np.isfinite(probabilities).all(1)
    if not finite.all():
        broken = [keys[row] for row in np.flatnonzero(~finite)]
        raise ValueError(f"the network gave NaN or infinite numbers for {len(broken)} images: {_first_of(broken)}")
    if cache is not None and computed is not None and state.is_main_process:
        cache.write([digests[row] for row in missing], *computed)
    return Embeddings.of_corpus(corpus, embeddings, probabilities, network.config.expressions)


@torch.inference_mode()
def _run(
    network: Network, processor: FaceLiveNetImageProcessor, corpus: Dataset, batch_size: int, state: PartialState
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, d) and expression probabilities (n, classes) of all images, in every process."""
    starts = range(0, len(corpus), batch_size)
    computed = {}  # start of a batch -> its outputs
    with tqdm(total=len(corpus), unit="face", desc="network", disable=not state.is_main_process) as progress:
        for start in starts[state.process_index :: state.num_processes]:
            images = corpus[start : start + batch_size]["image"]
            computed[start] = embed_batch(network, processor, images, batch_size)
            progress.update(min(len(images) * state.num_processes, len(corpus) - progress.n))
    batches = {start: parts for of_process in gather_object([computed]) for start, parts in of_process.items()}
    embeddings, probabilities = zip(*(batches[start] for start in starts), strict=True)
    return np.concatenate(embeddings), np.concatenate(probabilities)


@torch.inference_mode()
def embed_batch(
    network: Network, processor: FaceLiveNetImageProcessor, images: Sequence, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, d) and expression probabilities (n, classes), both float32, of at most batch_size face crops."""
    pixels = processor(images, detect=False)["pixel_values"].to(network.device)  # (n, 3, size, size)
    # Always the full batch size: the last digits of an output must not depend on the size of its batch.
    output = network(F.pad(pixels, (0, 0, 0, 0, 0, 0, 0, batch_size - len(images))))
    parts = output.embedding.float(), output.expression_logits.float().softmax(-1)
    return tuple(part[: len(images)].cpu().numpy() for part in parts)


def _first_of(names: Sequence[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
