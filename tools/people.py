"""Visemes on people: the steps from folders of recorded speech to the models that ship, and every figure that is told about them.

    python tools/people.py corpus DATA OUT       align what has a transcript, split by speaker: OUT/people.jsonl
    python tools/people.py mix OUT               with eSpeak's sentences: OUT/mixed.jsonl, to train on the labels alone
    python tools/people.py teach OUT RUN [-n N]  the teacher in RUN (recipe phones) aligns it again and says what it thinks of each frame: OUT/taught.jsonl
    python tools/people.py labels DATA OUT RUN   how well aligners agree with each other and with hand-made phones: OUT/labels.json
    python tools/people.py curves OUT           small students of fewer minutes of people, of other sizes, of other look-aheads: OUT/curves.json
    python tools/people.py figures OUT MODEL...  what a model scores on speakers it has not heard, and on spoilt sound: OUT/figures.json
    python tools/people.py ship RUN              the two networks of a trained run become lipsync/weights/tcn and tcn_live
    python tools/people.py mandarin DATA OUT     the students that ship, tuned on eSpeak's Mandarin; both on unheard Mandarin voices and on a woman's words: OUT/mandarin.json
    python tools/people.py card OUT              the figures, and a README.md beside each model that ships
"""
import argparse, json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
import numpy as np, torch
from lipsync.audio import augment as change
from lipsync.audio.core import read
from lipsync.config import load_config, save_config
from lipsync.config import replace as with_settings
from lipsync.core import LipsyncError, bundled, load_tensors, progress, read_json, save_tensors, stable_seed, write_json
from lipsync.corpus.align import align, espeak_says, phone_loop
from lipsync.corpus.core import Corpus
from lipsync.corpus.frames import keep_mels, mel_of, repeats
from lipsync.corpus.realign import realign
from lipsync.corpus.source import open_corpus
from lipsync.corpus.speech import speech_corpus
from lipsync.inference import find_model, load, load_weights, recipe_of
from lipsync.intervals import Alignment, Interval, read_alignment
from lipsync.learner import train
from lipsync.metrics.core import accuracy, confusion, macro_f1, viseme_scores
from lipsync.metrics.text import text_scores
from lipsync.recipes.phones import posteriors, priors, realigned, taught
from lipsync.recipes.tcn import RECIPE, TcnConfig
from lipsync.speech.engine import Engine
from lipsync.speech.espeak import speak
from lipsync.text import words
from lipsync.timebase import SR, n_mel
from lipsync.track import frame_labels, viseme_cues
from lipsync.visemes import VISEMES

FOLDERS = {"librispeech": (16, 6), "speechocean762": (7, 4), "ljspeech": (0, 0), "ljsentences": (0, 0), "librivox": (0, 0)}  # per cent of the speakers for test and valid


SHARES = {"librispeech": 2., "speechocean762": .45}  # how often a clip is heard in an epoch, as against 1


def share_of(name, row):
    "Learners' sentences that the experts found poor are labels that nobody said."
    if name != "speechocean762": return SHARES.get(name, 1.)
    return SHARES[name] if float(row.extras.get("median_total") or 8) >= 7 else .15


def split_of(name, speaker):
    "The split of a speaker: a hash of the name, so that it never changes when data is added."
    test, valid = FOLDERS[name]
    at = stable_seed("people", name, speaker) % 1000 / 10
    return "test" if at < test else "valid" if at < test + valid else "train"


def corpus(args):
    parts = []
    for name in FOLDERS:
        if not (args.data / name).is_dir(): print(f"{args.data / name} is not there"); continue
        c = open_corpus(str(args.data / name), valid=0, test=0).usable()
        parts.append(c.map(lambda r: replace(r, speaker=r.speaker or name, split=split_of(name, r.speaker), extras={**r.extras, "share": share_of(name, r)})).prefixed(f"{name}/"))
        print(f"{name}: {len(c)} clips, {c.hours * 60:.1f} min, {len(c.skipped)} skipped", flush=True)
    people = sum(parts[1:], parts[0])
    args.out.mkdir(parents=True, exist_ok=True)
    people.save(args.out / "people.jsonl")
    for s in ("train", "valid", "test"): print(s, len(people.split(s)), "clips", len(people.split(s).speakers), "speakers", f"{people.split(s).hours * 60:.1f} min")
    print(f"log-mels kept: {keep_mels(people):.2f} h")


