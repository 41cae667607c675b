"""The documentation without Quarto, from the notebooks as they are stored: `python tools/build_docs.py`.

nbdev's own processors make the API pages (signatures, tables of arguments, links); what they write for Quarto is made plain here;
Sphinx with myst-nb and furo builds it, and any warning, dead link or thing to be fetched from elsewhere when a page is opened
is an error. `--sidebar` only writes nbs/sidebar.yml, the table of contents of the published site (which Quarto builds).
"""
import ast, html.parser, json, multiprocessing, os, re, shutil, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

TOP = Path(__file__).resolve().parent.parent
PROC, OUT = TOP / "_proc", TOP / "_docs"

# section of the contents -> which notebooks; one stands in the first section that fits
SECTIONS = {
    "Start here": r"tutorial_start", "Tutorials": r"tutorial_", "How-to": r"howto_", "Explanation": r"explain_", "Model cards": r"card_", "Train": r"train_",
    "Ground": r"0\d_", "Sound": r"1\d_", "Speech": r"2\d_speech", "Pictures": r"2\d_", "Corpora": r"3\d_", "Models": r"4\d_",
    "Losses and training": r"[56]\d_", "Metrics and recipes": r"7\d_", "Use": r"8\d_(?!commands)", "Apps": r"9\d_apps", "Commands": r"8\d_commands|9\d_", "Figures": r"benchmark|report_",
}
# pages that are read one after the other; all others stand in the order of their names
ORDER = tuple(f"tutorial_{t}" for t in ("mouth_shapes", "own_corpus", "person", "read_lips", "voice", "new_recipe"))


def cards():
    "Page -> the README beside the weights that ship."
    return {f"card_{p.parent.name}": p for p in sorted((TOP / "lipsync/weights").glob("*/README.md"))}


def notebooks():
    "Section -> its notebooks; the index is apart, and nothing is left out."
    found = sorted((p for p in (TOP / "nbs").glob("*.ipynb") if not p.name.startswith(("_", "."))), key=lambda p: (ORDER.index(p.stem) if p.stem in ORDER else len(ORDER), p))
    table = {s: [] for s in SECTIONS}
    for p in found:
        if p.name == "index.ipynb": continue
        section = next((s for s, pattern in SECTIONS.items() if re.match(pattern, p.name)), None)
        if section is None: sys.exit(f"docs: no section for {p.name}; name it as a notebook of the house, or add a section to tools/build_docs.py")
        table[section].append(p)
    return {s: ps for s, ps in table.items() if ps}


def page(path):
    "Name of a notebook's page, without suffix, as nbdev names it."
    return re.sub(r"^\d+[a-zA-Z0-9]*_", "", path.stem.lower())


def sidebar():
    "Writes the table of contents for Quarto, and the model cards where it looks for pages."
    import yaml
    for name, p in cards().items(): shutil.copyfile(p, TOP / f"nbs/{name}.md")
    table = notebooks() | {"Model cards": [TOP / f"nbs/{name}.md" for name in cards()]}
    contents = ["index.ipynb"] * (TOP / "nbs/index.ipynb").exists() + [dict(section=s, contents=[p.name for p in table[s]]) for s in SECTIONS if table.get(s)]
    (TOP / "nbs/sidebar.yml").write_text(yaml.safe_dump(dict(website=dict(sidebar=dict(contents=contents))), sort_keys=False), encoding="utf-8")


# ---- one notebook ----

