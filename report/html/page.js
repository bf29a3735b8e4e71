// What makes the document convenient. All of it can be read without.
(() => {
"use strict";
const all = (selector, from = document) => Array.from(from.querySelectorAll(selector));

// A sentence that many share is put in the places that point to it.
const fill = (from) => {
  for (const a of all("a[href^='#t']", from)) {
    const there = document.getElementById(a.hash.slice(1));
    if (there) a.replaceWith(there.textContent);
  }
};
document.addEventListener("toggle", (e) => { if (e.target.open) fill(e.target); }, true);

// The theme, for as long as the document is open.
const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const tell = () => {
  const on = (document.documentElement.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  theme.setAttribute("aria-pressed", String(on));
  return on;
};
theme.hidden = false;
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = tell() ? "light" : "dark";
  tell();
});
dark.addEventListener("change", tell);
tell();

// What a link leads to is opened, and what it is in.
const goTo = () => {
  let name = location.hash.slice(1);
  try { name = decodeURIComponent(name); } catch { /* It is no name then. */ }
  const there = name && document.getElementById(name);
  if (!there) return;
  there.hidden = false;
  for (let e = there; e; e = e.parentElement) if (e.localName === "details") e.open = true;
  there.scrollIntoView({ behavior: "instant" });
};
addEventListener("hashchange", goTo);
document.addEventListener("click", (e) => {
  const link = e.target.closest && e.target.closest("a[href^='#']");
  if (link && link.getAttribute("href") === location.hash) goTo();
});
if (location.hash) goTo();

// Paper has nothing to click on.
let shut = [];
addEventListener("beforeprint", () => {
  fill(document);
  const now = all("details:not([open])");
  for (const d of now) d.open = true;
  shut = shut.concat(now);
});
addEventListener("afterprint", () => {
  for (const d of shut) d.open = false;
  shut = [];
});

// A button that opens all of a list, or shuts it.
for (const button of all("button[data-open]")) {
  const list = document.getElementById(button.dataset.open);
  const words = [button.textContent, button.dataset.shut];
  button.hidden = false;
  button.addEventListener("click", () => {
    const open = button.textContent === words[0];
    for (const d of all("details", list)) if (!d.hidden) d.open = open;
    button.textContent = words[open ? 1 : 0];
  });
}

// Columns of which the head has data-sort are sorted by a click: "text", "number", or
// words from the first to the last.
const collator = new Intl.Collator("en", { numeric: true });
const cellKey = (th, at) => {
  const how = th.dataset.sort;
  const text = (row) => row.cells[at].textContent.trim();
  if (how === "number") return (row) => parseFloat(text(row)) || 0;
  if (how === "text") return text;
  const words = how.split(" ");
  return (row) => {
    const i = words.indexOf(text(row).toLowerCase());
    return i < 0 ? words.length : i;
  };
};
for (const th of all("th[data-sort]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...th.childNodes);
  th.append(button);
  button.addEventListener("click", () => {
    const down = th.getAttribute("aria-sort") === "ascending";
    for (const other of all("th[aria-sort]", th.parentElement)) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = cellKey(th, th.cellIndex);
    const body = th.closest("table").tBodies[0];
    const rows = Array.from(body.rows, (row, i) => [key(row), i, row]);
    const compare = (a, b) => typeof a === "number" ? a - b : collator.compare(a, b);
    rows.sort((a, b) => (down ? compare(b[0], a[0]) : compare(a[0], b[0])) || a[1] - b[1]);
    body.append(...rows.map((r) => r[2]));
  });
}

// A form with data-rows narrows the rows of that table. The names of its fields are the
// data-key of the heads of the columns that they are held against. Where a row's first link leads to a section of the document,
// the section's text counts as the row's, and it goes and comes with it.
for (const form of all("form[data-rows]")) {
  const table = document.getElementById(form.dataset.rows);
  const said = form.querySelector("output");
  const fields = all("input,select", form);
  const columns = {};
  for (const th of all("th[data-key]", table)) columns[th.dataset.key] = th.cellIndex;
  let rows;
  const read = () => fill(document) || Array.from(table.tBodies[0].rows, (row) => {
    const link = row.querySelector("a[href^='#']");
    const section = link && document.getElementById(link.getAttribute("href").slice(1));
    return { row, section, text: (row.textContent + " " + (section ? section.textContent : "")).toLowerCase() };
  });
  const narrow = () => {
    rows = rows || read();
    const words = [], picked = {}, chosen = {};
    for (const f of fields) {
      if (f.type === "search") words.push(...f.value.toLowerCase().split(/\s+/).filter(Boolean));
      else if (f.type === "checkbox") { picked[f.name] = picked[f.name] || []; if (f.checked) picked[f.name].push(f.value); }
      else if (f.selectedIndex > 0) chosen[f.name] = f.value;
    }
    let shown = 0;
    for (const r of rows) {
      const is = (key) => r.row.cells[columns[key]].textContent;
      const fits = words.every((w) => r.text.includes(w)) &&
        Object.keys(picked).every((k) => picked[k].includes(is(k))) &&
        Object.keys(chosen).every((k) => is(k) === chosen[k]);
      r.row.hidden = !fits;
      if (r.section) r.section.hidden = !fits;
      if (fits) shown++;
    }
    // Paper has no form, but says that rows are missing.
    form.classList.toggle("narrowed", shown < rows.length);
    said.textContent = shown + " of " + rows.length + " " + form.dataset.what + " shown";
  };
  form.hidden = false;
  form.addEventListener("input", narrow);
  form.addEventListener("submit", (e) => e.preventDefault());
  form.addEventListener("reset", () => setTimeout(narrow));
}
})();
