"""Alignments: files made by other people's programs, faults, and a thousand random tiers there and back."""
import json, time
from pathlib import Path
import numpy as np
import pytest
from lipsync.core import InputError
from lipsync.intervals import Alignment, Interval, check_intervals, cut, guess_phoneset, read_alignment, read_textgrid, save_alignment, shift, textgrid_text, write_textgrid
from lipsync.visemes import UnknownPhone, viseme_of

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "en"

def shared(*parts):
    path = SHARED.joinpath(*parts)
    if not path.exists(): pytest.skip(f"the development recordings are not here: {'/'.join(parts)}")
    return path

def spoken(tier): return [(iv.label, iv.start, iv.stop) for iv in tier if iv.label]

# ---- real files ----

def test_every_textgrid_there_is():
    files = [*shared("textgrid").glob("*.TextGrid"), *shared("ljspeech", "textgrid").glob("*.TextGrid")]
    assert len(files) >= 100
    for path in files:
        tiers = read_textgrid(path)
        assert tiers and any(spoken(t) for t in tiers.values()), path

def test_praatio_spellings_agree():
    folder = shared("textgrid")
    praat, elan = (read_textgrid(folder / f"bobby_phones{n}.TextGrid")["phone"] for n in ("", "_elan"))
    assert [iv[::2] for iv in praat] == [iv[::2] for iv in elan] and praat[:-1] == elan[:-1]  # the two files end at different times
    short, long, elan = (read_textgrid(folder / f"bobby_words_with_newlines{n}.TextGrid") for n in ("", "_longfile", "_longfile_elan"))
    assert list(short) == ['"word"', "phrase", ""] and all(short[t] == long[t] for t in ('"word"', "phrase"))
    assert [(p.start, p.label.split("\n")[0]) for p in short[""]] == [(p.start, p.label.split("\n")[0]) for p in long[""]]  # later lines differ in the files
    assert elan == long
    assert short['"word"'][1].label == '"""BOBBY"""\nNoun' and short[""][0].start == short[""][0].stop == 0.23290458517889742
    utf8, utf16 = read_textgrid(folder / "mary.TextGrid"), read_textgrid(folder / "mary_longfile.TextGrid")
    assert utf8 == utf16 and [iv.label for iv in utf8["phone"] if iv.label][:4] == ["m", "ə", "r", "i"]
    assert read_textgrid(folder / "mary_with_negative_zero.TextGrid") == utf8

def test_bobby_and_mary_become_alignments():
    bobby = read_alignment(shared("textgrid", "bobby_phones.TextGrid"))
    assert bobby.phoneset == "arpabet" and [p.label for p in bobby.phones if p.label] == "B AA1 B IY0 R IH1 PT DH AH0 L EH1 JH ER0".split()
    with pytest.raises(UnknownPhone, match="'PT'.*nearest"): viseme_of("PT")  # what a hand wrote, and no alphabet has
    mary = read_alignment(shared("textgrid", "mary.TextGrid"))
    assert mary.phoneset == "ipa" and mary.text.lower().startswith("mary") and {viseme_of(p.label, "ipa") for p in mary.phones} >= {"PP", "RR", "nn", "TH"}

def test_ljspeech_is_arpabet_throughout():
    for path in shared("ljspeech", "textgrid").glob("*.TextGrid"):
        a = read_alignment(path)
        assert a.phoneset == "arpabet" and a.words and a.text
        for p in a.phones: viseme_of(p.label)

def test_librivox_json():
    files = sorted(shared("librivox").glob("*.phone.json"))
    assert len(files) == 5
    for path in files:
        a = read_alignment(path)
        assert a.phoneset == "arpabet" and a.phones[0].label == "SIL" and abs(a.stop - json.loads(path.read_text())["d"]) < .011
        assert [w.label for w in a.words if w.label] == a.text.split()

