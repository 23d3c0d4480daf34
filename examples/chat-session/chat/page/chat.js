"use strict";

const log = document.getElementById("log");
const form = document.getElementById("form");
const box = document.getElementById("text");
const state = document.getElementById("status");

// The chat's id is in the address, so that a reload finds it. Who knows it may read along.
const chat = location.hash.slice(1) || newID();
history.replaceState(null, "", "#" + chat);
document.getElementById("anew").addEventListener("click", (e) => {
  e.preventDefault();
  location.hash = "";
  location.reload();
});

function newID() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// show adds a message. What it says is text, never markup.
function show(by, text, before) {
  const item = document.createElement("li");
  item.className = by;
  const name = document.createElement("b");
  name.textContent = by === "user" ? "You" : "Model";
  const words = document.createElement("p");
  words.textContent = text;
  item.append(name, words);
  log.insertBefore(item, before || null);
  item.scrollIntoView({ block: "nearest" });
  return item;
}

const words = (item) => item.lastElementChild;

let source = null; // the stream that is followed
let begun = false; // the chat is there
let spoken = null; // the answer that is being said
let step = "";     // and the part of the run that says it
const mine = new Map(); // messages that were sent from here and not taken yet, by their ids

function take(piece) {
  begun = true;
  if (piece.begins) {
    if (piece.begins.before > 0 && !log.querySelector("li:not(.waits)")) earlier(piece.begins.before);
  } else if (piece.user) {
    const known = mine.get(piece.user.id);
    if (known) known.remove();
    mine.delete(piece.user.id);
    show("user", piece.user.text, log.querySelector("li.waits"));
  } else if (piece.answer !== undefined) {
    words(speaking()).textContent = piece.answer; // whatever parts of it came
    spoken.removeAttribute("aria-busy");
    spoken = null;
    step = "";
  } else if (piece.step) {
    const now = piece.step + " " + piece.attempt;
    const item = speaking();
    if (piece.restart || now !== step) words(item).textContent = "";
    step = now;
    words(item).textContent += piece.text || "";
    item.scrollIntoView({ block: "nearest" });
  }
}

function speaking() {
  if (!spoken) {
    spoken = show("assistant", "", log.querySelector("li.waits"));
    spoken.setAttribute("aria-busy", "true"); // it is read out when it is whole
  }
  return spoken;
}

async function earlier(upto) {
  const res = await fetch(`/chats/${chat}/messages?upto=${upto}`);
  if (!res.ok) return;
  const said = await res.json();
  const first = log.firstChild; // others may have come meanwhile
  for (const m of said) show(m.by, m.text, first);
}

// follow reads the stream. When the connection breaks the browser comes back by itself, with the
// id of the last event, and goes on there.
function follow() {
  if (source) return;
  source = new EventSource(`/chats/${chat}/stream`);
  source.onopen = () => { state.textContent = ""; };
  source.onmessage = (e) => take(JSON.parse(e.data));
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) {
      state.textContent = "The connection is lost. Trying again …";
      return;
    }
    source = null; // the server has refused it
    if (!begun) return; // there is no such chat yet
    state.textContent = "The server does not answer. Trying again …";
    setTimeout(() => {
      log.replaceChildren(...mine.values());
      spoken = null;
      step = "";
      follow();
    }, 2000);
  };
}

// send tries until the server has the message. The key makes it one message, however often it arrives.
async function send(text) {
  const key = newID();
  const item = show("user", text);
  item.classList.add("waits");
  mine.set(key, item);
  for (;;) {
    try {
      const res = await fetch(`/chats/${chat}/messages`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "Idempotency-Key": key },
        body: JSON.stringify({ text }),
      });
      if (res.ok) {
        begun = true;
        return follow();
      }
      if (res.status < 500 && res.status !== 429) {
        state.textContent = "Not sent: " + ((await res.json()).error || res.statusText);
        mine.delete(key);
        return item.remove();
      }
    } catch {
      // nobody is there
    }
    state.textContent = "Not sent yet. Trying again …";
    await new Promise((later) => setTimeout(later, 2000));
  }
}

form.addEventListener("submit", (e) => {
  e.preventDefault();
  const text = box.value.trim();
  if (!text) return;
  box.value = "";
  send(text);
});
box.addEventListener("keydown", (e) => {
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
    e.preventDefault();
    form.requestSubmit();
  }
});
follow();
box.focus();
