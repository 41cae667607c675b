"""The embedded speech: bit-exact whatever came before, closures where it is quiet, every phone known, a cache that survives crashes and company."""
import hashlib, json, os, random, shutil, signal, subprocess, sys, time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

resource = pytest.importorskip("resource", reason="processor times and signals as on POSIX")
pytest.importorskip("espeakng_loader", reason="the extra `corpus` is not installed")
from lipsync.core import InputError
from lipsync.corpus.speech import SHARD, Settings, make_shard, plan, read_shard, speech_corpus, split_of_row
from lipsync.speech.engine import Engine, EngineError
from lipsync.speech.espeak import LANGS, VOICELESS, _labels, find_voice, phone_times, plain_name, speak, voices
from lipsync.speech.sentences import sentence, sentences
from lipsync.timebase import SR, n_mel
from lipsync.track import frame_labels, viseme_cues
from lipsync.visemes import ARPABET, VISEMES, viseme_of

ROOT = Path(__file__).resolve().parents[1]
SAYS = {"en-us": "She sells sixty-six fresh fish, and he has puffed hay.", "cmn": "爸爸今天去北京买苹果。"}


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LIPSYNC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LIPSYNC_QUIET", "1")


def mark(utt): return hashlib.sha1(utt.pcm + json.dumps([utt.phones, utt.words]).encode()).hexdigest()


def all_marks(order):
    with Engine() as engine: return {(lang, v.variant): mark(engine.say(SAYS[lang], v.ident, 200, 60, 50, 3)) for lang, v in order}


def test_every_voice_is_the_same_in_any_order_and_process():
    order = [(lang, v) for lang in SAYS for v in voices(lang)]
    first = all_marks(order)
    random.Random(0).shuffle(order)
    assert all_marks(order) == first
    for lang, v in order[::15]:  # a process of its own for each
        with Engine() as engine: assert mark(engine.say(SAYS[lang], v.ident, 200, 60, 50, 3)) == first[lang, v.variant]


def test_a_second_has_passed_and_the_breath_is_the_same():
    "eSpeak seeds its noise with the time of day, in seconds."
    with Engine() as engine: a = engine.say("Hush.", "gmw/en-US+whisperf")
    time.sleep(1.1)
    with Engine() as engine: assert engine.say("Hush.", "gmw/en-US+whisperf") == a


def test_every_voice_speaks_its_phones():
    "Each variant says the same phones as the plain voice, audibly and hardly ever clipped."
    with Engine() as engine:
        for lang, text in SAYS.items():
            plain = [n for _, n in engine.say(text, LANGS[lang]).phones]
            for v in voices(lang):
                utt = engine.say(text, v.ident)
                x = np.frombuffer(utt.pcm, np.int16) / 32768
                assert [n for _, n in utt.phones] == plain, v
                assert .03 < x.std() < .5 and np.mean(np.abs(x) > .9997) < 1e-3, v


def test_many_random_voices_in_one_process():
    "The library alone was seen to crash after about 1,095 sentences; loaded afresh for each it does not."
    rng = random.Random(1)
    names = [v.ident for lang in ("en-us", "cmn") for v in voices(lang)]
    with Engine(batch=10**9) as engine:
        for n in range(1_300): engine.say(f"{n}, Bob.", rng.choice(names), rng.randint(80, 350), rng.randint(0, 99))
        assert engine.starts == 1


def utterances(n, seed, lang="en-us", echo=False):
    rng = random.Random(seed)
    choice = [v for v in voices(lang) if v.echo == echo]
    with Engine() as engine:
        for i in range(n):
            v, rate = rng.choice(choice), rng.randint(80, 350)
            yield v, rate, engine.say(sentence("everyday", i, seed, lang), v.ident, rate, rng.randint(10, 90))


