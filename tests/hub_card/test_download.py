"""Processes without the project use a published model. They have only the address of the Hub and a name."""

import json
import re
import subprocess
import sys

import httpx
import numpy as np
import pytest
import torch

from authentication.authenticator import Authenticator
from benchmarks.live import Server
from demo import words
from hub_card.push import push
from modeling_facelivenet import FaceLiveNetModel


@pytest.fixture
def published(hub, built, monkeypatch):
    """The Hub, on which the model is published."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "writer")
    push(built, "user/faces")
    return hub


def test_every_snippet_of_the_card_runs(published, run_python, photograph_folder, repository):
    """In a folder without the project. The last snippet trains a head of three classes, which is then published too."""
    card = published.file("user/faces", "README.md").decode()
    snippets = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(snippets) == 4
    readme = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    snippets[:0] = [snippet.replace("OWNER/NAME", "user/faces") for snippet in readme]
    final_code = """
from transformers import AutoModelForImageClassification
print(classify("probe.jpg")[0]["label"])
model.push_to_hub("user/finetuned")
again = AutoModelForImageClassification.from_pretrained("user/finetuned", trust_remote_code=True)
same = all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
print(again.config.num_labels, same)
"""
    process = run_python("\n".join([*snippets, final_code]), HF_ENDPOINT=published.url, HF_TOKEN="writer")
    assert process.returncode == 0, process.stderr
    authenticator = Authenticator.from_pretrained(repository / "pretrained")
    expression = authenticator.config.challenge_expressions[0]
    decision = authenticator.judge(
        authenticator.template([photograph_folder / "reference.jpg"]), photograph_folder / "probe.jpg", expression
    )
    lines = process.stdout.splitlines()
    assert lines[:2] == [decision.message, f"{decision.accepted} {decision.message}"]
    assert lines[-2:] == [decision.expression, "3 True"]
    settings = json.loads(published.file("user/finetuned", "config.json"))
    assert settings["auto_map"]["AutoModelForImageClassification"].endswith("FaceLiveNetForImageClassification")


def test_a_pinned_commit_gives_exactly_the_outputs_of_the_source(published, run_python, photograph_folder, repository):
    commit = published.repositories["model", "user/faces"].commits[-1][0]
    faces = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    np.save(photograph_folder / "faces.npy", faces.numpy())
    process = run_python(
        f"""
import sys
sys.modules["facenet_pytorch"] = None  # as where it is not installed
import numpy as np, torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification, pipeline

at = {{"trust_remote_code": True, "revision": "{commit}"}}
faces = torch.from_numpy(np.load("faces.npy"))
model = AutoModel.from_pretrained("user/faces", **at)
output = model(faces)
np.savez("output.npz", embedding=output.embedding.detach(), logits=output.expression_logits.detach())
classifier = AutoModelForImageClassification.from_pretrained("user/faces", **at)
assert torch.equal(classifier(faces).logits, output.expression_logits)
for options in ({{"dtype": torch.float16}}, {{"device_map": "cpu"}}, {{"low_cpu_mem_usage": True}}):
    other = AutoModel.from_pretrained("user/faces", **at, **options)
    assert torch.allclose(other(faces.to(other.dtype)).embedding, output.embedding, atol=1e-2), options
assert AutoConfig.from_pretrained("user/faces", **at).challenge_expressions

authenticate = pipeline("face-authentication", model="user/faces", **at)
print(authenticate("probe.jpg", "probe.jpg", "happy", detect=False)["same_identity"])
try:
    authenticate("reference.jpg", "probe.jpg", "happy")
except ImportError as error:
    print(error)
for wrong in ("nowhere", "0" * 40):
    try:
        AutoModel.from_pretrained("user/faces", trust_remote_code=True, revision=wrong)
    except Exception as error:
        print(type(error).__name__, error)
""",
        HF_ENDPOINT=published.url,
    )
    assert process.returncode == 0, process.stderr
    same, advice, *errors = [line for line in process.stdout.splitlines() if line]
    assert same == "True"
    assert "pip install --no-deps facenet-pytorch" in advice and "detect=False" in advice
    assert "OSError nowhere is not a valid git identifier" in "\n".join(errors) and "0" * 40 in "\n".join(errors)
    source = FaceLiveNetModel.from_pretrained(repository / "pretrained", dtype=torch.float32)
    with torch.no_grad():
        expected, got = source(faces), np.load(photograph_folder / "output.npz")
    assert np.array_equal(got["embedding"], expected.embedding.numpy())
    assert np.array_equal(got["logits"], expected.expression_logits.numpy())


def test_a_commit_on_the_hub_is_loaded_and_a_missing_one_is_named(published, run_python, repository):
    commit = published.repositories["model", "user/faces"].commits[-1][0]
    process = run_python(
        f"""
import sys
sys.path.insert(0, {str(repository)!r})
from authentication.authenticator import Authenticator
for model in ("user/faces@{commit}", "user/faces", "user/faces@{"0" * 40}", "user/nothing"):
    try:
        print(Authenticator.from_pretrained(model).revision)
    except OSError as error:
        print(str(error).split(": ")[0])
""",
        HF_ENDPOINT=published.url,
    )
    assert process.returncode == 0, process.stderr
    expected = Authenticator.from_pretrained(repository / "pretrained").revision
    assert process.stdout.split() == [expected, expected, f"user/faces@{'0' * 40}", "user/nothing"]


def test_the_page_answers_while_the_model_is_downloaded(published, repository, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", published.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    release = published.hold("GET", "/cdn/")
    with Server("user/faces", ready=False) as server:
        answer = httpx.get(server.address)
        assert answer.status_code == 503 and words.DOWNLOADING_HELP in answer.text
        release.set()
        server.wait_until_ready()
        assert "The model is loaded" in server.log()
    command = [sys.executable, "app.py", "--model", "user/nothing", "--port", "0"]
    process = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=600)
    assert process.returncode == 2 and "no usable model: user/nothing: cannot be loaded from the Hub" in process.stderr


def test_an_interrupted_download_resumes_or_fails_without_a_partial_file(published, run_python, photograph_folder):
    code = 'from huggingface_hub import hf_hub_download; print(hf_hub_download("user/faces", "model.safetensors"))'
    published.cut("GET", "/cdn/", after=1_000_000)
    process = run_python(code, HF_ENDPOINT=published.url)
    assert process.returncode == 0, process.stderr
    with open(process.stdout.strip(), "rb") as file:
        assert file.read() == published.file("user/faces", "model.safetensors")
    assert published.count("GET", "/cdn/") == 2

    code_without_waiting = f"import time; time.sleep = lambda seconds: None\n{code}"
    published.cut("GET", "/cdn/", after=0, times=99)
    cache = photograph_folder.parent / "other"
    process = run_python(code_without_waiting, HF_ENDPOINT=published.url, HF_HOME=str(cache))
    assert process.returncode != 0 and "peer closed connection" in process.stderr
    assert not list(cache.rglob("snapshots/*/model.safetensors"))


def test_a_private_model_cannot_be_loaded_without_a_token(published, run_python):
    published.repositories["model", "user/faces"].private = True
    process = run_python(
        'from transformers import AutoConfig; AutoConfig.from_pretrained("user/faces", trust_remote_code=True)',
        HF_ENDPOINT=published.url,
    )
    assert process.returncode != 0
    assert "user/faces is not a local folder" in process.stderr and "private repository" in process.stderr
