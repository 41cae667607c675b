"""The house keeps its laws (tests/house.py), and each law can be broken: it is shown a bad notebook and must say so."""
import dataclasses, importlib, os, re, resource, shutil, subprocess, sys
from pathlib import Path
import pytest
import house
from house import LAWS, ROOT, Cell, Notebook, settings

NBS = house.read_all()
TITLE = "md:# A room\n\n> What it promises."


def room(*cells, name="07_area.topic"):
    "A small good room with the given cells in it."
    return Notebook.of(name, f"#| default_exp {name.split('_', 1)[1]}", TITLE, *cells)


def export(source): return "#| export\n" + source
def printed(source): return Cell("code", source, outputs=[dict(output_type="stream", name="stdout", text=["1\n"])])


GOOD = [
    Notebook.of("01_low", "#| default_exp low", TITLE, "md:Why.", export("def low(x: int, # a number\n       ) -> int: # the same number\n    'The same number.'\n    return x"), printed("print(low(1))"), "import pickle\nassert pickle.loads(pickle.dumps(low(1))) == 1"),
    room("md:Why: $a = \\log p$, and `$x = \\\\log$` is code.", export("from lipsync.low import low\nLIMITS = {'a': 1}\nPair = tuple[int, int]\n\nclass Thing:\n    'A thing.'\n    def __init__(self,\n                 n: int = 1, # how many\n                ): self.n = n"),
         "md:More.", export("@patch\ndef grow(self: Thing,\n         by: int, # how much\n         *args, **kwargs): # the thing\n    'It grows.'\n    try: self.n += low(by)\n    except TypeError as e: raise ValueError(f'{by!r}') from e\n    return self"), printed("print(Thing())"), "test_eq(Thing().grow(1).n, 2)"),
    Notebook.of("train_x", TITLE, Cell("code", "epochs = 3  # passes\nlr = 1e-3", tags=["parameters"]), printed("print(epochs)")),
]

