"use strict";
(async () => {
const $ = id => document.getElementById(id);
const meta = JSON.parse($("meta").textContent);
const audio = $("audio"), calm = matchMedia("(prefers-reduced-motion: reduce)"), dark = matchMedia("(prefers-color-scheme: dark)");
const clamp = (x, lo, hi) => Math.min(hi, Math.max(lo, x)), mix = (a, b, k) => a + (b - a) * k;
const ramp = (x, lo, hi) => { const k = clamp((x - lo) / (hi - lo), 0, 1); return k * k * (3 - 2 * k); };
const total = meta.seconds, names = meta.visemes, N = names.length;

// ---- the data that travel in the page: base64, the two tables deflated as well
function raw(id) {
  const text = atob($(id).textContent.trim()), out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  $(id).textContent = "";
  return out;
}
async function inflated(id) {
  const flow = new Blob([raw(id)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(flow).arrayBuffer());
}
function say(text) { $("status").textContent = text; }

audio.src = URL.createObjectURL(new Blob([raw("sound")], { type: meta.mime }));
audio.addEventListener("error", () => say("This browser cannot play the sound in this page (" + meta.mime + ")."));
const weights = await inflated("weights"), mel = await inflated("mel");
const T = weights.length / N, bands = meta.mel.bands, columns = mel.length / bands;

// ---- the mouth at a time: neighbouring frames blend, and shapes that must be seen (closed lips) weigh more
function mouthAt(t) {
  const { fps, start, sigma, table, force } = meta.mouth_of, P = table[0].length;
  const near = (t - start) * fps - .5, reach = Math.ceil(3 * sigma * fps), sum = new Float64Array(P);
  let mass = 0;
  for (let k = Math.ceil(near - reach); k <= Math.floor(near + reach); k++) {
    const z = (k - near) / fps / sigma, g = Math.exp(-.5 * z * z), inside = k >= 0 && k < T;
    for (let v = 0; v < N; v++) {
      const w = inside ? weights[k * N + v] / 255 : +(v === 0);
      if (!w) continue;
      const m = g * w * force[v];
      mass += m;
      for (let p = 0; p < P; p++) sum[p] += m * table[v][p];
    }
  }
  const out = {};
  meta.mouth_of.names.forEach((name, p) => { out[name] = mass > 0 ? sum[p] / mass : table[0][p]; });
  return out;
}

// ---- the face
const n = x => x.toFixed(1);
const set = (id, name, value) => $(id).setAttribute(name, value);
function drawFace(p, t) {
  const cx = 200, cy = 302, shut = 1 - ramp(p.press, .35, .8);
  const open = Math.max(0, p.jaw - .03) * shut, drop = 50 * open;                       // how far the lower lip goes down, px
  const w = 48 + 11 * p.width - 25 * p.round - 2 * p.press + 3 * open * (1 - p.round);  // half the mouth's width, px
  const rise = (Math.min(1, open * 5) * (2 + 5 * p.teeth * (1 - p.round)) + 5 * open + 7 * p.tuck) * shut;
  const smile = 4.5 * (1 - p.round) * (1 - ramp(open, 0, .6)) * (1 - .6 * p.tuck);
  const yc = cy + drop * .3 - 1.5 * p.width - smile, yu = cy - rise, yl = cy + drop - 2 * p.tuck;
  const full = 1 + .32 * p.round - .12 * p.width - .42 * p.press;
  const up = 11 * full * (1 - .25 * p.tuck), low = 15 * full * (1 - .42 * p.tuck);
  const a = mix(.34, .04, Math.max(p.round, .75 * open)), c = mix(.5, .6, Math.max(p.round, open));                           // a circle when rounded, an almond when spread
  const L = cx - w, R = cx + w, half = (y, b) => `C${n(L + a * w)} ${n(mix(yc, y, b))} ${n(cx - c * w)} ${n(y)} ${cx} ${n(y)}`;
  const back = (y, b) => `C${n(cx + c * w)} ${n(y)} ${n(R - a * w)} ${n(mix(yc, y, b))} ${n(R)} ${n(yc)}`;
  const topEdge = half(yu, .8) + back(yu, .8);
  const lowBack = `C${n(R - a * w)} ${n(mix(yc, yl, .8))} ${n(cx + c * w)} ${n(yl)} ${cx} ${n(yl)}C${n(cx - c * w)} ${n(yl)} ${n(L + a * w)} ${n(mix(yc, yl, .8))} ${n(L)} ${n(yc)}`;
  const hollow = `M${n(L)} ${n(yc)}${topEdge}${lowBack}Z`;
  const e = 5 - 1.5 * p.round, yt = yu - up, yb = yl + low;                              // outer edge of the lips
  const bow = mix(.3, .34, p.round), peak = yt - 2.5 * (1 - p.press) * (1 - .55 * p.round);
  const outTop = `M${n(L - e)} ${n(yc)}C${n(L + .3 * w)} ${n(mix(yc, peak, .62))} ${n(cx - bow * w - .2 * w)} ${n(peak)} ${n(cx - bow * w)} ${n(peak)}`
    + `C${n(cx - bow * w * .55)} ${n(peak)} ${n(cx - 4)} ${n(yt + 2)} ${cx} ${n(yt + 2)}C${n(cx + 4)} ${n(yt + 2)} ${n(cx + bow * w * .55)} ${n(peak)} ${n(cx + bow * w)} ${n(peak)}`
    + `C${n(cx + bow * w + .2 * w)} ${n(peak)} ${n(R - .3 * w)} ${n(mix(yc, peak, .62))} ${n(R + e)} ${n(yc)}`;
  const outLow = `C${n(R - .16 * w)} ${n(mix(yc, yb, .86))} ${n(cx + .52 * w)} ${n(yb)} ${cx} ${n(yb)}C${n(cx - .52 * w)} ${n(yb)} ${n(L + .16 * w)} ${n(mix(yc, yb, .86))} ${n(L - e)} ${n(yc)}Z`;
  set("lips", "d", outTop + outLow);
  set("hollow", "d", hollow); set("insidepath", "d", hollow);
  set("upper", "d", outTop + `L${n(R)} ${n(yc)}` + `C${n(R - a * w)} ${n(mix(yc, yu, .8))} ${n(cx + c * w)} ${n(yu)} ${cx} ${n(yu)}C${n(cx - c * w)} ${n(yu)} ${n(L + a * w)} ${n(mix(yc, yu, .8))} ${n(L)} ${n(yc)}Z`);
  set("lower", "d", `M${n(L - e)} ${n(yc)}L${n(L)} ${n(yc)}` + half(yl, .8) + back(yl, .8) + `L${n(R + e)} ${n(yc)}` + outLow);
  set("shine", "d", `M${n(cx - .24 * w)} ${n(yl + low * .42)}Q${cx} ${n(yl + low * .52)} ${n(cx + .24 * w)} ${n(yl + low * .42)}`);
  const gap = drop + rise;
  set("seam", "d", `M${n(L - 2)} ${n(yc)}` + half(yu + gap * .5, .8) + back(yu + gap * .5, .8) + `l2 0`);
  set("seam", "opacity", n(1 - ramp(gap, 1, 5)));
  set("corners", "d", `M${n(L - e - 1)} ${n(yc - 2.5)}q-3 2.5 -1.5 6M${n(R + e + 1)} ${n(yc - 2.5)}q3 2.5 1.5 6`);
  set("shadow", "d", `M${n(cx - .6 * w)} ${n(yb + 4)}Q${cx} ${n(yb + 15)} ${n(cx + .6 * w)} ${n(yb + 4)}Q${cx} ${n(yb + 6)} ${n(cx - .6 * w)} ${n(yb + 4)}Z`);
  set("lipshade", "d", `M${n(L)} ${n(yc)}` + topEdge);
  // teeth: the upper row belongs to the skull, the lower row to the jaw
  const biteUp = cy - 1.5 - 13 * (1 - p.teeth) + 2.5 * p.tuck, narrow = clamp(w / 56, .5, 1.1);
  set("upperteeth", "transform", `translate(${n(cx * (1 - narrow))} ${n(biteUp)}) scale(${narrow.toFixed(3)} 1)`);
  const biteLow = Math.max(biteUp + 6.5, cy + drop - 7 + 5 * (1 - p.teeth) + 6 * p.round);
  set("lowerteeth", "transform", `translate(${n(cx * (1 - narrow))} ${n(biteLow)}) scale(${narrow.toFixed(3)} 1)`);
  // tongue: its back rests on the lower teeth, its blade rises towards the upper ones
  const floor = cy + drop + 14, top = mix(floor - mix(22, 9, p.round), biteUp + 4, clamp(p.tongue, 0, 1)), tw = w * mix(.74, .5, p.round) * mix(1, .8, p.tongue);
  set("tonguepath", "d", `M${n(cx - tw)} ${n(floor + 8)}C${n(cx - tw)} ${n(top + 4)} ${n(cx - tw * .55)} ${n(top)} ${cx} ${n(top + 1.5)}C${n(cx + tw * .55)} ${n(top)} ${n(cx + tw)} ${n(top + 4)} ${n(cx + tw)} ${n(floor + 8)}Z`);
  set("tongueline", "d", floor - top > 10 ? `M${cx} ${n(top + 5)}V${n(floor)}` : "");
  const out = ramp(p.tip, .35, .9);                                                     // TH: the tip comes out between the teeth
  set("tip", "d", out > .02 ? `M${n(cx - .42 * w)} ${n(biteUp + 3)}C${n(cx - .44 * w)} ${n(mix(biteUp + 4, yl + 3, out))} ${n(cx - .2 * w)} ${n(mix(biteUp + 5, yl + 7, out))} ${cx} ${n(mix(biteUp + 5, yl + 7, out))}S${n(cx + .44 * w)} ${n(mix(biteUp + 4, yl + 3, out))} ${n(cx + .42 * w)} ${n(biteUp + 3)}Q${cx} ${n(biteUp + 7)} ${n(cx - .42 * w)} ${n(biteUp + 3)}Z` : "");
  // the rest of the face follows
  const j = 20 * open * (1 - .3 * p.round), s = 4 * p.round;
  set("head", "d", `M90 190C90 104 132 62 200 62S310 104 310 190C310 262 292 ${n(318 + j * .6)} 248 ${n(356 + j)}C228 ${n(371 + j)} 172 ${n(371 + j)} 152 ${n(356 + j)}C108 ${n(318 + j * .6)} 90 262 90 190Z`);
  const f = 60 + 8 * p.width + 3 * open - s;
  set("folds", "d", `M${n(cx - f * .72)} 262Q${n(cx - f - 3)} 276 ${n(cx - f - 4)} ${n(288 + j * .4)}M${n(cx + f * .72)} 262Q${n(cx + f + 3)} 276 ${n(cx + f + 4)} ${n(288 + j * .4)}`);
  set("folds", "opacity", n(.1 + .35 * clamp(p.width + open * .6, 0, 1)));
  set("lids", "y", n(130 + (calm.matches ? 0 : 50 * blink(t))));
  set("brows", "transform", `translate(0 ${n(calm.matches ? 0 : -4 * loudness(t))})`);
}
function blink(t) {                                      // the same blinks at the same times, about one in 3 s
  const k = Math.floor(t / 3.1), at = k * 3.1 + 1.2 + 1.3 * Math.abs((Math.sin(k * 12.9898 + 4.1) * 43758.5453) % 1), d = Math.abs(t - at);
  return d < .1 ? Math.cos(d / .1 * Math.PI / 2) : 0;
}
const level = new Float32Array(columns);
for (let i = 0; i < columns; i++) { let s = 0; for (let b = 0; b < bands; b++) s += mel[i * bands + b]; level[i] = s / bands / 255; }
const loudest = level.reduce((a, b) => Math.max(a, b), .05);
function loudness(t) {
  let s = 0, c = 0;
  for (let d = -.2; d <= .2; d += .05) { const i = Math.floor((t + d) * meta.mel.fps); if (i >= 0 && i < columns) { s += level[i]; c++; } }
  return c ? s / c / loudest : 0;
}

// ---- colours; canvases cannot read the style sheet by themselves
function shade(hex) {                                    // the library's colour for a viseme, at a lightness that can be read here
  const [r, g, b] = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16) / 255), hi = Math.max(r, g, b), lo = Math.min(r, g, b), d = hi - lo, l = (hi + lo) / 2;
  const h = d === 0 ? 0 : hi === r ? ((g - b) / d + 6) % 6 : hi === g ? (b - r) / d + 2 : (r - g) / d + 4, s = d === 0 ? 0 : d / (1 - Math.abs(2 * l - 1));
  const [low, high] = dark.matches ? [.6, .74] : [.3, .46];
  return `hsl(${(h * 60).toFixed(0)} ${(s * 100).toFixed(0)}% ${(clamp(l, low, high) * 100).toFixed(0)}%)`;
}
let ink = {}, heat = [];
function repaint() {
  const css = getComputedStyle(document.documentElement), get = k => css.getPropertyValue(k).trim();
  ink = { text: get("--ink"), dim: get("--dim"), line: get("--line"), card: get("--card"), head: get("--head"), accent: get("--accent") };
  ink.of = meta.colours.map(shade);
  const stops = dark.matches ? [[27, 30, 42], [62, 40, 110], [160, 54, 112], [240, 120, 84], [255, 232, 170]] : [[255, 255, 255], [214, 224, 246], [120, 150, 220], [70, 70, 160], [34, 16, 66]];
  heat = Array.from({ length: 256 }, (_, i) => { const x = i / 255 * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(x)); return stops[k].map((s, c) => mix(s, stops[k + 1][c], x - k)); });
  tiles.clear(); strip = null; dirty = true;
}
const TILE = 2048, tiles = new Map();
function tile(k) {                                       // a stretch of the spectrogram, coloured once
  if (tiles.has(k)) return tiles.get(k);
  const from = k * TILE, width = Math.min(TILE, columns - from), c = document.createElement("canvas");
  c.width = width; c.height = bands;
  const g = c.getContext("2d"), img = g.createImageData(width, bands);
  for (let x = 0; x < width; x++) for (let b = 0; b < bands; b++) {
    const rgb = heat[mel[(from + x) * bands + b]], o = ((bands - 1 - b) * width + x) * 4;
    img.data[o] = rgb[0]; img.data[o + 1] = rgb[1]; img.data[o + 2] = rgb[2]; img.data[o + 3] = 255;
  }
  g.putImageData(img, 0, 0);
  if (tiles.size > 24) tiles.clear();
  tiles.set(k, c);
  return c;
}

