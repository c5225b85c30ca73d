"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const words = [...document.querySelectorAll("#text button")];
  const said = document.getElementById("said");
  const heading = document.getElementById("heading");
  const strongest = document.getElementById("strongest");
  const svg = document.getElementById("curve");
  const NS = "http://www.w3.org/2000/svg";
  const DECADES = 4; // from full shade to none
  let chosen = -1;
  let telling = 0;

  // Hundredths of a decade below the word's strongest influence, nearest word first; null is an exact zero.
  const influences = (i) => data.influence[i] || [];
  const name = (i) => data.words[i];
  const percent = (v) => (v === null ? "0" : v > -300 ? Number((100 * 10 ** (v / 100)).toPrecision(2)) + " %" : "10^" + (v / 100 + 2).toFixed(1) + " %");
  const plural = (n) => n + (n === 1 ? " word" : " words");

  function shade(i) {
    const row = influences(i);
    words.forEach((button, j) => {
      const v = j < i ? row[i - 1 - j] : null;
      const part = v === null || v === undefined ? 0 : Math.max(0, 1 + v / (100 * DECADES));
      button.style.setProperty("--part", part.toFixed(3));
      button.classList.toggle("later", j > i);
      if (j === i) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    });
  }

  function ranked(i) {
    return influences(i)
      .map((v, k) => ({ v, distance: k + 1, word: name(i - 1 - k) }))
      .filter((each) => each.v !== null)
      .sort((a, b) => b.v - a.v || a.distance - b.distance)
      .slice(0, 5);
  }

  function describe(i) {
    if (i === 0) return { title: name(0), text: "The first word of this window: it is read and not predicted." };
    const top = ranked(i);
    const lean = top.length
      ? `It leans most on “${top[0].word}”, ${plural(top[0].distance)} before it.`
      : "No earlier word of this window has any influence on it.";
    const guess = data.guess[i] === name(i) ? "It was the model's first choice." : `The model's first choice was ${data.guess[i] === data.unknown ? "a word it does not know" : `“${data.guess[i]}”`}.`;
    return { title: name(i), text: `Loss ${data.loss[i]} nats. ${guess} ${lean}` };
  }

  function tell(i) {
    const { title, text } = describe(i);
    heading.textContent = title;
    strongest.replaceChildren(
      ...ranked(i).map((each) => {
        const row = document.createElement("tr");
        for (const cell of [each.word, each.distance, percent(each.v)]) {
          row.appendChild(document.createElement("td")).textContent = cell;
        }
        return row;
      })
    );
    document.getElementById("facts").textContent = text;
    // A screen reader is told once the reader rests, not for every word passed over.
    clearTimeout(telling);
    telling = setTimeout(() => { said.textContent = `${title}. ${text}`; }, 250);
  }

  const box = { left: 52, right: 628, top: 12, bottom: 222 };
  const longest = data.mean.length;
  const lowest = Math.min(-200, ...data.mean.filter((v) => v !== null));
  const floor = Math.floor(Math.max(lowest, -4000) / 100) * 100;
  const x = (d) => box.left + ((box.right - box.left) * Math.log(d)) / Math.log(Math.max(2, longest));
  const y = (v) => box.top + ((box.bottom - box.top) * Math.max(floor, Math.min(0, v))) / floor;

  function make(tag, attributes, text) {
    const element = document.createElementNS(NS, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function path(values) {
    let d = "";
    let open = false;
    values.forEach((v, k) => {
      if (v === null) { open = false; return; }
      d += `${open ? "L" : "M"}${x(k + 1).toFixed(1)} ${y(v).toFixed(1)}`;
      open = true;
    });
    return d;
  }

  function axes() {
    const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500].filter((d) => d <= Math.max(2, longest));
    const every = Math.max(100, Math.ceil(-floor / 500) * 100);
    for (const d of steps) {
      svg.append(make("line", { x1: x(d), x2: x(d), y1: box.top, y2: box.bottom, class: "grid" }));
      svg.append(make("text", { x: x(d), y: box.bottom + 18, "text-anchor": "middle" }, d));
    }
    for (let v = 0; v >= floor; v -= every) {
      svg.append(make("line", { x1: box.left, x2: box.right, y1: y(v), y2: y(v), class: "grid" }));
      svg.append(make("text", { x: box.left - 8, y: y(v) + 4, "text-anchor": "end" }, v === 0 ? "1" : "10" + raised(v / 100)));
    }
    svg.append(make("text", { x: (box.left + box.right) / 2, y: box.bottom + 40, "text-anchor": "middle" }, "distance (words)"));
    svg.append(make("path", { d: path(data.mean), class: "mean" }));
    svg.append(make("path", { d: "", class: "own", id: "own" }));
  }

  const raised = (n) => String(n).replace(/[-0-9]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);

  function choose(i, focus) {
    if (i < 0 || i >= words.length) return;
    if (i !== chosen) {
      if (chosen >= 0) words[chosen].tabIndex = -1;
      words[i].tabIndex = 0;
      chosen = i;
      shade(i);
      tell(i);
      document.getElementById("own").setAttribute("d", path(influences(i)));
    }
    if (focus) words[i].focus();
  }

  axes();
  const text = document.getElementById("text");
  const index = (event) => words.indexOf(event.target.closest("button"));
  // Words move under a pointer that rests when the page scrolls to the focus: only a pointer that moves chooses.
  let pointer = "";
  text.addEventListener("mousemove", (event) => {
    const at = `${event.screenX} ${event.screenY}`;
    if (at !== pointer && !held) choose(index(event), false);
    pointer = at;
  });
  text.addEventListener("focusin", (event) => choose(index(event), false));
  let held = false;
  text.addEventListener("click", (event) => {
    // A click holds a word, so that the pointer can leave it; another click on it lets go.
    const i = index(event);
    if (i < 0) return;
    held = !(held && i === chosen);
    choose(i, true);
    text.classList.toggle("held", held);
  });
  text.addEventListener("keydown", (event) => {
    const to = { ArrowRight: chosen + 1, ArrowDown: chosen + 1, ArrowLeft: chosen - 1, ArrowUp: chosen - 1, Home: 0, End: words.length - 1 }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    choose(to, true);
  });
  document.getElementById("shown").hidden = false;
  choose(data.first, false);
})();