# law -> notebooks that break it, each with words that the complaint must hold
BAD = {
    "names_and_numbers": [([Notebook.of("07_a.b", "#| default_exp a.c", TITLE)], "exports lipsync.a.c"), ([Notebook.of("notes", TITLE)], "neither a numbered room"),
                          ([Notebook.of("tutorial_x", TITLE, export("A = 1"))], "only numbered rooms")],
    "layers": [([room(name="07_b"), room(export("from lipsync.b import x"), name="05_a")], "stands no lower"), ([room(name="07_b"), room(export("def f():\n    from .b import x"), name="05_a")], "stands no lower"),
               ([room(name="07_b"), room("from lipsync.b import x", name="07_a")], "stands no lower"), ([room(export("import lipsync.gone"))], "no notebook exports"), ([room(name="07_b"), room("import importlib\nimportlib.import_module('lipsync.b')", name="05_a")], "stands no lower"),
               ([room(export("from lipsync.area.topic import x"))], "stands no lower"), ([room(name="07_b.c"), room(export("from lipsync.b import c"), name="05_a")], "stands no lower")],
    "walls": [([room(export("from lipsync.models.tcn import TCN"), name="48_corpus.loaders")], "imports lipsync.models"), ([room(export("def f():\n    from ..corpus.loaders import x"), name="46_models.x")], "imports lipsync.corpus"),
              ([room(export("from lipsync.models import tcn"), name="64_learner")], "imports lipsync.models")],
    "room_size": [([room(*[export("\n".join(["A = 1"] * 50))] * 9)], "450 exported lines")],
    "cell_size": [([room(export("\n".join(["A = 1"] * 61)))], "61 lines")],
    "function_size": [([room(export("def f():\n" + "    x = 1\n" * 60))], "f has 61 lines"), ([room(export("class N:\n    def forward(self, x):\n" + "        x = x + 1\n" * 21))], "forward has 21 lines")],
    "docments": [([room(export("def f(x: int): return x"))], "f(x) has no comment"), ([room(export("def f(x, # a number\n     ): return x"))], "f(x) has no type"),
                 ([room(export("def f(x: int, y: int, # numbers\n     ): return x"))], "f(y) shares its line"), ([room(export("class A:\n    def m(self, k: int): return k"))], "A.m(k) has no comment"),
                 ([room(export("class A:\n    def __init__(self, k): pass"))], "A.__init__(k) has no type"), ([room(export("@patch\ndef m(self: A, k: int): return k"))], "A.m(k) has no comment")],
    "docstrings": [([room(export("def f(): return 1"))], "f has no docstring"), ([room(export("class A:\n    'A.'\n    def m(self): return 1"))], "A.m has no docstring"), ([room(export("class A: pass"))], "A has no docstring")],
    "quiet_import": [([room(export("print('hello')"))], "runs at import: print"), ([room(export("for i in range(3): pass"))], "runs at import: for"), ([room(export("import onnxruntime as ort"))], "imports onnxruntime"),
                     ([room(export("try: import cv2\nexcept ImportError: cv2 = None"))], "runs at import: try")],
    "star_imports": [([room("from numpy import *")], "from numpy import *")],
    "no_global_state": [([room(export("cache = {}"))], "cache is made"), ([room(export("rng = make_rng(0)"))], "rng is made"), ([room(export("SEEN = []\ndef f(x): SEEN.append(x)"))], "f changes SEEN"),
                        ([room(export("SEEN = {}\ndef f(x): SEEN[x] = 1"))], "f changes SEEN"), ([room(export("N = 0\ndef f():\n    global N\n    N = 1"))], "says global"), ([room(export("def f(x=[]): return x"))], "mutable default")],
    "no_swallowed_errors": [([room("try: f()\nexcept: print(1)")], "bare except"), ([room("try: f()\nexcept ValueError: pass")], "passes over"), ([room("try: f()\nexcept Exception: x = 1")], "neither raises nor reports"),
                            ([room("try: f()\nexcept Exception: pass  # never mind")], "passes over"), ([room("with contextlib.suppress(Exception): f()")], "suppresses every error")],
    "no_paths_of_a_place": [([room("x = '/ho" "me/me/talk.wav'")], "path of one machine"), ([room("open('talk.wav')")], "relative path"), ([room("Path('../data')")], "relative path"), ([room("Path.cwd()")], "depends on where"),
                            ([room(Cell("code", "p", outputs=[dict(output_type="stream", text=["/t" "mp/abc.wav"])]))], "path of one machine")],
    "told_and_checked": [([room(export("A = 1"), export("B = 1"), "assert A")], "2 exported cells but 1 of prose"), ([room(export("A = 1"), printed("print(A)"))], "nothing is checked")],
    "title_and_promise": [([Notebook.of("03_a", "md:Just words.")], "not '# Title'"), ([Notebook.of("03_a", "md:# Title\n\n> Promise.\n\nAnd a story.")], "would lose")],
    "formulas_are_tex": [([room("md:So $a = \\\\log p$ it is.")], "doubled backslash")],
    "stored_outputs": [([room("print(1)")], "no output at all"), ([room(printed("print(1)"), "print(2)")], "prints, and no output"), ([room(Cell("code", "1/0", outputs=[dict(output_type="error", ename="ZeroDivisionError")]))], "is an error"),
                       ([room(Cell("code", "x", outputs=[dict(output_type="stream", text=["x" * 301_000])]))], "kB of stored outputs")],
    "training_notebooks": [([Notebook.of("train_x", TITLE, "epochs = 3")], "0 cells tagged"), ([Notebook.of("train_x", TITLE, Cell("code", "epochs = 3\nprint(epochs)", tags=["parameters"]))], "more than assignments"),
                           ([Notebook.of("train_x", TITLE, Cell("code", "epochs = 3", tags=["parameters"]), "def helper(): return 1")], "defines helper")],
    "imports_stand_alone": [([room("e = 1", "import pickle\npickle.dumps(e)")], "uses `e`"), ([room("e = 1", "def f():\n    import pickle\n    return e")], "uses `e`")],
    "rates_are_derived": [([room(export("def f(sr=16_000): return sr"))], "types the sample rate")],
}