// ---- time
const spans = [1, 2, 3, 4, 6, 8, 12, 20, 30, 60].filter(s => s < total).concat(total);
let span = 4, dirty = true, strip = null, base = 0, stamp = 0, loop = false, wanted = null;
function now() {
  if (wanted !== null) return wanted;
  if (audio.paused) return clamp(audio.currentTime, 0, total);
  let t = base + (performance.now() - stamp) / 1000 * audio.playbackRate;               // the player's own clock moves in steps
  const d = audio.currentTime - t;
  t = Math.abs(d) > .08 ? audio.currentTime : t + d * .06;
  base = t; stamp = performance.now();
  return clamp(t, 0, total);
}
function seek(t) {
  t = clamp(t, 0, total);
  wanted = t; base = t; stamp = performance.now(); dirty = true;
  audio.currentTime = Math.min(t, Math.max(0, total - .001));
}
audio.addEventListener("seeked", () => { base = audio.currentTime; stamp = performance.now(); if (!audio.paused && !audio.seeking) wanted = null; dirty = true; });
audio.addEventListener("timeupdate", () => { dirty = true; });
async function toggle() {
  if (!audio.paused) { audio.pause(); return; }
  if (now() >= total - .01) seek(0);
  try { await audio.play(); say(""); } catch (err) { if (err.name !== "AbortError") say("The sound does not play: " + err.message); }
}
function state() {
  const on = !audio.paused && !audio.ended;
  $("play").setAttribute("aria-label", on ? "Pause" : "Play");
  set("playicon", "d", on ? "M6 4.500H10.500V19.500H6ZM13.500 4.500H18V19.500H13.500Z" : "M7 4.500V19.500L20 12Z");
  dirty = true;
}
audio.addEventListener("play", () => { base = wanted ?? audio.currentTime; stamp = performance.now(); state(); });
audio.addEventListener("playing", () => { base = audio.currentTime; stamp = performance.now(); wanted = null; });
audio.addEventListener("pause", state);
audio.addEventListener("ended", () => { wanted = loop ? null : total; state(); if (loop) { seek(0); audio.play(); } });
const windowAt = t => {
  if (total <= span) return 0;
  return clamp(calm.matches ? Math.floor(t / (span * .9)) * span * .9 : t - span * .42, 0, total - span);   // calm: pages instead of a moving band
};

