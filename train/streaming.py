"""Corpora of any size as streams: read shard by shard from the disk or the Hub, never completely in memory.

Called by `loop` with `--streaming`; labels come from `labels`.
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
    """Endless batches of several corpora, each mixed anew in every pass: its shards in another order, and photographs

    within a buffer. Processes, and the workers of each, take different shards, so that nobody sees a photograph twice
    in one pass; a corpus needs at least as many shards as there are processes.

    Args:
        corpora: as FOLDER or FOLDER:SPLIT,SPLIT. weights: the share of each in a batch.
        labels: of the same corpora (their label columns alone fit into memory).
        first_batch: how many batches of this process were used already: they are read over, not decoded. A loader
            begins with its first worker, so `left_over` batches come again when another one was to go on.
        workers: of the DataLoader, each of which makes every workers-th batch.
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
        self.parts, self.wanted = [], []
        for text in corpora:
            folder, splits = split_corpus(text)
            part = open_stream(folder)
            if part.num_shards < processes * self.workers:
                raise CorpusError(
                    f"{folder}: {part.num_shards} shards cannot be split among {processes} processes with "
                    f"{self.workers} workers each; lower --workers, or prepare it with a smaller --shard-size"
                )
            self.parts.append(part)
            self.wanted.append(None if splits is None else set(splits))

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info().id if get_worker_info() else 0
        rng = np.random.default_rng((self.seed, self.process, worker))
        streams = [self._endless(part, wanted) for part, wanted in zip(self.parts, self.wanted, strict=True)]
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
        # its place is kept, so that a run which goes on can count: by another photograph of the batch, without labels
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

    def _endless(self, part: IterableDataset, wanted: set[str] | None) -> Iterator[dict]:
        for epoch in count():
            # Not by `set_epoch`, whose number all workers share: whoever is ahead would set it for the others too.
            seed = int(np.random.SeedSequence((self.seed, epoch)).generate_state(1)[0])
            mixed = part.shuffle(seed=seed, buffer_size=self.buffer)
            nothing = True
            for row in split_dataset_by_node(mixed, self.process, self.processes):
                if wanted is None or row["split"] in wanted:
                    nothing = False
                    yield row
            if nothing:
                raise CorpusError("a stream holds no photograph of the splits that were asked for")


def open_stream(corpus: str) -> IterableDataset:
    """A prepared corpus, from a folder, an address or the Hub, row by row and undecoded."""
    if is_address(corpus):
        stream = IterableDataset.from_parquet(addresses_of_shards(corpus))
    elif Path(corpus).is_dir():
        stream = IterableDataset.from_parquet(shards_of(corpus))
    else:
        stream = load_dataset(corpus, split="train", streaming=True)
    return stream.select_columns(COLUMNS).cast_column("image", Image(decode=False))