def processed(path):
    """In a process of its own: the notebook after nbdev's processors, as JSON text. The one that runs cells to find what `show_doc`
    shall show is replaced: here the symbols come from the installed module, whose source is known line by line."""
    os.environ["IN_TEST"] = "1"
    os.chdir(path.parent)
    sys.path.insert(0, str(TOP))
    import importlib
    from execnb.nbio import nb2str, read_nb
    from nbdev import doclinks, processors
    lines = doclinks._get_exps                        # of symbols as a module names them; those of the installed module come with its name before

    class exec_show_docs(processors.exec_show_docs):
        def begin(self):
            super().begin()
            if not (name := processors._default_exp(self.nb)): return
            self.k.user_ns.update(vars(importlib.import_module(f"lipsync.{name}")))
            doclinks._lineno = lambda symbol, file: lines(file).get(symbol.removeprefix(f"lipsync.{name}."))

        def __call__(self, cell):
            if not cell.source or cell.cell_type != "code" or not processors._show_docs(cell.parsed_() or []): return
            self.k.cell(cell)
            if self.k.exc: raise ValueError(f"{cell.source} failed") from self.k.exc

    class add_show_docs(processors.add_show_docs):
        "The public methods inside a class, too, where nbdev shows the class alone."
        def begin(self):
            super().begin()
            for i, cell in reversed(list(enumerate(self.nb.cells))):
                if not processors._want_doc(cell): continue
                for c in (t for t in cell.parsed_() or [] if isinstance(t, ast.ClassDef) and not t.name.startswith("_")):
                    for m in c.body:
                        if isinstance(m, ast.FunctionDef) and not m.name.startswith("_") and ast.get_docstring(m): self.nb.cells.insert(i + 1, processors.mk_cell(f"show_doc({c.name}.{m.name})"))

    class Filter(processors.FilterDefaults):
        def base_procs(self):
            own = {processors.exec_show_docs: exec_show_docs, processors.add_show_docs: add_show_docs}
            return [own.get(p, p) for p in super().base_procs()]

    nb = read_nb(path)
    Filter()(nb)
    nb.cells = [c for c in nb.cells if c.get("source") is not None]
    return nb2str(nb)


def site():
    "Address of the published site, whose pages are here beside each other."
    from configparser import ConfigParser
    cfg = ConfigParser(delimiters=["="]); cfg.read(TOP / "settings.ini")
    return cfg["DEFAULT"]["doc_host"] + cfg["DEFAULT"]["doc_baseurl"].rstrip("/") + "/"


def plain_text(s):
    "Markdown written for Quarto, as MyST reads it; links to notebooks become links to their pages."
    parts = re.split(r"(^```.*?^```|`[^`\n]+`)", s, flags=re.M | re.S)      # code stays as it is
    for i in range(0, len(parts), 2):
        t = parts[i]
        t = re.sub(r"^:::+\s*\{\.callout-(\w+).*?\}", r":::{\1}", t, flags=re.M)
        t = re.sub(r"^:::+\s*\{[.#][^}]*\}\s*$", "", t, flags=re.M) if ":::{" not in t else t
        t = re.sub(r"(\]\([^)\s]*\))\{[^}]*\}", r"\1", t)                            # [text](link){target=...}
        t = re.sub(r"\]\((?!\w+:)([^)\s#]+)\.ipynb(#[^)\s]*)?\)", lambda m: f"]({page(Path(m[1] + '.ipynb'))}.html{m[2] or ''})", t)
        parts[i] = t
    return "".join(parts)


def symbol(text):
    "What `show_doc` wrote: an anchor under the name that nbdev's links use, the link to the source, and a class called a class."
    m = re.match(r"(?:---\n+)?(?:\[source\]\((\S+)\)\{[^}]*\}\n+)?(#+) (\S+)[ \t]*\n", text)
    if not m: raise ValueError(f"what show_doc wrote begins in no known way: {text[:200]!r}")
    source = f'<a class="symbol-source" href="{m[1]}">source</a>' if m[1] else ""
    code, fence, words = text[m.end():].partition("\n```\n")
    body = re.sub(r"\[(`[^`]+`)\]\([^)]*\)", r"\1", code) + fence + words      # nbdev links names in comments too, where nobody can follow
    body = re.sub(r"\A(\s*```python\s*\n)def ([A-Z]\w*\()", r"\1class \2", body)
    return f'<div id="{m[3].lower()}" class="symbol">{source}</div>\n\n{m[2]} `{m[3]}`\n{body}'


