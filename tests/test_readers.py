"""Readers of `lipsync.corpus.readers` on the real recordings in ../shared/data (skipped where absent), and their typed errors on small folders."""
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lipsync.audio.core import write
from lipsync.core import InputError
from lipsync.corpus.core import Clip, Corpus
from lipsync.corpus.readers import layout, librispeech, ljspeech, prepared, read_folder, textgrids, tsv_folder
from lipsync.intervals import Interval, write_textgrid
from lipsync.visemes import UnknownPhone

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def real(name):
    if not (DATA / name).is_dir(): pytest.skip(f"no recordings at ../shared/data/{name}")
    return DATA / name


def tones(folder, *names, seconds=1., suffix=".wav"):
    folder.mkdir(parents=True, exist_ok=True)
    for n in names: write(folder / f"{n}{suffix}", .3 * np.sin(np.arange(int(16_000 * seconds)) / 20).astype("float32"), 16_000)
    return folder


# ---- real folders: (folder, reader, clips, skipped, speakers, aligned)
REAL = [("en/librispeech", librispeech, 251, 0, 251, 0), ("en/ljspeech", ljspeech, 113, 0, 1, 113), ("en/speechocean762", tsv_folder, 3630, 0, 214, 0),
        ("en/ljsentences", tsv_folder, 139, 2, 0, 0), ("en/librivox", prepared, 5, 0, 0, 5), ("en/textgrid", textgrids, 2, 16, 0, 2),
        ("zh/sentences", tsv_folder, 1, 0, 0, 0), ("video/grid", tsv_folder, 5, 0, 0, 0)]


@pytest.mark.parametrize("name,reader,clips,skipped,speakers,aligned", REAL, ids=[r[0] for r in REAL])
def test_real_folder(name, reader, clips, skipped, speakers, aligned):
    folder = real(name)
    assert layout(folder) is reader
    c = read_folder(folder)
    assert (len(c), len(c.skipped), len(c.speakers), sum(k.alignment is not None for k in c)) == (clips, skipped, speakers, aligned)
    assert all(k.sound.is_file() for k in c) and all(reason for _, reason in c.skipped)
    files = {str(f) for f in folder.rglob("*") if f.suffix in (".wav", ".flac", ".opus", ".mpg")}
    assert files <= {str(k.sound) for k in c} | {p for p, _ in c.skipped}  # no recording is dropped in silence
    if aligned:
        a = c[0].phones()
        assert a.phones and a.stop <= c[0].seconds + .1


def test_real_rows():
    c = read_folder(real("en/librispeech"))
    assert c["103-1240-0000"].extras == {"sex": "F", "subset": "train-clean-100"} and c["103-1240-0000"].speaker == "103"
    assert .86 < c.hours < .88
    so = read_folder(real("en/speechocean762"))
    assert so.splits == {"test": 1584, "train": 2046} and so[0].extras["age"] == "6" and so[0].extras["canonical_phones"].startswith("W IY0")
    lj = read_folder(real("en/ljspeech"))
    assert all(k.text for k in lj) and sum("unknown_words" in k.extras for k in lj) == 1
    assert read_folder(real("zh/sentences"))[0].lang == "cmn"
    assert len(read_folder(real("video/grid"))[0].wav()) == pytest.approx(48_000, abs=800)


def test_real_checks_find_the_hand_made_label():
    "praatIO's bobby has a phone PT, which no set knows; everything else in the folders is clean."
    kinds = Counter(p.kind for p in read_folder(real("en/textgrid")).check())
    assert kinds == {"alignment": 1, "no-text": 1}
    for name in ("en/ljspeech", "en/librivox", "en/librispeech"): assert not read_folder(real(name)).check()


def test_unknown_layouts_say_what_is_there():
    with pytest.raises(InputError, match=r"955 \.mp3.*LibriSpeech"): read_folder(real("zh/words"))


# ---- small folders
def test_missing_and_empty(tmp_path):
    with pytest.raises(InputError, match="no such folder"): read_folder(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="the folder is empty"): read_folder(tmp_path / "empty")
    with pytest.raises(InputError, match="no layout that is known.*2 .wav"): read_folder(tones(tmp_path / "bare", "a", "b"))


