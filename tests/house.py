"""The laws of the house, each a function from notebooks to the places where they are broken.

`tests/test_house.py` holds every notebook to them, and each law to a bad example that it must catch.
While you write: `.venv/bin/python tests/house.py [nbs/10_audio.core.ipynb ...]` lists what is broken.
"""
import ast, builtins, io, json, re, sys, tokenize
from configparser import ConfigParser
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOM, CELL, FUNCTION, FORWARD = 400, 60, 60, 20      # lines at the most
OUTPUT_KB = 300                                      # stored outputs of a notebook

# import names of what only some users have: they are imported in the function that needs them, through core.need
OPTIONAL = set("""accelerate cv2 dask distributed espeakng_loader jax jiwer mediapipe nbdev onnx onnxruntime onnxscript pocketsphinx
                  pytest sklearn tensorboard torchmetrics transformers wandb""".split())
# methods that fastai or torch call by name and document themselves; in a class with a base they need no words of their own
PROTOCOL = re.compile(r"(before|after)_(fit|epoch|train|validate|batch|pred|loss|backward|step|item|iter|cancel_\w+)|reset|accumulate|value|name"
                      r"|state_dict|load_state_dict|extra_repr|get_idxs|n_inp|to_detach|create_item|create_batch|shuffle_fn")
# who may not know whom (law 5 and 6): module prefix -> prefixes that it must not import
WALLS = {"lipsync.models": ("lipsync.corpus", "lipsync.recipes"), "lipsync.corpus": ("lipsync.models", "lipsync.recipes"),
         "lipsync.learner": ("lipsync.models", "lipsync.corpus", "lipsync.recipes"), "lipsync.callback": ("lipsync.models", "lipsync.corpus", "lipsync.recipes"),
         "lipsync.losses": ("lipsync.models", "lipsync.corpus"), "lipsync.metrics": ("lipsync.models", "lipsync.corpus")}
STAR_HUBS = re.compile(r"fastai(\.\w+)*\.(all|basics)$|fastcore\.(all|basics|utils|test)$")


# ---- a notebook, as the laws see it ----

@dataclass
class Cell:
    kind: str                                         # code or markdown
    source: str
    tags: list = field(default_factory=list)
    outputs: list = field(default_factory=list)
    index: int = 0

    @cached_property
    def directives(self): return dict(re.findall(r"^\s*#\|\s*([\w-]+):?[ \t]*(.*?)[ \t]*$", self.source, re.M))
    @property
    def code(self): return self.kind == "code"
    @property
    def exported(self): return self.code and bool({"export", "exports", "exporti"} & set(self.directives))
    @cached_property
    def text(self):
        "The code with magics and shell lines blanked, so that it parses."
        return re.sub(r"^[ \t]*[%!].*$", "pass" if self.source.lstrip().startswith(("%", "!")) else "", self.source, flags=re.M)
    @cached_property
    def tree(self): return ast.parse(self.text) if self.code else ast.Module([], [])
    @cached_property
    def lines(self): return [l for l in self.source.rstrip().splitlines() if not re.match(r"\s*#\|", l)]


@dataclass
class Notebook:
    name: str                                         # file name without .ipynb
    cells: list

    @classmethod
    def read(cls, path):
        raw = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
        cells = [Cell(c["cell_type"], "".join(c["source"]), c.get("metadata", {}).get("tags", []), c.get("outputs", []), i) for i, c in enumerate(raw)]
        return cls(Path(path).name.removesuffix(".ipynb"), cells)

    @classmethod
    def of(cls, name, *cells):
        "From texts, for the laws' own tests: a text that begins with `md:` is prose, `out:` adds a printed output."
        made = []
        for i, c in enumerate(cells):
            if isinstance(c, Cell): c.index = i; made.append(c)
            elif c.startswith("md:"): made.append(Cell("markdown", c[3:], index=i))
            else: made.append(Cell("code", c, index=i))
        return cls(name, made)

    @cached_property
    def number(self): return int(m[1]) if (m := re.match(r"(\d+)_", self.name)) else None
    @cached_property
    def module(self):
        m = re.search(r"^#\|\s*default_exp\s+(\S+)", "\n".join(c.source for c in self.code), re.M)
        return f"lipsync.{m[1]}" if m else None
    @property
    def code(self): return [c for c in self.cells if c.code]
    @property
    def prose(self): return [c for c in self.cells if c.kind == "markdown" and c.source.strip()]
    @property
    def exported(self): return [c for c in self.cells if c.exported]

    def at(self, cell, node=None): return f"{self.name} cell {cell.index}" + (f" line {node.lineno}" if node is not None else "")


