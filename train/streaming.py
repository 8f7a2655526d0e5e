"""Corpora of any size as streams, which are read shard by shard from the disk, an address or the Hub.

Called by `data` with --streaming. Next to read: train/labels.py.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch
from datasets import Image, IterableDataset, load_dataset
from datasets.distributed import split_dataset_by_node
from torch.utils.data import IterableDataset as TorchStream
from torch.utils.data import get_worker_info

from addresses import is_address
from face_data.table import CorpusError, addresses_of_shards, shards_of, split_corpus
from train.batches import Batch
from train.labels import LABEL_COLUMNS, Labels
from train.photographs import decode, resized

COLUMNS = ["image", "key", *LABEL_COLUMNS]


class StreamedFaces(TorchStream):
    """Endless batches of several corpora. For each pass over a corpus its shards are shuffled, and photographs within a
    buffer.

    Processes, and the workers of each, read different shards, so no photograph is repeated within a pass. Photographs
    that cannot be decoded are replaced by another one of the batch, without labels.

    Args:
        corpora: as FOLDER or FOLDER:SPLIT,SPLIT. weights: proportional to the share of each in a batch.
        labels: of the same corpora (the columns of labels alone fit into memory).
        buffer: number of photographs that are shuffled together.
        process, processes: number of this process, and of all.
        first_batch: number of batches that this process has used already. They are skipped without decoding. A
            DataLoader always starts with its first worker. If another one is next, the first `left_over` batches are
            repeated, and the caller has to skip them.
        workers: of the DataLoader; each makes every workers-th batch.

    Raises:
        CorpusError: a corpus has fewer shards than there are workers in all processes; later, a batch of which nothing
            can be decoded, or a stream without photographs of the splits.
    """

    def __init__(
        self,
        corpora: list[str],
        weights: list[float],
        labels: Labels,
        *,
        batch_size: int,
        seed: int,
        buffer: int,
        process: int,
        processes: int,
        first_batch: int,
        workers: int,
    ):
        self.labels, self.batch_size, self.seed = labels, batch_size, seed
        self.share = np.array(weights) / np.sum(weights)
        self.process, self.processes, self.buffer, self.workers = process, processes, buffer, max(workers, 1)
        self.rounds, self.left_over = divmod(first_batch, self.workers)
        self.parts, self.splits = [], []
        for text in corpora:
            folder, splits = split_corpus(text)
            part = open_stream(folder)
            if part.num_shards < processes * self.workers:
                raise CorpusError(
                    f"{folder}: {part.num_shards} shards cannot be split among {processes} processes with "
                    f"{self.workers} workers each; lower --workers, or prepare it with a smaller --shard-size"
                )
            self.parts.append(part)
            self.splits.append(None if splits is None else set(splits))

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info().id if get_worker_info() else 0
        rng = np.random.default_rng((self.seed, self.process, worker))
        streams = [self._endless(part, splits) for part, splits in zip(self.parts, self.splits, strict=True)]
        for _ in range(self.rounds * self.batch_size):
            next(streams[rng.choice(len(streams), p=self.share)])
        while True:
            yield self._batch(streams, rng)

    def _batch(self, streams: list[Iterator[dict]], rng: np.random.Generator) -> Batch:
        rows, faces, unreadable = [], [], {}
        for _ in range(self.batch_size):
            row = next(streams[rng.choice(len(streams), p=self.share)])
            try:
                face = decode(row["image"]["bytes"])
                faces.append(resized(face, faces[0].shape if faces else face.shape))
                rows.append(row)
            except (OSError, ValueError, SyntaxError) as error:
                unreadable[row["key"]] = str(error)
        if not rows:
            raise CorpusError(f"a whole batch cannot be decoded: {', '.join(unreadable)}")
        # a resumed run counts photographs, so those that cannot be decoded are replaced, but without labels
        for _ in range(self.batch_size - len(rows)):
            faces.append(faces[0])
            rows.append(rows[0] | {"identity": None, "expression": None, "expression_votes": None})
        return Batch(
            torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2),
            torch.tensor([self.labels.label(row) for row in rows]),
            torch.from_numpy(np.stack([self.labels.target(row) for row in rows])),
            [row["key"] for row in rows],
            unreadable,
        )

    def _endless(self, part: IterableDataset, splits: set[str] | None) -> Iterator[dict]:
        """Rows of these splits of a corpus, pass after pass."""
        for epoch in count():
            # `set_epoch` would set the number for all workers, of which some may still be in an earlier pass
            seed = int(np.random.SeedSequence((self.seed, epoch)).generate_state(1)[0])
            mixed = part.shuffle(seed=seed, buffer_size=self.buffer)
            is_empty = True
            for row in split_dataset_by_node(mixed, self.process, self.processes):
                if splits is None or row["split"] in splits:
                    is_empty = False
                    yield row
            if is_empty:
                raise CorpusError("a stream contains no photograph of the given splits")


def open_stream(corpus: str) -> IterableDataset:
    """A prepared corpus in a folder, at an address or on the Hub, as a stream of rows with encoded images."""
    if is_address(corpus):
        stream = IterableDataset.from_parquet(addresses_of_shards(corpus))
    elif Path(corpus).is_dir():
        stream = IterableDataset.from_parquet(shards_of(corpus))
    else:
        stream = load_dataset(corpus, split="train", streaming=True)
    return stream.select_columns(COLUMNS).cast_column("image", Image(decode=False))
