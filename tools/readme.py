"""README.md from nbs/index.ipynb: `python tools/readme.py` writes it, `--check` only says whether it is up to date.

Cells with `#| hide` are left out, nbdev's directives too; pictures go to docs/readme/; links among notebooks lead into nbs/.
"""
import re, sys
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter

TOP = Path(__file__).resolve().parent.parent
PICTURES = "docs/readme"


def plain(nb):
    "The notebook as a README wants it: no hidden cells, no directives, outputs that a Markdown page can show."
    cells = []
    for c in nb.cells:
        if re.search(r"^\s*#\|\s*(hide|default_exp|export)", c.source, re.M): continue
        if re.search(r"^\s*#\|\s*echo:\s*false", c.source, re.M): c.metadata["transient"] = dict(remove_source=True)
        c.source = re.sub(r"^\s*#\|.*\n?", "", c.source, flags=re.M)
        if c.cell_type == "markdown": c.source = re.sub(r"\]\((?!\w+:|#|/)([\w.-]+\.(?:ipynb|yaml))", r"](nbs/\1", c.source)
        for o in c.get("outputs", []):
            if "data" in o and "text/html" in o.data and "image/png" not in o.data and "text/markdown" not in o.data: o.data.pop("text/html")
        cells.append(c)
    nb.cells = cells
    nb.metadata["language_info"] = dict(name="python")    # nbdev_clean takes it away; the fences of code want it
    return nb


def readme():
    "The text of README.md, and its pictures by name."
    nb = plain(nbformat.read(TOP / "nbs/index.ipynb", 4))
    text, more = MarkdownExporter().from_notebook_node(nb, resources=dict(unique_key="index", output_files_dir=PICTURES))
    text = re.sub(r"^[ \t]+$", "", text, flags=re.M)
    text = re.sub(r"!\[(?:png|svg|jpeg)\]", "![what the cell above shows]", text)
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    return "<!-- made from nbs/index.ipynb by `make readme` -->\n\n" + text, more.get("outputs", {})


def main():
    text, pictures = readme()
    path = TOP / "README.md"
    if "--check" in sys.argv:
        same = path.exists() and path.read_text(encoding="utf-8") == text and all((TOP / n).exists() and (TOP / n).read_bytes() == b for n, b in pictures.items())
        if not same: sys.exit("README.md is not what nbs/index.ipynb says; run: make readme")
        return
    path.write_text(text, encoding="utf-8")
    for n, b in pictures.items():
        (TOP / n).parent.mkdir(parents=True, exist_ok=True)
        (TOP / n).write_bytes(b)
    print(f"README.md: {len(text.splitlines())} lines, {len(pictures)} pictures")


if __name__ == "__main__": main()
