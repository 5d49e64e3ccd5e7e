"""The house of DESIGN, held against the real imports: one-way floors, who may draw, and how long things may be.

``problems(root)`` reads every module below ``root/rcnnlib`` without importing it. The tests below prove on small
fake trees that each of its rules can fail.
"""

import ast
from pathlib import Path

import pytest

# A line is read from left to right: a module imports those to its left and every line of a lower floor.
# Lines of one floor do not import each other. A star stands for modules that do not import each other either.
FLOORS = {
    0: ["types"],
    1: ["ops: boxes anchors box_coder nms matcher sampler roi_ops losses selective_search"],
    2: ["datasets: paths transforms shapes compose scenes coco voc validate proposals"],
    2.5: ["models: backbone rpn roi_heads svm svm_head"],  # in DESIGN one floor with datasets, to their right
    3: ["models: rcnn", "models: sppnet", "models: fast_rcnn", "models: faster_rcnn"],
    3.5: ["models: weights"],
    4: [
        "engine: distributed checkpoint schedules training metrics evaluation after_training recipes cards detect "
        "interop benchmark benchmark_stages benchmark_models doctor stored bootstrap studies studies_training "
        "ablations ablations_extra experiments clinic",
    ],
    4.5: ["checks: contract *"],  # in DESIGN beside engine; the check of average precision needs engine.metrics
    5: ["view: plotting course_map rows shortcomings beside canvas explorers.base explorers.* notebook"],
    6: ["__main__"],
}
DRAWING = {"matplotlib", "ipywidgets", "IPython", "anywidget"}  # in view alone
MODULE_LINES, FUNCTION_LINES = 300, 30  # the lessons show them


def place(name: str) -> tuple[float, int, int] | None:
    """Return floor, line and position of a module such as ``ops.nms``; None when DESIGN has no such module."""
    found = None
    for floor, lines in FLOORS.items():
        for line, text in enumerate(lines):
            folder, _, entries = text.rpartition(": ")
            for position, module in enumerate(entries.split()):
                entry = f"{folder}.{module}".removeprefix(".")
                star = entry.endswith(".*") and name.startswith(entry[:-1]) and not name.endswith("__init__")
                if name == entry or star:
                    return floor, line, position
            if folder and name == f"{folder}.__init__":  # stands to the right of all its modules
                found = floor, line, len(entries)
    return found


def may_import(importer: str, imported: str) -> bool:
    """Say whether DESIGN's order lets one module import the other."""
    (floor, line, position), (floor2, line2, position2) = place(importer), place(imported)
    return floor2 < floor or (floor2 == floor and line2 == line and position2 < position)


def imports(tree: ast.Module, package: str, known: set[str]) -> list[tuple[str, bool]]:
    """Return each imported module with dots, and whether the import stands inside a function."""
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            for alias in node.names:  # `from rcnnlib.ops import nms` imports the module ops.nms
                whole = f"{base}.{alias.name}"
                found.append((whole if whole in known else base, id(node) in inside))
    return found


def long_functions(tree: ast.Module) -> list[tuple[str, int]]:
    """Return name and number of body lines, without the docstring, of functions that are too long."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            if lines >= FUNCTION_LINES:
                found.append((node.name, lines))
    return found


def import_problems(name: str, tree: ast.Module, package: str, known: set[str]) -> list[str]:
    """Return the sentences about one module's imports."""
    found = []
    for target, in_function in imports(tree, package, known):
        top = target.partition(".")[0]
        if top == "rcnnlib":
            inner = target.removeprefix("rcnnlib").removeprefix(".")
            if place(inner) is None:
                found.append(f"{name} imports the package {target}: name the module that is meant")
            elif not may_import(name, inner):
                found.append(f"{name} imports {inner}, which stands above it or to its right")
        elif top in DRAWING and not name.startswith("view."):
            found.append(f"{name} imports {top}: only view draws")
        elif top == "skimage" and not (name == "ops.selective_search" and in_function):
            found.append(f"{name} imports skimage: only selective_search does, inside its function")
        elif top == "torchvision" and name.startswith("ops."):
            found.append(f"{name} imports torchvision: it is the reference that ops is tested against")
    return found


def problems(root: Path) -> list[str]:
    """Return one sentence for each thing in ``root/rcnnlib`` that breaks a rule."""
    paths = sorted((root / "rcnnlib").rglob("*.py"))
    dotted = {path: ".".join(path.relative_to(root).with_suffix("").parts) for path in paths}
    known = {name.removesuffix(".__init__") for name in dotted.values()}
    found = []
    for path, whole in dotted.items():
        text = path.read_text(encoding="utf-8")
        tree, name = ast.parse(text), whole.removeprefix("rcnnlib.")
        if (lines := len(text.splitlines())) >= MODULE_LINES:
            found.append(f"{name} has {lines} lines, {MODULE_LINES - 1} are allowed")
        for function, lines in long_functions(tree):
            found.append(f"{name}.{function} has {lines} lines, {FUNCTION_LINES - 1} are allowed")
        package = whole.rpartition(".")[0]
        if place(name) is not None:
            found += import_problems(name, tree, package, known)
        elif path.name != "__init__.py":
            found.append(f"{name} has no place in FLOORS: add it there and in DESIGN")
        elif imports(tree, package, known):
            found.append(f"{name} imports something: only the package of a floor gathers its modules")
    return found


