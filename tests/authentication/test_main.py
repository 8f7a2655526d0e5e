"""The command line: decisions, exit status, and errors for bad input."""

import base64
import json
import os
import re
import sys

import numpy as np
import pytest
from PIL import Image
from programs import Program

from authentication.__main__ import main
from authentication.authenticator import Authenticator


@pytest.fixture(scope="module")
def authenticator(happy_model):
    return Authenticator.from_pretrained(happy_model)


@pytest.fixture
def run(authenticator, happy_model, monkeypatch, capsys):
    """Run the command in this process, with a model that is loaded once. Returns exit status, stdout, stderr."""
    monkeypatch.setattr(Authenticator, "from_pretrained", lambda model: authenticator)

    def command(*arguments, expression="happy"):
        status = main([*map(str, arguments), "--expression", expression])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, captured.out, captured.err

    return command


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, portrait, group):
    """Good, unusual and damaged files, by name."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = {}

    def add(name, save):
        paths[name] = folder / name
        save(paths[name])

    add("good.png", portrait.save)
    data = paths["good.png"].read_bytes()
    add("cmyk.jpg", portrait.convert("CMYK").save)
    grey16 = Image.fromarray(np.asarray(portrait.convert("L")).astype(np.uint16) * 257)
    add("sixteen.png", grey16.save)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    add("turned.jpg", lambda path: portrait.rotate(90, expand=True).save(path, exif=exif, quality=95))
    add("noface.png", Image.new("RGB", (300, 300), "grey").save)
    add("group.png", group.save)
    add("truncated.png", lambda path: path.write_bytes(data[: len(data) // 2]))
    add("empty.jpg", lambda path: path.write_bytes(b""))
    add("text.jpg", lambda path: path.write_text("This is not a picture."))
    add("pixel.png", Image.new("RGB", (1, 1)).save)
    add("huge.png", Image.new("1", (12_000, 12_000)).save)
    add("bomb.png", Image.new("1", (30_000, 30_000)).save)
    paths["missing.jpg"] = folder / "missing.jpg"
    return paths


def test_a_match_is_accepted(run, pictures):
    status, out, err = run(pictures["good.png"], pictures["good.png"])
    assert (status, err) == (0, "")
    assert out.startswith("ACCEPTED")
    assert re.search(r"similarity 0\.9\d\d \(threshold 0\.500\)", out)
    assert "happy    1.00 ##############################  <- requested" in out


def test_a_missing_expression_is_rejected(run, pictures):
    status, out, _ = run(pictures["good.png"], pictures["good.png"], expression="sad")
    assert status == 1
    assert out.startswith("REJECTED: The face matches, but the requested expression was not seen.")


def test_the_decision_is_printed_as_json(run, pictures):
    status, out, _ = run(pictures["good.png"], pictures["good.png"], "--json")
    decision = json.loads(out)
    assert status == 0
    assert decision["accepted"] is True
    assert decision["frames"] is None
    _, out, _ = run(pictures["good.png"], pictures["good.png"], "--json", "--show-frames")
    (frame,) = json.loads(out)["frames"]
    assert frame["reason"] == "accepted"
    assert len(frame["box"]) == 4
    assert len(frame["landmarks"]) == 5


@pytest.mark.parametrize("name", ["cmyk.jpg", "sixteen.png", "turned.jpg"])
def test_unusual_but_good_images_are_accepted(run, pictures, name):
    status, out, _ = run(pictures["good.png"], pictures[name], "--json")
    decision = json.loads(out)
    assert status == 0, decision["reason"]
    assert decision["similarity"] > 0.98
    status, _, _ = run(pictures[name], pictures["good.png"])
    assert status == 0


BROKEN = {
    "truncated.png": "damaged or incomplete",
    "empty.jpg": "not an image",
    "text.jpg": "not an image",
    "huge.png": "144 megapixels",
    "bomb.png": "refused before decoding",
    "missing.jpg": "no such file",
}


@pytest.mark.parametrize(("name", "cause"), BROKEN.items())
def test_unreadable_files_are_reported_with_the_cause(run, pictures, name, cause):
    status, out, err = run(pictures[name], pictures["good.png"])
    assert (status, out) == (2, "")
    assert name in err
    assert cause in err
    status, out, err = run(pictures["good.png"], pictures[name])
    assert (status, out) == (2, "")
    assert f"{name}: " in err
    assert cause in err
    assert "no probe can be used" in err


@pytest.mark.parametrize(
    ("name", "cause"), [("noface.png", "no face"), ("pixel.png", "no face"), ("group.png", "3 faces")]
)
def test_references_without_exactly_one_face_are_refused(run, pictures, name, cause):
    for arguments in ([pictures[name]], [pictures["good.png"], "--reference", pictures[name]]):
        status, out, err = run(*arguments, pictures["good.png"])
        assert (status, out) == (2, "")
        assert name in err
        assert cause in err


@pytest.mark.parametrize(
    ("name", "reason"), [("noface.png", "no_face"), ("pixel.png", "no_face"), ("group.png", "several_faces")]
)
def test_probes_without_exactly_one_face_are_rejected(run, pictures, name, reason):
    status, out, _ = run(pictures["good.png"], pictures[name], "--json")
    assert status == 1
    assert json.loads(out)["reason"] == reason


def test_unreadable_probes_are_skipped(run, pictures):
    probes = [pictures[name] for name in (*BROKEN, "noface.png", "good.png")]
    status, out, err = run(pictures["good.png"], *probes, "--json")
    assert status == 0
    assert json.loads(out)["accepted"]
    assert err.count("skipped: ") == len(BROKEN)
    assert all(name in err for name in BROKEN)


def test_a_second_face_in_any_probe_is_rejected(run, pictures):
    status, out, _ = run(pictures["good.png"], pictures["good.png"], pictures["group.png"], "--json")
    assert status == 1
    assert json.loads(out)["reason"] == "several_faces"


def test_the_error_for_an_unknown_expression_lists_the_known_ones(run, pictures):
    status, out, err = run(pictures["good.png"], pictures["good.png"], expression="smug")
    assert (status, out) == (2, "")
    assert "smug" in err
    assert "neutral, anger, disgust, fear, happy, sad, surprise" in err


@pytest.mark.real_data
def test_clips_are_decided(run, real_data, pictures):
    clips = real_data / "clips"
    face = real_data / "london" / "036_neutral.jpg"
    status, out, _ = run(face, clips / "single_face.mp4", "--json", "--show-frames")
    decision = json.loads(out)
    assert status == 0
    assert len(decision["frames"]) == 9
    assert decision["frames"][1]["seconds"] == pytest.approx(0.27, abs=0.01)
    status, out, _ = run(face, clips / "no_face.mp4", "--json")
    assert status == 1
    assert json.loads(out)["reason"] == "no_face"


@pytest.mark.parametrize("output", ["a full disk", "a pipe without a reader"])
def test_a_decision_that_cannot_be_written_is_not_an_acceptance(run, pictures, monkeypatch, output):
    if output == "a full disk":
        writer = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, writer = os.pipe()
        os.close(reader)
    with open(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        status, _, err = run(pictures["good.png"], pictures["good.png"])
        monkeypatch.undo()
    cause = "No space left on device" if output == "a full disk" else "Broken pipe"
    assert (status, err) == (2, f"the decision cannot be written: {cause}\n")


def run_program(repository, *arguments):
    program = Program(["-m", "authentication", *arguments], repository)
    program.wait()
    return program


def test_the_program_accepts_and_skips(repository, pictures, happy_model):
    result = run_program(
        repository,
        pictures["good.png"],
        pictures["text.jpg"],
        pictures["good.png"],
        "--expression",
        "happy",
        "--model",
        happy_model,
        "--json",
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["reason"] == "accepted"
    assert result.stderr.splitlines() == [f"skipped: {pictures['text.jpg']}: not an image in any known format"]


def test_the_program_reports_a_missing_model(repository, pictures, tmp_path):
    result = run_program(
        repository, pictures["good.png"], pictures["good.png"], "--expression", "happy", "--model", tmp_path
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert f"{tmp_path}/config.json is missing: {tmp_path} is not a model folder" in result.stderr
    assert "--model" in result.stderr


def test_a_picture_given_as_text_is_never_printed(run, pictures):
    """Many programs pass images as base64. Such an argument shows a face and must not get into a log."""
    text = base64.b64encode(pictures["good.png"].read_bytes()[:60_000]).decode()
    assert len(text) > 10_000
    for arguments in ((text, pictures["good.png"]), (pictures["good.png"], text)):
        status, out, err = run(*arguments)
        assert (status, out) == (2, "") and text[:64] not in err and len(err) < 500
        assert "a base64 text: damaged or incomplete" in err