def read_all(folder=ROOT / "nbs"): return [Notebook.read(p) for p in sorted(folder.glob("*.ipynb"))]


# ---- helpers ----

def imports(tree, package=""):
    "All `(module, node)` that a piece of code imports, inside functions too; `from a import b` gives `a` and `a.b`."
    for n in ast.walk(tree):
        if isinstance(n, ast.Import): yield from ((a.name, n) for a in n.names)
        elif isinstance(n, ast.ImportFrom):
            base = n.module or ""
            if n.level: base = ".".join(filter(None, [*package.split(".")[:-n.level], base]))
            yield base, n
            yield from ((f"{base}.{a.name}", n) for a in n.names if a.name != "*")
        elif isinstance(n, ast.Call) and dotted(n.func) in ("importlib.import_module", "import_module", "__import__", "need") and n.args and isinstance(n.args[0], ast.Constant):
            yield str(n.args[0].value), n


def dotted(node):
    "`a.b.c` of an expression, or an empty string."
    if isinstance(node, ast.Name): return node.id
    if isinstance(node, ast.Attribute): return f"{b}.{node.attr}" if (b := dotted(node.value)) else ""
    return dotted(node.func) if isinstance(node, ast.Call) else ""


def bound(tree):
    "Every name that a piece of code binds, in whatever scope."
    names = {a.asname or a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom)) for a in n.names}
    for n in ast.walk(tree):
        if isinstance(n, (*FUNCS, ast.ClassDef)): names.add(n.name)
        elif isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load): names.add(n.id)
        elif isinstance(n, ast.arg): names.add(n.arg)
        elif isinstance(n, ast.ExceptHandler) and n.name: names.add(n.name)
    return names


FUNCS = (ast.FunctionDef, ast.AsyncFunctionDef)

def functions(tree):
    "Every function of a piece of code, nested ones too."
    return (n for n in ast.walk(tree) if isinstance(n, FUNCS))


def decorators(f): return {dotted(d).split(".")[-1] for d in f.decorator_list} | {dotted(d) for d in f.decorator_list}


def public(tree):
    "The public functions, classes and methods of a piece of code: `(shown name, node, is it a method)`."
    for n in tree.body:
        if isinstance(n, FUNCS) and not n.name.startswith("_"):
            patched = any(d.startswith("patch") for d in decorators(n))
            owner = f"{ast.unparse(n.args.args[0].annotation)}." if patched and n.args.args and n.args.args[0].annotation else ""
            if not owner.startswith("_"): yield owner + n.name, n, patched
        elif isinstance(n, ast.ClassDef) and not n.name.startswith("_"):
            yield n.name, n, False
            for m in n.body:
                told = n.bases and PROTOCOL.fullmatch(m.name) if isinstance(m, FUNCS) else True
                if not told and (not m.name.startswith("_") or m.name == "__init__"): yield f"{n.name}.{m.name}", m, True


def comments(text):
    "Line number -> comment."
    return {t.start[0]: t.string for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT}


def span(n): return n.end_lineno - n.lineno + 1


def numbered(nbs): return [nb for nb in nbs if nb.number is not None]


# ---- the laws ----

LAWS = {}

def law(f): LAWS[f.__name__] = f; return f


@law
def names_and_numbers(nbs):
    "A room is `NN_area.topic` and exports `area.topic`; rooms that do not need each other may share a number; other names say what they are."
    for nb in nbs:
        if nb.number is None:
            if not re.fullmatch(r"index|benchmark|(train|tutorial|howto|explain|report)_\w+", nb.name): yield f"{nb.name}: neither a numbered room nor index, benchmark, train_*, tutorial_*, howto_*, explain_*, report_*"
            if nb.exported: yield f"{nb.name}: exports code, and only numbered rooms do"
            continue
        if not re.fullmatch(r"\d\d_[a-z]\w*(\.[a-z]\w*)*", nb.name): yield f"{nb.name}: is not NN_area.topic"
        want = "lipsync." + nb.name.split("_", 1)[1]
        if nb.module != want: yield f"{nb.name}: exports {nb.module}, wanted {want}"


