"""The tools beside the library: what the docs build refuses, what it makes of nbdev's pages, what the README is made from."""
import importlib.util, subprocess, sys
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from house import ROOT


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docs, readme = tool("build_docs"), tool("readme")


def test_faults_are_seen(tmp_path):
    "A page with each fault, and one without."
    (tmp_path / "good.html").write_text('<h1 id="a">A</h1><a href="#a">a</a><a href="bad.html">b</a><a href="https://example.org/x">c</a><img src="p.png"><img src="data:image/png;base64,AA=="/><table><tr><td>1</td></tr></table><pre>| a |\n|---|\n| 1 |</pre>')
    (tmp_path / "p.png").write_bytes(b"")
    (tmp_path / "bad.html").write_text('<a href="gone.html">1</a><a href="good.html#gone">2</a><a href="#gone">3</a><img src="gone.png"><script src="https://cdn.example.org/x.js"></script><link rel="stylesheet" href="//cdn.example.org/x.css"><p>| a | b |\n|—|—|\n| 1 | 2 |</p>')
    found = list(docs.faults(tmp_path))
    assert all(f.startswith("bad.html") for f in found), found
    for words in ("dead link gone.html", "dead link good.html#gone", "dead link #gone", "gone.png is missing", "x.js from elsewhere", "x.css from elsewhere", "a table stands there as text"):
        assert any(words in f for f in found), f"did not see {words!r}: {found}"
    assert len(found) == 7


def test_markdown_becomes_plain():
    said = docs.plain_text("See [audio](10_audio.core.ipynb#read), [out](https://x.org/a.ipynb){target=\"_blank\"} and `[x](00_core.ipynb)`.\n\n::: {.callout-note}\nMind.\n:::")
    assert "[audio](audio.core.html#read)" in said and "[out](https://x.org/a.ipynb)" in said and "{target" not in said
    assert "`[x](00_core.ipynb)`" in said and ":::{note}" in said


def test_links_lead_to_where_a_symbol_is():
    base, anchors = "https://a.org/b/", {"core.html#need", "track.html#track"}
    assert docs.linked(f"[`need`]({base}core.html#need)", anchors, base) == "[`need`](core.html#need)"
    assert docs.linked(f"[`Track.cues`]({base}track.html#track.cues)", anchors, base) == "[`Track.cues`](track.html#track)"       # a method inside the class
    assert docs.linked(f"[`_hidden`]({base}core.html#_hidden)", anchors, base) == "`_hidden`"


def test_symbols_are_told_apart():
    text = '---\n\n[source](https://x.org/a.py#L7){target="_blank" style="float:right"}\n\n### Thing\n\n```python\ndef Thing(\n    n:int, # as [`need`](https://a.org/core.html#need)\n):\n```\n\n*A thing, see [`need`](https://a.org/core.html#need).*'
    made = docs.symbol(text)
    assert '<div id="thing" class="symbol">' in made and 'href="https://x.org/a.py#L7"' in made and "class Thing(" in made
    assert "# as `need`" in made and "see [`need`](" in made
    with pytest.raises(ValueError, match="no known way"): docs.symbol("Thing is a thing.")
    last, first = (new_markdown_cell(made.replace("#L7", f"#L{n}")) for n in (9, 2))
    assert docs.in_order([new_markdown_cell("a"), last, first, new_markdown_cell("b")])[1:3] == [first, last]


def test_formulas_need_no_script():
    "Every formula of the notebooks can be shown as MathML; one that cannot be read is an error of the docs build."
    from docutils.utils.math import latex2mathml
    assert "<mfrac>" in latex2mathml.tex2mathml(r"\frac{a}{b}", as_block=True)
    with pytest.raises(Exception): latex2mathml.tex2mathml(r"\nosuchthing{a}")


def test_readme_shows_what_a_reader_needs(tmp_path, monkeypatch):
    cells = [new_markdown_cell("# T\n\n> P.\n\nSee [core](00_core.ipynb) and [x](https://x.org)."), new_code_cell("#| hide\nsecret = 1"),
             new_code_cell("#| eval: false\nprint(6 * 7)", outputs=[new_output("stream", text="42\n")]), new_code_cell("x", outputs=[new_output("display_data", {"text/html": "<audio>", "text/plain": "a sound"})])]
    (tmp_path / "nbs").mkdir()
    nbformat.write(new_notebook(cells=cells), tmp_path / "nbs/index.ipynb")
    monkeypatch.setattr(readme, "TOP", tmp_path)
    text, pictures = readme.readme()
    assert "# T" in text and "(nbs/00_core.ipynb)" in text and "(https://x.org)" in text and "print(6 * 7)" in text and "42" in text and "a sound" in text
    assert "secret" not in text and "#|" not in text and "<audio>" not in text and not pictures
    monkeypatch.setattr(sys, "argv", ["readme.py", "--check"])
    with pytest.raises(SystemExit, match="make readme"): readme.main()
    monkeypatch.setattr(sys, "argv", ["readme.py"]); readme.main()
    monkeypatch.setattr(sys, "argv", ["readme.py", "--check"]); readme.main()


@pytest.mark.parametrize("script", ["tools/venv.sh", ".ci/run"])
def test_scripts_are_bash(script):
    assert subprocess.run(["bash", "-n", ROOT / script]).returncode == 0


def test_make_lists_its_commands():
    said = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    assert all(f"make {c} " in said for c in "venv demo test docs lab clean".split()), said