def test_textgrid_longer_than_its_sound(tmp_path):
    write_textgrid(tones(tmp_path, "a", "b") / "a.TextGrid", {"phones": [Interval(0, 2.5, "AA")]}, 2.5)
    write_textgrid(tmp_path / "b.TextGrid", {"phones": [Interval(0, 1, "AA")]}, 1.)
    c = read_folder(tmp_path)
    assert [k.id for k in c] == ["b"] and c.skipped[0][0].endswith("a.TextGrid") and "ends at 2.50 s, its recording a.wav at 1.00 s" in c.skipped[0][1]


def test_overlapping_intervals_and_unknown_phone(tmp_path):
    write_textgrid(tones(tmp_path, "a", "b") / "b.TextGrid", {"phones": [Interval(0, .5, "AA"), Interval(.5, 1., "QX")]}, 1.)
    (tmp_path / "a.TextGrid").write_text((tmp_path / "b.TextGrid").read_text().replace("0.5", "0.7", 1))
    c = read_folder(tmp_path)
    assert "intervals overlap" in c.skipped[0][1] and [k.id for k in c] == ["b"]
    assert c.check()[-1].kind == "alignment" and "QX" in c.check()[-1].what and "b.TextGrid" in c.check()[-1].what
    good = c.usable()
    assert len(good) == 0 and "QX" in good.skipped[-1][1]
    with pytest.raises(UnknownPhone): c.viseme_seconds()


def test_strange_names_and_encodings(tmp_path):
    names = ['it\'s "quoted"', "空 格 汉字", "with space", "dots.in.name", "percent%20", "Ünï"] + (["line\nbreak"] if os.name != "nt" else [])
    tones(tmp_path, *names)
    for n in names: (tmp_path / f"{n}.lab").write_bytes("\ufeffwe see\r\n".encode("utf-8"))
    (tmp_path / "bad.lab").write_bytes(b"\xff\xfe\x00caf\xe9")
    tones(tmp_path, "bad")
    c = read_folder(tmp_path)
    assert sorted(k.id for k in c) == sorted(names) and {k.text for k in c} == {"we see"}
    assert [Path(p).name for p, _ in c.skipped] == ["bad.wav"]
    back = Corpus.load(c.save(tmp_path / "out" / "c.jsonl"))
    assert back.rows == c.rows and all(len(k.wav()) == 16_000 for k in back)


def test_same_name_in_two_folders(tmp_path):
    for who in ("ann", "bob"):
        tones(tmp_path / who, "001")
        (tmp_path / who / "001.lab").write_text(f"{who} speaks")
    tones(tmp_path / "ann", "001", suffix=".flac")
    c = read_folder(tmp_path)
    assert [(k.id, k.speaker, k.text) for k in c] == [("ann/001", "ann", "ann speaks"), ("bob/001", "bob", "bob speaks")]
    assert [(Path(p).name, why) for p, why in c.skipped] == [("001.wav", "has the same name as 001.flac, which was taken")]


def test_tables_with_headers_in_any_order(tmp_path):
    tones(tmp_path / "clips", "a", "b")
    (tmp_path / "utts.tsv").write_text("sentence\tpath\tclient_id\tlocale\nwe see\ta.wav\tann\ten\n\tb.wav\tbob\ten\n")
    c = read_folder(tmp_path)
    assert [(k.id, k.speaker, k.text) for k in c] == [("a", "ann", "we see")] and "no text in line 3" in c.skipped[0][1]
    (tmp_path / "utts.tsv").write_text("one\ttwo\nthree\tfour\n")
    with pytest.raises(InputError, match="columns of the table are not clear"): read_folder(tmp_path)


def test_resplit_ignores_the_order_of_rows():
    rows = [Clip(f"{s}-{n}", f"s{s}", audio=Path(f"{s}-{n}.wav")) for s in range(60) for n in range(1 + s * 7 % 11)]
    rng = np.random.default_rng(0)
    first = {c.id: c.split for c in Corpus(rows).resplit(seed=4)}
    for _ in range(5): assert {c.id: c.split for c in Corpus([rows[i] for i in rng.permutation(len(rows))]).resplit(seed=4)} == first
    for s in {c.speaker for c in rows}: assert len({first[c.id] for c in rows if c.speaker == s}) == 1
