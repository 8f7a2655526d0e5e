"""Writes the checkpoint to be shipped from the models of runs: in half precision, with links to its Python files.

python -m train.export runs/dynamic/last pretrained --challenge happy
python -m train.export runs/one/last runs/other/last pretrained --challenge happy      # the mean of their weights
python -m train.export runs/one/last pretrained --challenge happy --people corpora/lfw:1,2,3,4,5,6,7,8 \\
    --faces corpora/lfw:1,2,3,4,5,6,7,8 corpora/drawn:train
python -m evaluation calibrate --model pretrained --data corpora/lfw --splits 9 --far 0.001

The mean of the weights of several runs that started from the same weights is often better than each of them, at no
cost ("Model soups", arXiv 2203.05482); `evaluation compare` shows whether it is.

With --people, embeddings of faces that are similar to many strangers become shorter (train/embedding_length.py). At low
false accept rates this raises the share of genuine pairs that are accepted. With --faces a detector of covered eyes and
mouths is fitted (train/cover_detector.py), whose detections the quality gate refuses.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from checkpoints import TRAINING_RECORD
from face_data.corpus import CorpusError
from startup import large_imports

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

    Thresholds are kept only if they were calibrated with exactly the written weights; otherwise calibrate afterwards.

    Args:
        sources: model folders of runs, all of the same network. The weights of several are averaged. Config and record
            are those of the first; the record also names the others (`train.record.averaged_record`).
        challenge: expressions that a session may request: those that are recognised reliably in validation.
        shares: of each source in the mean, in their order; default: equal shares.
        people: corpora of the training on which to fit the length of the embeddings; without any it is not changed.
        faces: corpora of the training on which to fit the cover detector; without any it is not changed.

    Raises:
        CorpusError: a corpus of `people` or `faces` does not exist, or there are too few people.
        ValueError: the networks differ in layers or expressions, or shares are not one positive number for each.
        StrictDataclassError: the network does not predict an expression of `challenge`.
    """
    with large_imports():
        import torch  # not at the top: --help and missing folders are answered without it

        import image_processing_facelivenet
        import modeling_facelivenet
        import pipeline_facelivenet
        from image_processing_facelivenet import FaceLiveNetImageProcessor
        from modeling_facelivenet import FaceLiveNetModel
        from pipeline_facelivenet import CUSTOM_PIPELINES
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
        # the threshold was calibrated with other weights, and is therefore not saved
        model.load_state_dict(_mean_weights(sources, models, shares))
    processor = FaceLiveNetImageProcessor.from_pretrained(sources[0]) if people or faces else None
    lengths = fit_embedding_length(model, processor, people) if people else None
    covers = fit_cover_detector(model, processor, faces) if faces else None
    model.config.challenge_expressions = challenge
    model.config.validate()
    modules = (modeling_facelivenet, image_processing_facelivenet, pipeline_facelivenet)
    code = [Path(module.__file__) for module in modules]
    for file in code:  # saving would copy files onto themselves through the links of an earlier export
        (out / file.name).unlink(missing_ok=True)
    model.half().save_pretrained(out)
    shutil.copy(sources[0] / "preprocessor_config.json", out)
    records = [json.loads((source / TRAINING_RECORD).read_text(encoding="utf-8")) for source in sources]
    record = records[0]
    if len(records) > 1:
        record = averaged_record(records, [share / sum(shares) for share in shares])
    for name, fitted in (("embedding_length", lengths), ("cover_detector", covers)):
        if fitted:
            record[name] = fitted
    (out / TRAINING_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    path = out / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    # the default dtype when the model is loaded is that of the processor's faces
    settings |= {"dtype": "float32", "custom_pipelines": CUSTOM_PIPELINES}
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    for file in code:
        _link(file, out)


def _link(code: Path, folder: Path) -> None:
    """Create a relative link to a Python file that transformers needs in the folder, or a copy if that is forbidden."""
    link = folder / code.name
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(os.path.relpath(code, folder))
    except OSError:  # Windows without the permission
        shutil.copy(code, link)


def _mean_weights(
    sources: Sequence[Path], models: Sequence["FaceLiveNetModel"], shares: Sequence[float]
) -> dict[str, "torch.Tensor"]:
    states = [model.state_dict() for model in models]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    for source, model, shape in zip(sources, models, shapes, strict=True):
        if shape != shapes[0] or model.config.expressions != models[0].config.expressions:
            raise ValueError(f"{source} is another network than {sources[0]}: their weights cannot be averaged")

    def mean(name: str) -> "torch.Tensor":
        weighted = (share * state[name] for share, state in zip(shares, states, strict=True))
        return sum(weighted) / sum(shares)

    return {name: mean(name) if value.is_floating_point() else value for name, value in states[0].items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m train.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sources", type=Path, nargs="+", metavar="MODEL", help="model folders of runs: RUN/best or RUN/last"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument(
        "--challenge", nargs="+", required=True, metavar="EXPRESSION", help="expressions that sessions may request"
    )
    parser.add_argument(
        "--shares",
        nargs="+",
        type=float,
        default=(),
        metavar="SHARE",
        help="share of each MODEL in the mean (default: equal shares)",
    )
    parser.add_argument(
        "--people",
        nargs="+",
        default=(),
        metavar="CORPUS",
        help="fit the length of the embeddings on these people of the training: FOLDER:SPLIT,SPLIT",
    )
    parser.add_argument(
        "--faces",
        nargs="+",
        default=(),
        metavar="CORPUS",
        help="fit the detector of covered eyes and mouths on these faces of the training: FOLDER:SPLIT,SPLIT",
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
