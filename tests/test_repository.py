"""Rules of the repository: imports between packages, the front matter of the Space, links, and declared packages."""

import ast
import re
import subprocess
import sys
from importlib import metadata

import pytest
import yaml
from programs import Program

PACKAGES = {  # package or module -> the modules of the project that it may import
    "modeling_facelivenet": set(),
    "image_processing_facelivenet": set(),
    "pipeline_facelivenet": set(),
    "atomic": set(),
    "addresses": {"atomic"},
    "onnx_network": {"modeling_facelivenet", "image_processing_facelivenet"},
    "checkpoints": {"addresses", "modeling_facelivenet", "image_processing_facelivenet", "onnx_network"},
    "authentication": {
        "atomic",
        "modeling_facelivenet",
        "image_processing_facelivenet",
        "pipeline_facelivenet",
        "checkpoints",
        "onnx_network",
        "startup",
    },
    "machines": set(),
    "startup": set(),
    "face_data": {"atomic", "addresses", "image_processing_facelivenet", "machines", "startup"},
    "figure_style": set(),
    "train": {
        "atomic",
        "addresses",
        "modeling_facelivenet",
        "image_processing_facelivenet",
        "pipeline_facelivenet",
        "face_data",
        "figure_style",
        "checkpoints",
        "machines",
        "startup",
    },
    "evaluation": {
        "atomic",
        "addresses",
        "modeling_facelivenet",
        "image_processing_facelivenet",
        "pipeline_facelivenet",
        "authentication",
        "face_data",
        "figure_style",
        "checkpoints",
        "onnx_network",
        "startup",
    },
    "hub_card": {
        "atomic",
        "modeling_facelivenet",
        "image_processing_facelivenet",
        "pipeline_facelivenet",
        "figure_style",
        "checkpoints",
        "onnx_network",
        "evaluation",
        "startup",
    },
    "demo": {
        "image_processing_facelivenet",
        "pipeline_facelivenet",
        "authentication",
        "face_data",
        "checkpoints",
        "startup",
    },
    "benchmarks": {
        "modeling_facelivenet",
        "image_processing_facelivenet",
        "authentication",
        "face_data",
        "train",
        "evaluation",
        "hub_card",
        "demo",
        "checkpoints",
        "onnx_network",
        "startup",
    },
    "app": {"demo", "checkpoints", "startup"},
}


def imports(path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_the_listed_packages(repository, package):
    file = repository / f"{package}.py"
    files = [file] if file.exists() else list((repository / package).rglob("*.py"))
    assert files
    for file in files:
        assert imports(file) & set(PACKAGES) - {package} <= PACKAGES[package], file


def test_the_front_matter_agrees_with_the_requirements(repository):
    front = yaml.safe_load((repository / "README.md").read_text(encoding="utf-8").split("---")[1])
    pinned = re.search(r"^gradio==(\S+)", (repository / "requirements.txt").read_text(), re.MULTILINE)[1]
    assert front["sdk"] == "gradio" and front["sdk_version"] == pinned
    assert front["python_version"] == "3.12.12"  # ZeroGPU offers also 3.10.13, which is too old for this project
    assert (repository / front["app_file"]).is_file()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/api.md", "docs/evaluation.md"])
def test_linked_files_exist(repository, name):
    text = (repository / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    assert len(links) > 2
    for link in links:
        assert ((repository / name).parent / link).exists(), link


def test_files_named_in_the_contributing_guide_exist(repository):
    text = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:[\w.]+/)+[\w.]*|[\w]+\.py)`", text):
        in_evaluation = repository / "evaluation" / name
        assert (repository / name).exists() or in_evaluation.exists() or name.endswith("/"), name


def test_every_imported_package_is_declared(repository):
    """requirements.txt declares the packages of the runtime, requirements-dev.txt those of all other code."""
    declared = set()
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = (repository / name).read_text(encoding="utf-8").splitlines()
        declared |= {
            re.split(r"[<>=~ \[]", line)[0].lower().replace("_", "-") for line in lines if line and line[0].isalpha()
        }
    declared |= {"starlette", "fastapi", "uvicorn", "anyio", "h11"}  # part of Gradio's exact release
    distributions = metadata.packages_distributions()
    local = {path.stem for path in repository.rglob("*.py")} | {path.name for path in repository.iterdir()}
    for file in repository.rglob("*.py"):
        if any(part.startswith(".") for part in file.relative_to(repository).parts):
            continue
        for module in imports(file) - local - sys.stdlib_module_names:
            names = {name.lower().replace("_", "-") for name in distributions.get(module, [module])}
            assert names & declared, f"{file} imports {module}, which no requirements file declares"


def test_app_and_command_line_need_only_the_packages_of_requirements_txt(repository):
    """A Space installs only requirements.txt, so the packages that requirements-dev.txt adds are hidden here."""
    lines = (repository / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    added = {re.split(r"[<>=]", line)[0] for line in lines if line and line[0].isalpha()}
    added -= {"pyyaml", "tqdm", "jinja2", "httpx", "fsspec", "pydantic"}  # transformers, torch and gradio install these
    modules = {name.replace("-", "_") for name in added} | {"sklearn", "skimage", "xdist"}
    hidden = f"import sys\nsys.modules.update(dict.fromkeys({sorted(modules)!r}))"
    code = f"{hidden}\nimport app, demo.command, authentication.command"
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


AS_ON_WINDOWS = """
import importlib, multiprocessing, os, signal, sys
from pathlib import Path

here, modules = Path.cwd(), []
for package in ("app", "authentication", "benchmarks", "demo", "evaluation", "face_data", "hub_card", "train"):
    files = sorted(Path(package).rglob("*.py")) or [Path(package + ".py")]
    modules += [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
for module in modules:
    importlib.import_module(module)
for name, module in list(sys.modules.items()):
    file = Path(getattr(module, "__file__", None) or "/")
    if here in file.parents and "site-packages" not in file.parts:
        del sys.modules[name]
for name in ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
os_names = "fork getuid geteuid getgid setsid nice killpg mkfifo sched_getaffinity setpriority uname wait4"
signal_names = "SIGKILL SIGHUP SIGALRM SIGCHLD SIGUSR1 alarm setitimer"
for module, names in ((os, os_names), (signal, signal_names)):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
contexts = multiprocessing.get_context
multiprocessing.get_context = lambda method=None: contexts("none" if method in ("fork", "forkserver") else method)
for module in modules:
    importlib.import_module(module)
"""


def test_packages_can_be_imported_without_what_windows_lacks(repository):
    """All modules are imported once, because libraries may need these names, and then ours again as on Windows."""
    program = Program(["-c", AS_ON_WINDOWS], repository)
    assert program.wait() == 0, program.stderr


def test_no_path_is_specific_to_one_operating_system(repository):
    """The code has no absolute paths and names no start method of processes.

    Exceptions are `startup`, which chooses the start method, and the benchmarks, which measure Linux.
    """
    for file in repository.rglob("*.py"):
        place = file.relative_to(repository).parts
        if place[0] in ("tests", "benchmarks", "pretrained") or any(part.startswith(".") for part in place):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                is_specific = re.match(r"/(tmp|var|home|dev/shm|etc)\b|fork$", node.value) or (
                    node.value == "forkserver" and file.name != "startup.py"
                )
                assert not is_specific, (file, node.value)
