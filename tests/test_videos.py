"""Readers of videos, and what `lipsync check` and `lipsync stats` say of them: every layout that `lipsync talkers` writes is read back, and every kind of bad input is told."""
import csv, json, os, shutil, sys, time, zipfile
from pathlib import Path

import av
import numpy as np
import pytest

from lipsync import cli
from lipsync.core import InputError
from lipsync.corpus import videos as V
from lipsync.corpus.health import check_videos, look, video_stats
from lipsync.corpus.hub import download_chinese_lips, hub
from lipsync.corpus.source import find_corpus, open_corpus
from lipsync.corpus.talkers import write_talkers
from lipsync.corpus.tree import Tree
from lipsync.corpus.videos import chinese_lips, grid, person, read_videos, speaker_tree, video_layout, video_list, words_of
from lipsync.video.write import write_video

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "video"


@pytest.fixture(autouse=True)
def quiet(monkeypatch): monkeypatch.setenv("LIPSYNC_QUIET", "1")


def run(capsys, *args, code=0):
    capsys.readouterr()
    assert cli.main([str(a) for a in args]) == code, capsys.readouterr()
    return capsys.readouterr()


def stripes(n=25, size=64): return np.stack([np.roll(np.tile((np.arange(size) % 16 < 8)[None, :, None] * np.uint8(200), (size, 1, 3)), 2 * t, 1) for t in range(n)])


@pytest.fixture(scope="session")
def film(tmp_path_factory):
    "One second, 25 pictures, with sound."
    return write_video(tmp_path_factory.mktemp("film") / "a.mp4", stripes(), 25, (.3 * np.sin(np.arange(16_000) / 20)).astype("float32"), 16_000)


def put(film, root, *names):
    for n in names: (root / n).parent.mkdir(parents=True, exist_ok=True); shutil.copy(film, root / n)
    return root