def test_broken_halves_of_a_real_file(tmp_path):
    raw = shared("textgrid", "mary_longfile.TextGrid").read_bytes()
    for n in range(0, len(raw) - 1, 97):
        (tmp_path / "half.TextGrid").write_bytes(raw[:n])
        try: read_textgrid(tmp_path / "half.TextGrid")
        except InputError as err: assert "half.TextGrid" in str(err) and ("TextGrid" in err.what or "text" in err.what)
        else: assert n > len(raw) - 12  # only trailing blanks and the newline may be lost

# ---- made up here ----

def random_tier(rng, points=False):
    edges = np.cumsum(rng.uniform(.001, .4, 2 * rng.integers(1, 12)))
    labels = ["a", 'say "x"', "two\nlines", "œ 你好", "1.5", "<exists>", "! no comment", "xmin = 3", " "]
    if points: return [Interval(float(t), float(t), labels[rng.integers(len(labels))]) for t in edges]
    return [Interval(float(s), float(e), labels[rng.integers(len(labels))]) for s, e in zip(edges[::2], edges[1::2])]

def test_there_and_back(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(200):
        tiers = {f'tier "{i}"': random_tier(rng, points=bool(rng.integers(2))) for i in range(rng.integers(1, 4))}
        text = textgrid_text(tiers)
        codec = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")[k % 5]
        (tmp_path / "t.TextGrid").write_bytes(text.replace("\n", "\r\n" if k % 3 == 0 and "two" not in text else "\n").encode(codec))
        back = read_textgrid(tmp_path / "t.TextGrid")
        assert {n: [iv for iv in t if iv.label] for n, t in back.items()} == tiers

def test_long_files_read_quickly(tmp_path):
    tier = [Interval(i / 100, (i + 1) / 100, "AH0") for i in range(20_000)]
    write_textgrid(tmp_path / "long.TextGrid", {"phones": tier})
    began = time.perf_counter()
    assert read_textgrid(tmp_path / "long.TextGrid")["phones"] == tier
    assert time.perf_counter() - began < 5

@pytest.mark.parametrize("rows, says", [([(0, 1, "a"), (.5, 2, "b")], "overlap"), ([(1, .5, "a")], "ends before it starts"), ([(-1, .5, "a")], "starts before 0"),
    ([(0, float("inf"), "a")], "not finite"), ([(0, None, "a")], "not a number"), ([(2, 3, "a"), (0, 1, "b")], "overlap")])
def test_faults_have_names(rows, says, tmp_path):
    with pytest.raises(InputError, match=says) as err: check_intervals(rows, "phones", "x.TextGrid")
    assert "x.TextGrid" in str(err.value) and "'phones'" in str(err.value) and "interval" in str(err.value)

def test_rounding_is_mended():
    assert check_intervals([(0, .10004, "a"), (.1, .2, "b")]) == [Interval(0, .1, "a"), Interval(.1, .2, "b")]

def test_alignment_round_trip(tmp_path):
    a = Alignment([(0, .1, "tS"), (.1, .3, "'eI")], [(0, .3, "chay")], "espeak", "chay")
    assert read_alignment(save_alignment(tmp_path / "a.json", a)) == a
    assert read_alignment(save_alignment(tmp_path / "a.TextGrid", a)).phoneset == "espeak"

def test_cut_and_shift():
    a = Alignment([(0, .1, "B"), (.1, .3, "AA")], [(0, .3, "ba")])
    assert [p.label for p in cut(a, .05, .2).phones] == ["B", "AA"] and cut(a, .05, .2).stop == pytest.approx(.15)
    assert shift(a, -.2).phones == [Interval(0., pytest.approx(.1), "AA")]

def test_two_speakers_must_be_told_apart(tmp_path):
    path = write_textgrid(tmp_path / "two.TextGrid", {"ann - phones": [Interval(0, 1, "AA")], "bob - phones": [Interval(0, 1, "B")]})
    with pytest.raises(InputError, match="more than one tier"): read_alignment(path)
    assert read_alignment(path, phones="bob - phones").phones[0].label == "B"

def test_unknown_phone_is_named():
    with pytest.raises(UnknownPhone, match="'XX'"): viseme_of("XX")
    assert guess_phoneset(["AA1", "XX"]) == "arpabet"
