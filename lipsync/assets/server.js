"use strict";
const $ = id => document.getElementById(id);
let file = null;
if (location.hash.length > 1) { $("token").value = decodeURIComponent(location.hash.slice(1)); history.replaceState(null, "", location.pathname); }

function say(text, bad) { $("said").textContent = text; $("said").className = bad ? "bad" : ""; }
async function ask(format) {
  const token = $("token").value.trim();
  const answer = await fetch("visemes?format=" + format, { method: "POST", body: file, headers: token ? { Authorization: "Bearer " + token } : {} });
  if (answer.ok) return answer;
  const e = await answer.json().catch(() => ({ what: "the server answered " + answer.status }));
  throw new Error([e.what, e.found && "found " + e.found, e.wanted && "wanted " + e.wanted, e.todo].filter(Boolean).join("; "));
}
async function show(chosen) {
  if (!chosen) return;
  file = chosen;
  $("save").disabled = true;
  say("listening to " + file.name + " ...");
  try {
    $("player").srcdoc = await (await ask("html")).text();
    $("player").hidden = false;
    $("save").disabled = false;
    say(file.name);
  } catch (e) { say(e.message, true); }
}
async function save() {
  try {
    const form = $("format").value, answer = await ask(form), link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = file.name.replace(/\.[^.]*$/, "") + (answer.headers.get("Lipsync-Suffix") || ".txt");
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (e) { say(e.message, true); }
}
$("file").addEventListener("change", e => show(e.target.files[0]));
$("save").addEventListener("click", save);
for (const name of ["dragover", "dragleave", "drop"]) $("drop").addEventListener(name, e => {
  e.preventDefault();
  $("drop").classList.toggle("over", name === "dragover");
  if (name === "drop") show(e.dataTransfer.files[0]);
});
