"""The aligner of `lipsync.corpus.align`: against eSpeak's exact times, against people and another aligner on ../shared/data (skipped where absent), and as a resumable pool."""
import difflib
import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pocketsphinx", reason="the aligner needs the extra `align`")
pytest.importorskip("espeakng_loader", reason="the spoken sentences need the extra `corpus`")

from lipsync.audio.core import read, write
from lipsync.core import InputError
from lipsync.corpus.align import MAX_MISFIT, MisfitError, align, align_corpus, each, fit, phone_loop
from lipsync.corpus.core import Clip, Corpus
from lipsync.corpus.readers import read_folder
from lipsync.intervals import Alignment, read_alignment
from lipsync.speech.espeak import speak
from lipsync.track import frame_labels, viseme_cues

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "en"


def real(name):
    if not (DATA / name).exists(): pytest.skip(f"no recordings at ../shared/data/en/{name}")
    return DATA / name


def agreement(pairs):
    "Share of all 10 ms frames on which two alignments have the same viseme; pairs of (found, true, seconds)."
    labels = [[frame_labels(viseme_cues(a), int(s * 100)) for a in pair] for *pair, s in pairs]
    return float(np.mean(np.concatenate([a == b for a, b in labels])))


def start_errors(pairs):
    "Milliseconds by which the starts of the phones that both have differ, and how many phones the true ones have."
    def plain(a): return [(re.sub(r"\d", "", i.label).upper(), i.start) for i in a.phones if re.sub(r"\d", "", i.label).upper() not in ("SIL", "SP", "SPN", "")]
    errors, n = [], 0
    for found, true, _ in pairs:
        a, b = plain(found), plain(true)
        n += len(b)
        for m in difflib.SequenceMatcher(None, [p for p, _ in a], [p for p, _ in b], autojunk=False).get_matching_blocks():
            errors += [1000 * (a[m.a + k][1] - b[m.b + k][1]) for k in range(m.size)]
    return np.array(errors), n


SENTENCES = ("Bob kept nine big cats in the harbour house.", "She sells sea shells by the sea shore.", "We were away a year ago, and nothing has changed.", "How much money should I give you for the journey?")


def test_against_exact_times():
    pairs = []
    for text in SENTENCES:
        for voice in ("en-us", "en-us+f3"):
            wav, true = speak(text, voice, seed=1)
            pairs.append((align(wav, text), true, wav.seconds))
    errors, n = start_errors(pairs)
    print(f"eSpeak: {agreement(pairs):.3f} of the frames, {len(errors)}/{n} phones, median {np.median(abs(errors)):.1f} ms, bias {np.median(errors):+.1f} ms")
    assert agreement(pairs) > .78 and len(errors) > .9 * n and np.median(abs(errors)) < 13 and abs(np.median(errors)) < 7


def test_against_a_person():
    "praatIO's bobby, the only phones here that a person has marked."
    true = read_alignment(real("textgrid") / "bobby_phones.TextGrid", "arpabet")
    true = Alignment([i._replace(label="T") if i.label == "PT" else i for i in true.phones])
    wav = read(DATA / "textgrid" / "bobby.wav")
    pairs = [(align(wav, "Bobby ripped the ledger"), true, wav.seconds)]
    errors, n = start_errors(pairs)
    print(f"bobby: {agreement(pairs):.3f} of the frames, {len(errors)}/{n} phones, median {np.median(abs(errors)):.1f} ms")
    assert agreement(pairs) > .65 and len(errors) == n and np.median(abs(errors)) < 15


def test_against_another_aligner():
    "LJSpeech with the Montreal Forced Aligner's times; and the phone loop, which must be worse."
    rows = read_folder(real("ljspeech")).filter(lambda c: "unknown_words" not in c.extras)[:20]
    pairs = [(align(c.wav(), c.text), c.phones(), c.seconds) for c in rows]
    errors, n = start_errors(pairs)
    loops = [(phone_loop(c.wav()), c.phones(), c.seconds) for c in rows[:8]]
    print(f"LJSpeech: {agreement(pairs):.3f} of the frames, {len(errors)}/{n} phones, median {np.median(abs(errors)):.1f} ms, {np.mean(abs(errors) < 50):.2f} within 50 ms; phone loop {agreement(loops):.3f}")
    assert agreement(pairs) > .78 and len(errors) > .9 * n and np.median(abs(errors)) <= 10.5 and np.mean(abs(errors) < 50) > .95
    assert agreement(loops) < agreement(pairs) - .1


def test_against_the_same_engine():
    "LibriVox with pocketsphinx's own times: they differ by the 10 ms that we move them, which says nothing of their truth."
    rows = read_folder(real("librivox"))
    pairs = [(align(c.wav(), c.text), c.phones(), c.seconds) for c in rows]
    errors, n = start_errors(pairs)
    print(f"LibriVox: {agreement(pairs):.3f} of the frames, {len(errors)}/{n} phones, bias {np.median(errors):+.1f} ms")
    assert agreement(pairs) > .85 and abs(np.median(errors) - 10) < 1


