"""What `make demo` shows: a trained run hears speech. `python tools/demo.py DEMO_FOLDER [SPEECH]`

Without SPEECH, an eSpeak voice that the training never heard says something it never read.
"""
import sys, time
from pathlib import Path
import matplotlib
matplotlib.use("Agg")
import lipsync.cues  # tracks learn to save themselves
from lipsync.audio.core import read, write
from lipsync.config import from_dict, read_settings
from lipsync.core import LipsyncError
from lipsync.inference import load
from lipsync.learner import Run
from lipsync.player import write_player
from lipsync.recipes.tcn import TcnConfig, tcn_corpus
from lipsync.speech.espeak import speak

TEXT = ("Peter Piper picked a peck of pickled peppers. How many boats must Bob move before the moon comes up? "
        "She sells sea shells by the shore, and they think he found five very good fish.")


def unheard(run, path):
    "Speech of a voice that is in the run's test split, with a text that is in no split."
    clip = tcn_corpus(from_dict(TcnConfig, read_settings(run / "config.yaml"))).split("test")[0]
    wav, _ = speak(TEXT, voice="en-us", variant=clip.extras["variant"], rate=165, pitch=clip.extras["pitch"])
    return write(path, wav), f"the eSpeak voice {clip.extras['variant']}, which the training never heard"


def main():
    demo, speech = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    run, start = demo / "run", time.perf_counter()
    path, who = (Path(speech).expanduser(), "your recording") if speech else unheard(run, demo / "speech.wav")
    model = load(run)
    t = time.perf_counter()
    track = model.visemes(path)
    took = time.perf_counter() - t
    for name in ("cues.json", "cues.tsv"): track.save(demo / name)
    wav = read(path, stop=min(track.duration, 12.))
    track[:12.].show(wav).savefig(demo / "lanes.png", dpi=110)
    write_player(path, track, demo / "player.html", title=path.stem)
    scores = Run(run).metrics
    print(f"""
heard      {path} ({who}): {track.duration:.1f} s in {took:.2f} s, {len(track.cues())} cues
score      {100 * scores['accuracy']['value']:.0f}% of the frames right on {scores['speakers']} unheard synthetic voices (always `{scores['majority_baseline']['viseme']}`: {100 * scores['majority_baseline']['accuracy']['value']:.0f}%);
           this model has heard no human voice: on people expect clearly less
look at    {demo}/player.html       sound and a moving mouth, in any browser
           {demo}/lanes.png         spectrogram and visemes
           {demo}/cues.json, {demo}/cues.tsv (Rhubarb)
           {demo}/train_tcn.ipynb   the training as it ran; {demo}/run is the model
""")


if __name__ == "__main__":
    try: main()
    except LipsyncError as err: sys.exit(f"demo: {err}")
