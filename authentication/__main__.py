"""Is the person on the probe the person on the reference, showing the expression that was asked for?

    python -m authentication REFERENCE PROBE… --expression happy

Exit status: 0 accepted, 1 rejected, 2 unusable input, with the reason on stderr.
"""

import argparse
import logging
import sys
from dataclasses import replace

from transformers.utils import logging as transformers_logging

from authentication.authenticator import DEFAULT_MODEL, Authenticator, UnlikeReferencesError
from authentication.probe import decide_probe, judge_frames
from authentication.template import Template
from authentication.template_store import SUFFIX, load_template, save_template
from image_processing_facelivenet import UnreadableImageError, name_of
from pipeline_facelivenet import FRAMES_TO_HOLD, Decision, decide_probes

DESCRIPTION = f"""\
Accepts or rejects a person: same face as on the reference photograph, and showing the expression that was asked for.

REFERENCE is a photograph of one person alone, or the encrypted template that --save-template kept of one.
Each PROBE is a photograph or a video clip.
  A photograph is accepted if its face matches and shows the expression.
  A clip is accepted if {FRAMES_TO_HOLD} consecutive sampled frames (four a second) do, and it shows nobody else:
  at least half of its faces match, and no {FRAMES_TO_HOLD} of them in a row are clearly another person's.
  Several probes are accepted if at least one of them is and all of them show the same person.
  Whatever shows a second face is rejected. Probes that cannot be read are reported and skipped."""

EXAMPLES = """\
examples:
  python -m authentication anna.jpg today.jpg --expression happy
  python -m authentication anna.jpg today.mp4 --expression surprise --json --show-frames
  python -m authentication anna.jpg --reference anna2.jpg --reference anna3.jpg today.jpg --expression neutral

exit status: 0 accepted, 1 rejected, 2 unusable input (the reason is on stderr)"""

BAR_WIDTH = 30


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m authentication",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first_reference", metavar="REFERENCE", help="photograph of the person, alone on it")
    parser.add_argument("probes", metavar="PROBE", nargs="+", help="photograph or clip to be checked")
    parser.add_argument("--expression", required=True, help="the expression that was asked for, such as happy")
    parser.add_argument(
        "--reference", metavar="MORE", action="append", default=[], help="a further reference photograph (repeatable)"
    )
    parser.add_argument(
        "--allow-unlike", action="store_true", help="take references that seem to be of different people all the same"
    )
    parser.add_argument(
        "--model",
        default=str(DEFAULT_MODEL),
        help="model folder, Hub id (owner/name@commit) or exported .onnx file (default: the shipped one, %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the decision as JSON")
    parser.add_argument(
        "--save-template",
        metavar="FILE",
        help=f"keep the references as an encrypted template, named …{SUFFIX}; see `authentication.template_store`",
    )
    parser.add_argument("--show-frames", action="store_true", help="add the evidence of every judged frame")
    return parser.parse_args(argv)


def reference_template(authenticator: Authenticator, references: list[str], allow_unlike: bool) -> Template:
    """The template of the reference photographs, or the one that was kept in a file.

    Raises:
        ValueError, OSError: naming the file and the cause.
    """
    if any(name.endswith(SUFFIX) for name in references):
        if len(references) > 1:
            raise ValueError(f"a kept template ({SUFFIX}) stands alone, without further references")
        return load_template(references[0], authenticator.revision, authenticator.config.embedding_dim)
    try:
        return authenticator.template(references, allow_unlike)
    except UnlikeReferencesError as error:
        raise ValueError(f"{error}; --allow-unlike takes them all the same") from error


def judge_probe(
    authenticator: Authenticator, template: Template, path: str, expression: str
) -> tuple[Decision, list[dict]]:
    """The decision about one photograph or clip, and the evidence of each of its frames.

    Raises:
        UnreadableImageError: naming the file and the cause.
    """
    frames = list(judge_frames(authenticator, template, path, expression))
    records = []
    for frame in frames:
        decision, evidence = frame.decision, frame.evidence
        record = {
            "source": name_of(path),
            "seconds": frame.seconds,
            "reason": decision.reason,
            "similarity": decision.similarity,
        }
        if evidence:
            record |= {
                "expression_probabilities": decision.expression_probabilities,
                "face_count": evidence.face_count,
                "box": evidence.box.tolist(),
                "landmarks": evidence.landmarks.tolist(),
                "detection_probability": evidence.detection_probability,
            }
        records.append(record)
    return decide_probe(frames, expression), records


def describe(decision: Decision) -> str:
    """The decision for people who run the command: verdict, reason, similarity, expressions as bars, frames."""
    lines = [f"{'ACCEPTED' if decision.accepted else 'REJECTED'}: {decision.message.removeprefix('Accepted: ')}"]
    if decision.similarity is not None:
        threshold = "not calibrated" if decision.threshold is None else f"threshold {decision.threshold:.3f}"
        lines.append(f"similarity {decision.similarity:.3f} ({threshold})")
    if decision.expression is not None:
        lines.append(f"expression asked {decision.required_expression}, seen {decision.expression}")
    width = max(map(len, decision.expression_probabilities), default=0)
    for name, probability in decision.expression_probabilities.items():
        bar = "#" * round(probability * BAR_WIDTH)
        asked = "  <- asked" if name == decision.required_expression else ""
        lines.append(f"  {name:{width}} {probability:.2f} {bar:{BAR_WIDTH}}{asked}".rstrip())
    for record in decision.frames or ():
        when = "" if record["seconds"] is None else f" {record['seconds']:.2f} s"
        similarity = "" if record["similarity"] is None else f", similarity {record['similarity']:.3f}"
        lines.append(f"  {record['source']}{when}: {record['reason']}{similarity}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = parse_arguments(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    transformers_logging.disable_progress_bar()
    try:
        authenticator = Authenticator.from_pretrained(arguments.model)
    except OSError as error:
        return complain(f"no usable model: {error}. Name a trained checkpoint with --model DIR")
    if authenticator.config.similarity_threshold is None:
        print(f"{arguments.model}: no threshold was calibrated on its weights, so nobody is accepted", file=sys.stderr)
    known = authenticator.config.expressions
    if arguments.expression not in known:
        return complain(f"--expression {arguments.expression}: this model knows {', '.join(known)}")
    try:
        references = [arguments.first_reference, *arguments.reference]
        template = reference_template(authenticator, references, arguments.allow_unlike)
        if arguments.save_template:
            if not arguments.save_template.endswith(SUFFIX):
                return complain(f"--save-template {arguments.save_template}: the name must end in {SUFFIX}")
            save_template(template, arguments.save_template, authenticator.revision)
    except (ValueError, OSError) as error:  # unreadable, no face, several faces, no usable embedding, no key
        return complain(f"the reference cannot be used: {error}")

    decisions, records = [], []
    for path in arguments.probes:
        try:
            decision, frames = judge_probe(authenticator, template, path, arguments.expression)
        except (UnreadableImageError, OSError) as error:
            complain(f"skipped: {error}")
            continue
        decisions.append(decision)
        records.extend(frames)
    if not decisions:
        return complain("no probe can be used")
    decision = decide_probes(decisions, arguments.expression)
    if arguments.show_frames:
        decision = replace(decision, frames=tuple(records))
    print(decision.to_json() if arguments.json else describe(decision))
    return 0 if decision.accepted else 1


def complain(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