// ---- lists that are sorted by time
function at(list, t) {
  let lo = 0, hi = list.length - 1;
  while (lo <= hi) { const m = (lo + hi) >> 1; if (t < list[m][0]) hi = m - 1; else if (t >= list[m][1]) lo = m + 1; else return m; }
  return -1 - lo;
}
const first = (list, t) => { const i = at(list, t); return i < 0 ? -1 - i : i; };

// ---- the lanes
const RULER = 20, BLOCK = 22, LEFT = 44;
let SPEC = 92, LANE = 19;
const words = meta.words, high = () => RULER + SPEC + 6 + (words.length ? BLOCK + 4 : 0) + BLOCK + 4 + LANE * N + 6;
function fit(canvas, width, height) {
  const d = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * d) || canvas.height !== Math.round(height * d)) { canvas.width = Math.round(width * d); canvas.height = Math.round(height * d); canvas.style.height = height + "px"; }
  const g = canvas.getContext("2d");
  g.setTransform(d, 0, 0, d, 0, 0); g.clearRect(0, 0, width, height);
  return g;
}
function blocks(g, list, y, x, from, to, colour, label, current) {
  g.textBaseline = "middle"; g.textAlign = "center";
  for (let i = Math.max(0, first(list, from)); i < list.length && list[i][0] < to; i++) {
    const l = Math.max(x(list[i][0]), LEFT), r = x(list[i][1]), text = label(list[i]), on = i === current;
    if (r - l < 1 || !text) continue;
    g.globalAlpha = on ? 1 : .32; g.fillStyle = colour(list[i]);
    g.beginPath(); g.roundRect(l + .5, y, Math.max(1, r - l - 1), BLOCK, 4); g.fill(); g.globalAlpha = 1;
    if (g.measureText(text).width < r - l - 3) { g.fillStyle = on ? ink.card : ink.text; g.fillText(text, (l + r) / 2, y + BLOCK / 2 + 1); }
  }
}
function drawLanes(t) {
  [SPEC, LANE] = innerWidth < 720 ? [66, 15] : [92, 19];
  const canvas = $("lanes"), width = canvas.clientWidth, height = high(), g = fit(canvas, width, height);
  const from = windowAt(t), to = from + Math.min(span, total), px = (width - LEFT) / (to - from), x = s => LEFT + (s - from) * px;
  const small = "11px system-ui,sans-serif";
  g.save(); g.beginPath(); g.rect(LEFT, 0, width - LEFT, height); g.clip();
  g.font = small; g.textBaseline = "middle"; g.textAlign = "left";
  const step = [.01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 20, 60, 120, 300, 600].find(s => s * px > 58) || 1200;
  for (let k = Math.ceil(from / step); k * step <= to; k++) {
    g.fillStyle = ink.line; g.fillRect(x(k * step), 4, 1, height);
    g.fillStyle = ink.dim; g.fillText(step < 1 ? (k * step).toFixed(step < .1 ? 2 : 1) : clockText(k * step, 0), x(k * step) + 4, 11);
  }
  g.imageSmoothingEnabled = true; g.imageSmoothingQuality = "high";
  const mf = meta.mel.fps;
  for (let k = Math.floor(from * mf / TILE); k <= Math.floor(to * mf / TILE); k++) {
    if (k < 0 || k * TILE >= columns) continue;
    const c = tile(k);
    g.drawImage(c, x(k * TILE / mf), RULER, c.width / mf * px, SPEC);
  }
  let y = RULER + SPEC + 6;
  if (words.length) { g.font = "12px system-ui,sans-serif"; blocks(g, words, y, x, from, to, () => ink.dim, i => i[2], at(words, t)); y += BLOCK + 4; }
  g.font = "600 12px system-ui,sans-serif";
  blocks(g, meta.shapes, y, x, from, to, i => i[2] === "X" ? ink.dim : ink.accent, i => i[2], at(meta.shapes, t)); y += BLOCK + 4;
  const { fps, start } = meta.mouth_of, a = Math.max(0, Math.floor((from - start) * fps) - 1), b = Math.min(T - 1, Math.ceil((to - start) * fps) + 1);
  const skip = Math.max(1, Math.floor((b - a) / 1600));
  const i = clamp(Math.floor((t - start) * fps), 0, Math.max(0, T - 1));
  let best = 0;
  for (let v = 0; v < N; v++) if (T && weights[i * N + v] > weights[i * N + best]) best = v;
  for (let v = 0; v < N; v++) {
    const mid = y + LANE * (v + .5), tall = LANE / 2 - 1.5;
    g.globalAlpha = .7; g.fillStyle = ink.line; g.fillRect(LEFT, mid - .5, width, 1); g.globalAlpha = 1;
    g.fillStyle = ink.of[v];
    let run = null;
    const close = () => { if (!run) return; g.beginPath(); run.forEach(([k, h], q) => { const X = x(start + (k + .5) / fps); if (!q) g.moveTo(x(start + k / fps), mid - h); g.lineTo(X, mid - h); if (q === run.length - 1) g.lineTo(x(start + (k + skip) / fps), mid - h); });
      for (let q = run.length - 1; q >= 0; q--) { const [k, h] = run[q]; if (q === run.length - 1) g.lineTo(x(start + (k + skip) / fps), mid + h); g.lineTo(x(start + (k + .5) / fps), mid + h); if (!q) g.lineTo(x(start + k / fps), mid + h); }
      g.fill(); run = null; };
    for (let k = a - a % skip; k <= b; k += skip) {
      let w = 0;
      for (let q = k; q < Math.min(k + skip, T); q++) w = Math.max(w, weights[q * N + v]);
      if (w > 8) (run = run || []).push([k, w / 255 * tall]); else close();
    }
    close();
  }
  g.fillStyle = ink.head; g.fillRect(x(t) - 1, 0, 2, height);
  g.beginPath(); g.moveTo(x(t) - 6, 0); g.lineTo(x(t) + 6, 0); g.lineTo(x(t), 8); g.fill();
  g.restore();
  g.textAlign = "right"; g.textBaseline = "middle";
  for (let v = 0; v < N; v++) { const on = v === best; g.font = (on ? "700 " : "") + "12px system-ui,sans-serif"; g.fillStyle = on ? ink.of[v] : ink.dim; g.fillText(names[v], LEFT - 8, y + LANE * (v + .5) + 1); }
  g.font = small; g.fillStyle = ink.dim;
  g.fillText("shape", LEFT - 8, y - BLOCK / 2 - 3); if (words.length) g.fillText("word", LEFT - 8, y - BLOCK * 1.5 - 7);
  g.fillText("kHz", LEFT - 8, RULER + SPEC / 2); g.fillText("8", LEFT - 8, RULER + 6); g.fillText("0", LEFT - 8, RULER + SPEC - 5);
}