def network(run):
    "The trained network of a run of `phones` or `tcn`, and its settings."
    weights, config = find_model(run)
    recipe, cfg = recipe_of(config)
    return load_weights(recipe.model(cfg, None), weights).eval(), cfg


def spoken(voices):
    "eSpeak's sentences to train on."
    rows = speech_corpus(voices, seed=8).filter(lambda c: c.split == "train", reason="kept for the test").prefixed("espeak/").map(lambda c: replace(c, extras={**c.extras, "share": 1.}))
    keep_mels(rows)
    return rows


def mix(args):
    both = Corpus.load(args.out / "people.jsonl") + spoken(args.voices)
    both.save(args.out / "mixed.jsonl")
    print(f"mixed: {len(both)} rows, {both.hours:.2f} h")


def teach(args):
    people, (model, _) = Corpus.load(args.out / "people.jsonl"), network(args.run)
    rows = list(people)
    if args.realign:
        mine = people.filter(lambda c: c.split == "train" and (args.realign == "all" or not c.id.startswith("speechocean762/")), reason="not aligned again")
        new = realigned(model, mine, args.out / f"aligned{args.n}", priors(people.split("train")[::4]))
        fit, done = np.array([c.extras["fit"] for c in new]), {c.id: c for c in new}
        print(f"realigned {len(new)}, lost {len(mine) - len(new)}; score a frame: {np.percentile(fit, [1, 5, 50]).round(2)}")
        rows = [replace(done[c.id], extras={**done[c.id].extras, "first": str(c.alignment)}) if c.id in done else c for c in people]
    heard = {c.extras["of"] for c in repeats(people.split("train"), args.piece)}
    said = taught(model, Corpus([c for c in rows if c.id in heard]), args.out / f"posteriors{args.n}.safetensors")
    rows = Corpus([said[c.id] if c.id in heard else c for c in rows], people.skipped, people.source)
    both = rows + spoken(args.voices)
    both.save(args.out / "taught.jsonl")
    print(f"taught: {len(both)} rows, {both.hours:.2f} h")


def agreement(a, b, n):
    "Share of the frames on which two alignments have the same viseme: (all, without the first's silence, counts)."
    x, y = (frame_labels(viseme_cues(k), n) for k in (a, b))
    return int((x == y).sum()), n, int(((x == y) & (x > 0)).sum()), int((x > 0).sum())


def labels(args):
    "Hand-made phones, MFA's and eSpeak's exact ones against pocketsphinx and the teacher."
    (model, _), people = network(args.run), Corpus.load(args.out / "people.jsonl")
    prior = priors(people.split("train")[::4])
    def mine(wav, text):
        from lipsync.audio.mel import log_mel
        return realign(posteriors(model, np.asarray(log_mel(wav))), words(text, "en"), prior, espeak_says)[0]
    def hand(name):
        a = read_alignment(args.data / "textgrid" / f"{name}.TextGrid", None, "phone", "" if name.endswith("_phones") else "word")
        parts = [(q, p.start + (p.stop - p.start) * k / 2, p.start + (p.stop - p.start) * (k + 1) / 2) for p in a.phones if p.label == "PT" for k, q in enumerate("PT")]  # one interval of the hand-made tier holds two phones
        a = replace(a, phones=sorted([p for p in a.phones if p.label != "PT"] + [Interval(s, e, q) for q, s, e in parts]))
        return [(read(args.data / "textgrid" / f"{name.split('_')[0]}.wav"), a, {"bobby": "Bobby ripped the ledger", "mary": "Mary rolled the barrel"}[name.split("_")[0]])]
    sets = {"hand-made: bobby": hand("bobby_phones"), "hand-made: mary": hand("mary"),
            "LJSpeech by MFA": [(c.wav(), c.phones(), c.text) for c in people if c.id.startswith("ljspeech/")][:args.most],
            "LibriSpeech test by pocketsphinx": [(c.wav(), c.phones(), c.text) for c in people.split("test") if c.id.startswith("librispeech/")],
            "eSpeak, exact": [(c.wav(), c.phones(), c.text) for c in speech_corpus(600, seed=8).split("test")][:args.most]}
    out = {}
    for name, rows in sets.items():
        for who, fn in (("pocketsphinx", align), ("teacher", mine)):
            if who in name: continue
            got = []
            for wav, true, text in rows:
                try: got.append(agreement(true, fn(wav, text), n_mel(len(wav))))
                except LipsyncError as err: print(f"{name} | {who}: {err}"); continue
            if not got: continue
            s = np.array(got).sum(0)
            out[f"{name} | {who}"] = dict(clips=len(got), of=len(rows), agree=round(s[0] / s[1], 4), agree_without_silence=round(s[2] / s[3], 4))
            print(f"{name} | {who}", out[f"{name} | {who}"], flush=True)
    write_json(args.out / f"labels{args.n}.json", out)