def in_order(cells):
    "`show_doc` lists the symbols of one exported cell from the last to the first; here they stand as in the source."
    out, run = [], []
    for c in [*cells, None]:
        line = c is not None and (m := re.match(r'<div id="\S+" class="symbol"><a [^>]*#L(\d+)">', c.source)) and int(m[1])
        if line: run.append((line, c)); continue
        out += [r for _, r in sorted(run, key=lambda r: r[0])]; run = []
        if c is not None: out.append(c)
    return out


def linked(s, anchors, base):
    """nbdev's links to the published site as links among these pages. It links every known name, also those that have no
    place of their own: a method leads to its class, a private name to nothing."""
    def to(m):
        name, where, anchor = m[1], m[2], m[3]
        while f"{where}#{anchor}" not in anchors and "." in anchor: anchor = anchor.rsplit(".", 1)[0]
        return f"[{name}]({where}#{anchor})" if f"{where}#{anchor}" in anchors else name
    return re.sub(r"\[([^\]\n]+)\]\(" + re.escape(base) + r"([\w.]+\.html)#([\w.]+)\)", to, s).replace(f"]({base}", "](")


def plain(raw):
    "A processed notebook for myst-nb: front matter becomes the title, what `show_doc` printed becomes prose, directives become tags."
    import nbformat
    from nbformat.v4 import new_markdown_cell
    nb = nbformat.reads(raw, 4)
    cells = []
    for c in nb.cells:
        c.metadata = nbformat.NotebookNode()
        if c.cell_type == "raw":
            import yaml
            fm = yaml.safe_load(c.source.strip().strip("-")) or {}
            cells.append(new_markdown_cell(f"# {fm.get('title', '')}\n\n" + (f"> {fm['description']}" if "description" in fm else "")))
        elif c.cell_type == "markdown":
            if not c.source.startswith("<!-- WARNING"): cells.append(new_markdown_cell(plain_text(c.source)))
        else:
            said = dict(re.findall(r"^\s*#\|\s*([\w-]+):?[ \t]*(\S*)", c.source, re.M))
            c.source = re.sub(r"^\s*#\|.*\n?", "", c.source, flags=re.M).strip()
            if c.source.startswith("show_doc("):
                md = ["".join(o.data["text/markdown"]) for o in c.outputs if "text/markdown" in o.get("data", {})]
                if not md: raise ValueError(f"{c.source} gave no documentation")
                cells += [new_markdown_cell(plain_text(symbol(m))) for m in md]
                continue
            if said.get("include") == "false": continue
            tags = [t for t, on in {"remove-input": said.get("echo") == "false", "remove-output": said.get("output") == "false", "hide-input": "code-fold" in said}.items() if on]
            if tags: c.metadata["tags"] = tags
            for o in c.outputs:
                if "data" in o: o.data = still(o.data)
            if c.source: cells.append(c)
    nb.cells = in_order(cells)
    nb.metadata = nbformat.NotebookNode(kernelspec=dict(name="python3", language="python", display_name="python3"))
    return nb


def still(data):
    "An output without what needs a server: a widget is shown as its text."
    return {k: v for k, v in data.items() if "widget" not in k} or {"text/plain": "(a widget: open the notebook in JupyterLab)"}


# ---- the built pages ----

class Page(html.parser.HTMLParser):
    "Its anchors, its links, and what a browser would load with it."
    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.prose, self.raw = set(), [], [], False, False       # raw: a table of Markdown stands as text
        self.feed(path.read_text(encoding="utf-8"))

    def handle_endtag(self, tag):
        if tag == "p": self.prose = False

    def handle_data(self, data):
        self.raw |= self.prose and re.search(r"^\|([-:—–]+\|)+$", data.strip(), re.M) is not None

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag == "p": self.prose = True
        self.ids |= {a[k] for k in ("id", "name") if a.get(k)}
        if tag == "a" and a.get("href"): self.links.append(a["href"])
        if tag == "link" and a.get("href") and a.get("rel") in ("stylesheet", "icon", "preload"): self.loads.append(a["href"])
        if tag in ("script", "img", "audio", "video", "source", "iframe") and a.get("src"): self.loads.append(a["src"])


