"""Photographs -> a prepared corpus: every face found, aligned and written to Parquet, in parallel and resumable.

Shards of photographs are independent of one another: each is written under a temporary name and moved into place
together with a note of what it skipped, so whatever ends the run, the next one goes on after the last whole shard. For
a corpus at an address this is done in a temporary folder, from which each shard is uploaded, its note last.
"""

import contextlib
import hashlib
import io
import itertools
import json
import math
import multiprocessing
import os
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from datasets import Dataset, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from PIL import Image
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import atomic
from addresses import Remote, is_address
from face_data.named import SUMMARY
from face_data.readers import Photograph
from face_data.table import CorpusError, features_with, read_summary
from image_processing_facelivenet import Face, FaceLiveNetImageProcessor, UnreadableImageError, load_image

SHARD_SIZE = 512
JPEG_QUALITY = 95
PICTURES_AT_ONCE, PIXELS_AT_ONCE = 32, 2**25  # go through the detector together; 2^25 pixels take 100 MB

_processor: FaceLiveNetImageProcessor  # one per worker process: the detector's weights are loaded once


def prepare(
    photographs: Iterable[Photograph],
    out: str | Path,
    *,
    layout: str,
    processor: FaceLiveNetImageProcessor,
    total: int | None = None,
    workers: int | None = None,
    shard_size: int = SHARD_SIZE,
    settings: dict | None = None,
    place: tuple[int, int] = (0, 1),
) -> dict | None:
    """Write the prepared corpus and return its summary, the content of `corpus.json`; None if shards of other processes
    are still missing.

    Several processes may share the work, on machines that share the folder of the corpus or know its address: process i
    of n writes the shards i, i + n, i + 2n and so on, and the process that finds all shards finished writes the
    summary. The shards are the same for any number of processes.

    Args:
        photographs: in an order that is the same in every run (a resumed run counts on it).
        out: folder or address; created, or gone on with if it holds the same corpus unfinished.
        layout: the corpus's name, kept as `source` in every row.
        processor: finds and aligns the faces; its settings are recorded.
        total: how many photographs there are, for the progress bar.
        workers: processes; by default one per core. With 1 this process does the work itself.
        shard_size: photographs per shard, which is what an interruption can cost.
        settings: whatever else decides the rows (a seed, the sources); recorded with the processor's.
        place: the number of this process, from 0, and how many processes there are.

    Raises:
        CorpusError: out holds another corpus, other settings or attributes, there are no photographs, or not all have
            attributes of the same names.
    """
    if shard_size < 1:
        raise ValueError(f"shard_size must be at least 1, not {shard_size}")
    options = json.loads(processor.to_json_string()) | {"shard_size": shard_size} | (settings or {})
    stream = iter(photographs)
    first = next(stream, None)
    attributes = sorted(first.attributes) if first else []
    features_with(attributes)  # refuses names that cannot be columns
    description = {"layout": layout, "options": options, "attributes": attributes}
    workers = workers or max((os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)
    process, processes = place
    with _folder_of(out) as (folder, remote):
        _begin(folder, remote, description, alone=processes == 1)
        address = None if remote is None else remote.address
        pending = set()
        with (
            tqdm(total=total, unit="photo", desc=f"prepare {layout}", smoothing=0) as progress,
            _worker_pool(workers, processor) as pool,
        ):
            whole = itertools.chain([first] if first else [], stream)
            shards = iter(lambda: tuple(itertools.islice(whole, shard_size)), ())
            shards_read = 0
            for number, shard in enumerate(shards):
                shards_read = number + 1
                name = f"part-{number:05d}"
                if number % processes != process or _is_done(folder, name, shard, remote is not None):
                    progress.update(len(shard))
                    continue
                task = shard, folder / name, address, layout, attributes
                if pool is None:
                    progress.update(_prepare_shard(*task))
                    continue
                pending.add(pool.submit(_prepare_shard, *task))
                if len(pending) > workers:  # never more photographs in memory than the workers need
                    pending = _collect(pending, progress)
            while pending:
                pending = _collect(pending, progress)
        if remote is not None:
            _download_notes(remote, folder)
        if surplus := sorted(folder.glob("part-*.json"))[shards_read:]:
            raise _changed(surplus[0], "the source holds fewer photographs than it did")
        for surplus in sorted(folder.glob("part-*.parquet"))[shards_read:]:
            surplus.unlink()  # left by a run that was killed before it wrote the note; the source held more then
        if not all((folder / f"part-{number:05d}.json").exists() for number in range(shards_read)):
            return None
        summary = _finish(folder, description)
        if remote is not None:
            remote.upload(folder, [SUMMARY])
        return summary


@contextlib.contextmanager
def _folder_of(out: str | Path) -> Iterator[tuple[Path, Remote | None]]:
    """The folder to write to. For an address it is a temporary one with the notes of the finished shards."""
    if not is_address(out):
        yield Path(out), None
        return
    with tempfile.TemporaryDirectory() as temporary:
        try:
            yield Path(temporary), Remote(out)
        except CorpusError as error:
            raise CorpusError(str(error).replace(temporary, str(out).rstrip("/"))) from None


def _download_notes(remote: Remote, out: Path) -> None:
    """The notes of shards that others finished, and corpus.json where there is one."""
    names = remote.files()
    if names and SUMMARY not in names:
        raise CorpusError(f"{out} is not empty and not a corpus; choose another folder")
    notes = [name for name in names if fnmatch(name, "part-*.json") and not (out / name).exists()]
    remote.download([name for name in names if name == SUMMARY] + notes, out)


def _collect(pending: set, progress: tqdm) -> set:
    done, pending = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        progress.update(future.result())
    return pending


def _begin(out: Path, remote: Remote | None, description: dict, alone: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    unfinished = description | {"complete": False}
    if remote is not None:
        if not remote.files():
            remote.create(SUMMARY, _json(unfinished))
        _download_notes(remote, out)
    elif not alone:  # whoever comes first says what the folder is to hold: all others compare
        _write_where_there_is_none(out, unfinished)
    if (out / SUMMARY).exists():
        before = read_summary(out)
        # whole shards are kept as they are: those of a run without these attributes lack their columns
        was, now = (
            of.get("options", {}) | {"attributes": of.get("attributes") or None} for of in (before, description)
        )
        changes = [f"{key} {was.get(key)}, now {now.get(key)}" for key in was | now if was.get(key) != now.get(key)]
        if before.get("layout") != description["layout"] or changes:
            raise CorpusError(
                f"{out} holds the corpus {before.get('layout')} with other settings ({'; '.join(changes)}); "
                "choose another folder"
            )
    elif out.exists() and any(out.iterdir()):
        raise CorpusError(f"{out} is not empty and not a corpus; choose another folder")
    if alone:
        atomic.write(out / SUMMARY, _json(unfinished))
        if remote is not None:
            remote.upload(out, [SUMMARY])


def _write_where_there_is_none(out: Path, content: dict) -> None:
    """corpus.json of a new folder, written by one of several processes."""
    if any(path.suffix != ".tmp" for path in out.iterdir()):
        return
    if not atomic.create(out / SUMMARY, _json(content)) and not (out / SUMMARY).exists():
        atomic.write(out / SUMMARY, _json(content), shared=True)


def _is_done(out: Path, name: str, shard: tuple[Photograph, ...], is_uploaded: bool) -> bool:
    """Whether this very shard lies there whole; the note is written last.

    Args:
        is_uploaded: the notes alone are in the folder.

    Raises:
        CorpusError: it is of other photographs, or of what one was before it was replaced or labelled anew.
    """
    path = out / f"{name}.json"
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except ValueError:  # truncated by a full disk or a crash
        path.unlink()
        return False
    if not (is_uploaded or path.with_suffix(".parquet").exists()):
        return False
    now = [photograph.key for photograph in shard]
    if "contents" in note:
        before, content = note["all_keys"], content_of(shard)
    else:  # of an earlier version, which kept the first and the last key, but every row has its own
        kept = pq.read_table(out / f"{name}.parquet", columns=["key"])["key"].to_pylist()
        left_out = {row["key"] for row in note["skipped"]}
        before, content = [key for key in now if key in left_out.union(kept)], None
        before += sorted(left_out.union(kept) - set(now))
    if before != now or note["keys"] != [now[0], now[-1]]:
        gone, new = set(before) - set(now), set(now) - set(before)
        some = [f"{key} is gone" for key in sorted(gone)[:2]] + [f"{key} is new" for key in sorted(new)[:2]]
        raise _changed(path, ", ".join(some) or "their order is another")
    if content is not None and content != note["contents"]:
        raise _changed(path, "a picture or a label was replaced")
    touched = max((_changed_at(photograph.image) for photograph in shard), default=0)
    if touched >= note.get("began", math.inf) and checksum_of(shard) != note["checksum"]:
        raise _changed(path, "a picture was replaced by one of the same size and date")
    return True


def _changed(note: Path, how: str) -> CorpusError:
    return CorpusError(
        f"{note} belongs to other photographs: the source changed since ({how}); remove {note.parent} and prepare it "
        "again, or choose another folder"
    )


def content_of(shard: Sequence[Photograph]) -> str:
    """A digest of everything a shard is made of: keys, labels, and of files their sizes and times of change."""
    digest = hashlib.sha256()
    for photograph in shard:
        source = photograph.image
        if isinstance(source, Path):
            try:
                about = [source.stat().st_size, source.stat().st_mtime_ns]
            except OSError:  # it will be skipped, by name
                about = ["missing"]
        else:
            about = [len(source), zlib.crc32(source)] if isinstance(source, bytes) else []
        labels = {name: value for name, value in vars(photograph).items() if name != "image"}
        digest.update(json.dumps([labels, about], sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()


def checksum_of(shard: Sequence[Photograph]) -> int:
    """A checksum of the contents of its files, 0 to 2^32 - 1."""
    checksum = 0
    for photograph in shard:
        if isinstance(photograph.image, Path) and photograph.image.is_file():
            with contextlib.suppress(OSError):  # the preparation skips and lists such a file
                checksum = zlib.crc32(photograph.image.read_bytes(), checksum)
    return checksum


def _changed_at(image: object) -> float:
    """When a file was written, replaced or moved, whatever its date says; 0 for what is no file."""
    try:
        return image.stat().st_ctime if isinstance(image, Path) else 0
    except OSError:
        return 0


@contextlib.contextmanager
def _worker_pool(workers: int, processor: FaceLiveNetImageProcessor) -> Iterator[ProcessPoolExecutor | None]:
    """The worker processes; None for one worker, which is this process: another would import PyTorch again."""
    global _processor
    if workers > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(processor,)) as pool:
            yield pool
        return
    threads, progress_bars = torch.get_num_threads(), not are_progress_bars_disabled()
    torch.set_num_threads(1)  # as in a worker process, so that the corpus is the same to the last bit
    disable_progress_bars()
    _processor = processor
    try:
        yield None
    finally:
        torch.set_num_threads(threads)
        if progress_bars:
            enable_progress_bars()


def _start_worker(processor: FaceLiveNetImageProcessor) -> None:
    global _processor
    torch.set_num_threads(1)  # the processes share the cores
    threadpool_limits(1)  # of NumPy's matrix products too
    disable_progress_bars()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if processor.detector_device == "cuda":  # the processes share the GPUs
        number = multiprocessing.current_process()._identity[0]
        processor.detector_device = f"cuda:{number % torch.cuda.device_count()}"
    _processor = processor


def _end_with_parent() -> None:
    """A killed parent cannot stop its workers: on their own they would stay, and write beside those of the next run."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _prepare_shard(
    shard: tuple[Photograph, ...], path: Path, address: str | None, layout: str, attributes: list[str]
) -> int:
    """Write the shard and its note, without a suffix at `path`, and upload both where there is an address."""
    rows, skipped, whole, crowded, began = [], [], [], 0, time.time()
    for photograph in shard:
        if sorted(photograph.attributes) != attributes:
            raise CorpusError(
                f"{photograph.key}: its attributes are {', '.join(sorted(photograph.attributes)) or 'none'}, those of "
                f"the first photograph {', '.join(attributes) or 'none'}: the reader must give all the same names"
            )
    for photograph, shown, faces in _found(shard):
        if isinstance(shown, UnreadableImageError) or (not faces and not photograph.border):
            error = shown if isinstance(shown, UnreadableImageError) else "no face found"
            reason = str(error).removeprefix(f"{photograph.key}: ")
            whose = {"identity": photograph.identity, "expression": photograph.expression}
            skipped.append({"key": photograph.key, "reason": reason} | whose)
            continue
        image, rim = shown
        crowded += len(faces) > 1
        if faces:
            crop = Image.fromarray(_processor.align(image, faces[0]))
            box = (faces[0].box - rim) / photograph.enlarge
            landmarks = ((faces[0].landmarks - rim) / photograph.enlarge).tolist()
            probability, cut = faces[0].probability, None
            if _processor.alignment == "margin":
                cut = (np.array(_processor.margin_box(image, faces[0])) - rim) / photograph.enlarge
        else:  # the publisher cut the face out: where the detector finds nothing, the whole picture is the crop
            box = np.array([rim, rim, image.width - rim, image.height - rim])
            crop = image.resize((_processor.size, _processor.size), Image.Resampling.BICUBIC, box=tuple(box.tolist()))
            box = (box - rim) / photograph.enlarge
            landmarks, probability, cut = None, 0.0, box
            whole.append(photograph.key)
        encoded = io.BytesIO()
        crop.save(encoded, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        rows.append(
            {
                "image": {"bytes": encoded.getvalue(), "path": None},
                "key": photograph.key,
                "identity": photograph.identity,
                "expression": photograph.expression,
                "expression_votes": photograph.votes,
                "split": photograph.split,
                "source": layout,
                "box": box.tolist(),
                "crop": None if cut is None else cut.tolist(),
                "landmarks": landmarks,
                "detection_probability": probability,
                **photograph.attributes,
            }
        )
    shard_path = path.with_suffix(".parquet")
    features = features_with(attributes)
    columns = {name: [row[name] for row in rows] for name in features}  # also where all were skipped
    try:
        with atomic.replacement(shard_path) as temporary:
            Dataset.from_dict(columns, features=features).to_parquet(temporary)
    except OSError as error:  # for example a full disk
        cause = error.strerror or error
        raise CorpusError(f"{shard_path} cannot be written: {cause}; the same command continues from here") from error
    with shard_path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    note = {"sha256": checksum, "keys": [shard[0].key, shard[-1].key], "read": len(shard), "several_faces": crowded}
    note |= {"all_keys": [photograph.key for photograph in shard], "contents": content_of(shard)}
    note |= {"began": began, "checksum": checksum_of(shard)}
    note |= {"whole_pictures": whole, "skipped": skipped}
    atomic.write(path.with_suffix(".json"), _json(note))
    if address is not None:
        Remote(address).upload(path.parent, [shard_path.name, f"{path.name}.json"])
        shard_path.unlink()
    return len(shard)


def _found(shard: Sequence[Photograph]) -> Iterator[tuple[Photograph, tuple | UnreadableImageError, list[Face]]]:
    """Each photograph with what `_shown_to_detector` makes of it, or why it cannot be read, and its faces.

    Several go through the detector together, which takes less time than one after the other.
    """
    waiting, pixels = [], 0
    for photograph in shard:
        try:
            if photograph.refused:
                raise UnreadableImageError(f"{photograph.key}: {photograph.refused}")
            if isinstance(photograph.image, Path) and photograph.image.is_fifo():  # it would wait for a writer
                raise UnreadableImageError(f"{photograph.key}: a pipe, not a file")
            shown = _shown_to_detector(photograph)
        except UnreadableImageError as error:
            shown = error
        size = 0 if isinstance(shown, UnreadableImageError) else math.prod(shown[0].size)
        if waiting and (len(waiting) == PICTURES_AT_ONCE or pixels + size > PIXELS_AT_ONCE):
            yield from _with_faces(waiting)
            waiting, pixels = [], 0
        waiting.append((photograph, shown))
        pixels += size
    yield from _with_faces(waiting)


def _with_faces(waiting: list[tuple]) -> Iterator[tuple]:
    pictures = [shown[0] for _, shown in waiting if not isinstance(shown, UnreadableImageError)]
    found = iter(_processor.detect_all(pictures))
    for photograph, shown in waiting:
        yield photograph, shown, [] if isinstance(shown, UnreadableImageError) else next(found)


def _shown_to_detector(photograph: Photograph) -> tuple[Image.Image, int]:
    """The picture, enlarged and bordered where the publisher cropped it tight, and how wide the border is."""
    image = photograph.image() if callable(photograph.image) else load_image(photograph.image, photograph.key)
    if photograph.enlarge > 1:
        image = image.resize([side * photograph.enlarge for side in image.size], Image.Resampling.BICUBIC)
    rim = round(photograph.border * min(image.size))
    if rim:
        image = Image.fromarray(np.pad(np.asarray(image), [(rim, rim), (rim, rim), (0, 0)], mode="edge"))
    return image, rim


def _finish(out: Path, description: dict) -> dict:
    paths = sorted(out.glob("part-*.json"))
    notes = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    skipped = [row for note in notes for row in note["skipped"]]
    read = sum(note["read"] for note in notes)
    # those of earlier versions have none
    checksums = {
        f"{path.stem}.parquet": note["sha256"] for path, note in zip(paths, notes, strict=True) if "sha256" in note
    }
    if not read:
        raise CorpusError(f"There are no photographs for {out}: is the source the {description['layout']} folder?")
    summary = description | {
        "complete": True,
        "photographs": read,
        "prepared": read - len(skipped),
        "several_faces": sum(note["several_faces"] for note in notes),
        "whole_pictures": sum(len(note.get("whole_pictures", ())) for note in notes),
        "skipped_by_reason": dict(Counter(row["reason"].split(":")[0] for row in skipped).most_common()),
        "sha256": checksums,
        "skipped": skipped,
    }
    atomic.write(out / SUMMARY, _json(summary))
    return summary


def _json(content: dict) -> bytes:
    # "backslashreplace": names of files that are not in UTF-8
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