@pytest.mark.parametrize("lang", ["en-us", "en-gb", "cmn"])
def test_closures_are_quiet(lang):
    "What the correction gives to a voiceless stop, from its new begin to eSpeak's event, is silence."
    found, moved, stops = [], 0, 0
    for v, rate, utt in utterances(80, 5, lang):
        x = np.frombuffer(utt.pcm, np.int16) / 32768
        events = [(at, plain_name(n)) for at, n in utt.phones if plain_name(n)[0] not in "_("]
        speech = 10 * np.log10(np.mean(x ** 2))
        for (a, b, name, _), (at, raw) in zip(phone_times(utt, rate, v.echo), events):
            assert name == raw and a <= at <= b
            if name in VOICELESS:
                stops += 1
                if at - a > 100:
                    moved += 1
                    found.append(10 * np.log10(np.mean(x[a:at] ** 2) + 1e-12) - speech)
    print(f"{lang}: {moved} of {stops} voiceless stops moved; energy in their closures against the utterance: median {np.median(found):.0f} dB, 99th percentile {np.percentile(found, 99):.0f} dB")
    assert stops > 200 and moved > .97 * stops and np.percentile(found, 99) < -30


def test_echo_voices_close_as_long_as_dry_ones():
    text = "Happy people keep asking about a pretty ticket, a spotted spider and the captain's packet."
    with Engine() as engine:
        for rate in (90, 175, 320):
            def closures(v):
                utt = engine.say(text, v.ident, rate)
                events = [at for at, n in utt.phones if plain_name(n)[0] not in "_("]
                return [(at - a) / utt.sr for (a, _, name, _), at in zip(phone_times(utt, rate, v.echo), events) if name in VOICELESS]
            plain = closures(find_voice("en-us"))
            for v in (v for v in voices("en-us") if v.echo): assert np.max(np.abs(np.subtract(closures(v), plain))) < .02 and abs(np.median(np.subtract(closures(v), plain))) < .002, (v, rate)


def test_no_phone_is_swallowed():
    for v, rate, utt in utterances(60, 9):
        got = phone_times(utt, rate, v.echo)
        assert [p[2] for p in got] == [n for n in (plain_name(n) for _, n in utt.phones) if n[0] not in "_("]
        assert all(b - a >= .004 * utt.sr for a, b, *_ in got) and all(p[1] <= q[0] for p, q in zip(got, got[1:]))


def names_in(texts, lang, rate=350):
    found = Counter()
    with Engine() as engine:
        for text in texts: found.update(plain_name(n) for _, n in engine.say(text, LANGS[lang], rate).phones)
    return Counter({n: c for n, c in found.items() if n[0] not in "_("})


def dictionary():
    sphinx = pytest.importorskip("pocketsphinx", reason="its pronouncing dictionary is the word list")
    words = [line.split()[0] for line in Path(sphinx.get_model_path("en-us/cmudict-en-us.dict")).read_text().splitlines() if "(" not in line.split()[0]]
    return random.Random(0).sample(words, 20_000)


@pytest.mark.parametrize("lang", [lang for lang in LANGS if lang != "cmn"])
def test_every_english_phone_has_a_viseme(lang):
    words = dictionary()[:20_000 if lang == "en-us" else 4_000]
    found = names_in((" ".join(words[i:i + 80]) for i in range(0, len(words), 80)), lang)
    for name in found: assert all(viseme_of(p) in VISEMES for p in _labels(name, lang)), name
    assert len(found) > 55


def test_every_mandarin_phone_has_a_viseme():
    level1 = "".join(bytes([hi, lo]).decode("gb2312", "ignore") for hi in range(0xB0, 0xD8) for lo in range(0xA1, 0xFF))
    assert len(level1) == 3755
    found = names_in(("，".join(level1[i:i + 80]) for i in range(0, len(level1), 80)), "cmn")
    for name in found: assert viseme_of(_labels(name, "cmn")[0], "espeak-cmn") in VISEMES, name
    assert len(found) > 55


def test_sentences_hold_every_phone_and_most_transitions():
    with Engine() as engine:
        said = [speak(text, engine=engine, rate=300)[1] for text in sentences("mixed", 600)]
    phones = Counter(p.label for a in said for p in a.phones)
    arpabet39 = set("AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH".split())
    early = {p.label for a in said[:150] for p in a.phones}
    assert arpabet39 <= set(phones), arpabet39 - set(phones)
    assert len(arpabet39 - early) <= 1, arpabet39 - early
    pairs = Counter((a.label, b.label) for labels in said for cues in [viseme_cues(labels)] for a, b in zip(cues, cues[1:]))
    print(f"{len(pairs)} of {15 * 14} viseme transitions in 600 sentences")
    assert len(pairs) > 180


