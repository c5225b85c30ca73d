"use strict";
// Tables sort by a click on a column's head and copy as tab-separated text; a link into a folded section opens it.
const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";
function number(text) {
  const plain = text.replace(/^[<>≥]=?\s*/, "").replace(/,(?=\d{3})/g, "").trim();
  const power = plain.match(/^(?:([\d.]+)·)?10(⁻?[⁰¹²³⁴-⁹]+)/);
  if (power) {
    const digits = [...power[2]].map((each) => (each === "⁻" ? "-" : RAISED.indexOf(each))).join("");
    return Number(`${power[1] || 1}e${digits}`);
  }
  return text.trim() === "∞" ? Infinity : Number.parseFloat(plain.replace(/^[^\d+.-]+(?=\d)/, ""));
}
function order(a, b) {
  const [x, y] = [number(a), number(b)];
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
  if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
  return a.localeCompare(b);
}
function sort(table, head, column) {
  const down = head.getAttribute("aria-sort") === "ascending";
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((a, b) => order(a.cells[column].innerText, b.cells[column].innerText));
  if (down) rows.reverse();
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows);
}
async function copy(table, button) {
  const lines = [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim()).join("\t"));
  try {
    await navigator.clipboard.writeText(lines.join("\n"));
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(table);
    button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}
for (const table of document.querySelectorAll("table")) {
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, head, column));
  }
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.title = "Copy this table, to paste into a spreadsheet";
  button.addEventListener("click", () => copy(table, button));
  table.closest(".scroll").after(button);
}
function unfold() {
  const found = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!found) return;
  for (let each = found; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
  found.querySelector(":scope > details")?.setAttribute("open", "");
  found.scrollIntoView();
}
addEventListener("hashchange", unfold);
addEventListener("beforeprint", () => { for (const each of document.querySelectorAll("details")) each.open = true; });
unfold();
