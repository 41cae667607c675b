"""Every recipe file under nbs/recipes fits the configuration of its recipe, read as papermill reads it and as `config` reads it."""
from pathlib import Path
import pytest
from lipsync.config import from_namespace, load_config, read_settings
from lipsync.recipes.gan import GanConfig
from lipsync.recipes.lipreader import LipreaderConfig
from lipsync.recipes.phones import PhonesConfig
from lipsync.recipes.syncnet import SyncnetConfig
from lipsync.recipes.talker import TalkerConfig
from lipsync.recipes.tcn import TcnConfig
from lipsync.recipes.voice import VoiceConfig

CONFIGS = {"chinese": LipreaderConfig, "gan": GanConfig, "grid": LipreaderConfig, "lipreader": LipreaderConfig, "phones": PhonesConfig, "syncnet": SyncnetConfig, "talker": TalkerConfig, "tcn": TcnConfig, "voice": VoiceConfig}
FILES = sorted((Path(__file__).resolve().parent.parent / "nbs/recipes").glob("*.*"))


def test_there_are_some(): assert len(FILES) >= 2


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_fits(path):
    cls = CONFIGS[path.stem.split("_")[0]]
    cfg = load_config(path, cls)
    assert cfg != cls()                                                       # it says something
    if path.suffix == ".yaml": assert from_namespace(cls, read_settings(path)) == cfg