def table(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as f: csv.writer(f).writerows(rows)
    return path


def why(corpus): return {Path(p).name: reason for p, reason in corpus.skipped}


# ---- what lipsync talkers writes

CASES = [("person", "real", "en"), ("tree", "real", "en"), ("grid", "real", "en"), ("chinese-lips", "real", "cmn"), ("chinese-lips", "other", "cmn"), ("tree", "real", "cmn")]


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    "(layout, header, lang) -> what was written; made once."
    made, base = {}, tmp_path_factory.mktemp("drawn 'x' 语")
    def of(layout, header, lang):
        key = layout, header, lang
        if key not in made: made[key] = write_talkers(base / "-".join(key), layout, people=1 if layout == "person" else 3, clips=2 if layout == "person" else 1, seconds=1., size=64 if layout != "grid" else 96, lang=lang, header=header)
        return base / "-".join(key), made[key]
    return of


@pytest.mark.parametrize("layout,header,lang", CASES, ids=["-".join(c) for c in CASES])
def test_talkers_are_read_back(drawn, layout, header, lang):
    root, wrote = drawn(layout, header, lang)
    reader = {"person": person, "tree": speaker_tree, "grid": grid, "chinese-lips": chinese_lips}[layout]
    assert video_layout(root) is reader
    got = find_corpus(root)
    row = lambda c: (c.id, c.speaker, c.split, c.text, c.video)
    assert sorted(map(row, got)) == sorted(map(row, wrote)) and not got.skipped
    assert all(c.lang.split("-")[0] == lang for c in got)
    for c in wrote:
        back = got[c.id]
        if layout == "chinese-lips": assert back.audio.is_file() and back.extras["picture"] == "mouth" and back.extras["topic"] == "talkers"
        elif layout == "grid":
            assert " ".join(w.label for w in words_of(back)) == c.text and all(0 <= w.start < w.stop <= c.stop + .05 for w in words_of(back))
        else:
            assert back.alignment == c.alignment and [w[2] for w in words_of(back)] == [w.label for w in words_of(c)]
            assert back.phones().phones == c.phones().phones
        assert abs(back.seconds - c.stop) < .15 and len(back.wav()) > 0  # the header of an .mpg knows its length nearly
    assert [p for p in got.check() if p.error] == []
    again = type(got).load(got.save(root.parent / f"{root.name}.jsonl"))
    assert sorted(map(row, again)) == sorted(map(row, got))


def test_layouts_without_the_hidden_list(drawn, tmp_path):
    "Names and folders alone: the same people and texts, ids are paths."
    for layout in ("tree", "grid"):
        root, wrote = drawn(layout, "real", "en")
        shutil.copytree(root, tmp_path / layout, ignore=shutil.ignore_patterns(".talkers.json"))
        got = read_videos(tmp_path / layout)
        assert sorted((c.speaker, c.text) for c in got) == sorted((c.speaker, c.text) for c in wrote) and got.splits == {"": 3}
        assert all(c.id == c.video.relative_to(tmp_path / layout).with_suffix("").as_posix() for c in got)
    shutil.copytree(drawn("tree", "real", "en")[0], tmp_path / "holes")  # a drawn video that is gone is told
    next((tmp_path / "holes").rglob("*.mp4")).unlink()
    assert list(why(read_videos(tmp_path / "holes")).values()) == ["was written by lipsync talkers and is gone", "no video with this name", "no video with this name"]


def test_english_videos_are_aligned_from_their_own_sound(drawn):
    root, wrote = drawn("grid", "real", "en")
    assert all(c.alignment is None for c in open_corpus(root, align=False))
    ready = open_corpus(root)
    assert len(ready) + len(ready.skipped) == 3 and len(ready) >= 2 and sorted({c.split for c in wrote}) == ["test", "train", "valid"]
    for c in ready: assert [w.label for w in c.phones().words] == c.text.split()
    zh = open_corpus(drawn("chinese-lips", "real", "cmn")[0], align=False)
    assert zh.splits == {"test": 1, "train": 1, "valid": 1}


# ---- Chinese-LiPS as it comes

HEAD = ("ID", "TOPIC", "WAV", "PPT", "FACE", "TEXT")


def test_chinese_lips_from_another_unpacking(film, tmp_path):
    put(film, tmp_path, "processed_train/KJ/127_21_M_KJ/FACE/127_21_M_KJ_001_FACE.mp4", "processed_train/KJ/127_21_M_KJ/PPT/127_21_M_KJ_001_PPT.mp4", "processed_val/010_30_F_TY/010_30_F_TY_002.mp4", "processed_test/200_25_F_LY/FACE/200_25_F_LY_001_FACE.mp4")
    (tmp_path / "meta_train.csv").write_text("\ufeffID,TOPIC,WAV,PPT,FACE,TEXT\n127_21_M_KJ_001,KJ,train/127_21_M_KJ/WAV/127_21_M_KJ_001.wav,train/127_21_M_KJ/PPT/127_21_M_KJ_001_PPT.mp4,train/127_21_M_KJ/FACE/127_21_M_KJ_001_FACE.mp4,\"你好,世界。\"\n", encoding="utf-8")
    table(tmp_path / "meta_valid.csv", ("text", "face_path", "ppt_path", "wav_path", "category", "file_id"), ("看见", "D:\\lips\\val\\010_30_F_TY\\FACE\\010_30_F_TY_002_FACE.mp4", "", "", "TY", "010_30_F_TY_002"))
    table(tmp_path / "meta_test.csv", HEAD, ("200_25_F_LY_001", "LY", "", "", "200_25_F_LY/FACE/200_25_F_LY_001_FACE.mp4", "海"))
    got = find_corpus(tmp_path)
    assert [(c.id, c.speaker, c.split, c.text, c.extras["age"], c.extras["sex"]) for c in got] == [("200_25_F_LY_001", "200", "test", "海", "25", "F"), ("127_21_M_KJ_001", "127", "train", "你好,世界。", "21", "M"), ("010_30_F_TY_002", "010", "valid", "看见", "30", "F")]
    assert not got.skipped and any("1 sounds of the tables are not there" in n for n in got.notes)


def test_chinese_lips_holes_are_listed(film, tmp_path):
    put(film, tmp_path, "processed_train/001/a.mp4", "processed_train/001/b.mp4", "processed_train/001/c.mp4", "processed_train/002/clip_0.mp4", "processed_train/001/unlisted.mp4")
    (tmp_path / "processed_train/001/text.mp4").write_text("this is a text " * 99)
    (tmp_path / "outside.mp4").parent.joinpath("processed_train/001/empty.mp4").touch()
    face = "processed_train/001/{}.mp4".format
    table(tmp_path / "meta_train.csv", HEAD, *[(i, "t", "", "", f, x) for i, f, x in (("a", face("a"), "一"), ("b", face("b"), " "), ("gone", face("gone"), "二"), ("out", "../../secret.mp4", "三"), ("text", face("text"), "四"), ("empty", face("empty"), "五"),
          ("again", face("a"), "六"), ("a", face("c"), "七"), ("clip", "processed_train/003/clip_0.mp4", "八"))], ("short", "line"))
    got = read_videos(tmp_path)
    assert [c.id for c in got] == ["a"]
    told = why(got)
    assert told["gone.mp4"] == "line 4 of meta_train.csv: no such file below the folder" and "leaves the folder and is not opened" in told["secret.mp4"]
    assert "found text" in told["text.mp4"] and "it is empty" in told["empty.mp4"] and "the text is empty" in told["b.mp4"] and "has 2 cells, the header 6" in told["meta_train.csv, line 11"]
    assert "is the video of line 2" in told["a.mp4"] and "has the id a of" in told["c.mp4"] and "no line in meta_train.csv" in told["unlisted.mp4"]
    assert "lies in another place, processed_train/002/clip_0.mp4" in next(r for p, r in got.skipped if "003" in str(p))
    assert len(got) + len(got.skipped) >= 11


def test_columns_that_are_missing_are_named(film, tmp_path):
    put(film, tmp_path, "processed_train/a.mp4")
    table(tmp_path / "meta_train.csv", ("NUMBER", "SAID"), ("1", "x"))
    with pytest.raises(InputError, match=r"meta_train.csv: the table lacks a column: found NUMBER, SAID; wanted one that names the video \(face"): find_corpus(tmp_path)
    (tmp_path / "meta_train.csv").write_text("")
    with pytest.raises(InputError, match="the table is empty"): find_corpus(tmp_path)
    (tmp_path / "meta_train.csv").write_bytes(b"\xff\xfe\x00\xd8\x00")
    with pytest.raises(InputError, match="is not text that can be read"): find_corpus(tmp_path)


def test_people_in_two_splits(film, tmp_path):
    put(film, tmp_path, "train/ann/a.mp4", "test/ann/b.mp4", "test/bob/c.mp4", "val/eve/d.mp4")
    got = find_corpus(tmp_path)
    assert [(c.speaker, c.split) for c in got] == [("ann", "test"), ("bob", "test"), ("ann", "train"), ("eve", "valid")]
    assert any("1 person is in two splits: ann is in test, train" in n for n in got.notes) and [p.kind for p in check_videos(got, faces=0).problems if p.kind == "leak"] == ["leak"]


# ---- other layouts

def test_strange_names_and_companions(film, tmp_path):
    root = put(film, tmp_path / "it's \"mine\" 影片", "Ann O'Neil/a b.mp4", "Ann O'Neil/引\"号.mp4", "李/1/x.MP4", "李/2/x.mov", "李/2/x.mp4", "root.mp4")
    (root / "Ann O'Neil/a b.txt").write_text("Hello there.\n", encoding="utf-8")
    (root / "Ann O'Neil/引\"号.txt").write_text("你好。", encoding="gb18030")
    (root / "README.txt").write_text("about")
    (root / "stray.TextGrid").write_text("no")
    got = find_corpus(root)
    assert [(c.id, c.speaker, c.text, c.lang) for c in got] == [("Ann O'Neil/a b", "Ann O'Neil", "Hello there.", "en"), ("Ann O'Neil/引\"号", "Ann O'Neil", "你好。", "cmn"), ("root", "", "", "en"), ("李/1/x", "李", "", "en"), ("李/2/x", "李", "", "en")]
    assert why(got) == {"x.mp4": "has the same name as x.mov, which was taken", "stray.TextGrid": "no video with this name"}
    assert "4 of 5" not in str(got.notes) and "3 of 5 videos have no text beside them" in got.notes


@pytest.mark.parametrize("suffix", (".csv", ".tsv", ".json", ".jsonl"))
def test_tables_of_any_make(film, tmp_path, suffix):
    put(film, tmp_path, "one.mp4", "sub/two 2.mp4")
    rows = [{"path": "one.mp4", "text": "we see", "speaker": "ann"}, {"path": "sub/two 2.mp4", "text": "看, 见", "speaker": "bob"}]
    path = tmp_path / f"list{suffix}"
    if suffix in (".csv", ".tsv"):
        with open(path, "w", encoding="utf-8-sig", newline="") as f: w = csv.DictWriter(f, list(rows[0]), delimiter="," if suffix == ".csv" else "\t"); w.writeheader(); w.writerows(rows)
    else: path.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)))
    for source in (tmp_path,) if suffix == ".jsonl" else (tmp_path, path):
        assert [(c.id, c.speaker, c.text, c.lang) for c in find_corpus(source)] == [("one", "ann", "we see", "en"), ("sub/two 2", "bob", "看, 见", "cmn")]
    table(tmp_path / "bad.csv", ("number", "words"), ("1", "x"))
    with pytest.raises(InputError, match="found number, words"): video_list(tmp_path / "bad.csv")


