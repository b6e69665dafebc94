"use strict";

// Draws the figures that stand as JSON beside their places, sorts the tables, and keeps options
// whole where a line breaks.

// On paper: the width of a sheet less its margins, and how much smaller figures are there, so
// that their letters (13 pixels) become about 7 points. Three stand side by side in a grid.
const PRINTED_WIDTH = 680;
const PRINTED_ZOOM = 0.74;
const PRINTED_HEIGHT = 0.8;
const PRINTED_SQUARE = 330;
const PRINTED_IN_GRID = (PRINTED_WIDTH - 24) / 3;
const isNarrow = () => window.innerWidth <= 640;

function fitPhone(layout) {
  layout.font.size = 12;
  layout.legend.font = { size: 11 };
  layout.margin.l = Math.min(layout.margin.l, 44);
  layout.margin.r = 8;
}

function draw(place) {
  const figure = JSON.parse(place.closest("figure").querySelector(".plot-data").textContent);
  const isWide = place.parentElement.classList.contains("wide");
  if (isNarrow() && !isWide) {
    fitPhone(figure.layout);
    // A legend of many entries takes several lines, which the curves must not pay for.
    const shown = figure.data.filter((each) => each.name).length;
    if (figure.layout.showlegend !== false && shown > 1) {
      figure.layout.height += 22 * Math.max(0, Math.ceil(shown / 2) - 1);
    }
  }
  // Kept here: Plotly forgets it where the window changes its size, and paper is made from it.
  place.shownHeight = figure.layout.height;
  place.style.height = place.shownHeight + "px";
  const config = { responsive: true, displayModeBar: false, displaylogo: false };
  return Plotly.newPlot(place, figure.data, figure.layout, config);
}

// An option with its value, such as --set 'space.filters=[50, 100]'.
const OPTION = /(--\S+(?:\s+(?:'[^']*'|(?!--)\S+))?)/;

function makeWord(...content) {
  const word = document.createElement("span");
  word.className = "word";
  word.append(...content);
  return word;
}

// Lets a command break before an option or between words: a browser would do so at each dash.
function keepWords(code) {
  const parts = code.textContent.split(OPTION).map((part, i) => {
    const words = part.split(/(\s+)/).map((each) => (each.trim() ? makeWord(each) : each));
    // An option stays beside its value where the line is long enough for both.
    return i % 2 ? [makeWord(...words)] : words;
  });
  code.replaceChildren(...parts.flat());
}

for (const code of document.querySelectorAll("code")) {
  if (code.closest("details") === null) keepWords(code);
}

function valueOf(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.sort ?? cell.textContent;
  if (text === "" || text === "-") return null;
  const number = Number(text);
  return Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en");
}

function sortBy(table, column, header) {
  const isAscending = header.getAttribute("aria-sort") !== "ascending";
  const rows = Array.from(table.tBodies[0].rows);
  rows.sort((one, other) => {
    const a = valueOf(one, column);
    const b = valueOf(other, column);
    // What is missing stays last, whichever way is sorted.
    if (a === null || b === null) return (a === null) - (b === null);
    return isAscending ? compare(a, b) : compare(b, a);
  });
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", isAscending ? "ascending" : "descending");
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => sortBy(table, column, header));
  });
}

function showWhatIsCut(box) {
  const left = box.scrollWidth - box.clientWidth - box.scrollLeft;
  box.classList.toggle("more", left > 4);
  const hint = box.previousElementSibling;
  if (hint?.classList.contains("hint")) hint.hidden = box.scrollWidth - box.clientWidth <= 4;
}

const boxes = Array.from(document.querySelectorAll(".scroll, .wide"));
for (const box of boxes) box.addEventListener("scroll", () => showWhatIsCut(box));
const showCuts = () => boxes.forEach(showWhatIsCut);
window.addEventListener("resize", showCuts);
showCuts();

async function unpackPlotly() {
  const packed = atob(document.getElementById("plotly").textContent.trim());
  const bytes = Uint8Array.from(packed, (each) => each.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

const places = Array.from(document.querySelectorAll(".plot"));
const drawn = unpackPlotly().then(() => Promise.all(places.map(draw)));
drawn.then(
  () => {
    showCuts();
    document.documentElement.dataset.drawn = String(places.length);
  },
  (error) => {
    document.getElementById("no-figures").hidden = false;
    console.error(error);
  },
);

function printedWidth(place) {
  if (place.closest(".grid") !== null) return PRINTED_IN_GRID;
  return place.parentElement.classList.contains("square") ? PRINTED_SQUARE : PRINTED_WIDTH;
}

function resize(place, zoom, size) {
  place.style.zoom = zoom;
  place.style.height = size.height + "px";
  place.style.width = size.width === null ? "" : size.width + "px";
  Plotly.relayout(place, size);
}

window.addEventListener("beforeprint", () => {
  if (document.documentElement.dataset.drawn === undefined) return;
  for (const place of places) {
    const height = Math.round(place.shownHeight * PRINTED_HEIGHT);
    resize(place, PRINTED_ZOOM, { width: printedWidth(place) / PRINTED_ZOOM, height });
  }
});
window.addEventListener("afterprint", () => {
  if (document.documentElement.dataset.drawn === undefined) return;
  for (const place of places) {
    resize(place, "", { width: null, height: place.shownHeight, autosize: true });
  }
});
