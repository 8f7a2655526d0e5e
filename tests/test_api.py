"""All Python snippets of docs/api.md run, in their order, with drawn people in place of photographs."""

import re

import pytest
from PIL import Image

from demo.examples import WELL_KNOWN
from face_data.__main__ import main
from face_data.drawn import drawn_photograph


@pytest.fixture
def folder(tmp_path, monkeypatch, repository):
    """A working directory with all files that the snippets use."""
    for name, number in (("anna", 0), ("anna2", 1)):
        drawn_photograph(WELL_KNOWN[0], "neutral", number, seed=0).resize((360, 360)).save(tmp_path / f"{name}.jpg")
    happy = drawn_photograph(WELL_KNOWN[0], "happy", 1, seed=0).resize((360, 360))
    happy.save(tmp_path / "now.jpg")
    shades = [Image.eval(happy, lambda value, step=step: min(value + step, 255)) for step in range(8)]
    shades[0].save(tmp_path / "clip.gif", save_all=True, append_images=shades[1:], duration=250)
    (tmp_path / "clip.gif").rename(tmp_path / "clip.mp4")  # the first bytes determine the format
    (tmp_path / "pretrained").symlink_to(repository / "pretrained")
    few = ["--identities", "4", "--per-expression", "2", "--workers", "1"]
    assert main(["synthesize", str(tmp_path / "corpora/drawn"), *few]) == 0
    monkeypatch.chdir(tmp_path)
    return tmp_path


def camera():
    """Frames of a person who smiles from the first to the last one. No challenge accepts this."""
    for number in range(100):
        yield drawn_photograph(WELL_KNOWN[0], "happy", number % 3, seed=0).resize((360, 360))


def test_every_snippet_runs(folder, repository):
    text = (repository / "docs/api.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == text.count("```python") > 5
    names = {"camera": camera}
    for snippet in snippets:
        exec(compile(snippet, "docs/api.md", "exec"), names)
        if "judge(" in snippet:
            assert names["decision"].accepted and names["decision"].reason == "accepted"
        elif "decide_probe" in snippet:
            assert names["decision"].accepted
        elif "ChallengeSession" in snippet:
            assert names["view"].progress.decision is not None and not names["view"].progress.decision.accepted
    assert not [reference.problem for reference in names["references"] if reference.problem]
    assert b"embedding" not in (folder / "anna.template").read_bytes()
    assert 0 <= names["result"].auc <= 1 and names["result"].people == 2
