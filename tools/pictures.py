"""The proofs of the systems that draw: the long trainings, their figures and the pictures that are shown of them.

    python tools/pictures.py talker OUT            a drawn person: train (nbs/recipes/talker.yaml), let them say new things, compare with the film that it should have been
    python tools/pictures.py actor VIDEO SPEECH OUT [-n EPOCHS]   a real person: train on the first 15 s of VIDEO, let them say SPEECH

What was done is not done again; figures go to lipsync/weights/figures_talker.json and figures_talker.jpg, figures_actor.jpg, which nbs/report_talker.ipynb shows.
"""
import argparse
from datetime import date
from pathlib import Path
import numpy as np
from PIL import Image
from lipsync.config import load_config, replace
from lipsync.core import bundled, read_json, write_json
from lipsync.inference import load
from lipsync.learner import plain, train
from lipsync.recipes.talker import RECIPE, TalkerConfig, drawn_person
from lipsync.talker import talker_scores
from lipsync.timebase import SR, VIDEO_FPS

TOP = Path(__file__).resolve().parent.parent
FIGURES = TOP / "lipsync/weights/figures_talker.json"


def keep(name, found):
    "Put figures under a name into the file that the report reads."
    write_json(FIGURES, (read_json(FIGURES) if FIGURES.is_file() else {}) | {name: dict(found, date=str(date.today()))})


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


def minutes(run):
    "How long a run was trained, by its own clock."
    return sum(row["seconds"] for row in read_json(Path(run) / "timings.json")) / 60


def talker(args):
    cfg = load_config(TOP / "nbs/recipes/talker.yaml", TalkerConfig)
    run = train(RECIPE, replace(cfg, syncnet=str(bundled("sync")), out=str(args.out / "run"), resume="auto"))
    person = load(run.path)
    scores = talker_scores(person, clips=args.clips, seconds=6.)
    who = drawn_person(person.cfg)
    new = [who.speech(6., new=k) for k in range(args.clips)]
    keep("drawn", plain(dict(scores, sync=in_step(person, [x for x, _ in new], args.out), settings={k: v for k, v in vars(person.cfg).items() if k in ("size", "seconds", "epochs", "bs", "audio", "context", "ema", "width", "seed")}, minutes=minutes(run.path), threads=args.threads)))
    x, al = new[0]
    at = range(4, 150, 14)
    drawn, truth, film = list(person.frames(x)), list(who.shot(al, 6.).frames()), list(person.film.pictures(range(150)))
    Image.fromarray(rows_of(*([s[i] for i in at] for s in (film, drawn, truth)))).save(FIGURES.with_suffix(".jpg"), quality=85)


def actor(args):
    from lipsync.audio.core import read
    from lipsync.video.core import read_video
    from lipsync.video.write import write_video
    clip = args.out / "first.mp4"
    if not clip.is_file():
        args.out.mkdir(parents=True, exist_ok=True)
        shown = read_video(args.video, stop=15.)
        write_video(clip, np.asarray(shown), VIDEO_FPS, np.asarray(read(args.video, stop=15.)), SR)
    cfg = TalkerConfig(data=str(clip), out=str(args.out / "run"), epochs=args.epochs, bs=4, audio="ave", ema=.99, syncnet=str(bundled("sync")), resume="auto")
    run = train(RECIPE, cfg)
    person, judge = load(run.path), load(bundled("sync"))
    speech = read(args.speech, stop=6.)
    before, after = judge.measure(clip), judge.measure(person.dub(np.asarray(speech), args.out / "dub.mp4"))
    keep("actor", plain(dict(tail=run.metrics, before=dict(offset_ms=before.offset_ms, confidence=before.confidence), after=dict(offset_ms=after.offset_ms, confidence=after.confidence), epochs=args.epochs, minutes=minutes(run.path))))
    made = list(person.frames(np.asarray(speech)))
    at = range(4, min(len(made), person.film.n), 14)
    film = list(person.film.pictures(range(max(at) + 1)))
    Image.fromarray(rows_of(*([head(s[i], person.film.marks[i]) for i in at] for s in (film, made)))).save(FIGURES.with_name("figures_actor.jpg"), quality=85)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(required=True)
    q = sub.add_parser("talker"); q.add_argument("out", type=Path); q.add_argument("--clips", type=int, default=4); q.set_defaults(run=talker)
    q = sub.add_parser("actor"); q.add_argument("video", type=Path); q.add_argument("speech", type=Path); q.add_argument("out", type=Path); q.add_argument("-n", "--epochs", type=int, default=60); q.set_defaults(run=actor)
    args = p.parse_args()
    args.out = args.out.absolute()
    import torch
    args.threads = torch.get_num_threads()
    args.run(args)


if __name__ == "__main__": main()