@law
def layers(nbs):
    "A room imports only from rooms with smaller numbers, inside functions too; its own checks may use itself."
    number = {nb.module: nb.number for nb in numbered(nbs)}
    packages = {m.rsplit(".", n)[0] for m in number if m for n in range(1, m.count(".") + 1)}
    for nb in numbered(nbs):
        for c in nb.code:
            told = set()
            for mod, node in imports(c.tree, nb.module or ""):
                if mod.split(".")[0] != "lipsync" or node in told: continue
                if mod in number:
                    if number[mod] > nb.number or number[mod] == nb.number and (c.exported or mod != nb.module): yield f"{nb.at(c, node)}: imports {mod} ({number[mod]}), which stands no lower than {nb.number}"
                elif mod not in packages and mod.rsplit(".", 1)[0] not in number and not mod.startswith("lipsync.__"):
                    told.add(node)
                    yield f"{nb.at(c, node)}: imports {mod}, which no notebook exports"


@law
def walls(nbs):
    "Loaders and models do not know each other; the learner and the callbacks know neither; losses and metrics take networks as arguments."
    for nb in numbered(nbs):
        for c in nb.exported:
            for mod, node in imports(c.tree, nb.module or ""):
                for who, not_whom in WALLS.items():
                    if f"{nb.module}.".startswith(who + ".") and any(f"{mod}.".startswith(w + ".") for w in not_whom): yield f"{nb.at(c, node)}: {nb.module} imports {mod}"


@law
def room_size(nbs):
    "A room holds at most 400 exported lines."
    for nb in nbs:
        if (n := sum(len(c.lines) for c in nb.exported)) > ROOM: yield f"{nb.name}: {n} exported lines, {ROOM} at the most"


@law
def cell_size(nbs):
    "An exported cell holds one idea: 60 lines at the most."
    for nb in nbs:
        for c in nb.exported:
            if len(c.lines) > CELL: yield f"{nb.at(c)}: {len(c.lines)} lines, {CELL} at the most"


@law
def function_size(nbs):
    "A function has at most 60 lines, a `forward` 20 (docstring and the signature's comments not counted)."
    for nb in nbs:
        for c in nb.exported:
            for f in functions(c.tree):
                body = f.body[1:] if ast.get_docstring(f) is not None else f.body
                if span(f) > FUNCTION: yield f"{nb.at(c, f)}: {f.name} has {span(f)} lines, {FUNCTION} at the most"
                if f.name == "forward" and body and (n := f.end_lineno - body[0].lineno + 1) > FORWARD: yield f"{nb.at(c, f)}: forward has {n} lines, {FORWARD} at the most"


@law
def docments(nbs):
    "Every argument of a public function or method has a type and, on a line of its own, a comment that says what it means."
    for nb in nbs:
        for c in nb.exported:
            notes = comments(c.text)
            for name, f, method in public(c.tree):
                if not isinstance(f, FUNCS) or {"property", "overload", "cached_property"} & decorators(f) or any(d.endswith(".setter") for d in decorators(f)): continue
                args = [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs]
                if args and (args[0].arg in ("self", "cls") or method and "staticmethod" not in decorators(f)): args = args[1:]
                taken = {}
                for a in args:
                    if a.annotation is None: yield f"{nb.at(c, a)}: {name}({a.arg}) has no type"
                    above = notes.get(a.lineno - 1) if a.lineno - 1 > f.lineno and c.text.splitlines()[a.lineno - 2].lstrip().startswith("#") else None
                    if not (notes.get(a.lineno) or notes.get(a.end_lineno) or above): yield f"{nb.at(c, a)}: {name}({a.arg}) has no comment"
                    elif a.lineno in taken: yield f"{nb.at(c, a)}: {name}({a.arg}) shares its line with {taken[a.lineno]}: one comment cannot serve both"
                    taken[a.lineno] = a.arg


@law
def docstrings(nbs):
    "Every public function, class and method says what it is."
    for nb in nbs:
        for c in nb.exported:
            for name, n, _ in public(c.tree):
                if name.endswith(".__init__") or any(d.endswith(".setter") for d in (decorators(n) if isinstance(n, FUNCS) else ())): continue
                if not (ast.get_docstring(n) or "").strip(): yield f"{nb.at(c, n)}: {name} has no docstring"