def test_transcripts_that_fit_and_that_do_not():
    rows = sorted(read_folder(real("librispeech")), key=lambda c: len(c.text))[2::21]
    right = [fit(c.wav(), c.text).misfit for c in rows]
    print(f"LibriSpeech: {len(rows)} right transcripts, misfit at most {max(right):.3f}")
    assert max(right) < .6 * MAX_MISFIT
    for c, other in zip(rows, rows[1:] + rows[-2:-1]):
        with pytest.raises(MisfitError): align(c.wav(), other.text)
        with pytest.raises(MisfitError): align(c.wav(), " ".join(c.text.split()[:int(.7 * len(c.text.split()))]))


def test_a_hole_in_a_transcript_is_found():
    "LJ050-0115: its TextGrid has <unk> between 'the' and 'and', so that its text lacks a word."
    c = read_folder(real("ljspeech"))["LJ050-0115"]
    assert c.extras["unknown_words"] == 1
    with pytest.raises(MisfitError, match="the text is not what is said.*<sil>"): align(c.wav(), c.text)


# ---- the pool
def double(n): return 2 * n


def misbehave(what):
    if what == "die": os._exit(3)
    if what == "hang": time.sleep(60)
    if what == "fail": raise InputError("no such thing", found=what)
    return what


def test_workers_may_die_hang_and_fail():
    tasks = ["a", "die", "b", "hang", "fail", "c"]
    got = {task: (answer, why) for task, answer, why in each(misbehave, tasks, workers=2, limit=25)}
    assert [got[t] for t in "abc"] == [("a", ""), ("b", ""), ("c", "")]
    assert got["die"] == (None, "the worker died (exit code 3)") and "longer than 25" in got["hang"][1] and "no such thing" in got["fail"][1]
    assert sorted(a for _, a, _ in each(double, range(5), workers=2)) == [0, 2, 4, 6, 8]


def test_corpus_with_workers_resumes(tmp_path):
    rows = []
    for n, text in enumerate(SENTENCES):
        write(tmp_path / f"语 {n}.wav", speak(text, seed=n)[0])
        rows.append(Clip(f"语 {n}", audio=tmp_path / f"语 {n}.wav", text=text))
    rows += [replace(rows[0], id="wrong", text=SENTENCES[3]), replace(rows[0], id="gone", audio=tmp_path / "gone.wav"), replace(rows[0], id="zh", text="我们", lang="cmn"),
             replace(rows[1], id="part", start=.2, stop=rows[1].seconds - .05)]
    out = tmp_path / "aligned"
    done = align_corpus(Corpus(rows), out, workers=2)
    assert [c.id for c in done] == [c.id for c in rows if c.id not in ("wrong", "gone", "zh")]
    why = dict(done.skipped)
    assert "cannot be laid over" in why["wrong"] or "not what is said" in why["wrong"]
    assert "gone.wav" in why["gone"] and "English only" in why["zh"]
    assert {json.loads(line)["id"] for line in (out / "failures.jsonl").read_text().splitlines()} == set(why) - {"gone"}   # without its sound there is nothing to know it by
    words = [[(i.label, round(i.start + c.start, 1)) for i in c.phones().words] for c in (done["语 1"], done["part"])]
    assert words[0][1:-1] == words[1][1:-1]          # a piece of a file is aligned in the time of the file
    stamps = {f: f.stat().st_mtime_ns for f in out.iterdir()}
    again = align_corpus(Corpus(rows), out)
    assert again.rows == done.rows and again.skipped == done.skipped and {f: f.stat().st_mtime_ns for f in out.iterdir() if f.suffix == ".json"} == {f: t for f, t in stamps.items() if f.suffix == ".json"}
    next(out.glob("*.json")).unlink()
    (out / "failures.jsonl").write_text((out / "failures.jsonl").read_text() + '{"key": "cut sh')   # killed while it wrote
    assert align_corpus(Corpus(rows), out).rows == done.rows


def test_same_answer_in_any_process(tmp_path):
    wav, _ = speak(SENTENCES[0], seed=2)
    first = fit(wav, SENTENCES[0])
    fit(speak(SENTENCES[1], seed=3)[0], SENTENCES[1])
    assert fit(wav, SENTENCES[0]) == first


def test_numbers_and_rare_words():
    text = "In 1963 Zaphod bought 21 portuguez hats."
    a = align(speak("In nineteen sixty three Zaphod bought twenty one portuguez hats.", seed=1)[0], text)
    assert [i.label for i in a.words] == "in nineteen sixty three zaphod bought twenty one portuguez hats".split() and a.text == text
    def nobody(word): raise InputError("no idea", found=word)
    with pytest.raises(InputError, match="nobody can pronounce these words.*zaphod.*portuguez"): align(speak(text, seed=1)[0], text, pronounce=nobody)


def test_what_is_refused():
    wav, _ = speak("We see.", seed=1)
    for text, why in (("", "no words"), ("?!", "no words"), ("我们", "English only"), ("привет", "English only")):
        with pytest.raises(InputError, match=why): align(wav, text)
    with pytest.raises(MisfitError): align(np.zeros(16_000, "float32"), "We see the sea and the sea sees us, they said.")
    with pytest.raises(InputError): align(np.zeros(0, "float32"), "We see.")