def test_the_house_stands():
    assert problems(Path(__file__).parent.parent) == []


@pytest.mark.parametrize(
    ("module", "text", "says"),
    [
        # against the order
        ("ops/boxes.py", "from rcnnlib.ops.nms import nms", "ops.boxes imports ops.nms"),
        ("ops/boxes.py", "from rcnnlib.ops import nms", "ops.boxes imports ops.nms"),
        ("ops/boxes.py", "from . import nms", "ops.boxes imports ops.nms"),
        ("ops/boxes.py", "from .nms import nms", "ops.boxes imports ops.nms"),
        ("ops/boxes.py", "from ..models import rpn", "ops.boxes imports models.rpn"),
        ("ops/boxes.py", "import rcnnlib.engine.training", "ops.boxes imports engine.training"),
        ("ops/boxes.py", "def f():\n    from rcnnlib.ops.nms import nms\n    return nms", "ops.boxes imports ops.nms"),
        ("types.py", "from rcnnlib.ops.nms import nms", "types imports ops.nms"),
        ("datasets/paths.py", "from rcnnlib.models import backbone", "datasets.paths imports models.backbone"),
        ("models/fast_rcnn.py", "from rcnnlib.models.rcnn import RCNN", "models.fast_rcnn imports models.rcnn"),
        ("checks/boxes.py", "from rcnnlib.view.plotting import figure", "checks.boxes imports view.plotting"),
        (
            "view/explorers/iou.py",
            "from rcnnlib.view.explorers.roi import x",
            "explorers.iou imports view.explorers.roi",
        ),
        ("view/plotting.py", "from rcnnlib.view import canvas", "view.plotting imports view.canvas"),
        ("view/notebook.py", "from rcnnlib import __main__", "view.notebook imports __main__"),
        # packages
        ("models/rpn.py", "from rcnnlib import ops", "models.rpn imports the package rcnnlib.ops"),
        ("models/rpn.py", "from rcnnlib.ops import *", "models.rpn imports the package rcnnlib.ops"),
        ("ops/__init__.py", "from rcnnlib.models.rpn import RPNHead", "ops.__init__ imports models.rpn"),
        ("__init__.py", "from rcnnlib.ops.nms import nms", "__init__ imports something"),
        ("ops/helpers.py", "", "ops.helpers has no place"),
        # other libraries
        ("engine/training.py", "import matplotlib.pyplot as plt", "engine.training imports matplotlib"),
        ("ops/nms.py", "def f():\n    from IPython.display import display\n    display(1)", "ops.nms imports IPython"),
        ("checks/boxes.py", "import ipywidgets", "checks.boxes imports ipywidgets"),
        ("ops/selective_search.py", "from skimage.segmentation import felzenszwalb", "inside its function"),
        ("ops/nms.py", "def f():\n    import skimage\n    return skimage", "ops.nms imports skimage"),
        ("ops/nms.py", "from torchvision.ops import nms", "ops.nms imports torchvision"),
        # length
        ("ops/nms.py", "\n" * 300, "ops.nms has 300 lines"),
        ("ops/nms.py", "class A:\n    def f(self):\n" + "        x = 1\n" * 30, "ops.nms.f has 30 lines"),
    ],
)
def test_each_rule_can_fail(tmp_path, module, text, says):
    write_tree(tmp_path, {module: text})
    found = problems(tmp_path)
    assert len(found) == 1
    assert says in found[0]


def test_what_design_allows_passes(tmp_path):
    segment = "def f():\n    from skimage.segmentation import felzenszwalb\n    return felzenszwalb"
    long_docstring = 'def f():\n    """One.\n' + "\n    more" * 40 + '\n    """\n' + "    x = 1\n" * 29
    modules = {
        "ops/nms.py": "import torch\nfrom rcnnlib.ops.boxes import box_iou\nfrom rcnnlib.types import Batch",
        "ops/selective_search.py": segment,
        "models/faster_rcnn.py": "from rcnnlib.models import rpn\nfrom . import backbone\nimport torchvision",
        "models/weights.py": "from rcnnlib.models.rcnn import RCNN",
        "view/explorers/iou.py": "import ipywidgets\nfrom rcnnlib.view.canvas import Canvas",
        "view/notebook.py": "from rcnnlib.view.explorers.iou import explorer",
        "ops/losses.py": long_docstring + "\n" * 200,
    }
    write_tree(tmp_path, modules)
    assert problems(tmp_path) == []


def write_tree(root: Path, modules: dict[str, str]) -> None:
    """Write a small rcnnlib: empty modules, and ``modules`` over them."""
    empty = ["types", "ops/__init__", "ops/boxes", "ops/nms", "models/backbone", "models/rpn", "models/rcnn"]
    empty += [
        "datasets/paths",
        "engine/training",
        "view/canvas",
        "view/explorers/roi",
        "view/explorers/iou",
        "__main__",
    ]
    for name, text in {**{f"{name}.py": "" for name in empty}, **modules}.items():
        path = root / "rcnnlib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