@law
def quiet_import(nbs):
    "Nothing runs at import: an exported cell holds imports, constants, functions and classes; optional packages wait in functions."
    fine = (ast.Import, ast.ImportFrom, ast.ClassDef, *FUNCS, ast.Assign, ast.AnnAssign)
    for nb in nbs:
        for c in nb.exported:
            for n in c.tree.body:
                doc = isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)
                guard = isinstance(n, ast.If) and ast.unparse(n.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'")
                if not (isinstance(n, fine) or doc or guard): yield f"{nb.at(c, n)}: runs at import: {ast.unparse(n).splitlines()[0][:70]}"
                if isinstance(n, (ast.Import, ast.ImportFrom)):
                    for mod, _ in imports(n):
                        if mod.split(".")[0] in OPTIONAL: yield f"{nb.at(c, n)}: imports {mod} at import; use core.need in the function"


@law
def star_imports(nbs):
    "No star imports, except fastai's and fastcore's own hubs."
    for nb in nbs:
        for c in nb.code:
            for n in ast.walk(c.tree):
                if isinstance(n, ast.ImportFrom) and n.names[0].name == "*" and not STAR_HUBS.match(n.module or ""): yield f"{nb.at(c, n)}: from {n.module} import *"


@law
def no_global_state(nbs):
    """No mutable state outlives a call: names at the top of a module are CONSTANTS (types and aliases in CamelCase), no function writes
    to them, none says `global`, and no default argument is a list, dict or set. A heuristic: it reads names, not values."""
    mutators = set("append extend insert add update setdefault pop popitem remove discard clear sort reverse".split())
    mutable = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    def constant(name): return re.fullmatch(r"_?[A-Z][A-Z0-9_]*|__\w+__", name)
    for nb in nbs:
        tops = set()
        for c in nb.exported:
            for n in c.tree.body:
                if not isinstance(n, (ast.Assign, ast.AnnAssign)) or n.value is None: continue
                for t in n.targets if isinstance(n, ast.Assign) else [n.target]:
                    for name in ast.walk(t):
                        if not isinstance(name, ast.Name) or not isinstance(name.ctx, ast.Store): continue
                        tops.add(name.id)
                        made = isinstance(n.value, (*mutable, ast.Call)) and not re.fullmatch(r"_?[A-Z]\w*", name.id)
                        if not constant(name.id) and made: yield f"{nb.at(c, n)}: {name.id} is made at the top of the module; a constant is written UPPER_CASE, anything else lives in a function"
        for c in nb.exported:
            for f in functions(c.tree):
                for d in [*f.args.defaults, *f.args.kw_defaults]:
                    if isinstance(d, mutable) or isinstance(d, ast.Call) and dotted(d.func) in ("list", "dict", "set"): yield f"{nb.at(c, d)}: {f.name} has a mutable default"
                for n in ast.walk(f):
                    if isinstance(n, ast.Global): yield f"{nb.at(c, n)}: {f.name} says global {', '.join(n.names)}"
                    hit = None
                    if isinstance(n, ast.Subscript) and isinstance(n.ctx, (ast.Store, ast.Del)): hit = n.value
                    if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in mutators: hit = n.func.value
                    if isinstance(hit, ast.Name) and hit.id in tops and constant(hit.id): yield f"{nb.at(c, n)}: {f.name} changes {hit.id}"


@law
def no_swallowed_errors(nbs):
    """No bare except; no handler of every Exception that neither raises nor uses what it caught; a handler that does nothing names
    narrow errors and says in a comment on its line why going on is right."""
    broad = {"Exception", "BaseException", "OSError", "RuntimeError", "ImportError"}
    def idle(body): return all(isinstance(s, (ast.Pass, ast.Continue, ast.Break)) or isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) for s in body)
    for nb in nbs:
        for c in nb.code:
            notes = comments(c.text)
            for n in ast.walk(c.tree):
                if isinstance(n, ast.ExceptHandler):
                    names = {dotted(t) for t in (n.type.elts if isinstance(n.type, ast.Tuple) else [n.type])} if n.type else set()
                    inside = [x for s in n.body for x in ast.walk(s)]
                    used = any(isinstance(x, ast.Raise) for x in inside) or n.name and any(isinstance(x, ast.Name) and x.id == n.name for x in inside)
                    if n.type is None: yield f"{nb.at(c, n)}: bare except"
                    elif idle(n.body) and (names & broad or not any(l in notes for l in range(n.lineno, n.end_lineno + 1))): yield f"{nb.at(c, n)}: except {ast.unparse(n.type)} passes over the error and does not say why"
                    elif names & {"Exception", "BaseException"} and not used: yield f"{nb.at(c, n)}: except {ast.unparse(n.type)} neither raises nor reports what it caught"
                if isinstance(n, ast.Call) and dotted(n.func).endswith("suppress") and {dotted(a) for a in n.args} & {"Exception", "BaseException"}: yield f"{nb.at(c, n)}: suppresses every error"


