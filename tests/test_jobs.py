"""Workers that die, pools that break, orphans, other people's executors, locks and ledgers: what a notebook cannot show."""
import multiprocessing as mp, os, signal, subprocess, sys, time
from concurrent.futures import Executor, Future, ProcessPoolExecutor
import pytest
from lipsync.core import InputError
from lipsync.jobs import Ledger, Outcome, Steps, WorkerError, Workers, fingerprint, locked, reason, run_jobs, write_rows

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "LIPSYNC_QUIET": "1"}


# What the jobs do stands in a file of its own: a process that starts afresh must be able to import it.

@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "lipsync_test_work.py").write_text(
        "import os, signal, time\n"
        "def do(job):\n"
        "    kind, arg = job\n"
        "    if kind == 'segv': os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    if kind == 'oom': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    if kind == 'exit': os._exit(arg)\n"
        "    if kind == 'raise': raise ValueError(arg)\n"
        "    if kind == 'lambda': return lambda: 0\n"
        "    if kind == 'sleep': time.sleep(arg)\n"
        "    if kind == 'mark': open(arg, 'a').write(str(os.getpid()) + '\\n'); time.sleep(60)\n"
        "    return arg\n")
    sys.path.insert(0, str(folder))
    old = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), old]))
    import lipsync_test_work
    yield lipsync_test_work.do
    os.environ["PYTHONPATH"] = old
    sys.path.remove(str(folder))


JOBS = [("ok", 1), ("segv", 0), ("ok", 2), ("raise", "no\nface"), ("oom", 0), ("ok", 3), ("exit", 5), ("lambda", 0), ("ok", 4)]


def check(outs):
    got = {o.job: o for o in outs}
    assert len(got) == len(JOBS)
    assert sorted(o.value for o in got.values() if not o.error) == [1, 2, 3, 4]
    assert "exit code -11" in got["segv", 0].error and "crash" in got["segv", 0].error
    assert "exit code -9" in got["oom", 0].error and "memory" in got["oom", 0].error
    assert "exit code 5" in got["exit", 5].error
    assert got["raise", "no\nface"].error == "ValueError: no face"
    assert "cannot be sent back" in got["lambda", 0].error


def test_a_death_costs_one_job(work):
    check(run_jobs(work, JOBS, workers=2))


def test_broken_pool_names_the_culprit(work):
    "ProcessPoolExecutor breaks as a whole; the rest is done all the same, and the guilty are told apart."
    with ProcessPoolExecutor(2, mp_context=mp.get_context("spawn")) as pool: check(run_jobs(work, JOBS, pool, workers=2))


def test_limit_and_inline(work):
    outs = {o.job[1]: o for o in run_jobs(work, [("sleep", 30.), ("sleep", .01)], workers=1, limit=6.)}
    assert "longer than 6 s" in outs[30.].error and outs[.01].value == .01
    inline = list(run_jobs(work, [("ok", 1), ("raise", "x")]))
    assert inline[0].value == 1 and inline[1] == Outcome(("raise", "x"), error="ValueError: x")


def test_an_executor_that_cancels(work):
    class Lost(Executor):
        def submit(self, fn, /, *args, **kwargs):
            f = Future()
            f.cancel(); f.set_running_or_notify_cancel()
            return f
    (out,) = run_jobs(work, [("ok", 1)], Lost())
    assert "cancelled" in out.error


def test_workers_that_cannot_start(work, monkeypatch):
    monkeypatch.setattr("lipsync.jobs._serve", work)       # called with a pipe, it raises at once: nobody says "ready"
    with pytest.raises(WorkerError, match="cannot start"): list(run_jobs(work, [("ok", i) for i in range(50)], workers=2))