def test_a_list_for_preparation_needs_no_text(film, tmp_path):
    put(film, tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "batch.json").write_text(json.dumps({"videos": [{"path": "a.mp4", "name": "ann", "asr_model": "ave"}, {"path": "b.mp4", "name": "bob"}]}))
    got = find_corpus(tmp_path / "batch.json")
    assert [(c.speaker, c.text, c.extras) for c in got] == [("ann", "", {"asr_model": "ave"}), ("bob", "", {})]


def test_grid_layouts(film, tmp_path):
    align = "0 6250 sil\n6250 12500 bin\n12500 15000 blue\n15000 17500 at\n17500 20000 f\n20000 22500 two\n22500 24000 now\n24000 25000 sil\n"
    for root, video, where in ((tmp_path / "a", "s1/bbaf2n.mpg", "alignments/s1/bbaf2n.align"), (tmp_path / "b", "s1/video/mpg_6000/bbaf2n.mpg", "s1/align/bbaf2n.align"), (tmp_path / "c", "bbaf2n.mp4", "bbaf2n.align"), (tmp_path / "d", "s1_bbaf2n.mp4", "bbaf2n.align")):
        put(film, root, video)
        (root / where).parent.mkdir(parents=True, exist_ok=True)
        (root / where).write_text(align)
        got = find_corpus(root)
        assert video_layout(root) is grid and [(c.text, len(words_of(c))) for c in got] == [("bin blue at f two now", 6)] and not got.skipped, root
        assert got[0].speaker == ("s1" if root.name != "c" else "")
    (tmp_path / "a/alignments/s1/bbaf2n.align").write_text(align.replace("two", "three"))
    assert "1 texts are not what the files' names say" in find_corpus(tmp_path / "a").notes[0]
    (tmp_path / "a/alignments/s1/bbaf2n.align").write_text("0 bin\n")
    got = find_corpus(tmp_path / "a")
    assert got[0].text == "bin blue at f two now" and "line 1" in why(got)["bbaf2n.align"] and "read from the files' names" in got.notes[0]


