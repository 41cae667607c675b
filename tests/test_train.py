"""The recipe `tcn` trained by the command, alone and by two processes; one run continued by the other way of starting is the same run."""
import json, os, subprocess, sys
import pytest

SMALL = "clips=24 epochs=2 bs=2 size=small device=cpu augment=none".split()


def run(*words, n=0, ok=True):
    "`lipsync train tcn ...`, by torchrun in n processes where n > 0."
    start = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={n}", "--master_addr=127.0.0.1", "--master_port=29533", "--no-python"] if n else []
    program = [sys.executable, "-c", "import sys; from lipsync.cli import main; sys.exit(main())"]
    r = subprocess.run([*start, *program, "train", "tcn", *words], capture_output=True, text=True, timeout=280, env=dict(os.environ, OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo"))
    assert (r.returncode == 0) == ok, r.stdout[-2000:] + r.stderr[-3000:]
    return r


def test_two_processes_train_the_recipe(tmp_path):
    out = tmp_path / "two"
    run(*SMALL, f"out={out}", n=2)
    log, history, metrics = (out / "log.txt").read_text(), json.loads((out / "history.json").read_text()), json.loads((out / "metrics.json").read_text())
    assert "2 processes" in log and len(history) == 2
    assert metrics["utterances"] > 0 and metrics["unheard_speakers"]
    assert 0 < history[-1]["valid accuracy"] <= 1                     # of the confusion that both processes counted


def test_a_run_goes_on(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(*SMALL, f"out={whole}")
    run(*SMALL, f"out={parts}", "schedule=constant", "epochs=1")
    assert "schedule" in run(*SMALL, f"out={parts}", "resume=auto", ok=False).stderr          # another schedule is another run, and it says so
    r = run(*SMALL, f"out={whole}", "resume=auto", "epochs=0")
    assert str(whole) in r.stdout


@pytest.mark.parametrize("words,said", [(["epocs=3"], "epochs"), (["lr=fast"], "wanted float"), (["data=/nowhere/at/all"], "/nowhere/at/all"), (["config=/no/file.yaml"], "/no/file.yaml")])
def test_wrong_words_stop_it(tmp_path, words, said):
    r = run(*SMALL[:1], f"out={tmp_path / 'x'}", *words, ok=False)
    assert r.returncode == 1 and said in r.stderr and "Traceback" not in r.stderr and not (tmp_path / "x" / "last.safetensors").exists()