def test_text_is_read_or_refused():
    with Engine() as engine:
        for text in ("It's 10:45 on 3/4/2021 — pay $23.50, ok?", "A\tB\nC", "naïve café", "x" * 300, "1234567890", "🦄", "WHO, UN & NASA", "e-mail: a@b.org", "Привет"):
            wav, labels = speak(text, engine=engine)
            assert labels.phones and labels.words and labels.stop <= wav.seconds
        for text in ("", " ", "...", "\0", "a\0b", "\x1b[0m", "\ud800", "你好", "नमस्ते", "a" * 10_000_000, "日本"):
            with pytest.raises(InputError): speak(text, engine=engine)
        for kw in (dict(voice="zh"), dict(voice="en"), dict(variant="nobody"), dict(rate=79), dict(rate=351), dict(rate=175.5), dict(pitch=100), dict(pitch_range=-1), dict(silence=(.5, .1))):
            with pytest.raises(InputError): speak("Hello.", engine=engine, **kw)
        for ident in ("en-gb", "zh", "gmw/en-US+nosuch"):
            with pytest.raises(EngineError, match="has no voice"): engine.say("Hello.", ident)


def test_markup_and_commands_are_just_text():
    "eSpeak has markup and embedded commands; text must not be able to reach them."
    with Engine() as engine:
        a = engine.say('<voice name="f3">hello</voice>')
        assert len(a.phones) > 12  # the tags are read out, not obeyed
        assert mark(engine.say("hello [[D,Is]]")) != mark(engine.say("hello this"))


def test_digital_zero_and_lengths_of_silence():
    with Engine() as engine:
        wav, labels = speak("Bob.", seed=2, noise_db=None, silence=(.25, .25), engine=engine)
        assert not wav[:int(.2 * SR)].any() and .25 <= labels.phones[0].start < .27
        leads = [speak("Bob.", seed=n, engine=engine)[1].phones[0].start for n in range(40)]
        assert .1 <= min(leads) < .18 and .42 < max(leads) < .53
        noisy = speak("Bob.", seed=2, noise_db=-50., silence=(.25, .25), engine=engine)[0].numpy()
        assert abs(20 * np.log10(noisy[:3000].std()) + 50) < .5


def test_data_folder_deeper_than_espeak_can(tmp_path):
    deep = tmp_path / ("a" * 90) / ("b" * 90) / ("ç ü" * 10)
    deep.mkdir(parents=True)
    with Engine() as engine:
        want = engine.say("Bob.")
        shutil.copytree(engine.data, deep / "espeak-ng-data")
    other = Engine()
    other.data = str(deep / "espeak-ng-data")
    with other: assert other.say("Bob.") == want


class Treacherous(Engine):
    "An engine whose process dies over some texts, always or once."
    always, once = "zebra", "tiger"
    def _ask(self, job):
        if self.always in job["text"] or self.once in job["text"] and not getattr(self, "died", False):
            if self.once in job["text"]: self.died = True
            if self._process is None: super()._ask({**job, "text": "x"})
            self._process.proc.kill()
            self._process.proc.wait()
        return super()._ask(job)


def test_a_crash_costs_its_sentence_alone(tmp_path):
    texts = ("one apple", "two tigers", "three zebras", "four pears", "five figs")
    s = Settings(texts=texts, valid=0, test=0)
    with Engine() as engine: make_shard(tmp_path / "calm", 0, s, engine)
    with Treacherous() as engine: make_shard(tmp_path / "storm", 0, s, engine)
    calm, storm = read_shard(tmp_path / "calm", 0), read_shard(tmp_path / "storm", 0)
    lost = [b for b in storm if "skipped" in b]
    assert lost and all(b["text"] == "three zebras" and "died twice" in b["skipped"] and "SIGKILL" in b["skipped"] for b in lost)
    drop = lambda rows: [{k: v for k, v in r.items() if k not in ("start", "stop")} for r in rows if r["text"] != "three zebras"]
    assert drop(calm) == drop(storm) and any(r["text"] == "two tigers" for r in storm)


