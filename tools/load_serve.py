"""How many live streams one server keeps at real time: `python tools/load_serve.py [--chunk 40] [--cores 0,1]`.

Starts `lipsync serve` as a program of its own, lets 1, 2, 4 ... clients speak to it in real time, and measures how late each
frame's weights come: from the moment the sound that decides it has been sent, to the moment the answer is there. A number of streams
is kept where 95 of 100 answers come within `--late` ms and each stream ends within a second of its sound."""
import argparse, asyncio, json, os, socket, subprocess, sys, time, urllib.request
from pathlib import Path
import numpy as np

SR, FPS = 16_000, 100


def start(port, cores, streams, workers):
    "The server, ready."
    env = os.environ | dict(OMP_NUM_THREADS="1", PYTHONPATH=str(Path(__file__).resolve().parent.parent))
    words = ["taskset", "-c", cores] * bool(cores) + [sys.executable, "-c", "from lipsync.cli import main; raise SystemExit(main())", "serve", "--port", str(port), "--streams", str(streams), "--workers", str(workers)]
    server = subprocess.Popen(words, env=env)
    for _ in range(600):
        try: urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1); return server
        except OSError: time.sleep(.1)
        if server.poll() is not None: raise SystemExit("the server did not start")
    server.kill()
    raise SystemExit("the server does not answer")


async def speak(port, raw, chunk, wait, wish):
    "One client in real time: (delays of its messages, s; how long after its sound it ended, s)."
    from websockets.asyncio.client import connect
    await asyncio.sleep(wait)
    async with connect(f"ws://127.0.0.1:{port}/stream", compression=None, proxy=None, open_timeout=60) as ws:
        await ws.send(json.dumps(wish))
        ahead = json.loads(await ws.recv())["latency_ms"] / 1000
        step, late, begin = 2 * SR * chunk // 1000, [], time.perf_counter()

        async def listen():
            k = 0
            async for text in ws:
                m, now = json.loads(text), time.perf_counter()
                n = len(m.get("weights", m.get("labels", ())))
                k += n
                if n:                                             # the last frame of the message was decided by the piece that holds its end and its look-ahead
                    need = ((k - 1) / FPS + ahead) * 1000
                    sent = begin + (int(np.ceil(need / chunk - 1e-9))) * chunk / 1000
                    late.append(now - sent)
                if m.get("done"): return k, now
        ear = asyncio.create_task(listen())
        for i, at in enumerate(range(0, len(raw), step), 1):
            await asyncio.sleep(max(0, begin + i * chunk / 1000 - time.perf_counter()))     # a piece is sent when it is over
            await ws.send(raw[at:at + step])
        await ws.send('{"end": true}')
        frames, end = await ear
        assert frames == len(raw) // 2 // (SR // FPS)
        return late[:-1], end - begin - len(raw) / 2 / SR


def used(pid):
    "Processor time of a program so far, s (Linux)."
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")


async def crowd(port, n, seconds, chunk, answer):
    "n clients at once."
    raw = (np.random.default_rng(0).standard_normal(int(seconds * SR)) * 3000).astype("<i2").tobytes()
    got = await asyncio.gather(*(speak(port, raw, chunk, chunk / 1000 * k / n, dict(format="int16", answer=answer)) for k in range(n)))
    late = 1000 * np.concatenate([g[0] for g in got])
    return dict(streams=n, median=round(float(np.median(late)), 1), p95=round(float(np.quantile(late, .95)), 1), worst=round(float(late.max()), 1), after_s=round(max(g[1] for g in got), 2))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--chunk", type=int, default=40, help="ms of sound in a message")
    p.add_argument("--seconds", type=float, default=6., help="each stream lasts")
    p.add_argument("--late", type=float, default=100., help="ms that 95 of 100 answers may take")
    p.add_argument("--answer", default="frames", choices=("frames", "labels"))
    p.add_argument("--workers", type=int, default=2, help="of the server")
    p.add_argument("--cores", default="", help="of the server, as taskset wants them: 0,1")
    p.add_argument("--streams", type=int, nargs="*", default=[1, 8, 16, 32, 48, 64, 96, 128], help="numbers to try")
    a = p.parse_args()
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    server, best = start(port, a.cores, 1000, a.workers), 0
    try:
        asyncio.run(crowd(port, 1, 1., a.chunk, a.answer))                                  # warm
        for n in a.streams:
            begin, before = time.perf_counter(), used(server.pid)
            row = asyncio.run(crowd(port, n, a.seconds, a.chunk, a.answer))
            row["cores_used"] = round((used(server.pid) - before) / (time.perf_counter() - begin), 2)
            print(json.dumps(row), flush=True)
            if row["p95"] > a.late or row["after_s"] > 1: break
            best = n
    finally: server.terminate(); server.wait(20)
    print(json.dumps(dict(streams_at_real_time=best, chunk_ms=a.chunk, answer=a.answer, load=os.getloadavg()[0])))


if __name__ == "__main__": main()
