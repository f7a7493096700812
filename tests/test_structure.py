"""The house stands as it is drawn: no circles, and tasks are known by the line that names them alone."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from places import ROOT

PACKAGE = ROOT / "reloss_hf"


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: set[str]) -> set[str]:
    """Modules of the package that this one imports, anywhere in its source: under TYPE_CHECKING, in functions."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names}
    return (found & known) - {name}


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    found = modules()
    return {name: imports(name, path, set(found)) for name, path in found.items()}


def test_the_graph_of_imports_is_read_from_the_sources(graph):
    assert "reloss_hf.tasks" in graph["reloss_hf.metrics"]
    assert "reloss_hf.learner" in graph["reloss_hf.cli"]  # within a function
    assert "reloss_hf.api" in graph["reloss_hf"]  # under TYPE_CHECKING


def test_no_module_takes_part_in_an_import_circle(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_no_folder_takes_part_in_an_import_circle(graph):
    def room(module: str) -> str:
        parts = module.split(".")
        return ".".join(parts[:3] if parts[1:2] == ["tasks"] else parts[:2])

    rooms: dict[str, set[str]] = {}
    for module, imported in graph.items():
        rooms.setdefault(room(module), set()).update(room(other) for other in imported if room(other) != room(module))
    try:
        TopologicalSorter(rooms).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_only_the_lists_of_tasks_and_of_public_names_import_from_a_task(graph):
    folders = {f"reloss_hf.tasks.{path.name}" for path in (PACKAGE / "tasks").iterdir() if path.is_dir()}
    for module, imported in graph.items():
        inside = {name for name in imported if ".".join(name.split(".")[:3]) in folders}
        if inside and ".".join(module.split(".")[:3]) not in folders:
            assert module in ("reloss_hf.tasks", "reloss_hf.api"), f"{module} imports {sorted(inside)}"


def test_no_code_outside_of_a_task_speaks_of_one_by_name():
    names = [path.name for path in (PACKAGE / "tasks").iterdir() if path.is_dir() and path.name != "__pycache__"]
    for name, path in modules().items():
        if not name.startswith("reloss_hf.tasks."):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and node.value in names:
                    pytest.fail(f"{path.relative_to(ROOT)}:{node.lineno} says {node.value!r}")


def test_a_task_imports_nothing_of_another(graph):
    for module, imported in graph.items():
        parts = module.split(".")
        if parts[1:2] == ["tasks"] and len(parts) > 3:
            others = {
                n
                for n in imported
                if n.startswith("reloss_hf.tasks.") and n.count(".") > 2 and n.split(".")[2] != parts[2]
            }
            assert not others, f"{module} imports {sorted(others)}"