@law
def no_paths_of_a_place(nbs):
    "Code names no path of one machine, and no path relative to where it happens to run; prose and outputs show none of this machine either."
    machine = re.compile(r"(?<![\w.~/-])/(?:work|root|tmp|home|Users|mnt|var/tmp|opt)/[\w.]|[A-Z]:\\\\?[\w]")
    for nb in nbs:
        for c in nb.cells:
            shown = c.source + "".join(json.dumps(o.get("text", "")) + json.dumps({k: v for k, v in o.get("data", {}).items() if k.startswith("text/plain")}) for o in c.outputs)
            for m in machine.finditer(shown): yield f"{nb.at(c)}: carries a path of one machine: ...{shown[m.start():m.start() + 40]!r}"
            for n in ast.walk(c.tree):
                if not isinstance(n, ast.Call): continue
                called, first = dotted(n.func), n.args[0] if n.args else None
                if called.endswith(("os.getcwd", "Path.cwd")): yield f"{nb.at(c, n)}: {called}() depends on where it runs"
                if called.split(".")[-1] == "Path" and not n.args: yield f"{nb.at(c, n)}: Path() is the folder it happens to run in"
                text = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
                if called in ("open", "io.open", "os.chdir") and text and not text.startswith(("/", "~")): yield f"{nb.at(c, n)}: opens the relative path {text!r}"
                if called.split(".")[-1] == "Path" and text is not None and text.startswith("."): yield f"{nb.at(c, n)}: relative path {text!r}"


@law
def told_and_checked(nbs):
    "A room has at least one cell of prose for each exported cell, and checks what it exports."
    for nb in numbered(nbs):
        if len(nb.prose) < len(nb.exported): yield f"{nb.name}: {len(nb.exported)} exported cells but {len(nb.prose)} of prose"
        checks = [n for c in nb.code if not c.exported for n in ast.walk(c.tree)
                  if isinstance(n, ast.Assert) or isinstance(n, ast.Call) and re.match(r"(?:\w+\.)*(test_\w+|test)$", dotted(n.func))]
        if nb.exported and not checks: yield f"{nb.name}: nothing is checked in it"


@law
def title_and_promise(nbs):
    "The first prose cell is an H1 and a blockquote of one line, and nothing else (the docs build takes that cell for the page's title)."
    for nb in nbs:
        first = nb.prose[0].source.strip() if nb.prose else ""
        if not re.match(r"# \S", first) or not re.search(r"^> \S", first, re.M): yield f"{nb.name}: the first prose cell is not '# Title' and '> promise'"
        elif extra := [l for l in first.splitlines() if l.strip() and not l.startswith(("# ", "> "))]: yield f"{nb.name}: its title cell holds more than title and promise, which the docs would lose: {extra[0][:60]!r}"


@law
def formulas_are_tex(nbs):
    "A formula has single backslashes: doubled ones come from a tool that escaped them, and show as nonsense."
    for nb in nbs:
        for c in nb.prose:
            text = re.sub(r"```.*?```|`[^`]*`", "", c.source, flags=re.S)
            for m in re.finditer(r"\$\$.+?\$\$|\$[^$\n]+\$", text, re.S):
                if re.search(r"\\\\[A-Za-z]", m[0]): yield f"{nb.at(c)}: doubled backslash in {m[0][:60]}"


