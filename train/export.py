"""Writes the checkpoint to be shipped from a run's model: half precision, with links to its Python files.

python -m train.export runs/dynamic/last pretrained --challenge happy
python -m train.export runs/one/last runs/other/last pretrained --challenge happy      # the mean of their weights
python -m train.export runs/one/last pretrained --challenge happy --people corpora/lfw:1,2,3,4,5,6,7,8 \\
    --faces corpora/lfw:1,2,3,4,5,6,7,8 corpora/drawn:train
python -m evaluation calibrate --model pretrained --data corpora/lfw --splits 9 --far 0.001

The mean of the weights of several runs that started from the same weights is often better than each of them, at no
cost ("Model soups", arXiv 2203.05482); `evaluation compare` shows whether it is.

With --people, embeddings of faces that resemble many strangers are made shorter (train/embedding_length.py), which
raises the share of genuine pairs that are accepted at low false accept rates. With --faces the network learns to tell
covered eyes and mouths (train/cover_detector.py), which the quality gate refuses.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from face_data.corpus import CorpusError

if TYPE_CHECKING:
    import torch

    from modeling_facelivenet import FaceLiveNetModel


def export(
    sources: Sequence[Path],
    out: Path,
    challenge: list[str],
    shares: Sequence[float] = (),
    people: Sequence[str] = (),
    faces: Sequence[str] = (),
) -> None:
    """Write config.json, model.safetensors (fp16), preprocessor_config.json and training.json to `out`.

    Thresholds stay only where they were calibrated on the very weights that are written; else calibrate afterwards.

    Args:
        sources: folders that runs saved, all of the same network; of several the weights are averaged. Config and
            record are those of the first; the record also names the others (`train.record.averaged_record`).
        challenge: the expressions a session may ask for: those that validation shows to be recognised reliably.
        shares: of each source in the mean, in their order; by default all alike.
        people: corpora the network was trained on, to fit the length of the embeddings on; none leaves it as it is.
        faces: corpora the network was trained on, to fit the cover detector on; none leaves it as it is.

    Raises:
        CorpusError: no such corpus of `people` or `faces`, or too few people.
        ValueError: the networks have other layers, or other expressions; not one positive share for each.
        StrictDataclassError: the network does not know an expression of `challenge`.
    """
    import torch  # in here: --help and a folder that is not there are answered without

    import image_processing_facelivenet
    import modeling_facelivenet
    import pipeline_facelivenet
    from image_processing_facelivenet import FaceLiveNetImageProcessor
    from modeling_facelivenet import FaceLiveNetModel
    from pipeline_facelivenet import CUSTOM_PIPELINES
    from train.checkpoint import RECORD
    from train.cover_detector import fit_cover_detector, without_cover_detector
    from train.embedding_length import fit_embedding_length, without_embedding_length
    from train.record import averaged_record

    shares = list(shares) or [1.0] * len(sources)
    if len(shares) != len(sources) or not all(share > 0 for share in shares):
        raise ValueError(f"--shares: one positive number for each of {len(sources)} models, not {shares}")
    models = [FaceLiveNetModel.from_pretrained(source, dtype=torch.float32) for source in sources]
    model = models[0]
    if people:
        for averaged in models:
            without_embedding_length(averaged)
    if faces:
        for averaged in models:
            without_cover_detector(averaged)
    if len(models) > 1:
        # the threshold of the first model is not saved then
        model.load_state_dict(_mean_weights(sources, models, shares))
    processor = FaceLiveNetImageProcessor.from_pretrained(sources[0]) if people or faces else None
    lengths = fit_embedding_length(model, processor, people) if people else None
    covers = fit_cover_detector(model, processor, faces) if faces else None
    model.config.challenge_expressions = challenge
    model.config.validate()
    modules = (modeling_facelivenet, image_processing_facelivenet, pipeline_facelivenet)
    code = [Path(module.__file__) for module in modules]
    for file in code:  # links of an earlier export, through which saving would copy a file onto itself
        (out / file.name).unlink(missing_ok=True)
    model.half().save_pretrained(out)
    shutil.copy(sources[0] / "preprocessor_config.json", out)
    records = [json.loads((source / RECORD).read_text(encoding="utf-8")) for source in sources]
    record = records[0]
    if len(records) > 1:
        record = averaged_record(records, [share / sum(shares) for share in shares])
    for name, fitted in (("embedding_length", lengths), ("cover_detector", covers)):
        if fitted:
            record[name] = fitted
    (out / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    path = out / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    # whoever loads without naming a dtype gets the one the processor's faces have
    settings |= {"dtype": "float32", "custom_pipelines": CUSTOM_PIPELINES}
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    for file in code:
        _link(file, out)


def _link(code: Path, folder: Path) -> None:
    """A relative link to a Python file that transformers runs from the folder; a copy where links are not allowed."""
    link = folder / code.name
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(os.path.relpath(code, folder))
    except OSError:  # Windows, without the right to
        shutil.copy(code, link)


def _mean_weights(
    sources: Sequence[Path], models: Sequence["FaceLiveNetModel"], shares: Sequence[float]
) -> dict[str, "torch.Tensor"]:
    states = [model.state_dict() for model in models]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    for source, model, shape in zip(sources, models, shapes, strict=True):
        if shape != shapes[0] or model.config.expressions != models[0].config.expressions:
            raise ValueError(f"{source} is another network than {sources[0]}: their weights have no mean")

    def mean(name: str) -> "torch.Tensor":
        weighed = (share * state[name] for share, state in zip(shares, states, strict=True))
        return sum(weighed) / sum(shares)

    return {name: mean(name) if value.is_floating_point() else value for name, value in states[0].items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m train.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sources", type=Path, nargs="+", metavar="MODEL", help="folders `python -m train` saved: RUN/best or RUN/last"
    )
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--challenge", nargs="+", required=True, metavar="EXPRESSION", help="what sessions may ask for, such as happy"
    )
    parser.add_argument(
        "--shares",
        nargs="+",
        type=float,
        default=(),
        metavar="SHARE",
        help="of each MODEL in the mean (default: all alike)",
    )
    parser.add_argument(
        "--people",
        nargs="+",
        default=(),
        metavar="CORPUS",
        help="fit the length of the embeddings on these people, who were trained on: FOLDER:SPLIT,SPLIT",
    )
    parser.add_argument(
        "--faces",
        nargs="+",
        default=(),
        metavar="CORPUS",
        help="fit the detector of covered eyes and mouths on these faces, which were trained on: FOLDER:SPLIT,SPLIT",
    )
    arguments = parser.parse_args()
    for source in arguments.sources:
        if not source.is_dir():
            sys.exit(f"train.export: {source}: no such folder")
    from huggingface_hub.errors import StrictDataclassError

    try:
        export(**vars(arguments))
    except (CorpusError, ValueError, OSError, StrictDataclassError) as error:
        sys.exit(f"train.export: {error}")