def test_sound_corpora_stay_sound_corpora(film, tmp_path):
    from lipsync.audio.core import write
    for n in "abc": write(tmp_path / f"speech/{n}.wav", np.zeros(16_000, np.float32), 16_000); (tmp_path / f"speech/{n}.txt").write_text("we see")
    put(film, tmp_path / "speech", "demo.mp4")
    assert video_layout(tmp_path / "speech") is None and find_corpus(tmp_path / "speech").source.startswith("prepared folder")
    write(tmp_path / "web/a.wav", np.zeros(16_000, np.float32), 16_000)
    with av.open(str(tmp_path / "web/b.mp4"), "w") as o:  # a sound in a film's clothes
        s = o.add_stream("aac", rate=16_000)
        for f in (av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono"), None):
            if f is not None: f.sample_rate = 16_000
            for p in s.encode(f): o.mux(p)
    (tmp_path / "web/a.wav").unlink()
    (tmp_path / "web/b.txt").write_text("we see")
    assert video_layout(tmp_path / "web") is None and len(find_corpus(tmp_path / "web")) == 1


def test_bad_places(tmp_path, film):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="the folder is empty"): find_corpus(tmp_path / "empty")
    with pytest.raises(InputError, match="no such"): find_corpus(tmp_path / "gone.mp4")
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(InputError, match="text.mp4: is not a video that can be read: found text"): find_corpus(tmp_path / "text.mp4")
    assert find_corpus(film)[0].id == "a"
    with pytest.raises(InputError, match="no video could be used: found 1 skipped"): find_corpus(put(tmp_path / "text.mp4", tmp_path / "only", "x.mp4"))


