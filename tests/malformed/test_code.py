"""What must not stand in the code: loaders that run what they read, and shells."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("mlm", "analysis", "experiments") for path in (ROOT / folder).rglob("*.py"))
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "shelve", "marshal", "joblib", "cloudpickle"}
UNSAFE_CALLS = {"eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
                "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.full_load_all"}  # fmt: skip
COMPILED = "reads what torch has compiled"


def problems(tree: ast.AST) -> Iterator[str]:
    """What stands in a source that must not."""
    safe = _safe_loaders(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            yield from (f"imports {one}" for one in modules if one.partition(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.Call):
            called, given = (
                ast.unparse(node.func),
                {word.arg: ast.unparse(word.value) for word in node.keywords},
            )
            if called in UNSAFE_CALLS:
                yield f"calls {called}"
            if called == "yaml.load" and given.get("Loader") not in safe:
                yield "calls yaml.load with no safe loader"
            if called == "torch.compiler.load_compiled_function":
                yield COMPILED
            if called == "torch.load" and given.get("weights_only") != "True":
                yield "calls torch.load without weights_only"
            if called.endswith("np.load") and given.get("allow_pickle", "False") != "False":
                yield "lets numpy load pickles"
            if given.get("shell", "False") != "False":
                yield "starts a shell"
            if given.get("trust_remote_code", "False") != "False":
                yield "runs what came with a model"
            if called.endswith(".extractall") or called in ("tape.extract", "pack.extract"):
                yield "unpacks an archive onto the disk"


def _safe_loaders(tree: ast.AST) -> set[str]:
    """Classes that are one of YAML's safe loaders, and nothing else that constructs more than those do."""
    classes = {
        node.name: [ast.unparse(base) for base in node.bases]
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    safe = {"yaml.SafeLoader", "yaml.CSafeLoader"}
    beside = {name for name, bases in classes.items() if bases == ["yaml.constructor.SafeConstructor"]}
    return {name for name, bases in classes.items() if {*bases[-1:]} & safe and {*bases[:-1]} <= beside}


def test_nothing_unsafe_is_called() -> None:
    assert len(FILES) > 100
    found = {path.relative_to(ROOT): [*problems(ast.parse(path.read_text(encoding="utf-8")))] for path in FILES}
    assert {path: said for path, said in found.items() if said} == {Path("mlm/compiled.py"): [COMPILED]}


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads", "eval('1')", "yaml.load(text)", "os.system('ls')",
     "yaml.load(text, Loader=yaml.Loader)", "torch.load(path)", "torch.load(path, weights_only=False)",
     "subprocess.run('ls', shell=True)", "tape.extractall(folder)", "np.load(path, allow_pickle=True)",
     "torch.compiler.load_compiled_function(file)",
     "class L(Wild, yaml.SafeLoader): ...\nyaml.load(text, Loader=L)"],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert [*problems(ast.parse(source))]