def spoilt():
    "name -> (sound, generator) -> sound: what happens to recordings, done to the wave."
    by = {f"noise {db} dB ({c})": lambda w, r, db=db, c=c: change.limit(change.add_noise(w, db, r, c)) for db in (20, 10, 5, 0) for c in (("pink",) if db != 10 else ("pink", "white", "speech"))}
    return {"as it is": lambda w, r: w, **by, "telephone": lambda w, r: change.telephone(change.limit(w)), "mp3 32 kbit/s": lambda w, r: change.codec(change.limit(w), "mp3", 32),
            "room 0.5 s": lambda w, r: change.limit(change.reverb(w, .5, r, 3.)), "level -20 dB": lambda w, r: change.gain(w, -20), "level -40 dB": lambda w, r: change.gain(w, -40),
            "peak 0 dBFS": lambda w, r: w / np.abs(np.asarray(w)).max() * .999}


def answers(model, rows, way=lambda w, r: w, glide=True, tempo=1.):
    "(true classes, answers, speakers) of a predictor on clips."
    true, pred = [], []
    for c in rows:
        wav = c.wav()
        a, factor = c.phones(), 1.
        if tempo != 1: wav, factor = change.speed(wav, tempo)
        wav = way(wav, np.random.default_rng(stable_seed(c.id)))
        cues = [i._replace(start=i.start / factor, stop=i.stop / factor) for i in viseme_cues(a, glide=glide)]
        track = model.visemes(wav)
        true.append(frame_labels(cues, len(track))); pred.append(track.labels)
    return true, pred, [c.speaker for c in rows]


class Said(NamedTuple):
    "A sentence that eSpeak has just spoken, as `answers` wants it."
    id: str
    speaker: str
    sound: np.ndarray
    alignment: Alignment

    def wav(self): return self.sound
    def phones(self): return self.alignment


def whispered(rows):
    "name -> sentences of rows, said by the two whispering variants, and by a plain voice."
    out = {}
    with Engine() as engine:
        for name, variants in (("whispered eSpeak voices", ("whisper", "whisperf")), ("the same sentences, aloud", ("", "f2"))):
            out[name] = [Said(f"{v}-{c.id}", v or "plain", *speak(c.text, "en-us", v, seed=k, engine=engine)) for k, c in enumerate(rows) for v in variants]
    return out


def short(scores):
    "The figures that go into a table."
    keep = ("utterances", "frames", "speakers", "accuracy", "macro_f1", "accuracy_without_silence", "tolerant_accuracy", "boundary_error_ms", "accuracy_over_speakers", "macro_f1_over_speakers", "majority_baseline")
    return {k: scores[k] for k in keep if k in scores} | dict(per_class=scores["per_class"])


def by_speaker(true, pred, who):
    "Accuracy of each speaker, the lowest first."
    hit, n = {}, {}
    for t, p, s in zip(true, pred, who): hit[s], n[s] = hit.get(s, 0) + int((t == p).sum()), n.get(s, 0) + len(t)
    return dict(sorted(((s.split("/")[-1], round(hit[s] / n[s], 4)) for s in n), key=lambda kv: kv[1]))


def quiet(model):
    "Share of frames that open the mouth where nobody speaks."
    rng, out = np.random.default_rng(0), {}
    for name, wav in (("digital silence", np.zeros(10 * SR, np.float32)), *((f"room noise {db} dBFS", np.asarray(change.room_noise(10., rng, db))) for db in (-70, -60, -50, -40, -30)),
                      ("white noise -40 dBFS", .01 * change.noise(10 * SR, rng)), ("pink noise -30 dBFS", .03 * change.noise(10 * SR, rng, "pink"))):
        out[name] = round(float((model.visemes(wav.astype(np.float32)).labels > 0).mean()), 4)
    return out