@law
def stored_outputs(nbs):
    "A notebook shows what it did: outputs are stored wherever code prints, none of them is an error, and together they stay small."
    for nb in nbs:
        work = [c for c in nb.code if not c.exported and c.tree.body]
        live = [c for c in work if c.directives.get("eval", "").lower() != "false" and not {"slow", "gpu"} & set(c.directives)]
        if live and not any(c.outputs for c in nb.code): yield f"{nb.name}: holds no output at all; run it and save it"
        for c in live:
            prints = any(isinstance(n, ast.Expr) and isinstance(n.value, ast.Call) and dotted(n.value.func) in ("print", "display") for n in c.tree.body)
            if prints and not c.outputs and any(x.outputs for x in nb.code) and not c.text.rstrip().endswith(";"): yield f"{nb.at(c)}: prints, and no output is stored"
        for c in nb.code:
            for o in c.outputs:
                if o.get("output_type") == "error": yield f"{nb.at(c)}: its stored output is an error: {o.get('ename')}"
        if (kb := sum(len(json.dumps(o)) for c in nb.code for o in c.outputs) / 1000) > OUTPUT_KB: yield f"{nb.name}: {kb:.0f} kB of stored outputs, {OUTPUT_KB} at the most"


@law
def training_notebooks(nbs):
    "A training notebook has one cell tagged `parameters`, of plain assignments, and defines nothing: what has a name lives in a room."
    for nb in nbs:
        if not nb.name.startswith("train_"): continue
        tagged = [c for c in nb.code if "parameters" in c.tags]
        if len(tagged) != 1: yield f"{nb.name}: {len(tagged)} cells tagged 'parameters', wanted 1 (papermill would train the defaults)"
        for c in tagged:
            for n in c.tree.body:
                if not (isinstance(n, (ast.Assign, ast.AnnAssign)) or isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)): yield f"{nb.at(c, n)}: the parameters cell holds more than assignments"
        for c in nb.code:
            for n in ast.walk(c.tree):
                if isinstance(n, (*FUNCS, ast.ClassDef)): yield f"{nb.at(c, n)}: defines {n.name}; training notebooks only call"


@law
def imports_stand_alone(nbs):
    """nbdev runs each cell that imports when it makes the docs, and no other demo cell: what such a cell uses must come from imports,
    exported cells or cells like it. The cure is to put the imports into a cell of their own."""
    for nb in nbs:
        known, star = set(dir(builtins)) | {"get_ipython", "display"}, False
        for c in nb.code:
            brings = [n for n in ast.walk(c.tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
            if not (brings or c.exported) or c.directives.get("eval", "").lower() == "false": continue
            star = star or any(a.name == "*" for n in brings for a in n.names)
            mine = bound(c.tree)
            used = {n.id: n for n in ast.walk(c.tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
            if not c.exported and not star:
                for name in sorted(used.keys() - mine - known): yield f"{nb.at(c, used[name])}: imports and uses `{name}`, which no exported or importing cell before it defines"
            known |= mine


@law
def rates_are_derived(nbs):
    "Sample and frame rates come from `timebase`; 16000 is typed there and nowhere else in exported code."
    for nb in numbered(nbs):
        if nb.module == "lipsync.timebase": continue
        for c in nb.exported:
            for n in ast.walk(c.tree):
                if isinstance(n, ast.Constant) and type(n.value) in (int, float) and n.value == 16000: yield f"{nb.at(c, n)}: types the sample rate {n.value}; timebase.SR"


def settings(root=ROOT):
    "settings.ini as a dictionary."
    cfg = ConfigParser(delimiters=["="])
    cfg.read(root / "settings.ini", encoding="utf-8")
    return dict(cfg["DEFAULT"])


def parameters(nb):
    "The names that a training notebook's parameters cell assigns."
    return [t.id for c in nb.code if "parameters" in c.tags for n in c.tree.body if isinstance(n, (ast.Assign, ast.AnnAssign))
            for t in (n.targets if isinstance(n, ast.Assign) else [n.target]) if isinstance(t, ast.Name)]


if __name__ == "__main__":
    every = read_all()
    chosen = {Path(a).name.removesuffix(".ipynb") for a in sys.argv[1:]}
    found = [f"{name}: {v}" for name, check in LAWS.items() for v in check(every) if not chosen or re.split(r"[ :]", v)[0] in chosen]
    print("\n".join(found) or "every law holds")
    sys.exit(bool(found))
