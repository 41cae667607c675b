"""Runs every training notebook as a user would, with papermill and its defaults: `python tools/smoke.py FOLDER [NAME ...]`.

Each must end well, leave the files of a run folder, and refuse a parameter that it does not have.
"""
import os, subprocess, sys, time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
LIMIT = 300                                           # seconds
RUN = "config.yaml history.json metrics.json best.safetensors last.safetensors log.txt".split()


def papermill(nb, folder, *parameters):
    "Exit status, and the end of what was said."
    env = dict(os.environ, OMP_NUM_THREADS="1", LIPSYNC_HOME=os.environ.get("LIPSYNC_HOME", str(folder / "home")))
    args = [sys.executable, "-m", "papermill", str(nb), str(folder / f"{nb.stem}_out.ipynb"), "--no-progress-bar", "--log-level", "WARNING", *parameters]
    try: r = subprocess.run(args, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired: return 124, f"more than {LIMIT} s"
    return r.returncode, r.stdout[-3000:]


def main():
    folder, wanted = Path(sys.argv[1]).resolve(), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0

    def report(what, trouble, start):
        nonlocal failed
        failed += bool(trouble)
        print(f"smoke: {what} {'FAILED' if trouble else 'ok'} ({time.time() - start:.0f} s)" + (f"\n{trouble}" if trouble else ""), flush=True)

    found = [nb for nb in sorted((TOP / "nbs").glob("train_*.ipynb")) if not wanted or nb.stem in wanted]
    if not found: report("training notebooks", "found none in nbs/", time.time())
    for nb in found:
        start, run = time.time(), folder / f"{nb.stem} run"              # a space in the path, as users have them
        status, said = papermill(nb, folder, "-p", "out", str(run))
        gone = [f for f in RUN if not (run / f).exists()]
        report(nb.stem, said if status else f"the run folder lacks {gone}" if gone else "", start)
        start = time.time()
        status, said = papermill(nb, folder, "-p", "epohcs", "1")
        report(f"{nb.stem} -p epohcs 1 is refused", "" if status and "epohcs" in said else f"exit status {status}: {said[-500:]}", start)
    sys.exit(bool(failed))


if __name__ == "__main__": main()