def test_twenty_thousand_names(tmp_path, film):
    first = tmp_path / "id000/0.mp4"
    first.parent.mkdir()
    first.write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    for k in range(200):
        (tmp_path / f"id{k:03d}").mkdir(exist_ok=True)
        for n in range(100):
            if k or n: os.link(first, tmp_path / f"id{k:03d}/{n}.mp4")
    table(tmp_path / "list.csv", ("path", "text"), *((f"data/id{k:03d}/{n}.avi", "we see") for k in range(200) for n in range(100)))
    began = time.process_time()
    tree = Tree(tmp_path)
    took = time.process_time() - began
    assert len(tree.videos) == 20_000 and took < 8, took
    began = time.process_time()
    assert len(video_list(tree)) == 20_000  # every path is only nearly right
    assert time.process_time() - began < 10


# ---- data sets of videos on the hub, without a network

def test_hub_set_written_by_datasets(film, tmp_path):
    import datasets
    ds = datasets.Dataset.from_dict({"video": [{"bytes": film.read_bytes(), "path": "x.mp4"}] * 3, "transcript": ["we see", "看见", "we"], "speaker": ["ann", "bob", "bob"]}).cast_column("video", datasets.Video(decode=False))
    (tmp_path / "set").mkdir()
    ds.to_parquet(str(tmp_path / "set" / "validation-00000-of-00001.parquet"))
    for streaming in (True, False):
        got = hub(tmp_path / "set", "validation", streaming=streaming, cache=tmp_path / f"cache {streaming}")
        assert [(c.speaker, c.text, c.split, c.lang) for c in got] == [("ann", "we see", "valid", "en"), ("bob", "看见", "valid", "cmn"), ("bob", "we", "valid", "en")]
        assert all(c.video.read_bytes() == film.read_bytes() and c.audio is None and abs(c.seconds - 1) < .05 for c in got)
    with pytest.raises(InputError, match="cannot be opened.*(train|split)"): hub(tmp_path / "set", "train")


