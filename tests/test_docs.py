"""What the pages for readers say can be done: every command, option, setting, file and recipe that they name is there."""
import argparse, re, shlex
import pytest
from house import ROOT, read_all

PAGES = [nb for nb in read_all() if re.match(r"index|(tutorial|howto|explain|train)_", nb.name)]
WANTED = {"tutorial": {"start", "mouth_shapes", "own_corpus", "person", "read_lips", "voice", "new_recipe"},
          "howto": {"librispeech_mfa", "chinese_lips", "cluster", "live", "engines", "resume", "hub", "serve"}, "explain": {"causal", "negatives", "cer"}}


def commands():
    "Name -> argparse parser of the program's commands."
    from lipsync.cli import parser
    return next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices


def lines(nb):
    "Every command line that the prose of a page shows, in blocks and in `code`."
    for c in nb.prose:
        for block in re.findall(r"^```\w*\n(.*?)^```", c.source, re.M | re.S): yield from block.splitlines()
        yield from re.findall(r"`((?:lipsync|papermill) [^`\n]+)`", re.sub(r"^```.*?^```", "", c.source, flags=re.M | re.S))


def words(line, program):
    "The words behind the program in a line, pipes and comments taken away; None where it is not called."
    for part in re.split(r"\s\|\s|;", re.sub(r"(^|\s)#.*", "", line)):
        w = shlex.split(part) if program in part else []
        if program in w: return w[w.index(program) + 1:]


def wrong(nb):
    "What a page names and is not there."
    from lipsync.config import fields
    from lipsync.inference import recipe_named
    known = commands()
    for line in lines(nb):
        if w := words(line, "lipsync"):
            if w[0].startswith("-") or w[0] in ("...", "COMMAND", "CMD"): continue
            if w[0] not in known: yield f"{line}: no command {w[0]}"; continue
            options = {s: a for a in known[w[0]]._actions for s in a.option_strings}
            for i, o in enumerate(w):
                if not re.match(r"-[\w-]", o): continue
                if o not in options: yield f"{line}: lipsync {w[0]} has no {o}"
                elif options[o].choices and i + 1 < len(w) and w[i + 1].islower() and w[i + 1] not in map(str, options[o].choices): yield f"{line}: {o} cannot be {w[i + 1]}"
            if w[0] == "train" and len(w) > 1 and w[1].islower():
                if not (ROOT / f"lipsync/recipes/{w[1]}.py").is_file():
                    if nb.name != "tutorial_new_recipe": yield f"{line}: no recipe {w[1]}"
                else: yield from (f"{line}: {w[1]} has no setting {s.split('=')[0]}" for s in w[2:] if "=" in s and s.split("=")[0] not in fields(recipe_named(w[1]).config))
        if w := words(line, "papermill"):
            file = re.search(r"nbs/train_(\w+)\.ipynb", line)
            if not file or not (ROOT / file[0]).is_file(): yield f"{line}: no such notebook"; continue
            config = fields(recipe_named(file[1]).config)
            yield from (f"{line}: {file[1]} has no setting {n}" for o, n in zip(w, w[1:]) if o == "-p" and n not in config)
            yield from (f"{line}: no file {n}" for o, n in zip(w, w[1:]) if o == "-f" and n.startswith("nbs/") and not (ROOT / n).is_file())


@pytest.mark.parametrize("nb", PAGES, ids=lambda nb: nb.name)
def test_commands_on_pages_exist(nb): assert not list(wrong(nb))


def test_the_check_finds_errors():
    from house import Notebook
    bad = Notebook.of("howto_bad", "md:```\nlipsync visems a.wav\nlipsync visemes a.wav --loud 3 | cat\nlipsync visemes a.wav --quality worst\nlipsync train tcn epoks=3\nlipsync train tnc epochs=3\npapermill nbs/train_tcn.ipynb o.ipynb -p epoks 3\npapermill nbs/train_tcn.ipynb o.ipynb -f nbs/recipes/none.yaml\n```\nand `lipsync sync a.mp4 --mend b.mp4`.")
    assert [w.split(": ")[-1] for w in wrong(bad)] == ["no command visems", "lipsync visemes has no --loud", "--quality cannot be worst", "tcn has no setting epoks", "no recipe tnc", "tcn has no setting epoks", "no file nbs/recipes/none.yaml", "lipsync sync has no --mend"]


def test_all_pages_are_there():
    for kind, names in WANTED.items(): assert names <= {nb.name.partition("_")[2] for nb in PAGES if nb.name.startswith(kind)}


def test_pages_are_run_and_say_so():
    "A page for readers has prose, an output that can be seen, and asserts what it shows."
    for nb in PAGES:
        if not nb.name.startswith(("tutorial_", "howto_", "explain_")): continue
        assert any(c.outputs for c in nb.code), nb.name
        assert any(re.search(r"^\s*assert |test_\w+\(", c.source, re.M) for c in nb.code), nb.name
        assert nb.cells[0].source.startswith("# ") and "\n> " in nb.cells[0].source, nb.name


def test_cards_are_pages():
    "Each model that ships with a card has a page, and links to cards lead to one."
    import sys
    sys.path.insert(0, str(ROOT / "tools"))
    import build_docs
    assert {"card_tcn", "card_sync", "card_voice"} <= set(build_docs.cards())
    for nb in PAGES:
        for c in nb.prose:
            for name in re.findall(r"/(card_\w+)\.html", c.source): assert name in build_docs.cards(), f"{nb.name}: {name}"
