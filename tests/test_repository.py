"""What holds the repository together: the Space's front matter, self-contained Hub files, imports that run one way."""

import ast
import re
import subprocess
import sys

import pytest
import yaml

ROOMS = {  # room -> what it may import of the project
    "modeling_facelivenet": set(),
    "image_processing_facelivenet": set(),
    "pipeline_facelivenet": set(),
    "authentication": {"modeling_facelivenet", "image_processing_facelivenet", "pipeline_facelivenet"},
    "face_data": {"image_processing_facelivenet"},
    "figure_style": set(),
    "train": {
        "modeling_facelivenet", "image_processing_facelivenet", "pipeline_facelivenet", "face_data", "figure_style",
    },
    "evaluation": {
        "modeling_facelivenet", "image_processing_facelivenet", "pipeline_facelivenet", "authentication", "face_data",
        "figure_style",
    },
    "hub_card": {"modeling_facelivenet", "figure_style"},
    "benchmarks": {
        "modeling_facelivenet", "image_processing_facelivenet", "authentication", "face_data", "train", "evaluation",
        "hub_card",
    },
    "demo": {"image_processing_facelivenet", "pipeline_facelivenet", "authentication", "face_data"},
    "app": {"demo", "image_processing_facelivenet", "pipeline_facelivenet", "authentication"},
}  # fmt: skip


def imports(path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_down_the_rooms_and_never_back_up(repository, room):
    file = repository / f"{room}.py"
    files = [file] if file.exists() else list((repository / room).rglob("*.py"))
    assert files
    for file in files:
        assert imports(file) & set(ROOMS) - {room} <= ROOMS[room], file


def test_front_matter_is_the_space_of_these_requirements(repository):
    front = yaml.safe_load((repository / "README.md").read_text(encoding="utf-8").split("---")[1])
    pinned = re.search(r"^gradio==(\S+)", (repository / "requirements.txt").read_text(), re.MULTILINE)[1]
    assert front["sdk"] == "gradio" and front["sdk_version"] == pinned
    assert tuple(map(int, front["python_version"].split("."))) >= (3, 11)
    assert (repository / front["app_file"]).is_file()


def test_readme_links_lead_somewhere(repository):
    readme = (repository / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if not link.startswith("http")]
    assert len(links) > 5
    for link in links:
        assert (repository / link).exists(), link


def test_app_and_command_line_need_what_requirements_names_and_nothing_more(repository):
    """A Space installs requirements.txt alone: here everything that requirements-dev.txt adds is hidden."""
    lines = (repository / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    added = {re.split(r"[<>=]", line)[0] for line in lines if line and line[0].isalpha()}
    added -= {"pyyaml", "tqdm", "jinja2"}  # transformers and gradio bring these along
    modules = {name.replace("-", "_") for name in added} | {"sklearn", "skimage", "xdist"}
    code = f"import sys\nsys.modules.update(dict.fromkeys({sorted(modules)!r}))\nimport app, authentication.__main__"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
