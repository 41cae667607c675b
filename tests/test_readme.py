"""The five snippets of the README, as they are written there. Those that do not come along are untrained: what is tested is that each line does what it says."""
import json, re, subprocess
import numpy as np, pytest, torch
from lipsync.audio.core import write
from lipsync.corpus.drawn import DrawnPerson
from lipsync.timebase import SR
from lipsync.video.core import frames, probe_video
from lipsync.video.write import write_video
from test_push import untrained


def test_five_jobs(tmp_path, root, monkeypatch, capsys):
    pytest.importorskip("mediapipe")
    from PIL import Image
    monkeypatch.setenv("LIPSYNC_HOME", str(tmp_path / "home")); monkeypatch.chdir(tmp_path)
    who = DrawnPerson(4, 192)
    x, _ = who.speech(1.2, new=0)
    write("talk.wav", torch.from_numpy(x), SR)
    film = who.film(tmp_path / "me.mp4", 5.)
    face = next(iter(frames(film))).rgb
    Image.fromarray(face).save("face.png")
    write_video("mouth.mp4", (np.repeat(np.full((96, 96, 1), 90 + i, np.uint8), 3, 2) for i in range(25)), 25)
    untrained("talker", tmp_path / "runs/me", width=8, data=str(film)); untrained("gan", tmp_path / "runs/gan")
    code = next(c for c in re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), re.S) if "# 5." in c)
    exec(compile(code, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) >= 1                                   # what the lips said, however wrong
    assert (tmp_path / "talk.tsv").read_text().startswith("0.00\tX")
    assert set(json.loads((tmp_path / "voice.json").read_text())) >= {"style_ttl", "style_dp"}
    for name in ("i_say_it.mp4", "they_say_it.mp4"):
        info = probe_video(tmp_path / name)
        assert (info.frames, info.width) == (30, 192) and abs(info.sound_seconds - 1.2) < .1
