const live = document.getElementById("live"), main = document.getElementById("main");
// Milliseconds. A node that is well says something every two seconds.
const patience = 6000;
let source, opened, heard = new Date();

// patch makes what is shown equal to what is new and touches only what differs: focus, a selection and how far something is scrolled
// stay, and a screen reader reads out what has changed and nothing else.
function patch(shown, fresh) {
  if (shown.nodeName !== fresh.nodeName || shown.id !== fresh.id) { shown.replaceWith(fresh); return; }
  if (shown.nodeType === Node.TEXT_NODE) { if (shown.data !== fresh.data) shown.data = fresh.data; return; }
  for (const { name } of [...shown.attributes]) if (!fresh.hasAttribute(name)) shown.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  patchInside(shown, fresh);
}

function patchInside(shown, fresh) {
  const old = [...shown.childNodes], all = [...fresh.childNodes];
  all.forEach((child, i) => { if (old[i]) patch(old[i], child); else shown.append(child); });
  old.slice(all.length).forEach((child) => child.remove());
}

function say(text, alarm) {
  if (live.textContent !== text) live.textContent = text;
  live.className = alarm ? "alarm" : "";
}

function alive() {
  heard = new Date();
  opened = performance.now();
  say("Live", false);
}

function lost() {
  say("Not current: nothing has come from the node since " + heard.toISOString().slice(0, 19).replace("T", " ") + " UTC by this computer's clock. What is shown is old.", true);
}

// Some ends of a stream are seen by nobody (power loss, a frozen host) and after some the browser does not try again, so we do.
function open() {
  if (source) source.close();
  opened = performance.now();
  source = new EventSource("/events");
  source.onmessage = (e) => {
    const fresh = document.createElement("template");
    fresh.innerHTML = JSON.parse(e.data);
    patchInside(main, fresh.content);
    alive();
  };
  source.addEventListener("beat", alive);
  source.onerror = lost;
}

setInterval(() => {
  if (performance.now() - opened < patience) return;
  lost();
  open();
}, 1000);
open();