def test_a_process_that_hangs_is_ended():
    with Engine(timeout=.5) as engine:
        engine.say("Hello.")
        os.kill(engine._process.proc.pid, signal.SIGSTOP)
        t = time.time()
        assert engine.say("Hello.").phones and time.time() - t < 20 and engine.starts == 2


def test_splits_share_neither_voice_nor_sentence():
    corpus = speech_corpus(150, langs=("en-us", "en-gb", "cmn")) + speech_corpus(150, seed=7)
    plain = lambda t: {"".join(c for c in part.casefold() if c.isalnum()) for part in t.replace("。", ".").replace("？", ".").replace("！", ".").replace("?", ".").replace("!", ".").split(".")} - {""}
    for what in (lambda c: {c.speaker}, lambda c: plain(c.text)):
        train, valid, test = (set().union(*(what(c) for c in corpus if c.split == split)) for split in ("train", "valid", "test"))
        assert train and valid and test and not (train & valid or train & test or valid & test)
    assert Counter(c.split for c in corpus)["test"] == 2 * Counter(split_of_row(i, Settings()) for i in range(150))["test"]
    counts = Counter(l for c in corpus for l in frame_labels(viseme_cues(c.phones()), n_mel(len(c.wav()))))
    assert len(counts) == 15


MAKE = "import sys; from lipsync.corpus.speech import speech_corpus; c = speech_corpus(int(sys.argv[1]), langs=('en-us', 'cmn'), workers=int(sys.argv[2])); print(len(c))"


def start(n, workers, home):
    return subprocess.Popen([sys.executable, "-c", MAKE, str(n), str(workers)], cwd=ROOT, env={**os.environ, "LIPSYNC_HOME": str(home), "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)


def content(home): return {p.name: hashlib.sha1(p.read_bytes()).hexdigest() for p in sorted(Path(home).rglob("*")) if p.is_file()}


def test_interrupted_runs_and_runs_in_company_give_the_same_bytes(tmp_path, monkeypatch):
    n = 4 * SHARD
    monkeypatch.setenv("LIPSYNC_HOME", str(tmp_path / "alone"))
    assert len(speech_corpus(n, langs=("en-us", "cmn"))) == n
    want = content(tmp_path / "alone")
    assert len(want) == 2 * 4 + 1
    together = [start(n, 2, tmp_path / "together") for _ in range(2)]
    assert [p.communicate()[0].strip() for p in together] == [str(n)] * 2
    assert content(tmp_path / "together") == want
    cut = start(n, 1, tmp_path / "cut")
    for _ in range(600):
        if list((tmp_path / "cut").rglob("*.jsonl")): break
        time.sleep(.05)
    cut.send_signal(signal.SIGKILL)
    cut.communicate()
    done = [p.name for p in (tmp_path / "cut").rglob("*.jsonl")]
    assert 1 <= len(done) < 4, "it was to be killed in the middle"
    monkeypatch.setenv("LIPSYNC_HOME", str(tmp_path / "cut"))
    assert len(speech_corpus(n, langs=("en-us", "cmn"), workers=3)) == n
    assert {k: v for k, v in content(tmp_path / "cut").items() if not k.startswith(".")} == want


def test_no_process_is_left_behind():
    def children(): return subprocess.run(["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, text=True).stdout.split() if shutil.which("ps") else []
    before = len(children())
    speech_corpus(10, workers=2)
    speak("Hello.")
    assert len(children()) <= before


def test_speed(tmp_path):
    "Seconds of speech a second of one core, labels, resampling and writing included; processor time, so that other work on the machine counts less."
    def cpu(): return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    s = Settings()
    with Engine() as engine: make_shard(tmp_path, 0, s, engine)
    best = 0
    for part in range(3):
        start = cpu()
        with Engine() as engine:
            for k in range(1 + 4 * part, 5 + 4 * part): make_shard(tmp_path, k, s, engine)
        spoken = sum(r["stop"] - r["start"] for k in range(1 + 4 * part, 5 + 4 * part) for r in read_shard(tmp_path, k)) / SR
        best = max(best, spoken / (cpu() - start))
    print(f"{best:.0f} times real time a core")
    assert best > 100
