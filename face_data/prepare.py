"""Prepares a corpus: detects and aligns the face of every photograph and writes it to Parquet, with several processes.

The photographs are divided into shards. Each shard is a Parquet file, and a note in JSON that is written last. If a run
is interrupted, the next one continues after the last complete shard. For a corpus at an address, the files are written
to a temporary folder and uploaded. `face_data.command` calls `prepare`. Read `readers.source` and `table` next.
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
from face_data.corpus import SUMMARY
from face_data.readers import Photograph
from face_data.table import CorpusError, features_with, read_summary
from image_processing_facelivenet import Face, FaceLiveNetImageProcessor, UnreadableImageError, load_image
from startup import worker_context

SHARD_SIZE = 512
JPEG_QUALITY = 95
IMAGES_AT_ONCE, PIXELS_AT_ONCE = 32, 2**25  # limits of a batch of the detector; 2^25 pixels need 100 MB

UNCHECKED_LAYOUTS = ("folder", "unlabelled", "hub")  # photographs in them may lie on their side or upside down

_processor: FaceLiveNetImageProcessor  # one per worker process, so the weights of the detector are loaded once


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
    rank_and_size: tuple[int, int] = (0, 1),
) -> dict | None:
    """Write the prepared corpus and return its summary, the content of `corpus.json`.

    Several processes may share the work, on machines that share the folder of the corpus or use its address. Process i
    of n writes the shards i, i + n, i + 2n and so on, and the last process to finish writes the summary. The shards are
    the same for any number of processes.

    Args:
        photographs: in the same order in every run; otherwise a run cannot be resumed.
        out: folder or address. An incomplete preparation of the same corpus is continued there.
        layout: the name of the corpus, written to the column `source` of every row.
        processor: detects and aligns the faces; its settings are recorded.
        total: number of photographs, for the progress bar.
        workers: number of worker processes; by default one per core. With 1, this process does the work itself.
        shard_size: photographs per shard; an interruption loses only unfinished shards.
        settings: all other values that determine the rows (a seed, the sources); recorded with those of the processor.
        rank_and_size: the number of this process, from 0, and the number of processes.

    Returns:
        None if shards of other processes are still missing.

    Raises:
        CorpusError: out holds another corpus, other settings or attributes; there are no photographs; or they do not
            all have the same names of attributes.
    """
    if shard_size < 1:
        raise ValueError(f"shard_size must be at least 1, not {shard_size}")
    options = json.loads(processor.to_json_string()) | {"shard_size": shard_size} | (settings or {})
    stream = iter(photographs)
    first = next(stream, None)
    attributes = sorted(first.attributes) if first else []
    features_with(attributes)  # raises an error for names that cannot be columns
    description = {"layout": layout, "options": options, "attributes": attributes}
    workers = workers or max((os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)
    rank, processes = rank_and_size
    with _working_folder(out) as (folder, remote):
        _start(folder, remote, description, only_process=processes == 1)
        address = None if remote is None else remote.address
        pending = set()
        with (
            tqdm(total=total, unit="photo", desc=f"prepare {layout}", smoothing=0) as progress,
            _worker_pool(workers, processor) as pool,
        ):
            all_photographs = itertools.chain([first] if first else [], stream)
            shards = iter(lambda: tuple(itertools.islice(all_photographs, shard_size)), ())
            shards_read = 0
            for number, shard in enumerate(shards):
                shards_read = number + 1
                name = f"part-{number:05d}"
                if number % processes != rank or _is_done(folder, name, shard, remote is not None):
                    progress.update(len(shard))
                    continue
                task = shard, folder / name, address, layout, attributes
                if pool is None:
                    progress.update(_prepare_shard(*task))
                    continue
                pending.add(pool.submit(_prepare_shard, *task))
                if len(pending) > workers:  # keeps no more photographs in memory than the workers need
                    pending = _collect(pending, progress)
            while pending:
                pending = _collect(pending, progress)
        if remote is not None:
            _download_notes(remote, folder)
        if surplus := sorted(folder.glob("part-*.json"))[shards_read:]:
            raise _changed_error(surplus[0], "the source has fewer photographs than before")
        for surplus in sorted(folder.glob("part-*.parquet"))[shards_read:]:
            surplus.unlink()  # of a run that was killed before it wrote the note, when the source had more photographs
        if not all((folder / f"part-{number:05d}.json").exists() for number in range(shards_read)):
            return None
        summary = _finish(folder, description)
        if remote is not None:
            remote.upload(folder, [SUMMARY])
        return summary


@contextlib.contextmanager
def _working_folder(out: str | Path) -> Iterator[tuple[Path, Remote | None]]:
    """The folder to write to, and the address or None. For an address, the folder is temporary."""
    if not is_address(out):
        yield Path(out), None
        return
    with tempfile.TemporaryDirectory() as temporary:
        try:
            yield Path(temporary), Remote(out)
        except CorpusError as error:
            raise CorpusError(str(error).replace(temporary, str(out).rstrip("/"))) from None


def _download_notes(remote: Remote, out: Path) -> None:
    """Download the notes of the shards that other processes finished, and corpus.json if it exists."""
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


def _start(out: Path, remote: Remote | None, description: dict, only_process: bool) -> None:
    """Write an incomplete corpus.json, or check that the existing one belongs to the same corpus and settings.

    Raises:
        CorpusError: it belongs to another corpus, or the folder contains other files.
    """
    out.mkdir(parents=True, exist_ok=True)
    unfinished = description | {"complete": False}
    if remote is not None:
        if not remote.files():
            remote.create(SUMMARY, _json(unfinished))
        _download_notes(remote, out)
    elif not only_process:  # the first process writes the description, and the others compare it with their own
        _create_summary(out, unfinished)
    if (out / SUMMARY).exists():
        existing = read_summary(out)
        # Complete shards are not written again, so shards of a run without these attributes would lack their columns
        old, new = (
            summary.get("options", {}) | {"attributes": summary.get("attributes") or None}
            for summary in (existing, description)
        )
        changes = [f"{key} {old.get(key)}, now {new.get(key)}" for key in old | new if old.get(key) != new.get(key)]
        if existing.get("layout") != description["layout"] or changes:
            raise CorpusError(
                f"{out} holds the corpus {existing.get('layout')} with other settings ({'; '.join(changes)}); "
                "choose another folder"
            )
    elif out.exists() and any(out.iterdir()):
        raise CorpusError(f"{out} is not empty and not a corpus; choose another folder")
    if only_process:
        atomic.write(out / SUMMARY, _json(unfinished))
        if remote is not None:
            remote.upload(out, [SUMMARY])


def _create_summary(out: Path, content: dict) -> None:
    """Write corpus.json in a new folder. Only one of several processes writes it."""
    if any(path.suffix != ".tmp" for path in out.iterdir()):
        return
    if not atomic.create(out / SUMMARY, _json(content)) and not (out / SUMMARY).exists():
        atomic.write(out / SUMMARY, _json(content), shared=True)


def _is_done(out: Path, name: str, shard: tuple[Photograph, ...], is_uploaded: bool) -> bool:
    """Whether this shard is complete; its note is written last.

    Args:
        is_uploaded: the folder has only the notes.

    Raises:
        CorpusError: the shard has other photographs, or a photograph or label has changed.
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
    keys = [photograph.key for photograph in shard]
    if "contents" in note:
        old_keys, content = note["all_keys"], _content_digest(shard)
    else:  # the note of an earlier version has only the first and the last key, but the rows have all keys
        rows = pq.read_table(out / f"{name}.parquet", columns=["key"])["key"].to_pylist()
        old = {row["key"] for row in note["skipped"]}.union(rows)
        old_keys, content = [key for key in keys if key in old] + sorted(old - set(keys)), None
    if old_keys != keys or note["keys"] != [keys[0], keys[-1]]:
        removed, added = set(old_keys) - set(keys), set(keys) - set(old_keys)
        changes = [f"{key} was removed" for key in sorted(removed)[:2]]
        changes += [f"{key} was added" for key in sorted(added)[:2]]
        raise _changed_error(path, ", ".join(changes) or "their order changed")
    if content is not None and content != note["contents"]:
        raise _changed_error(path, "an image or a label was replaced")
    last_change = max((_time_of_change(photograph.image) for photograph in shard), default=0)
    if last_change >= note.get("began", math.inf) and _checksum(shard) != note["checksum"]:
        raise _changed_error(path, "an image was replaced by one of the same size and date")
    return True


