"""Sphinx's settings for the local documentation; tools/build_docs.py makes the pages that it reads.

Formulas become MathML by docutils' own converter: every current browser shows it, with no script and nothing to fetch.
"""
import re
from configparser import ConfigParser
from pathlib import Path
from docutils.utils.math import latex2mathml

here = Path(__file__).resolve().parent
cfg = ConfigParser(delimiters=["="])
cfg.read(here.parent / "settings.ini", encoding="utf-8")
cfg = cfg["DEFAULT"]

project, author, copyright, release = cfg["title"], cfg["author"], cfg["copyright"], cfg["version"]
extensions = ["myst_nb"]
exclude_patterns = [".doctrees"]
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_merge_streams = True
nb_render_markdown_format = "myst"                    # plain CommonMark knows no tables, and our notebooks answer with tables
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "strikethrough"]
myst_all_links_external = True                        # build_docs.py follows every link of the built pages itself
myst_dmath_allow_space = myst_dmath_allow_digits = False   # $5 and $6 are prices
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]                   # nbdev's symbols are H3 wherever they stand

html_theme = "furo"
html_title = cfg["title"]
html_static_path = [str(here / "static")]
html_css_files = ["lipsync.css"]
html_copy_source = html_show_sphinx = False
html_math_renderer = "mathml"


def mathml(self, node, block):
    "Writes a formula; one that the converter does not know is a warning, and so an error."
    from docutils import nodes
    from sphinx.util import logging
    try: out = latex2mathml.tex2mathml(re.sub(r"\\dots\b", r"\\ldots", node.astext()), as_block=block)
    except Exception as e:
        logging.getLogger(__name__).warning("formula %s cannot be read%s: %s", node.astext()[:80], " (a doubled backslash?)" if "\\\\" in node.astext() else "", e, location=node)
        out = f"<code>{self.encode(node.astext())}</code>"
    self.body.append(f'<div class="math">{out}</div>' if block else out)
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (lambda self, node: mathml(self, node, False), None), (lambda self, node: mathml(self, node, True), None))
    return dict(parallel_read_safe=True, parallel_write_safe=True)
