"""Local binary patterns of faces (Ahonen, Hadid and Pietikäinen, PAMI 2006), computed in several processes.

Only `baselines` calls this module. It imports little, because every process imports it.
"""

import contextlib
import io
import itertools
import math
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from PIL import Image
from tqdm import tqdm

from startup import worker_context

SIZE, CELLS = 112, 7  # the gray face has 112 x 112 pixels, and 7 x 7 cells of 16 x 16 pixels
POINTS, RADIUS = 8, 2  # LBP^u2_{8,2}, which Ahonen et al. recommend
BINS = POINTS * (POINTS - 1) + 3  # 58 patterns of at most two changes, and one bin for all others
CHUNK = 128  # faces that a process gets at a time


def lbp_histograms(face: np.ndarray) -> np.ndarray:
    """Square roots of the shares of each pattern in each cell, concatenated: (7 * 7 * 59,) float32.

    With the square root, the dot product of two histograms is their Hellinger (Bhattacharyya) similarity, which behaves
    like the chi-square distance of Ahonen et al. and suits a linear machine or a cosine. The patterns are not rotation
    invariant, because the faces are upright.

    Args:
        face: (112, 112) uint8 gray.
    """
    from skimage.feature import local_binary_pattern

    if face.shape != (SIZE, SIZE):
        raise ValueError(f"a face must be ({SIZE}, {SIZE}) gray pixels, not {face.shape}")
    padded = np.pad(face, RADIUS, mode="edge")  # without it the border of the image would be a pattern
    codes = local_binary_pattern(padded, POINTS, RADIUS, method="nri_uniform")[RADIUS:-RADIUS, RADIUS:-RADIUS]
    cell = np.arange(SIZE) // (SIZE // CELLS)
    index = (cell[:, None] * CELLS + cell) * BINS + codes.astype(np.int64)
    counts = np.bincount(index.ravel(), minlength=CELLS**2 * BINS)
    return np.sqrt(counts * CELLS**2 / SIZE**2).astype(np.float32)


def lbp_histograms_of_all(encoded: Iterable[bytes], total: int) -> np.ndarray:
    """`lbp_histograms` of JPEG or PNG faces of any size, in their order: (total, 2891) float32.

    Raises:
        ImportError: scikit-image is not installed.
    """
    try:
        import skimage.feature  # noqa: F401  # if it is missing: one error here instead of one in every process
    except ImportError as error:
        raise ImportError("LBP needs scikit-image: pip install -r requirements-dev.txt") from error
    faces, histogram_chunks = iter(encoded), []
    workers = min(os.cpu_count() or 1, math.ceil(total / CHUNK))
    with tqdm(total=total, unit="face", desc="LBP") as progress, contextlib.ExitStack() as stack:
        compute = map
        if workers > 1:
            compute = stack.enter_context(ProcessPoolExecutor(workers, worker_context())).map
        # Only some chunks at a time: a map over all chunks would keep every encoded face in memory.
        while chunks := list(itertools.islice(iter(lambda: list(itertools.islice(faces, CHUNK)), []), 4 * workers)):
            for histograms in compute(_histograms, chunks):
                histogram_chunks.append(histograms)
                progress.update(len(histograms))
    return np.concatenate(histogram_chunks)


def _histograms(encoded: list[bytes]) -> np.ndarray:
    images = (Image.open(io.BytesIO(face)).convert("L") for face in encoded)
    return np.stack(
        [lbp_histograms(np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))) for image in images]
    )
