"""Every notebook runs from its first cell to its last, as `nbdev_test` would run it, and is counted.

Each runs in a process of its own, forked from a server that has imported the slow packages once. nbdev's directives hold:
`#| eval: false`, the flags of `tst_flags` in settings.ini, `skip_exec: true`. The training notebooks are run by papermill (.ci/run).
"""
import contextlib, multiprocessing, os, sys
from pathlib import Path
import pytest
from house import ROOT, settings

NBS = [p for p in sorted((ROOT / "nbs").glob("*.ipynb")) if not p.name.startswith(("_", ".", "train_", "benchmark"))]
LIMIT = 300                                           # seconds for one notebook
FEWEST = 3                                            # notebooks that must be found


def run(path, log):
    "In the child: runs one notebook, its words into `log`; exit status 1 if a cell fails."
    multiprocessing.set_start_method("fork", force=True)   # the platform's own, as in a Jupyter kernel; this process was started in another way
    with open(log, "w", encoding="utf-8") as f:
        os.dup2(f.fileno(), 1); os.dup2(f.fileno(), 2)
        with contextlib.redirect_stdout(f), contextlib.redirect_stderr(f):
            from nbdev import test as nbt
            flags = os.environ.get("LIPSYNC_TEST_FLAGS", "").split()
            ok, _ = nbt.test_nb(Path(path), skip_flags=settings()["tst_flags"].split(), force_flags=flags, basepath=ROOT)
    os._exit(not ok)                                  # no wait for threads that a notebook left


@pytest.fixture(scope="session")
def server():
    ctx = multiprocessing.get_context("forkserver")
    ctx.set_forkserver_preload(["torch", "fastai.basics", "matplotlib.pyplot", "nbdev.test"])
    return ctx


def test_notebooks_are_found():
    assert len(NBS) >= FEWEST, f"found {len(NBS)} notebooks in nbs/, wanted at least {FEWEST}: nothing would be tested"


@pytest.mark.parametrize("path", NBS, ids=lambda p: p.stem)
def test_notebook(path, server, tmp_path):
    log = tmp_path / "log.txt"
    p = server.Process(target=run, args=(str(path), str(log)))
    p.start(); p.join(LIMIT)
    late = p.is_alive()
    if late: p.kill(); p.join()
    said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    assert not late, f"{path.name} took more than {LIMIT} s\n{said[-4000:]}"
    assert p.exitcode == 0, f"{path.name} failed (exit status {p.exitcode})\n{said[-8000:]}"


def test_a_failing_notebook_fails(server, tmp_path):
    "The runner itself: a notebook with a wrong assertion fails with its words, one with the assertion behind a flag passes."
    import nbformat as nbf
    for name, source, status in [("bad", "assert 1 == 2, 'so it is'", 1), ("flagged", "#| slow\nassert 1 == 2", 0), ("off", "#| eval: false\nassert 1 == 2", 0)]:
        path, log = tmp_path / f"{name}.ipynb", tmp_path / f"{name}.txt"
        nbf.write(nbf.v4.new_notebook(cells=[nbf.v4.new_code_cell(source)], metadata=dict(kernelspec=dict(name="python3", language="python", display_name="python3"))), path)
        p = server.Process(target=run, args=(str(path), str(log)))
        p.start(); p.join(LIMIT)
        assert p.exitcode == status, log.read_text()
    assert "so it is" in (tmp_path / "bad.txt").read_text()
