"""The proofs of the systems that draw: the long trainings, their figures and the pictures that are shown of them.

    python tools/pictures.py talker OUT            a drawn person: train (nbs/recipes/talker.yaml), let them say new things, compare with the film that it should have been
    python tools/pictures.py actor VIDEO SPEECH OUT [-n EPOCHS]   a real person: train on the first 15 s of VIDEO, let them say SPEECH
    python tools/pictures.py sync [--people N]                    the SyncNet that ships, judged on more people: another seed's, none of whom it met
    python tools/pictures.py reader LANG OUT [--real FOLDER] [--init RUN] [-n EPOCHS]      a lipreader for en or cmn: draw people, train (nbs/recipes/lipreader_small.yaml), ship, compare with its ONNX form, read real clips
    python tools/pictures.py gan OUT [--real TREE] [-n EPOCHS]    drawn people: train in three stages (nbs/recipes/gan_small.yaml), ship, dub strangers, compare with the film that it should have been; real videos by person are dubbed as they are, and after n passes over some of them

What was done is not done again; figures go to lipsync/weights/figures_*.json and .jpg, which the notebooks nbs/report_*.ipynb show, and what ships to lipsync/weights/lipreader_LANG and lipsync/weights/gan.
"""
import argparse, json
from datetime import date
from pathlib import Path
import numpy as np
from PIL import Image
from lipsync.audio.core import read
from lipsync.config import load_config, replace
from lipsync.core import bundled, read_json, write_json
from lipsync.inference import load
from lipsync.learner import Run, plain, train
from lipsync.recipes.talker import RECIPE, TalkerConfig, drawn_person
from lipsync.talker import talker_scores
from lipsync.timebase import SR, VIDEO_FPS

TOP = Path(__file__).resolve().parent.parent
FIGURES, READERS, DUBBED = (TOP / f"lipsync/weights/figures_{name}.json" for name in ("talker", "lipreader", "gan"))
SENTENCES = {("en", "grid"): "English commands", ("cmn", "grid"): "Mandarin commands", ("en", "everyday"): "English sentences", ("cmn", "everyday"): "Mandarin sentences"}


def keep(name, found, file=FIGURES):
    "Put figures under a name into the file that a report reads."
    write_json(file, (read_json(file) if file.is_file() else {}) | {name: dict(found, date=str(date.today()))})


def rows_of(*lines, height=128):
    "Pictures in rows, one row for each line."
    small = lambda p: np.asarray(Image.fromarray(p).resize((round(p.shape[1] * height / p.shape[0]), height)))
    return np.concatenate([np.concatenate([small(p) for p in line], 1) for line in lines])


def head(picture, marks):
    "The part of a picture with the face."
    x, y, w = *marks.mean(0), np.ptp(marks[:, 0])
    return np.asarray(Image.fromarray(picture).crop([round(float(v)) for v in (x - w, y - 1.2 * w, x + w, y + w)]).resize((160, 176)))


def in_step(person, speeches, out):
    "Offset of each dub, measured on the file that is written."
    judge, found = load(bundled("sync")), []
    for k, x in enumerate(speeches):
        sync = judge.measure(person.dub(x, out / f"dub_{k}.mp4"))
        found.append(dict(offset_ms=sync.offset_ms, frames=sync.frames, confidence=sync.confidence))
    return found


def sheet(path, *lines, height=128, quality=85):
    "A picture of pictures in rows."
    Image.fromarray(rows_of(*lines, height=height)).save(path, quality=quality)


def trained(recipe, cfg):
    "The run of these settings: the one in `out`, where it is complete, or a training."
    out = Path(cfg.out)
    return Run(out) if (out / "metrics.json").is_file() and len(Run(out).history) >= cfg.epochs else train(recipe, replace(cfg, resume="auto"))


def minutes(run):
    "How long a run was trained, by its own clock."
    return sum(row["seconds"] for row in read_json(Path(run) / "timings.json")) / 60


def talker(args):
    cfg = load_config(TOP / "nbs/recipes/talker.yaml", TalkerConfig)
    run = trained(RECIPE, replace(cfg, syncnet=str(bundled("sync")), out=str(args.out / "run")))
    person = load(run.path)
    scores = talker_scores(person, clips=args.clips, seconds=6.)
    who = drawn_person(person.cfg)
    new = [who.speech(6., new=k) for k in range(args.clips)]
    keep("drawn", plain(dict(scores, sync=in_step(person, [x for x, _ in new], args.out), settings={k: v for k, v in vars(person.cfg).items() if k in ("size", "seconds", "epochs", "bs", "audio", "context", "ema", "width", "seed")}, minutes=minutes(run.path), threads=args.threads)))
    x, al = new[0]
    at = range(4, 150, 14)
    drawn, truth, film = list(person.frames(x)), list(who.shot(al, 6.).frames()), list(person.film.pictures(range(150)))
    sheet(FIGURES.with_suffix(".jpg"), *([s[i] for i in at] for s in (film, drawn, truth)))


