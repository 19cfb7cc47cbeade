// The dashboard's own behaviour: theme, keys, confirmations, live figures, pictures that light up.
"use strict";

const themes = ["light", "dark"];
const stored = localStorage.getItem("twofold-theme");
if (themes.includes(stored)) document.documentElement.dataset.theme = stored;

document.addEventListener("DOMContentLoaded", () => {
  const root = document.body.dataset.root;

  document.getElementById("theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme === "dark"
      || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("twofold-theme", document.documentElement.dataset.theme);
    for (const chart of charts) chart.restyle();
  });

  // Keys: single ones are off while something is typed.
  const help = document.getElementById("help");
  document.getElementById("keys").addEventListener("click", () => help.showModal());
  let went = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
    if (event.key === "?") { help.showModal(); event.preventDefault(); }
    if (event.key === "/") {
      const field = document.querySelector("[data-focus]");
      if (field) field.focus(); else location.href = root + "/events";
      event.preventDefault();
    }
    if (event.key === "g") went = Date.now();
    else if (Date.now() - went < 1000) {
      const link = document.querySelector(`header nav a[data-key="${CSS.escape(event.key)}"]`);
      if (link) link.click();
    }
  });

  document.addEventListener("submit", (event) => {
    const asked = event.submitter && event.submitter.dataset.confirm;
    if (asked && !confirm(asked)) event.preventDefault();
  });

  // Parts that are loaded again every few seconds, while nothing within them is in use.
  for (const part of document.querySelectorAll("[data-every]")) {
    setInterval(() => refresh(part), Number(part.dataset.every) * 1000);
  }

  document.addEventListener("pointerover", light);
  document.addEventListener("focusin", light);
  const live = document.querySelector("[data-live]");
  if (live) follow(live);
});

function refresh(part) {
  const used = part.contains(document.activeElement) && document.activeElement.matches("input, button");
  if (document.visibilityState === "visible" && !used && !part.querySelector("details[open]") && window.htmx) {
    htmx.trigger(part, "refresh");
  }
}

// In a picture: what is pointed at, and all that it is connected with.
function light(event) {
  const picture = event.target.closest("svg.columns");
  for (const other of document.querySelectorAll("svg.columns.lit")) if (other !== picture) other.classList.remove("lit");
  if (!picture) return;
  const box = event.target.closest(".box");
  picture.classList.toggle("lit", Boolean(box));
  if (!box) return;
  const near = new Set([box.dataset.id]);
  for (const line of picture.querySelectorAll(".line")) {
    const on = line.dataset.from === box.dataset.id || line.dataset.to === box.dataset.id;
    line.classList.toggle("on", on);
    if (on) near.add(line.dataset.from).add(line.dataset.to);
  }
  for (const each of picture.querySelectorAll(".box")) each.classList.toggle("on", near.has(each.dataset.id));
}

const charts = [];

class Chart {
  constructor(place) {
    this.place = place;
    this.times = [];
    this.values = [];
    this.restyle();
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(place);
  }
  size() { return { width: Math.max(this.place.clientWidth, 100), height: 165 }; }
  restyle() {
    if (this.plot) this.plot.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--rule"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const clock = (_, times) => times.map((time) => (this.times.length ? new Date(time * 1000).toISOString().slice(11, 19) : ""));
    this.plot = new uPlot({
      ...this.size(), legend: { show: false }, cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1)] } },
      axes: [{ ...axis, values: clock, space: 70, size: 30 }, { ...axis, size: 46 }],
      series: [{}, { stroke: colour("--command"), width: 2, fill: colour("--panel"), points: { show: false } }],
    }, [this.times, this.values], this.place);
  }
  add(time, value) {
    this.times.push(time);
    this.values.push(value);
    if (this.times.length > 450) { this.times.shift(); this.values.shift(); }
  }
  draw() { this.plot.setData([this.times, this.values]); }
}

// Figures that the server sends as long as the page is open.
function follow(live) {
  const bySeries = {};
  let before = null;
  const take = (sample) => {
    if (before && sample.at <= before.at) return;
    const rate = before ? Math.max(sample.head - before.head, 0) / (sample.at - before.at) : 0;
    if (before && bySeries.rate) bySeries.rate.add(sample.at, rate);
    for (const name of ["lag", "parked"]) if (bySeries[name]) bySeries[name].add(sample.at, sample[name]);
    before = sample;
  };
  const begin = () => {
    for (const place of live.querySelectorAll("[data-series]")) {
      charts.push(bySeries[place.dataset.series] = new Chart(place));
    }
    const source = new EventSource(live.dataset.live);
    source.addEventListener("sample", (event) => {
      const last = before;
      take(JSON.parse(event.data));
      charts.forEach((each) => each.draw());
      if (last && (last.head !== before.head || last.problems !== before.problems)) {
        refresh(document.querySelector(live.dataset.refresh));
      }
      document.title = (before.problems ? `(${before.problems}) ` : "") + document.title.replace(/^\(\d+\) /, "");
    });
    addEventListener("pagehide", () => source.close());
  };
  if (window.uPlot) begin(); else addEventListener("load", begin);
}