def test_ctrl_c_leaves_nobody_behind(work, tmp_path):
    mark = tmp_path / "pids"
    # a shell that starts the tests in the background lets them ignore Ctrl-C, and children inherit that
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom lipsync.jobs import run_jobs; from lipsync_test_work import do\nif __name__ == '__main__':\n    for o in run_jobs(do, [('mark', {str(mark)!r})] * 4, workers=2): pass"
    for sig in (signal.SIGINT, signal.SIGKILL):
        mark.unlink(missing_ok=True)
        (tmp_path / "main.py").write_text(code)
        p = subprocess.Popen([sys.executable, str(tmp_path / "main.py")], env={**ENV, "PYTHONPATH": os.environ["PYTHONPATH"]}, start_new_session=True, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while (not mark.exists() or mark.read_text().count("\n") < 2) and time.monotonic() < end: time.sleep(.05)
        pids = [int(v) for v in mark.read_text().split()]
        p.send_signal(sig)                                  # to the parent alone
        p.wait(60)
        while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < end: time.sleep(.05)
        assert len(pids) == 2 and not any(os.path.exists(f"/proc/{pid}") for pid in pids), sig


def test_dask(work):
    "A cluster of two processes on this machine: values, errors, the same job twice, a job that kills."
    distributed = pytest.importorskip("distributed", reason="needs Dask")
    import dask
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster, distributed.Client(cluster) as client:
        pool = client.get_executor()
        for _ in range(2): assert sorted(o.value or o.error for o in run_jobs(work, [("ok", "a"), ("ok", "b"), ("raise", "c")], pool)) == ["ValueError: c", "a", "b"]
        (out,) = run_jobs(work, [("exit", 5)], pool)
        assert "KilledWorker" in out.error


def test_lock_goes_with_its_holder(tmp_path):
    p = subprocess.Popen([sys.executable, "-c", f"import time; from lipsync.jobs import locked\nwith locked({str(tmp_path / '.lock')!r}): print('mine', flush=True); time.sleep(60)"], stdout=subprocess.PIPE, env=ENV)
    assert p.stdout.readline() == b"mine\n"
    with pytest.raises(InputError, match="somebody else works"):
        with locked(tmp_path / ".lock", .2): pass
    p.kill(); p.communicate()
    with locked(tmp_path / ".lock", 5.): pass


def test_ledger_from_many_processes(tmp_path):
    code = f"import sys; from lipsync.jobs import Ledger\nfor i in range(15): Ledger({str(tmp_path)!r}).update('main_training', counts={{sys.argv[1] + str(i): i}})"
    for p in [subprocess.Popen([sys.executable, "-c", code, n], env=ENV) for n in "ab"]: assert p.wait(60) == 0
    assert len(Ledger(tmp_path).read()["main_training"]["counts"]) == 30
    assert [f.name for f in tmp_path.glob("*.part*")] == []


def test_merging(tmp_path):
    book = Ledger(tmp_path)
    book.update("preprocessing", steps={"a": {"state": "failed", "why": "x", "files": [1]}})
    book.update("preprocessing", steps={"a": {"state": "done", "why": None, "files": []}})
    assert book.read()["preprocessing"]["steps"] == {"a": {"state": "done", "files": []}}
    book.path.write_text("[1, 2]")
    with pytest.raises(InputError, match="not a ledger"): book.read()
    assert "begun anew" in book.update("main_training", counts={"a": 1})["notes"][0]


def test_fingerprint_knows_content(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    old = time.time_ns() - 10**11
    os.utime(path, ns=(old, old))
    one = fingerprint(path)
    assert one["sure"] and fingerprint(path, one) is one
    other = tmp_path / "b"
    other.write_bytes(b"x" * 3_000_000)
    assert fingerprint(other, one)["hash"] == one["hash"]
    path.write_bytes(b"y" + b"x" * 2_999_999)
    assert fingerprint(path, one)["hash"] != one["hash"]


def test_full_disk_in_a_step(tmp_path, monkeypatch):
    "The file is not there, the failure is told, and the next run makes it."
    def full(*a): raise OSError(28, "No space left on device")
    steps = Steps(tmp_path)
    def make():
        with write_rows(tmp_path / "x.npy", (2, 2), "u1") as put: put([[1, 2], [3, 4]])
    monkeypatch.setattr(os, "fsync", full)
    steps.attempt(make, {"x": "k"}, lambda s: ("x.npy",))
    assert "No space left" in steps.failures[0][1] and "free some space" in steps.failures[0][1] and steps.notes
    assert sorted(f.name for f in tmp_path.iterdir()) == [".training_state.lock"]
    monkeypatch.undo()
    steps = Steps(tmp_path)
    assert not steps.done("x", "k")
    steps.attempt(make, {"x": "k"}, lambda s: ("x.npy",))
    assert Steps(tmp_path).done("x", "k") and not Steps(tmp_path).done("x", "k2")
    (tmp_path / "x.npy").unlink()
    assert not Steps(tmp_path).done("x", "k")


def test_reason():
    assert reason(KeyError("a")) == "KeyError: 'a'" and reason(MemoryError()) == "MemoryError" and reason(InputError("no", path="p")) == "p: no"