def actor(args):
    from lipsync.video.core import read_video
    from lipsync.video.write import write_video
    clip = args.out / "first.mp4"
    if not clip.is_file():
        args.out.mkdir(parents=True, exist_ok=True)
        shown = read_video(args.video, stop=15.)
        write_video(clip, np.asarray(shown), VIDEO_FPS, np.asarray(read(args.video, stop=15.)), SR)
    cfg = TalkerConfig(data=str(clip), out=str(args.out / "run"), epochs=args.epochs, bs=4, audio="ave", ema=.99, syncnet=str(bundled("sync")))
    run = trained(RECIPE, cfg)
    person, judge = load(run.path), load(bundled("sync"))
    speech = read(args.speech, stop=6.)
    before, after = judge.measure(clip), judge.measure(person.dub(np.asarray(speech), args.out / "dub.mp4"))
    keep("actor", plain(dict(tail=dict(run.metrics, data=clip.name), before=dict(offset_ms=before.offset_ms, confidence=before.confidence), after=dict(offset_ms=after.offset_ms, confidence=after.confidence), epochs=args.epochs, minutes=minutes(run.path))))
    made = list(person.frames(np.asarray(speech)))
    at = range(4, min(len(made), person.film.n), 14)
    film = list(person.film.pictures(range(max(at) + 1)))
    sheet(FIGURES.with_name("figures_actor.jpg"), *([head(s[i], person.film.marks[i]) for i in at] for s in (film, made)))


def sync(args):
    from lipsync.config import from_dict
    from lipsync.recipes.syncnet import SyncnetConfig, judge, sync_corpus, sync_scores
    run = Run(bundled("sync"))
    cfg = replace(from_dict(SyncnetConfig, run.config), people=args.people, seed=101)
    rows = sync_corpus(cfg)
    found = dict(strangers=sync_scores(judge(), rows.filter(lambda c: c.split != "train"), cfg),                    # faces, voices and sentences of their own
                 voices_of_the_training=sync_scores(judge(), rows.split("train"), cfg))                                             # new faces and sentences, voices that the training had
    write_json(run.path / "metrics.json", dict(run.metrics, more_people=dict(plain(found), seed=cfg.seed, date=str(date.today()))))
    for name, f in found.items(): print(name, {k: f[k] for k in ("clips", "exact", "within_one", "off_ms", "confidence", "too_short")})


def shipped(run, target, card):
    "Put a run into the package: weights of 16 bits, the vocabulary, settings, figures and a card of its own."
    import shutil, tempfile
    from lipsync.callback.checkpoint import header
    from lipsync.core import save_tensors
    from lipsync.hub import bundle
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp) / "run"; tmp.mkdir()
        for name in ("config.yaml", "metrics.json", "tokens.json"):
            if (run.path / name).is_file(): shutil.copyfile(run.path / name, tmp / name)
        tensors, about = header(run.path / "best.safetensors")
        save_tensors(tmp / "best.safetensors", {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}, {"lipsync": json.dumps(about)})
        shutil.rmtree(target, ignore_errors=True)
        bundle(tmp, target)
    (target / "README.md").write_text(card, encoding="utf-8")


def reader_card(lang, kind, metrics):
    "What a reader of a card must know; `lipsync push` adds the rest."
    from lipsync.card import about, figure_tables, public_figures
    return f"""# Lipreader, {SENTENCES[lang, kind]}, from drawn people

{about("lipreader").what} `lipsync read --lang {lang}` uses it where no other model is named.

**It has seen drawn people only**, who say {"commands of one form" if kind == "grid" else "sentences of one grammar"}; real people it does not read. For them, train on them: `papermill nbs/train_lipreader.ipynb out.ipynb -f nbs/recipes/grid.yaml -p data GRID`.
How it was made and what it mixes up: `nbs/report_lipreader.ipynb`.

## Use

```python
from lipsync.core import bundled
from lipsync.inference import load
load(bundled("lipreader_{lang}")).read("talk.mp4").text
```

## Figures

{metrics['utterances']} utterances of {metrics['speakers']} drawn people who are in no other split, free-running; 95% intervals in brackets.

{figure_tables(public_figures(metrics))}

## Learnt from

400 drawn people, ten sentences each, eSpeak NG's voices: nobody real is in it.

## Limits

{about("lipreader").limits}
"""