// ---- the whole sound as a band: its loudness in the colour of the mouth
function drawStrip(t) {
  const canvas = $("strip"), width = canvas.clientWidth, height = 52, g = fit(canvas, width, height);
  if (!strip || strip.of !== width) {
    strip = { of: width, bars: [] };
    for (let px = 2; px < width - 2; px += 3) {
      const t0 = (px - 2) / (width - 4) * total, t1 = (px + 1) / (width - 4) * total;
      let peak = 0;
      for (let i = Math.floor(t0 * meta.mel.fps); i <= Math.min(columns - 1, Math.max(t0, t1) * meta.mel.fps); i++) peak = Math.max(peak, level[i]);
      const c = at(meta.cues, (t0 + t1) / 2);
      strip.bars.push([px, peak / loudest, c < 0 ? 0 : Math.max(0, names.indexOf(meta.cues[c][2]))]);
    }
  }
  const head = 2 + t / total * (width - 4), from = windowAt(t);
  if (total > span) { g.globalAlpha = .16; g.fillStyle = ink.accent; g.fillRect(2 + from / total * (width - 4), 0, span / total * (width - 4), height); }
  for (const [px, h, v] of strip.bars) { g.globalAlpha = px <= head ? 1 : .45; g.fillStyle = ink.of[v]; const tall = Math.max(1, h * h * 21); g.fillRect(px, height / 2 - tall, 2, tall * 2); }
  g.globalAlpha = 1; g.fillStyle = ink.head; g.fillRect(clamp(head - 1, 0, width - 2), 0, 2, height);
}

