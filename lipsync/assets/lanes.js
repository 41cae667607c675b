// The strip of cues over a spectrogram whose boundaries can be dragged, a recorder, and the player's page below, all in one widget.
// Python is told what was done ({kind: ...}); what is shown comes back through the traits.
const SPEC = 104, STRIP = 38, AXIS = 18, NEAR = 7, LEAST = .01;

function picture(model) {           // a column for each frame of the small spectrogram
  const bytes = model.get("mel"), bands = model.get("bands"), data = new Uint8Array(bytes.buffer ?? bytes, bytes.byteOffset ?? 0, bytes.byteLength);
  const n = Math.floor(data.length / bands), canvas = document.createElement("canvas");
  if (!n) return null;
  canvas.width = n; canvas.height = bands;
  const image = new ImageData(n, bands);
  for (let t = 0; t < n; t++) for (let b = 0; b < bands; b++) {
    const v = data[t * bands + b] / 255, at = 4 * ((bands - 1 - b) * n + t);
    image.data[at] = 20 + 235 * Math.min(1, 1.5 * v * v); image.data[at + 1] = 16 + 200 * v * v * v; image.data[at + 2] = 28 + 150 * Math.sin(Math.PI * Math.min(v, .85)); image.data[at + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function make(tag, more = {}, ...inside) {
  const e = Object.assign(document.createElement(tag), more);
  e.append(...inside);
  return e;
}

function render({ model, el }) {
  const record = make("button", { type: "button", textContent: "● Record" }), said = make("span", { className: "said", role: "status" });
  const canvas = make("canvas", { tabIndex: 0 }), scroll = make("div", { className: "scroll" }, canvas);
  const frame = make("iframe", { title: "Player with a moving mouth", allow: "autoplay", height: 690 });
  el.append(make("div", { className: "lipsync-lanes" }, make("div", { className: "bar" }, record, said), scroll, frame));
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "Cues over the spectrogram. Choose a cue with Page Up and Page Down, move its end with the arrow keys.");
  let cues = [], image = null, hold = null, hover = -1, alive = true, recorder = null, last = -1, other = false;

  const player = () => { try { return frame.contentWindow?.lipsync; } catch { return null; } };   // nothing yet while the page loads
  const total = () => Math.max(model.get("seconds"), .1);
  const scale = () => canvas.clientWidth / total();
  const edge = k => cues[k][1];                                                                     // between cue k and k + 1
  const send = (content, buffers) => model.send(content, undefined, buffers);
  function nearest(x) {
    let best = -1, far = NEAR;
    for (let k = 0; k < cues.length - 1; k++) { const d = Math.abs(edge(k) * scale() - x); if (d < far) { far = d; best = k; } }
    return best;
  }
  const cueAt = t => cues.findIndex(c => t >= c[0] && t < c[1]);
  function place(k, t) {                                                                            // a boundary stays between its neighbours
    t = Math.round(Math.min(Math.max(t, cues[k][0] + LEAST), cues[k + 1][1] - LEAST) * 100) / 100;
    cues[k][1] = t; cues[k + 1][0] = t;
    return t;
  }

  function size() {
    const wide = Math.max(scroll.clientWidth || 600, Math.min(total() * 90, 16000)), dpr = wide > 8000 ? 1 : devicePixelRatio || 1, high = SPEC + STRIP + AXIS;
    canvas.style.width = wide + "px"; canvas.style.height = high + "px"; canvas.width = wide * dpr; canvas.height = high * dpr;
    canvas.getContext("2d").setTransform(dpr, 0, 0, dpr, 0, 0);
  }
  function draw() {
    const g = canvas.getContext("2d"), wide = canvas.clientWidth, px = scale(), colours = model.get("colours"), chosen = model.get("selected");
    g.fillStyle = "#14101c"; g.fillRect(0, 0, wide, SPEC + STRIP + AXIS);
    if (image) { g.imageSmoothingEnabled = false; g.drawImage(image, 0, 0, image.width, image.height, 0, 0, image.width / model.get("mel_fps") * px, SPEC); }
    g.font = "bold 12px system-ui, sans-serif"; g.textAlign = "center"; g.textBaseline = "middle";
    cues.forEach(([a, b, name], k) => {
      g.fillStyle = colours[name] ?? "#888"; g.fillRect(a * px, SPEC, (b - a) * px, STRIP);
      if (k === chosen) { g.strokeStyle = "#fff"; g.lineWidth = 3; g.strokeRect(a * px + 1.5, SPEC + 1.5, Math.max((b - a) * px - 3, 1), STRIP - 3); }
      if ((b - a) * px > g.measureText(name).width + 4) { g.fillStyle = "#fff"; g.fillText(name, (a + b) / 2 * px, SPEC + STRIP / 2); }
    });
    for (let k = 0; k < cues.length - 1; k++) {
      const hot = k === (hold?.k ?? hover), x = edge(k) * px;
      g.fillStyle = hot ? "#fff" : "rgba(255,255,255,.45)"; g.fillRect(x - (hot ? 1.5 : .5), hot ? 0 : SPEC, hot ? 3 : 1, hot ? SPEC + STRIP : STRIP);
    }
    g.fillStyle = "#bbb"; g.font = "11px system-ui, sans-serif";
    const step = [.1, .2, .5, 1, 2, 5, 10, 30, 60, 300].find(s => s * px > 60) ?? 600;
    for (let t = step; t < total(); t += step) { g.fillRect(t * px, SPEC + STRIP, 1, 4); g.fillText((step < 1 ? t.toFixed(1) : t.toFixed(0)) + " s", t * px, SPEC + STRIP + 11); }
    if (last >= 0) { g.fillStyle = "#5cf2c2"; g.fillRect(last * px - 1, 0, 2, SPEC + STRIP); }
    canvas.dataset.edges = JSON.stringify(cues.slice(0, -1).map(c => c[1]));
    canvas.dataset.top = SPEC + STRIP / 2;
  }
  function fresh() { cues = model.get("cues").map(c => [...c]); draw(); }
  function sound() { other = true; image = picture(model); size(); fresh(); }
  function page() {                                                                                 // a new page goes on where the old one was
    const at = other ? 0 : player()?.now?.() ?? 0;
    other = false;
    frame.style.display = model.get("page") ? "" : "none";
    if (!model.get("page")) return;
    frame.onload = () => { if (at) player()?.seek?.(Math.min(at, total())); };
    frame.srcdoc = model.get("page");
  }

  canvas.addEventListener("pointerdown", e => {
    if (e.button || !cues.length) return;
    const t = e.offsetX / scale(), k = nearest(e.offsetX);
    canvas.focus(); canvas.setPointerCapture(e.pointerId);
    if (k >= 0) { hold = { k, from: edge(k) }; send({ kind: "select", k }); }
    else { player()?.seek?.(t); send({ kind: "select", k: cueAt(t) }); }
    e.preventDefault(); draw();
  });
  canvas.addEventListener("pointermove", e => {
    if (hold) { player()?.seek?.(place(hold.k, e.offsetX / scale())); draw(); return; }
    const k = nearest(e.offsetX);
    canvas.style.cursor = k >= 0 ? "ew-resize" : "pointer";
    if (k !== hover) { hover = k; draw(); }
  });
  const drop = keep => () => {
    if (!hold) return;
    const { k, from } = hold, t = edge(k);
    hold = null;
    if (!keep) { place(k, from); draw(); }
    else if (Math.abs(t - from) > LEAST / 2) send({ kind: "drag", k, from, to: t });
  };
  canvas.addEventListener("pointerup", drop(true));
  canvas.addEventListener("pointercancel", drop(false));
  canvas.addEventListener("pointerleave", () => { if (!hold && hover >= 0) { hover = -1; draw(); } });
  canvas.addEventListener("keydown", e => {
    const k = model.get("selected"), by = { ArrowLeft: -LEAST, ArrowRight: LEAST }[e.key];
    if (e.key === "Escape" && hold) drop(false)();
    else if (e.key === "PageUp" || e.key === "PageDown") send({ kind: "select", k: Math.min(Math.max(k + (e.key === "PageDown" ? 1 : -1), 0), cues.length - 1) });
    else if (by && k >= 0 && k < cues.length - 1) { const from = edge(k), to = place(k, from + by); if (to !== from) send({ kind: "drag", k, from, to }); draw(); }
    else return;
    e.preventDefault(); e.stopPropagation();
  });

  record.addEventListener("click", async () => {
    if (recorder) { recorder.stop(); return; }
    if (!navigator.mediaDevices || !window.MediaRecorder) { said.textContent = "This browser gives no microphone here: it does so on localhost and over https only."; return; }
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true }), parts = [];
      recorder = new MediaRecorder(stream);
      recorder.ondataavailable = e => parts.push(e.data);
      recorder.onstop = async () => {
        stream.getTracks().forEach(t => t.stop());
        recorder = null; record.textContent = "● Record"; record.classList.remove("on"); said.textContent = "listening to it ...";
        send({ kind: "recorded" }, [await new Blob(parts).arrayBuffer()]);
      };
      recorder.start();
      record.textContent = "■ Stop"; record.classList.add("on"); said.textContent = "recording";
    } catch (e) { said.textContent = "No microphone: " + e.message; }
  });
  const told = (msg, buffers) => {
    if (msg.kind !== "download") return;
    const url = URL.createObjectURL(new Blob(buffers, { type: "application/octet-stream" }));
    const link = make("a", { href: url, download: msg.name });
    document.body.append(link); link.click(); link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  };
  const heard = { "change:mel": sound, "change:cues": fresh, "change:selected": draw, "change:page": page, "change:said": () => { said.textContent = model.get("said"); }, "msg:custom": told };
  for (const [k, f] of Object.entries(heard)) model.on(k, f);
  const watch = new ResizeObserver(() => { if (Math.abs(scroll.clientWidth - (watch.wide ?? -1)) > 1) { watch.wide = scroll.clientWidth; size(); draw(); } });
  watch.observe(scroll);
  (function tick() {                                                                                // the line follows the player
    if (!alive) return;
    const t = player()?.now?.() ?? -1;
    if (t !== last) { last = t; draw(); }
    requestAnimationFrame(tick);
  })();
  said.textContent = model.get("said");
  sound(); page();
  return () => { alive = false; watch.disconnect(); recorder?.stop(); for (const [k, f] of Object.entries(heard)) model.off(k, f); };
}
export default { render };