def gan_card(people, seconds, size, metrics):
    "The same for the network that dubs any face."
    from lipsync.card import about
    from lipsync.gan.judge import speech_table
    test = metrics["new_speech"]
    return f"""# Any face says anything, from drawn people

{about("gan").what} `lipsync dub FACE SPEECH OUT.mp4` uses it where no other model is named.

**It has seen drawn people only.** A drawn face it dubs as the figures say; on a person it paints a drawing: white bars for teeth, lips of one colour. For people, train on people: `papermill nbs/train_gan.ipynb out.ipynb -f nbs/recipes/gan_96.yaml -p data PEOPLE`, PEOPLE being a folder of videos for each person.
How it was made, what each stage adds, and real faces: `nbs/report_gan.ipynb`.

## Use

```python
from lipsync.core import bundled
from lipsync.inference import load
load(bundled("gan")).dub("face.png", "talk.wav", "out.mp4")
```

## Figures

Drawn people who are in no other split say what the next of them said, in voices and sentences that are in no other split either; beside the truth. 95% intervals over people in brackets.

{speech_table(test, dict(generator="this model", copied="copied reference", film="the film as it was"))}

## Learnt from

{people} drawn people, {seconds:g} s each, in eSpeak NG's voices; nobody real is among them.

## Not for

{about("gan").misuse}

## Limits

{about("gan").limits} The lower face is painted at {size} pixels: in a larger picture it is softer than the rest; from one photograph with closed lips it cannot know the teeth. Beards and moustaches, of which it has seen few, are blurred.
"""


def times_of(reads, rows):
    "How far the time of a read character is from the middle of its share of the word, s: of clips that are read without error."
    from lipsync.corpus.mouths import mouth_of
    from lipsync.decode import spelling
    off = []
    for c in rows:
        words = [(a, b, spelling(w, c.lang)) for a, b, w in c.extras["words"]]
        true = [a + (b - a) * (k + .5) / len(w) for a, b, w in words for k in range(len(w))]
        got = [r for r in reads.read(mouth_of(c)).chars if r.char != " "]
        if "".join(r.char for r in got) == "".join(w for *_, w in words): off += [(r.start + r.stop) / 2 - t for r, t in zip(got, true)]
    off = np.array(off)
    return dict(characters=len(off), median=float(np.median(off)), median_off=float(np.median(np.abs(off))), within_200_ms=float((np.abs(off) < .2).mean()))