def energy(rows):
    "The baseline that knows loud from quiet: the most frequent sound where the frame is within 30 dB of the loudest, else silence."
    true, pred = [], []
    for c in rows:
        mel = mel_of(c)
        loud = 10 * np.log10((10 ** (mel / 10)).sum(1))
        true.append(frame_labels(viseme_cues(c.phones(), glide=True), len(mel))); pred.append(np.where(loud > loud.max() - 30, VISEMES.index("ih"), 0))
    return true, pred, [c.speaker for c in rows]


def loop(rows):
    "pocketsphinx's phone loop, which hears the whole file."
    true, pred = [], []
    for c in rows:
        wav = c.wav()
        n = n_mel(len(wav))
        true.append(frame_labels(viseme_cues(c.phones(), glide=True), n)); pred.append(frame_labels(viseme_cues(phone_loop(wav), glide=True), n))
    return true, pred, [c.speaker for c in rows]


def waited(model, rows, text):
    "Scores of those who can wait: with the transcript or without."
    from lipsync.offline import best
    true, pred = [], []
    for c in progress(rows, len(rows), "waiting", "clip"):
        track = best(model, c.wav(), c.text if text else "")
        true.append(frame_labels(viseme_cues(c.phones(), glide=True), len(track))); pred.append(track.labels)
    return short(viseme_scores(true, pred, [c.speaker for c in rows]))