def test_hub_set_of_bytes_with_a_sound_and_of_names(film, tmp_path):
    import pyarrow, pyarrow.parquet
    sound = {"bytes": film.read_bytes(), "path": None}
    (tmp_path / "set").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"lip_video": [film.read_bytes()] * 2, "audio": [sound] * 2, "text": ["we see", ""], "spk_id": [7, 8]}), tmp_path / "set" / "train.parquet")
    got = find_corpus(tmp_path / "set")
    assert [(c.speaker, c.video.suffix, c.audio is not None) for c in got] == [("7", ".mp4", True)] and "no text" in got.skipped[0][1]
    put(film, tmp_path / "named", "clips/a.mp4")
    pyarrow.parquet.write_table(pyarrow.table({"file_name": ["clips/a.mp4", "clips/gone.mp4", "../../x.mp4"], "text": ["we see"] * 3}), tmp_path / "named" / "train.parquet")
    got = find_corpus(tmp_path / "named")
    assert [c.video.name for c in got] == ["a.mp4"] and "no such file" in got.skipped[0][1] and "leads out of its folder" in got.skipped[1][1]


def test_gated_set_says_how_to_get_access(tmp_path, monkeypatch):
    import httpx2 as httpx, huggingface_hub
    from huggingface_hub.errors import GatedRepoError
    def refuse(*args, **kw): raise GatedRepoError("403: restricted", response=httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co")))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.setenv("LIPSYNC_HOME", str(tmp_path))
    for name in ("chinese-lips", "BAAI/Chinese-LiPS"):
        with pytest.raises(InputError, match=r"gated.*https://huggingface.co/datasets/BAAI/Chinese-LiPS.*hf auth login.*HF_TOKEN"): find_corpus(name)
    import datasets
    def gated(*args, **kw): raise datasets.exceptions.DatasetNotFoundError("Dataset 'x/y' is a gated dataset on the Hub.")
    monkeypatch.setattr(datasets, "load_dataset", gated)
    with pytest.raises(InputError, match="is gated.*hf auth login"): find_corpus("x/y")


def test_chinese_lips_is_fetched_once_and_goes_on(film, tmp_path, monkeypatch):
    import huggingface_hub
    calls = []
    def fetch(repo, *, repo_type, revision, local_dir, allow_patterns):
        calls.append((repo, repo_type))
        table(Path(local_dir) / "meta_train.csv", HEAD, ("127_21_M_KJ_001", "KJ", "", "", "KJ/127_21_M_KJ/127_21_M_KJ_001.mp4", "你好"))
        table(Path(local_dir) / "meta_valid.csv", HEAD, ("010_30_F_TY_001", "TY", "", "", "TY/010_30_F_TY/010_30_F_TY_001.mp4", "看"))
        for part, name in (("train", "KJ/127_21_M_KJ/127_21_M_KJ_001.mp4"), ("val", "processed_val/TY/010_30_F_TY/010_30_F_TY_001.mp4")):
            with zipfile.ZipFile(Path(local_dir) / f"processed_{part}.zip", "w") as z: z.writestr(name, film.read_bytes())
        if len(calls) == 1: Path(local_dir, "processed_val.zip").write_bytes(b"PK\x03\x04 broken")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setenv("LIPSYNC_HOME", str(tmp_path))
    with pytest.raises(InputError, match="processed_val.zip: is not a whole archive"): find_corpus("chinese-lips")
    got = find_corpus("chinese-lips")  # a second try: what was unpacked stays
    assert [(c.id, c.speaker, c.split, c.extras["picture"]) for c in got] == [("127_21_M_KJ_001", "127", "train", "mouth"), ("010_30_F_TY_001", "010", "valid", "mouth")] and not got.skipped
    find_corpus("chinese-lips")
    assert calls == [("BAAI/Chinese-LiPS", "dataset")] * 2 and not list(tmp_path.rglob("*.zip"))
    assert download_chinese_lips() == tmp_path / "chinese-lips"


# ---- lipsync check and lipsync stats

def empty_track(path):
    "A video whose track holds no picture."
    with av.open(str(path), "w", format="matroska") as o:
        s = o.add_stream("libx264", rate=25)
        s.width = s.height = 64
        s.pix_fmt = "yuv420p"
        a = o.add_stream("aac", rate=16_000)
        f = av.AudioFrame.from_ndarray(np.zeros((1, 4_096), np.float32), format="fltp", layout="mono")
        f.sample_rate = 16_000
        for p in [*a.encode(f), *a.encode(None)]: o.mux(p)
    return path


@pytest.fixture(scope="session")
def ill(tmp_path_factory, film):
    "A folder of two people whose videos are wrong in every way."
    root = tmp_path_factory.mktemp("ill") / "ill '影' "
    put(film, root, "ann/good.mp4", "ann/twin.mp4")
    tone = (.3 * np.sin(np.arange(64_000) / 20)).astype("float32")
    write_video(root / "ann/mute.mp4", stripes(), 30)
    write_video(root / "ann/late.mp4", stripes(50), 25, tone[:16_000], 16_000)
    write_video(root / "ann/one.mp4", stripes(5, 2)[:, :2, :2], 25, tone[:3_200], 16_000)
    whole = write_video(root / "bob/cut.mp4", stripes(75), 25, tone[:48_000], 16_000)
    whole.write_bytes(whole.read_bytes()[:whole.stat().st_size * 3 // 5])
    (root / "bob/text.mp4").write_text("hello")
    (root / "bob/noise.mp4").write_bytes(np.random.default_rng(0).bytes(5_000))
    empty_track(root / "bob/none.mp4")
    (root / "ann/good.txt").write_text("we see")
    return root


WANTED = {"twin.mp4": "is the same file as", "mute.mp4": "has no sound", "late.mp4": "shorter than the picture", "one.mp4": "2 x 2 pixels", "cut.mp4": "is cut short", "text.mp4": "found text", "noise.mp4": "is not a video", "none.mp4": "picture"}


@pytest.mark.parametrize("deep", (False, True), ids=("cheap", "deep"))
def test_check_tells_every_ill(ill, capsys, deep):
    found = json.loads(run(capsys, "check", ill, "--json", "--faces", 0, *["--deep"] * deep, code=1).out)
    said = " ".join(p["what"] for p in found["problems"])
    assert (found["kind"], found["ok"]) == ("videos", False) and all(any(name in p["what"] and words in p["what"] for p in found["problems"]) for name, words in WANTED.items()), said
    errors = {Path(p["what"].split(".mp4")[0]).name for p in found["problems"] if p["error"]}
    assert errors == {"mute", "one", "cut", "text", "noise", "none"}
    assert not any("good.mp4: " in p["what"] for p in found["problems"])
    people = {r["person"]: r for r in found["people"]}
    assert (people["ann"]["clips"], people["ann"]["text"], people["ann"]["sound"], people["ann"]["phones"]) == (5, 1, 4, 0) and people["bob"]["errors"] >= 2
    assert any("faces were not looked for" in n for n in found["notes"])
    text = run(capsys, "check", ill, "--faces", 0, code=1).out
    assert "person  clips  seconds" in text and "ERROR  cut-short" in text and "doubt  twin" in text


def test_check_in_a_worker_says_the_same(ill):
    corpus = read_videos(ill)
    one, two = (sorted((p.id, p.kind) for p in check_videos(corpus, faces=0, workers=n).problems) for n in (0, 1))
    assert one == two


def test_check_of_one_video(ill, film, capsys):
    good = json.loads(run(capsys, "check", film, "--json", "--faces", 0).out)
    assert (good["kind"], good["ok"], good["facts"]["a"]["frames"], good["facts"]["a"]["fps"]) == ("video", True, 25, 25)
    for name in ("cut", "text", "noise", "none", "mute"):
        bad = json.loads(run(capsys, "check", ill / ("ann" if name == "mute" else "bob") / f"{name}.mp4", "--json", "--faces", 0, code=1).out)
        assert bad["kind"] == "video" and WANTED[f"{name}.mp4"] in bad["problems"][0]["what"]
    assert "no such file" in run(capsys, "check", ill / "gone.mp4", code=1).err


def test_check_looks_for_faces(drawn, film, tmp_path):
    pytest.importorskip("mediapipe")
    root, _ = drawn("grid", "real", "en")
    assert [p.kind for p in check_videos(find_corpus(root)).problems] == []
    assert [p.kind for p in check_videos(find_corpus(put(film, tmp_path, "x.mp4"))).problems] == ["no-face"]
    crops = check_videos(find_corpus(drawn("chinese-lips", "real", "cmn")[0]))
    assert not crops.problems and "3 crops of mouths" in crops.notes[0]


def test_check_says_when_nobody_looked_for_faces(film, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    health = check_videos(find_corpus(put(film, tmp_path, "x.mp4")))
    assert not health.problems and "faces were not looked for" in health.notes[0] and "lipsync[face]" in health.notes[0]


def test_check_reads_the_ledgers(film, tmp_path, capsys):
    put(film, tmp_path, "in/ann/a.mp4", "in/bob/b.mp4")
    state = lambda where, **kw: (where.mkdir(parents=True, exist_ok=True), (where / ".training_state.json").write_text(json.dumps(kw)))
    state(tmp_path / "in/ann", preprocessing={"completed": True, "counts": {"frames": 25}}, syncnet_training={"completed": True}, main_training={"completed": False})
    state(tmp_path / "in/bob", preprocessing={"completed": False, "steps": {"landmarks": {"state": "failed", "why": "no face"}}})
    found = json.loads(run(capsys, "check", tmp_path / "in", "--json", "--faces", 0, code=1).out)
    assert [(r["person"], r["prepared"], r["state"]) for r in found["people"]] == [("ann", 1, "syncnet_training"), ("bob", 0, "landmarks failed")]
    assert [p["what"].split(": ", 1)[1] for p in found["problems"] if p["error"]] == ["landmarks: no face"]
    state(tmp_path / "out/a", preprocessing={"completed": True, "clip": {"id": "a", "speaker": "ann"}, "counts": {"frames": 25}})
    assert json.loads(run(capsys, "check", tmp_path / "out", "--json").out)["kind"] == "prepared"
    assert "1 of 1 are prepared" in run(capsys, "check", tmp_path / "out").out


def test_stats_and_picture(ill, drawn, capsys, tmp_path):
    st = json.loads(run(capsys, "stats", ill, "--json", "--picture", tmp_path / "a b.png").out)
    assert st["video"]["videos"] == 6 and st["video"]["unreadable"] == 2 and st["video"]["silent"] == 1 and st["people"]["ann"]["clips"] == 5
    assert {"25", "30"} == set(st["video"]["fps"]) and st["video"]["sizes"]["64x64"] == 5
    from PIL import Image
    with Image.open(tmp_path / "a b.png") as picture: assert picture.size == (1300, 600)
    text = run(capsys, "stats", drawn("chinese-lips", "real", "cmn")[0]).out
    assert "3 speakers" in text and "64x64 (3) pixels" in text and "characters of" in text
    assert "kind of picture" in run(capsys, "stats", ill, "--picture", tmp_path / "a.doc", code=1).err


# ---- the real recordings

def test_real_videos(capsys):
    if not DATA.is_dir(): pytest.skip("no recordings at ../shared/data/video")
    c = find_corpus(DATA / "grid")
    assert c.source.startswith("grid") and len(c) == 5 and not c.skipped and c["bbaf2n"].text == "bin blue at f two now" and c["id2_vcd_swwp2s"].speaker == "id2"
    assert [w.label for w in words_of(c["id2_vcd_swwp2s"])] == "set white with p two soon".split()
    facts, problems = look(c["bbaf2n"], deep=True)
    assert (facts["width"], facts["height"], facts["fps"], facts["frames"], problems) == (360, 288, 25, 75, [])
    actors = video_stats(find_corpus(DATA / "actors"))
    assert actors["video"]["fps"] == {"25": 1, "30": 1} and actors["video"]["sizes"] == {"1080x1920": 2}