def _changed_error(note: Path, change: str) -> CorpusError:
    return CorpusError(
        f"{note} belongs to other photographs: the source changed since ({change}); remove {note.parent} and prepare "
        "it again, or choose another folder"
    )


def _content_digest(shard: Sequence[Photograph]) -> str:
    """A digest of the content of a shard: keys, labels, and the sizes and modification times of the files."""
    digest = hashlib.sha256()
    for photograph in shard:
        source = photograph.image
        if isinstance(source, Path):
            try:
                about = [source.stat().st_size, source.stat().st_mtime_ns]
            except OSError:  # the preparation skips and lists such a file
                about = ["missing"]
        else:
            about = [len(source), zlib.crc32(source)] if isinstance(source, bytes) else []
        labels = {name: value for name, value in vars(photograph).items() if name != "image"}
        digest.update(json.dumps([labels, about], sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()


def _checksum(shard: Sequence[Photograph]) -> int:
    """CRC-32 of the contents of its files."""
    checksum = 0
    for photograph in shard:
        if isinstance(photograph.image, Path) and photograph.image.is_file():
            with contextlib.suppress(OSError):  # the preparation skips and lists such a file
                checksum = zlib.crc32(photograph.image.read_bytes(), checksum)
    return checksum


def _time_of_change(image: object) -> float:
    """When a file was written, replaced or moved (its modification time may be older); 0 if there is no file."""
    try:
        return image.stat().st_ctime if isinstance(image, Path) else 0
    except OSError:
        return 0


@contextlib.contextmanager
def _worker_pool(workers: int, processor: FaceLiveNetImageProcessor) -> Iterator[ProcessPoolExecutor | None]:
    """The worker processes. For one worker it is None: this process does the work and need not start another one."""
    global _processor
    if workers > 1:
        with ProcessPoolExecutor(
            workers, worker_context(), initializer=_start_worker, initargs=(processor, dict(os.environ))
        ) as pool:
            yield pool
        return
    threads, progress_bars = torch.get_num_threads(), not are_progress_bars_disabled()
    torch.set_num_threads(1)  # as in a worker process, so the corpus has the same bytes
    disable_progress_bars()
    _processor = processor
    try:
        yield None
    finally:
        torch.set_num_threads(threads)
        if progress_bars:
            enable_progress_bars()


def _start_worker(processor: FaceLiveNetImageProcessor, environment: dict[str, str]) -> None:
    global _processor
    os.environ.update(environment)  # the server of `worker_context` may have started before a key was set
    torch.set_num_threads(1)  # the processes share the cores
    threadpool_limits(1)  # also for NumPy's matrix products
    disable_progress_bars()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if processor.detector_device == "cuda":  # the processes share the GPUs
        number = multiprocessing.current_process()._identity[0]
        processor.detector_device = f"cuda:{number % torch.cuda.device_count()}"
    _processor = processor


def _end_with_parent() -> None:
    """End this worker if its parent was killed. Otherwise it could write at the same time as the next run."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _prepare_shard(
    shard: tuple[Photograph, ...], path: Path, address: str | None, layout: str, attributes: list[str]
) -> int:
    """Write the shard and its note to `path` with a suffix, and upload both if there is an address.

    Returns:
        the number of photographs.
    """
    rows, skipped, whole_images, turned, several_faces, start = [], [], [], [], 0, time.time()
    for photograph in shard:
        if sorted(photograph.attributes) != attributes:
            raise CorpusError(
                f"{photograph.key}: its attributes are {', '.join(sorted(photograph.attributes)) or 'none'}, those of "
                f"the first photograph {', '.join(attributes) or 'none'}: all photographs need the same names"
            )
    for photograph, opened, faces in _with_faces(shard):
        if layout in UNCHECKED_LAYOUTS and not isinstance(opened, UnreadableImageError):
            upright, faces = _processor.turn_upright(opened[0], faces)
            if upright is not opened[0]:
                turned.append(photograph.key)
                opened = upright, opened[1]
        if isinstance(opened, UnreadableImageError) or (not faces and not photograph.border):
            error = opened if isinstance(opened, UnreadableImageError) else "no face found"
            reason = str(error).removeprefix(f"{photograph.key}: ")
            labels = {"identity": photograph.identity, "expression": photograph.expression}
            skipped.append({"key": photograph.key, "reason": reason} | labels)
            continue
        image, border = opened
        several_faces += len(faces) > 1
        if faces:
            crop = Image.fromarray(_processor.align(image, faces[0]))
            box = (faces[0].box - border) / photograph.enlarge
            landmarks = ((faces[0].landmarks - border) / photograph.enlarge).tolist()
            probability, crop_box = faces[0].probability, None
            if _processor.alignment == "margin":
                crop_box = (np.array(_processor.margin_box(image, faces[0])) - border) / photograph.enlarge
        else:  # the publisher cropped the face: without a detected face, the complete image is the crop
            box = np.array([border, border, image.width - border, image.height - border])
            crop = image.resize((_processor.size, _processor.size), Image.Resampling.BICUBIC, box=tuple(box.tolist()))
            box = (box - border) / photograph.enlarge
            landmarks, probability, crop_box = None, 0.0, box
            whole_images.append(photograph.key)
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
                "crop": None if crop_box is None else crop_box.tolist(),
                "landmarks": landmarks,
                "detection_probability": probability,
                **photograph.attributes,
            }
        )
    shard_path = path.with_suffix(".parquet")
    features = features_with(attributes)
    columns = {name: [row[name] for row in rows] for name in features}  # also if all were skipped
    try:
        with atomic.replacement(shard_path) as temporary:
            Dataset.from_dict(columns, features=features).to_parquet(temporary)
    except OSError as error:  # for example a full disk
        cause = error.strerror or error
        raise CorpusError(
            f"{shard_path} cannot be written: {cause}; the same command continues with this shard"
        ) from error
    with shard_path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    note = {
        "sha256": checksum,
        "keys": [shard[0].key, shard[-1].key],
        "read": len(shard),
        "several_faces": several_faces,
        "all_keys": [photograph.key for photograph in shard],
        "contents": _content_digest(shard),
        "began": start,
        "checksum": _checksum(shard),
        "whole_images": whole_images,
        "turned": turned,
        "skipped": skipped,
    }
    atomic.write(path.with_suffix(".json"), _json(note))
    if address is not None:
        Remote(address).upload(path.parent, [shard_path.name, f"{path.name}.json"])
        shard_path.unlink()
    return len(shard)


def _with_faces(shard: Sequence[Photograph]) -> Iterator[tuple[Photograph, tuple | UnreadableImageError, list[Face]]]:
    """Each photograph with the result of `_opened`, or the error that was raised, and its faces.

    The detector processes several images together, because this is faster.
    """
    batch, pixels = [], 0
    for photograph in shard:
        try:
            if photograph.refused:
                raise UnreadableImageError(f"{photograph.key}: {photograph.refused}")
            if isinstance(photograph.image, Path) and photograph.image.is_fifo():  # reading would wait for a writer
                raise UnreadableImageError(f"{photograph.key}: a pipe, not a file")
            opened = _opened(photograph)
        except UnreadableImageError as error:
            opened = error
        size = 0 if isinstance(opened, UnreadableImageError) else math.prod(opened[0].size)
        if batch and (len(batch) == IMAGES_AT_ONCE or pixels + size > PIXELS_AT_ONCE):
            yield from _detected(batch)
            batch, pixels = [], 0
        batch.append((photograph, opened))
        pixels += size
    yield from _detected(batch)


def _detected(batch: list[tuple]) -> Iterator[tuple]:
    images = [opened[0] for _, opened in batch if not isinstance(opened, UnreadableImageError)]
    faces_of_images = iter(_processor.detect_batch(images))
    for photograph, opened in batch:
        yield photograph, opened, [] if isinstance(opened, UnreadableImageError) else next(faces_of_images)


def _opened(photograph: Photograph) -> tuple[Image.Image, int]:
    """The image, enlarged and with a border as the photograph requires, and the width of the border in pixels."""
    image = photograph.image() if callable(photograph.image) else load_image(photograph.image, photograph.key)
    if photograph.enlarge > 1:
        image = image.resize([side * photograph.enlarge for side in image.size], Image.Resampling.BICUBIC)
    border = round(photograph.border * min(image.size))
    if border:
        image = Image.fromarray(np.pad(np.asarray(image), [(border, border), (border, border), (0, 0)], mode="edge"))
    return image, border


def _finish(out: Path, description: dict) -> dict:
    paths = sorted(out.glob("part-*.json"))
    notes = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    skipped = [row for note in notes for row in note["skipped"]]
    read = sum(note["read"] for note in notes)
    # notes of earlier versions have no checksums
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
        # "whole_pictures" in notes of earlier versions
        "whole_images": sum(len(note.get("whole_images", note.get("whole_pictures", ()))) for note in notes),
        "turned": sum(len(note.get("turned", ())) for note in notes),
        "skipped_by_reason": dict(Counter(row["reason"].split(":")[0] for row in skipped).most_common()),
        "sha256": checksums,
        "skipped": skipped,
    }
    atomic.write(out / SUMMARY, _json(summary))
    return summary


def _json(content: dict) -> bytes:
    # "backslashreplace", because file names may contain bytes that are not UTF-8
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
