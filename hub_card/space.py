"""Writes the files of the Space: the demo, with the weights of a built folder in `pretrained/`. `push` calls it."""

import ast
import shutil
from pathlib import Path

from checkpoints import WEIGHTS
from hub_card.folder import REPOSITORY

APP = Path("app.py")
OTHER_FILES = (Path("requirements.txt"), Path("README.md"))
HARDWARE = "zero-a10g"  # the Hub's name of ZeroGPU; free accounts may host two such Gradio Spaces
MODEL_FILES = ("config.json", WEIGHTS, "preprocessor_config.json", "results.json", "LICENSE.md")


def stage_space(folder: Path, repo_id: str, out: Path) -> None:
    """Write the Space of a built folder to `out`. repo_id: of the model, to which the page of the Space links."""
    files = project_files(APP)
    styles = {
        path.relative_to(REPOSITORY)
        for parent in {file.parent for file in files}
        for path in (REPOSITORY / parent).glob("*.[cj]s*")
    }
    for name in sorted(files | styles | {*OTHER_FILES}):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, out / name)
    (out / "pretrained").mkdir()
    for name in MODEL_FILES:
        shutil.copyfile(folder / name, out / "pretrained" / name)
    readme = (out / "README.md").read_text(encoding="utf-8")
    front = readme.split("---")[1].rstrip()  # the settings of the Space; the rest of the README is about the repository
    text = f"The demo of [{repo_id}](https://huggingface.co/{repo_id}); terms: [LICENSE.md](pretrained/LICENSE.md)."
    (out / "README.md").write_text(
        f"---{front}\nmodels:\n- {repo_id}\n---\n\n# FaceLiveNet+\n\n{text}\n", encoding="utf-8"
    )


def project_files(start: Path) -> set[Path]:
    """A Python file of the project, and all files that it imports directly or indirectly, relative to the
    repository."""
    files, waiting = set(), [start]
    while waiting:
        file = waiting.pop()
        if file in files:
            continue
        files.add(file)
        for node in ast.walk(ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                path = Path(*name.split("."))
                packages = [folder / "__init__.py" for folder in (path, *path.parents)]
                waiting += [
                    file_name
                    for file_name in (path.with_suffix(".py"), *packages)
                    if (REPOSITORY / file_name).is_file()
                ]
    return files