def reader(args):
    from lipsync.corpus.mouths import mouth_of
    from lipsync.recipes.lipreader import RECIPE, LipreaderConfig, lipreader_corpus
    from lipsync.reader import OnnxReader, export_reader
    cfg = replace(load_config(TOP / "nbs/recipes/lipreader_small.yaml", LipreaderConfig), lang=args.lang, device="cpu", **{k: v for k, v in dict(init=args.init, epochs=args.epochs, kind=args.kind, lm=args.lm).items() if v})
    run = trained(RECIPE, replace(cfg, out=str(args.out / "run")))
    target = bundled(f"lipreader_{args.lang}")
    shipped(run, target, reader_card(cfg.lang, cfg.kind, run.metrics))
    reads = load(target)
    rows = list(lipreader_corpus(cfg).split("test"))
    some = [mouth_of(c) for c in rows[::max(1, len(rows) // 50)][:50]]
    export_reader(reads, args.out / "onnx")
    other = OnnxReader(args.out / "onnx")
    same = sum(other.text(m) == reads.read(m).text for m in some)
    real = []
    for clip in sorted(args.real.glob("*.mpg")) if args.real else ():
        from lipsync.corpus.videos import grid_text
        truth, got = grid_text(clip.stem), reads.read(clip)
        real.append(dict(clip=clip.name, said=truth, read=got.text, cer=got.cer(truth), confidence=got.confidence))
    curve = [{k: r[k] for k in ("epoch", "train loss", "valid loss", "valid cer", "valid cer_attention")} for r in run.history]
    keep(args.lang, plain(dict(test=run.metrics, curve=curve, minutes=minutes(run.path), threads=args.threads, people=cfg.people, clips=cfg.clips, kind=cfg.kind, onnx=dict(clips=len(some), same=same), times=times_of(reads, rows), real=real)), READERS)
    clip = rows[len(rows) // 2]
    reads.show(np.asarray(mouth_of(clip)), clip.text).savefig(READERS.with_name(f"figures_lipreader_{args.lang}.jpg"), dpi=80)


def dubs(model, videos, out):
    "Each real video says what the next one says: offset and confidence before and after, a row of frames of each."
    from lipsync.gan.predictor import open_face
    judge, rows, lines = load(bundled("sync")), [], []
    for k, video in enumerate(videos):
        speech = np.asarray(read(videos[(k + 1) % len(videos)], stop=3.))
        face = open_face(video, model.cfg.size)
        before, after = judge.measure(video), judge.measure(model.dub(face, speech, out / f"{video.stem}.mp4"))
        rows.append(dict(clip=video.name, person=video.parent.name, before=dict(offset_ms=before.offset_ms, confidence=before.confidence), after=dict(offset_ms=after.offset_ms, confidence=after.confidence)))
        made = [f for _, f in zip(range(70), model.frames(face, speech))]
        at = range(10, len(made), 10)
        film = list(face.pictures([i % face.n for i in range(len(made))]))
        lines += [[head(s[i], face.marks[i % face.n]) for i in at] for s in (film, made)]
    return rows, lines


def gan(args):
    from lipsync.gan.judge import answers
    from lipsync.recipes.gan import RECIPE, GanConfig, Hearing, gan_people, stage_scores
    cfg = load_config(TOP / "nbs/recipes/gan_small.yaml", GanConfig)
    if args.epochs: cfg = replace(cfg, epochs=args.epochs)
    run = trained(RECIPE, replace(cfg, out=str(args.out / "run")))
    shipped(run, bundled("gan"), gan_card(len(gan_people(cfg).split("train").speakers), cfg.seconds, cfg.size, run.metrics))
    about = {k: v for k, v in vars(cfg).items() if k in ("size", "width", "people", "seconds", "epochs", "bs", "windows", "frames", "sync_from", "full_from", "n_critic", "seed")}
    keep("drawn", plain(dict(test=run.metrics, stages=stage_scores(run, min(cfg.judged, 16)), settings=about, minutes=minutes(run.path), threads=args.threads, curve=run.history)), DUBBED)
    net, rows = load(run.path).model, list(gan_people(cfg).split("test"))
    shown = [answers(net, r, o, Hearing(cfg.visemes)(o), cfg.frames, cfg.margin) for r, o in zip(rows[:3], rows[1:4])]
    sheet(DUBBED.with_suffix(".jpg"), *([head(a["pictures"][name][i], a["marks"][0][i]) for i in range(4, 95, 11)] for a in shown for name in ("film", "generator", "truth")), height=84, quality=60)
    if not args.real: return
    videos, found = sorted(p for p in args.real.rglob("*") if p.suffix in (".mp4", ".mpg")), {}
    tuned = trained(RECIPE, replace(cfg, data=str(args.real), init=str(run.path), out=str(args.out / "tuned"), epochs=9, sync_from=3, full_from=6, windows=0, valid_share=.2, test_share=.2, judged=-1, lr=cfg.lr / 4))
    for name, model in (("drawn", load(run.path)), ("tuned", load(tuned.path))):
        (args.out / name).mkdir(exist_ok=True)
        found[name], lines = dubs(model, videos, args.out / name)
        sheet(DUBBED.with_name(f"figures_gan_{name}.jpg"), *lines, height=60, quality=55)
    keep("real", plain(dict(found, tuning=dict(tuned.metrics, data=args.real.name), minutes=minutes(tuned.path))), DUBBED)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(required=True)
    q = sub.add_parser("talker"); q.add_argument("out", type=Path); q.add_argument("--clips", type=int, default=4); q.set_defaults(run=talker)
    q = sub.add_parser("actor"); q.add_argument("video", type=Path); q.add_argument("speech", type=Path); q.add_argument("out", type=Path); q.add_argument("-n", "--epochs", type=int, default=60); q.set_defaults(run=actor)
    q = sub.add_parser("sync"); q.add_argument("--people", type=int, default=640); q.set_defaults(run=sync, out=Path("."))
    q = sub.add_parser("reader"); q.add_argument("lang", choices=("en", "cmn")); q.add_argument("out", type=Path); q.add_argument("--real", type=Path, help="folder of GRID clips"); q.add_argument("--init", default="", help="a lipreader whose eyes are taken over"); q.add_argument("-n", "--epochs", type=int, default=0); q.add_argument("--kind", default="", help="sentences: grid (commands) or everyday"); q.add_argument("--lm", default="", help="language model for the beam, from lipsync lm"); q.set_defaults(run=reader)
    q = sub.add_parser("gan"); q.add_argument("out", type=Path); q.add_argument("--real", type=Path, help="folder with a folder of videos for each person"); q.add_argument("-n", "--epochs", type=int, default=0); q.set_defaults(run=gan)
    args = p.parse_args()
    args.out = args.out.absolute()
    import torch
    args.threads = torch.get_num_threads()
    args.run(args)


if __name__ == "__main__": main()