def figures(args):
    people, most = Corpus.load(args.out / "people.jsonl").split("test"), lambda c: c[:: max(1, len(c) // args.most)]
    hard, others = most(people.filter(lambda c: c.id.startswith("librispeech/"), reason="another set")), most(people.filter(lambda c: not c.id.startswith("librispeech/"), reason="another set"))
    voices = most(speech_corpus(600, seed=8).split("test"))
    file = args.out / "figures.json"
    out = read_json(file) if file.is_file() else {}
    if "baselines" not in out:
        out["baselines"] = {name: short(viseme_scores(*fn(hard))) for name, fn in (("phone loop", loop), ("energy", energy))}
        write_json(file, out)
    for path in args.model:
        model = load(path)
        got = dict(look_ahead_ms=model.cfg.look_ahead, parameters=model.model.n_params)
        for name, rows in (("hard", hard), ("learners", others), ("espeak", voices)):
            for glide in (True, False):
                said = answers(model, rows, glide=glide)
                got[name + ("" if glide else ", no glide")] = short(viseme_scores(*said)) | ({"by_speaker": by_speaker(*said)} if glide and name == "hard" else {})
            print(path.name, name, got[name]["accuracy"], got[name]["macro_f1"], {v: got[name]["per_class"][v]["recall"] for v in ("PP", "FF")}, flush=True)
        some = hard[:: max(1, len(hard) // args.spoil)]
        got["spoilt"] = {name: {k: v for k, v in short(viseme_scores(*answers(model, some, way))).items() if k in ("accuracy", "macro_f1")} for name, way in progress(spoilt().items(), None, "spoilt")} if not args.quick else {}
        for tempo in () if args.quick else (.8, 1.2): got["spoilt"][f"speed x{tempo}"] = {k: v for k, v in short(viseme_scores(*answers(model, some, tempo=tempo))).items() if k in ("accuracy", "macro_f1")}
        for name, said in {} if args.quick else whispered(voices[:: max(1, len(voices) // 30)]).items(): got["spoilt"][name] = {k: v for k, v in short(viseme_scores(*answers(model, said))).items() if k in ("accuracy", "macro_f1")}
        if args.wait:  # the labels of the hard set are pocketsphinx's own: with a transcript only another aligner's can judge
            mfa = Corpus.load(args.out / "people.jsonl").filter(lambda c: c.id.startswith("ljspeech/"), reason="another set")
            got["waited"] = {"no transcript; hard": waited(model, hard[:: max(1, len(hard) // args.wait)], False), **{f"{how}; LJSpeech by MFA": waited(model, mfa[:: max(1, len(mfa) // args.wait)], text) for how, text in (("transcript", True), ("no transcript", False))}}
        got["quiet"] = quiet(model)
        print({k: v["accuracy"]["value"] for k, v in (got["spoilt"] | got.get("waited", {})).items()}, got["quiet"], flush=True)
        out.setdefault("models", {})[path.name] = got
        write_json(file, out)


def sounds(labels, shortest=3):
    "What a track says, as a text: a letter for each run of frames of one viseme, without silence."
    labels = np.asarray(labels)
    edges = np.flatnonzero(np.diff(labels)) + 1
    runs = [int(part[0]) for part in np.split(labels, edges) if len(part) >= shortest and part[0] > 0]
    return "".join(chr(97 + v) for v, before in zip(runs, [None, *runs]) if v != before)


def words_of(folder):
    "[(sound, visemes that eSpeak says its characters are)]: of real recordings; the times are not needed."
    out = []
    with Engine() as engine:
        for path in sorted(Path(folder).glob("cmn-*.mp3")):
            wav, al = speak(path.stem.removeprefix("cmn-"), "cmn", engine=engine)
            out.append((read(path), sounds(frame_labels(viseme_cues(al), n_mel(len(wav))), 1)))
    return out


def mandarin(args):
    voices, file = speech_corpus(args.voices, seed=8, langs="cmn"), args.out / "mandarin.json"
    args.out.mkdir(parents=True, exist_ok=True)
    voices.save(args.out / "cmn.jsonl")
    test, words, out = voices.split("test"), words_of(args.data / "zh/words"), {}
    for name in ("tcn", "tcn_live"):
        cfg = load_config(bundled(name) / "config.yaml", TcnConfig)
        run = train(RECIPE, with_settings(cfg, data=str(args.out / "cmn.jsonl"), init=str(bundled(name)), epochs=args.epochs, lr=5e-4, soft_labels=0., save_every=0, out=str(args.out / f"{name}_cmn"), resume="auto"))
        for who, path in ((name, bundled(name)), (f"{name}_cmn", run.path)):
            model = load(path)
            true, pred = [t for _, t in words], [sounds(model.visemes(w).labels) for w, _ in progress(words, len(words), who, "word")]
            other = pred[len(pred) // 2:] + pred[:len(pred) // 2]
            found, wrong = text_scores(true, pred, words=False), text_scores(true, other, words=False)["cer"]
            out[who] = dict(look_ahead_ms=cfg.look_ahead, voices=short(viseme_scores(*answers(model, test))), words=dict(words=len(words), wrong=found["cer"], kinds=found["kinds"], of_another_word=wrong))
            print(who, out[who]["voices"]["accuracy"], out[who]["voices"]["macro_f1"], out[who]["words"], flush=True)
            write_json(file, out)


def curves(args):
    "What more people, a larger network and a longer look-ahead would give: students of as many steps each, on the transcripts' labels alone."
    people, file = Corpus.load(args.out / "people.jsonl"), args.out / "curves.json"
    mine = lambda split: [c for c in people.split(split) if c.id.startswith("librispeech/")]
    test, valid, train_rows = mine("test"), mine("valid"), people.split("train")
    speakers = sorted(train_rows.speakers, key=lambda s: stable_seed("curves", s))
    every = train_rows.hours * 60
    out = read_json(file) if file.is_file() else {}
    whole = dict(minutes=round(every), channels=160, look_ahead=100)
    for point in (whole, *(whole | dict(minutes=round(every * share)) for share in (.5, .25, .125)), whole | dict(channels=64), *(whole | dict(look_ahead=ms) for ms in (50, 200)), whole | dict(channels=224)):
        name = "-".join(map(str, point.values()))
        if name in out: continue
        chosen, length = [], 0.
        for s in speakers:
            if length > point["minutes"] - 1 and chosen: break
            rows = [c for c in train_rows if c.speaker == s]
            chosen += rows; length += sum(c.seconds for c in rows) / 60
        data = args.out / "curves" / f"{point['minutes']}.jsonl"
        data.parent.mkdir(exist_ok=True)
        Corpus(chosen + valid + test, [], "people").save(data)
        cfg = load_config(Path(__file__).resolve().parents[1] / "nbs/recipes/tcn_people.yaml", TcnConfig, data=str(data), soft_labels=0., channels=point["channels"], look_ahead=point["look_ahead"], epochs=max(1, round(args.passes * every / length)), save_every=0, patience=0, out=str(args.out / "curves" / name), resume="auto")
        run = train(RECIPE, cfg)
        net, got = network(run.path)[0], dict(point, minutes=round(length), speakers=len({c.speaker for c in chosen}), steps=run.history[-1]["step"])
        for ahead in (net.look_ahead, 0):
            alone = net.alone(ahead).eval()
            with torch.inference_mode(): pred = [alone(torch.from_numpy(mel_of(c))[None])[0].argmax(-1).numpy() for c in test]
            scores = viseme_scores([frame_labels(viseme_cues(c.phones(), glide=True), len(p)) for c, p in zip(test, pred)], pred, [c.speaker for c in test])
            got["late" if ahead else "live"] = dict(accuracy=scores["accuracy"], macro_f1=scores["macro_f1"], pp_recall=scores["per_class"]["PP"]["recall"])
        print(name, {k: (got[k]["accuracy"]["value"], got[k]["macro_f1"]["value"], got[k]["pp_recall"]) for k in ("late", "live")}, flush=True)
        out[name] = got
        write_json(file, out)


def tuned(net, rows):
    "Move the last layer's biases (not that of silence) so that accuracy + macro-F1 on validation speakers is highest: what the class weights of the training began."
    with torch.inference_mode(): logits = np.concatenate([net.eval()(torch.from_numpy(mel_of(c))[None])[0].numpy() for c in rows])
    true = np.concatenate([frame_labels(viseme_cues(c.phones(), glide=True), len(mel_of(c))) for c in rows])
    def value(b):
        conf = confusion(true, (logits + b).argmax(1))
        return float(accuracy(conf) + macro_f1(conf))
    bias, best = np.zeros(15, np.float32), value(0)
    before = best
    for step in (.4, .2, .2, .1):
        for k in range(1, 15):
            for d in (step, -step):
                new = bias.copy(); new[k] = np.clip(new[k] + d, -1, 1)
                if (v := value(new)) > best: bias, best = new, v
    print(f"accuracy + macro-F1 on validation: {before:.4f} -> {best:.4f}", dict(zip(VISEMES, bias.round(2).tolist())))
    with torch.no_grad(): net.last.bias += torch.from_numpy(bias)


def ship(args):
    "Half-precision weights and the configuration of a run, in the package: both networks of a run with two heads."
    model, cfg = network(args.run)
    parts = [(model.alone(n), n) for n in (model.look_ahead, 0)] if cfg.live_head else [(model, model.look_ahead)]
    for net, ahead in parts:
        if args.tune: tuned(net, Corpus.load(args.tune / "people.jsonl").split("valid"))
        with torch.no_grad(): net.last.bias[VISEMES.index("PP")] += args.close
        to = Path(__file__).resolve().parents[1] / "lipsync" / "weights" / ("tcn" if ahead else "tcn_live")
        to.mkdir(parents=True, exist_ok=True)
        save_tensors(to / "best.safetensors", {k: v.half() if v.is_floating_point() and "running" not in k and "affine" not in k else v for k, v in net.state_dict().items()})
        save_config(with_settings(cfg, data="people", out="", init="", resume="", device="auto", live_head=False, look_ahead=ahead * 10), to / "config.yaml")
        print(to, f"{(to / 'best.safetensors').stat().st_size / 1e6:.2f} MB")


CARD = """# {name}: speech to visemes, {ahead} ms of look-ahead

Log-mel (16 kHz, 80 bands, 100 frames a second) to 15 visemes; causal but for {ahead} ms. {parameters:,} parameters, 16-bit floats, {mb:.1f} MB. `lipsync visemes speech.wav --look-ahead {ahead}` uses it.

## How good it is

Frames of 10 ms, unsmoothed, of speakers that it never heard; the labels are forced alignments (pocketsphinx), which are themselves wrong about as often as `labels` in figures.json says. Intervals (95%) are over utterances.

| test set | accuracy | macro-F1 | without silence | PP recall | boundary error |
|---|---|---|---|---|---|
{rows}

The majority class scores {majority}; pocketsphinx's phone loop, which hears the whole file, {loop} on the first set.

{spoilt}

Frames that open the mouth where nobody speaks: {quiet}.

## What it was trained on

LibriSpeech train-clean-100, one utterance of each of about 200 speakers (CC BY 4.0; Panayotov and others 2015); LJSpeech LJ050 (public domain); sentences of speechocean762, learners of English, adults and children (free for commercial and non-commercial use, Zhang and others 2021); read sentences by one man (Apache-2.0); five utterances of LibriVox (public domain); sentences spoken by eSpeak NG. About four hours in all. Steps and commands: `tools/people.py`, `nbs/report_visemes_on_people.ipynb`, `nbs/recipes/tcn_people.yaml`.

## Where it fails

People who whisper were not trained on (eSpeak's whispering voices were, with other sentences), nor song, shouting and crowds. Children and heavy accents: see the second row. Noise near the level of the voice, and rooms that ring: see the table of spoilt sound. Languages other than English work as far as their sounds are English ones. p, b and m are missed as often as the column PP recall says.

Licence of the weights: Apache-2.0, as the package; the licences above ask to name their sources.
"""


def card(args):
    "figures.json in the package, and a README.md beside each model."
    out, weights = read_json(args.out / "figures.json"), Path(__file__).resolve().parents[1] / "lipsync" / "weights"
    for name in ("labels1", "labels2", "steps", "mandarin", "curves"):
        if (args.out / f"{name}.json").is_file(): out[name] = read_json(args.out / f"{name}.json")
    out["models"] = {k: v for k, v in out["models"].items() if (weights / k).is_dir()}
    write_json(weights / "figures.json", out)
    pct = lambda d: f"{100 * d['value']:.1f}% [{100 * d['low']:.1f}, {100 * d['high']:.1f}]"
    names = {"hard": "LibriSpeech speakers, gliding labels", "hard, no glide": "the same, one viseme a phone", "learners": "learners of English, children among them", "espeak": "unheard eSpeak voices"}
    for name, m in out["models"].items():
        rows = "\n".join(f"| {names[k]} ({m[k]['utterances']} utterances) | {pct(m[k]['accuracy'])} | {pct(m[k]['macro_f1'])} | {pct(m[k]['accuracy_without_silence'])} | {100 * m[k]['per_class']['PP']['recall']:.0f}% | {m[k]['boundary_error_ms']['value']:.0f} ms |" for k in names)
        spoilt = "| sound | accuracy |\n|---|---|\n" + "\n".join(f"| {k} | {pct(v['accuracy'])} |" for k, v in m["spoilt"].items()) if m.get("spoilt") else ""
        text = CARD.format(name=name, ahead=m["look_ahead_ms"], parameters=m["parameters"], mb=(weights / name / "best.safetensors").stat().st_size / 1e6, rows=rows, spoilt=spoilt, majority=pct(m["hard"]["majority_baseline"]["accuracy"]),
                           loop=pct(out["baselines"]["phone loop"]["accuracy"]), quiet=", ".join(f"{k} {100 * v:.1f}%" for k, v in m["quiet"].items()))
        (weights / name / "README.md").write_text(text, encoding="utf-8")
        print(weights / name / "README.md")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(required=True)
    for fn, names in ((corpus, "data out"), (mix, "out"), (teach, "out run"), (labels, "data out run"), (figures, "out model"), (mandarin, "data out"), (curves, "out"), (ship, "run"), (card, "out")):
        c = sub.add_parser(fn.__name__)
        for name in names.split(): c.add_argument(name, type=Path, **({"nargs": "+"} if name == "model" else {}))
        if fn in (teach, labels): c.add_argument("-n", type=int, default=1, help="round")
        if fn is teach: c.add_argument("--realign", choices=("", "some", "all"), default="some", help="align again: nothing, all but the learners' sentences, everything"); c.add_argument("--piece", type=float, default=5., help="chunk_max of the student, s")
        if fn is labels: c.add_argument("--most", type=int, default=60, help="clips of a set")
        if fn in (mix, teach, mandarin): c.add_argument("--voices", type=int, default={mix: 1200, teach: 600}.get(fn, 1500), help="eSpeak sentences")
        if fn is curves: c.add_argument("--passes", type=float, default=2., help="over all that there is; less speech is heard more often")
        if fn is mandarin: c.add_argument("--epochs", type=int, default=4)
        if fn is ship: c.add_argument("--tune", type=Path, help="OUT: biases of the classes are set on its validation speakers"); c.add_argument("--close", type=float, default=.4, help="added to the logit of PP: lips that fail to close are seen first, and a tenth of a point of accuracy buys four to five points of their recall")
        if fn is figures: c.add_argument("--quick", action="store_true", help="no spoilt sound"); c.add_argument("--most", type=int, default=1000, help="clips of a set"); c.add_argument("--spoil", type=int, default=1000, help="clips that are spoilt"); c.add_argument("--wait", type=int, default=0, help="clips for the figures of --quality best")
        c.set_defaults(do=fn)
    args = p.parse_args()
    args.do(args)


if __name__ == "__main__": main()