// ---- words around the picture
function clockText(t, digits = 2) {
  const m = Math.floor(t / 60 + 1e-9), h = Math.floor(m / 60), s = Math.max(0, t - m * 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return (h ? h + ":" + String(m % 60).padStart(2, "0") : m) + ":" + s;
}
const chips = meta.letters.map(l => { const s = document.createElement("span"); s.textContent = l; $("chips").append(s); return s; });
let shown = "";
function drawText(t) {
  const c = at(meta.cues, Math.min(t, total - 1e-6)), name = c < 0 ? names[0] : meta.cues[c][2], s = at(meta.shapes, Math.min(t, total - 1e-6)), letter = s < 0 ? "X" : meta.shapes[s][2];
  const key = name + letter + clockText(t);
  if (key === shown) return;
  shown = key;
  const v = Math.max(0, names.indexOf(name)), say = $("nowsay");
  $("nowname").textContent = name; $("nowname").style.color = ink.of[v];
  say.replaceChildren();
  meta.says[v].split("*").forEach((part, k) => { if (k % 2) { const b = document.createElement("b"); b.textContent = part; say.append(b); } else say.append(part); });
  chips.forEach((chip, k) => chip.classList.toggle("on", meta.letters[k] === letter));
  $("chips").setAttribute("aria-label", "Mouth shape " + letter + " of A to H and X");
  const small = document.createElement("small");
  small.textContent = " / " + clockText(total);
  $("clock").replaceChildren(clockText(t), small);
  const bar = $("overview");
  bar.setAttribute("aria-valuenow", t.toFixed(2)); bar.setAttribute("aria-valuetext", t.toFixed(2) + " of " + total.toFixed(2) + " seconds, viseme " + name + ", shape " + letter);
}
function draw() {
  const t = now();
  const p = mouthAt(t);
  drawFace(p, t); drawLanes(t); drawStrip(t); drawText(t);
}
let queued = false;
function tick() { if (dirty || !audio.paused) { dirty = false; draw(); } requestAnimationFrame(tick); }

// ---- hands
function zoom(by) { const i = spans.findIndex(s => s >= span - 1e-9); span = spans[clamp((i < 0 ? spans.length - 1 : i) + by, 0, spans.length - 1)]; showSpan(); }
function showSpan() { $("span").textContent = (span < 10 ? +span.toFixed(1) + " s" : span < 100 ? Math.round(span) + " s" : clockText(span, 0)); $("in").disabled = span <= spans[0]; $("out").disabled = span >= total; dirty = true; }
$("play").onclick = toggle; $("in").onclick = () => zoom(-1); $("out").onclick = () => zoom(1);
$("loop").onclick = () => { loop = !loop; $("loop").setAttribute("aria-pressed", loop); };
$("speed").onchange = () => { audio.playbackRate = +$("speed").value; audio.preservesPitch = true; base = audio.currentTime; stamp = performance.now(); };
addEventListener("keydown", e => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const tag = e.target.tagName, frame = 1 / meta.mouth_of.fps;
  if (tag === "SELECT" || ((tag === "BUTTON" || tag === "SUMMARY") && (e.key === " " || e.key === "Enter"))) return;
  const moves = { ArrowLeft: e.shiftKey ? -frame : -.2, ArrowRight: e.shiftKey ? frame : .2, PageUp: 5, PageDown: -5 };
  if (e.target === $("overview")) Object.assign(moves, { ArrowUp: .2, ArrowDown: -.2 });
  if (e.key === " ") toggle();
  else if (e.key in moves) seek(now() + moves[e.key]);
  else if (e.key === "Home") seek(0);
  else if (e.key === "End") seek(total);
  else if (e.key === "+" || e.key === "=") zoom(-1);
  else if (e.key === "-") zoom(1);
  else return;
  e.preventDefault();
});
function drag(box, move) {
  let hold = null;
  box.addEventListener("pointerdown", e => { if (e.button) return; hold = { x: e.clientX, t: now(), moved: false }; box.setPointerCapture(e.pointerId); });
  box.addEventListener("pointermove", e => { if (!hold) return; if (Math.abs(e.clientX - hold.x) > 4) hold.moved = true; if (hold.moved) move(e, hold); });
  box.addEventListener("pointerup", e => { if (hold && !hold.moved) move(e, hold); hold = null; });
  box.addEventListener("pointercancel", () => { hold = null; });
}
drag($("overview"), e => { const r = $("strip").getBoundingClientRect(); seek((e.clientX - r.left - 2) / (r.width - 4) * total); });
drag($("lanes"), (e, hold) => {
  const r = $("lanes").getBoundingClientRect(), wide = r.width - LEFT, px = wide / Math.min(span, total);
  if (hold.moved && total > span && !calm.matches) seek(hold.t - (e.clientX - hold.x) / px);          // pull the band
  else if (hold.moved) { hold.from ??= windowAt(hold.t); seek(hold.from + (e.clientX - r.left - LEFT) / px); }
  else seek(windowAt(hold.t) + Math.max(0, e.clientX - r.left - LEFT) / px);
});
$("tablebox").addEventListener("toggle", () => {
  if ($("rows").childElementCount) return;
  for (const [a, b, name] of meta.cues.slice(0, 2000)) {
    const row = document.createElement("tr");
    for (const text of [a.toFixed(2), b.toFixed(2), name, meta.says[Math.max(0, names.indexOf(name))].replaceAll("*", "")]) { const cell = document.createElement("td"); cell.textContent = text; row.append(cell); }
    $("rows").append(row);
  }
  if (meta.cues.length > 2000) $("more").textContent = (meta.cues.length - 2000) + " more are not listed.";
});

// ---- begin
$("about").textContent = meta.about;
$("lanes").setAttribute("aria-label", "Spectrogram, " + (words.length ? "words, " : "") + "mouth shapes and the weights of " + N + " visemes over time. The cues are in the table below.");
$("overview").setAttribute("aria-valuemax", total.toFixed(2));
span = Math.min(total, innerWidth < 720 ? 2 : 4);
spans.push(span); spans.sort((a, b) => a - b);
for (let i = spans.length - 1; i > 0; i--) if (Math.abs(spans[i] - spans[i - 1]) < 1e-9) spans.splice(i, 1);
showSpan(); repaint();
dark.addEventListener("change", repaint); calm.addEventListener("change", () => { dirty = true; });
addEventListener("resize", () => { strip = null; dirty = true; });
window.lipsync = { audio, meta, weights, mel, mouthAt, seek, now, draw };
draw(); requestAnimationFrame(tick);
document.documentElement.dataset.ready = "1";
})();