def faults(folder):
    "Dead links, missing files, tables that are not drawn, and what a page would fetch from elsewhere when it is opened."
    pages = {p: Page(p) for p in folder.rglob("*.html")}
    for p, at in pages.items():
        name = p.relative_to(folder)
        if at.raw: yield f"{name}: a table stands there as text"
        for where in at.loads:
            u = urlsplit(where)
            if u.scheme in ("http", "https") or where.startswith("//"): yield f"{name}: loads {where} from elsewhere"
            elif not u.scheme and not (p.parent / unquote(u.path)).exists(): yield f"{name}: {where} is missing"
        for where in at.links:
            u = urlsplit(where)
            if u.scheme or where.startswith("//"): continue
            to = (p.parent / unquote(u.path)).resolve() if u.path else p
            if not to.exists(): yield f"{name}: dead link {where}"
            elif u.fragment and to in pages and unquote(u.fragment) not in pages[to].ids: yield f"{name}: dead link {where}: no such place on that page"


def contents(table):
    "The hidden tables of contents that make the sidebar."
    table = {s: [page(p) for p in table.get(s, ())] + list(cards() if s == "Model cards" else ()) for s in SECTIONS}
    return "\n\n".join("```{toctree}\n:hidden:\n:caption: " + s + "\n\n" + "\n".join(ps) + "\n```" for s, ps in table.items() if ps)


def main():
    if "--sidebar" in sys.argv: return sidebar()
    import nbformat
    from nbformat.v4 import new_markdown_cell, new_notebook
    start, table, base = time.time(), notebooks(), site()
    for d in (PROC, OUT): shutil.rmtree(d, ignore_errors=True)
    PROC.mkdir()
    paths = [p for ps in table.values() for p in ps]
    index = TOP / "nbs/index.ipynb"
    if index.exists(): paths.append(index)
    if not paths: sys.exit("docs: no notebooks")
    ctx = multiprocessing.get_context("forkserver")
    ctx.set_forkserver_preload(["torch", "fastai.basics", "nbdev.processors"])
    made = {}
    with ProcessPoolExecutor(2, mp_context=ctx, max_tasks_per_child=1) as pool:
        jobs = {p: pool.submit(processed, p) for p in paths}
        for p, job in jobs.items():
            try: made[p] = plain(job.result())
            except Exception as e: raise SystemExit(f"docs: {p.name} cannot be processed: {e}\n{e.__cause__ or ''}")
    anchors = {f"{page(p)}.html#{a}" for p, nb in made.items() for c in nb.cells for a in re.findall(r'<div id="(\S+)" class="symbol">', c.source)}
    for p, nb in made.items():
        for c in nb.cells:
            if c.cell_type == "markdown": c.source = linked(c.source, anchors, base)
        if p == index: nb.cells.append(new_markdown_cell(contents(table)))
        nbformat.write(nb, PROC / f"{page(p)}.ipynb")
    for name, p in cards().items(): nbformat.write(new_notebook(cells=[new_markdown_cell(plain_text(p.read_text(encoding="utf-8")))]), PROC / f"{name}.ipynb")
    if not index.exists(): nbformat.write(new_notebook(cells=[new_markdown_cell("# lipsync\n\n" + contents(table))]), PROC / "index.ipynb")
    print(f"docs: {len(paths)} notebooks and {len(cards())} cards processed in {time.time() - start:.0f} s", flush=True)

    from sphinx.cmd.build import build_main
    status = build_main(["-q", "-W", "--keep-going", "--no-color", "-j", "2", "-c", str(TOP / "docs"), "-d", str(PROC / ".doctrees"), str(PROC), str(OUT)])
    bad = sorted(set(faults(OUT)))
    if bad: print(*bad[:50], sep="\n", file=sys.stderr)
    if status or bad: sys.exit(f"docs: failed ({len(bad)} faults)")
    print(f"docs: {len(list(OUT.glob('*.html')))} pages in {time.time() - start:.0f} s, no warning and no dead link: _docs/index.html")


if __name__ == "__main__": main()
