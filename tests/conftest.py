"""One quiet, reproducible machine for every test: one thread, no network, a home folder of its own."""
import os, shutil, sys, tempfile
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).parent))        # tests/house.py

# small fits are 10-60 times slower with two threads on a busy two-core machine
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", MPLBACKEND="agg")
# a test that reaches for the network fails here as it would on a train
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1", WANDB_MODE="offline", WANDB_SILENT="true")
os.environ.pop("IN_TEST", None)                       # nbdev's mark; it silences nbdev_export


def pytest_configure(config):
    if "LIPSYNC_TEST_HOME" in os.environ: return      # a worker of pytest-xdist: its parent made the folder
    config.lipsync_home = tempfile.mkdtemp(prefix="lipsync-test-")
    os.environ["LIPSYNC_TEST_HOME"] = os.environ["LIPSYNC_HOME"] = config.lipsync_home


def pytest_unconfigure(config):
    if home := getattr(config, "lipsync_home", None):
        shutil.rmtree(home, ignore_errors=True)
        del os.environ["LIPSYNC_TEST_HOME"]


@pytest.fixture(autouse=True)
def one_thread():
    "Each test begins with one thread, whatever the one before it left."
    if (torch := sys.modules.get("torch")) is None: yield; return
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.fixture(scope="session")
def root():
    "The top folder of the project."
    return ROOT


@pytest.fixture(scope="session")
def shared():
    "The folder of shared speech and video beside the project; tests that need it are skipped where it is missing."
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir(): pytest.skip(f"no shared data beside the project ({folder.name}/ is missing)")
    return folder
