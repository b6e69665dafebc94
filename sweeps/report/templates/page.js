"use strict";

// Draws the figures that stand as JSON beside their places, and sorts the tables.

function draw(place) {
  const figure = JSON.parse(place.closest("figure").querySelector(".plot-data").textContent);
  const layout = figure.layout;
  if (window.innerWidth <= 640) {
    layout.font.size = 12;
    layout.legend.font = { size: 11 };
    layout.margin = { ...layout.margin, l: Math.min(layout.margin.l, 44), r: 8 };
    // A legend of many entries takes several lines, which the curves must not pay for.
    const shown = figure.data.filter((each) => each.name && each.showlegend !== false).length;
    layout.height += 22 * Math.max(0, Math.ceil(shown / 2) - 1);
    place.style.height = layout.height + "px";
  }
  const config = { responsive: true, displayModeBar: false };
  return Plotly.newPlot(place, figure.data, layout, config);
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
  const over = box.scrollWidth - box.clientWidth;
  box.classList.toggle("more", over - box.scrollLeft > 4);
  box.previousElementSibling.hidden = over <= 4;
}

const boxes = Array.from(document.querySelectorAll(".scroll"));
for (const box of boxes) box.addEventListener("scroll", () => showWhatIsCut(box));
window.addEventListener("resize", () => boxes.forEach(showWhatIsCut));
boxes.forEach(showWhatIsCut);

async function unpackPlotly() {
  const packed = atob(document.getElementById("plotly").textContent.trim());
  const bytes = Uint8Array.from(packed, (each) => each.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

const places = Array.from(document.querySelectorAll(".plot"));
unpackPlotly().then(() => Promise.all(places.map(draw))).then(
  () => {
    boxes.forEach(showWhatIsCut);
    document.documentElement.dataset.drawn = String(places.length);
  },
  (error) => {
    document.getElementById("no-figures").hidden = false;
    console.error(error);
  },
);