@pytest.mark.parametrize("name", LAWS)
def test_law_holds(name):
    broken = list(LAWS[name](NBS))
    assert not broken, f"{LAWS[name].__doc__}\n" + "\n".join(broken)


@pytest.mark.parametrize("name", LAWS)
def test_law_can_be_broken(name):
    assert not list(LAWS[name](GOOD)), "the law refuses a good notebook"
    assert BAD.get(name), f"no bad example for {name}"
    for nbs, words in BAD[name]:
        found = list(LAWS[name](nbs))
        assert any(words in f for f in found), f"{name} did not see it: wanted {words!r}, found {found}"


def test_notebooks_are_found():
    assert len(house.numbered(NBS)) >= 3, "no numbered notebooks: every law would hold of nothing"


# ---- the source and what is made from it ----

def differences(root, tmp):
    "Exports and cleans a copy of the project; what then differs from the original."
    copy = tmp / "copy"
    shutil.copytree(root / "nbs", copy / "nbs", symlinks=True, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "nbdev.yml", "sidebar.yml"))
    shutil.copy(root / "settings.ini", copy)
    (copy / "lipsync").mkdir()
    shutil.copy(root / "lipsync/__init__.py", copy / "lipsync")
    env = {k: v for k, v in os.environ.items() if k != "IN_TEST"}
    code = "from nbdev.doclinks import nbdev_export as e; from nbdev.clean import nbdev_clean as c; c.__wrapped__(); e.__wrapped__()"
    r = subprocess.run([sys.executable, "-c", code], cwd=copy, env=env, capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr[-3000:]
    def tree(top): return {str(p.relative_to(top)): p.read_bytes() for d, s in (("lipsync", "*.py"), ("nbs", "*.ipynb")) for p in (top / d).rglob(s) if not {"__pycache__", ".ipynb_checkpoints"} & set(p.parts)}
    old, new = tree(root), tree(copy)
    return ([f"{f}: no notebook exports it" for f in sorted(old.keys() - new.keys())] + [f"{f}: not exported yet" for f in sorted(new.keys() - old.keys())]
            + [f"{f}: {'nbdev_clean' if f.endswith('ipynb') else 'nbdev_export'} would change it" for f in sorted(old.keys() & new.keys()) if old[f] != new[f]])


def test_exported_and_clean(tmp_path):
    "lipsync/*.py and _modidx.py are what the notebooks export, and the notebooks are clean. If not: nbdev_export, nbdev_clean."
    assert not (d := differences(ROOT, tmp_path)), "\n".join(d)


def test_drift_is_seen(tmp_path):
    "The check above, on a small project with a stale module, an edited one and an unclean notebook."
    import nbformat as nbf
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
    top = tmp_path / "project"
    (top / "nbs").mkdir(parents=True); (top / "lipsync").mkdir()
    shutil.copy(ROOT / "settings.ini", top); shutil.copy(ROOT / "lipsync/__init__.py", top / "lipsync")
    cells = [new_code_cell("#| default_exp a"), new_markdown_cell("# A\n\n> A."), new_code_cell("#| export\nA = 1", execution_count=7)]
    nbf.write(new_notebook(cells=cells, metadata=dict(kernelspec=dict(name="python3", language="python", display_name="python3"))), top / "nbs/01_a.ipynb")
    (top / "lipsync/a.py").write_text("A = 2\n"); (top / "lipsync/gone.py").write_text("")
    found = differences(top, tmp_path)
    for words in ("gone.py: no notebook exports it", "_modidx.py: not exported yet", "a.py: nbdev_export would change it", "01_a.ipynb: nbdev_clean would change it"):
        assert any(words in f for f in found), f"did not see {words!r}: {found}"


def test_init_holds_the_version_only():
    assert (ROOT / "lipsync/__init__.py").read_text().strip() == f'__version__ = "{settings()["version"]}"'
    extra = [str(p.relative_to(ROOT)) for p in (ROOT / "lipsync").rglob("*/__init__.py") if p.read_text().strip()]
    assert not extra, f"only the top package's __init__ says anything: {extra}"


def test_parameters_survive_cleaning():
    assert "tags" in settings()["allowed_cell_metadata_keys"].split(), "nbdev_clean would delete papermill's tag, and -p would be ignored"


def test_parameters_are_settings_of_the_recipe():
    "Every name in a training notebook's parameters cell is a field of its recipe's configuration, and the common ones are there."
    common = "data out config epochs bs lr seed resume device workers size".split()
    bad = []
    for nb in (n for n in NBS if n.name.startswith("train_")):
        topic = nb.name.removeprefix("train_")
        known = {f.name for f in dataclasses.fields(importlib.import_module(f"lipsync.recipes.{topic}").RECIPE.config)}
        names = house.parameters(nb)
        bad += [f"{nb.name}: {n} is no field of the recipe's configuration" for n in names if n not in known]
        bad += [f"{nb.name}: {n} is said twice" for n in {n for n in names if names.count(n) > 1}]
        bad += [f"{nb.name}: the common parameter {n} is missing" for n in common if n not in names]
    assert not bad, "\n".join(bad)


# ---- quick to start ----

HEAVY = ("torch", "torchaudio", "torchvision", "fastai", "transformers", "mediapipe", "cv2", "datasets", "pandas", "matplotlib", "IPython")

def cost(code):
    "Processor seconds of a fresh Python that runs `code` (the best of three: the machine may be busy), and what heavy it loaded."
    best = float("inf")
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        r = subprocess.run([sys.executable, "-c", f"{code}\nimport sys; print('loaded', *[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert r.returncode == 0, r.stderr[-2000:]
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if best < .3: break
    return best, r.stderr.strip().splitlines()[-1].split()[1:]


def test_import_is_light():
    seconds, heavy = cost("import lipsync")
    assert not heavy and seconds < .5, f"import lipsync takes {seconds:.2f} s and loads {heavy}"


def test_help_is_light():
    if not (ROOT / "lipsync/cli.py").exists(): pytest.skip("no command line yet")
    seconds, heavy = cost("import sys; sys.argv = ['lipsync', '--help']\nfrom lipsync.cli import main\ntry: main()\nexcept SystemExit as e: assert not e.code, e.code")
    assert not heavy and seconds < 1.5, f"lipsync --help takes {seconds:.2f} s and loads {heavy}"


def test_weight_is_noticed():
    assert cost("import matplotlib")[1] == ["matplotlib"]


# ---- what a visitor sees first ----

def test_readme_is_the_index():
    if not (ROOT / "nbs/index.ipynb").exists(): pytest.skip("no index.ipynb yet")
    r = subprocess.run([sys.executable, ROOT / "tools/readme.py", "--check"], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr


def test_no_path_of_this_machine_in_the_files():
    "Neither in scripts nor in prose."
    ours = [p for d in ("tests", "tools", "docs", ".ci", ".github") for p in (ROOT / d).rglob("*") if p.is_file() and "__pycache__" not in p.parts] + [p for p in ROOT.glob("*") if p.is_file() and p.suffix != ".lock"]
    found = [f"{p.relative_to(ROOT)}: {m[0]}" for p in ours for m in [re.search(r"/(?:work|root|farm)/\w+", p.read_text(encoding="utf-8", errors="ignore"))] if m]
    assert not found, "\n".join(found)
