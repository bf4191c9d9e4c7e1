// The page: a point in the plane of the betas, and all that follows from it. Data are in #data; for a conditioned run
// the network runs in a worker, for a grid of models pictures of each are there.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const { points, axes, metrics } = data;
const rows = points.beta_2.length;
const live = Boolean(data.network);
const NAMES = ["beta_2", "beta_1"];
const RED = "#e3170a";
const PURPLE = "#a020c0";
const SHAPES = { reconstruction: "square", representation: "triangle", generation: "diamond" };
const TERMS = { distortion: "D", rate_2: "R(z₂)", rate_1: "R(z₁|z₂)" };
const BITS = 1 / Math.LN2;
const state = { betas: data.start.slice(), metric: data.metric, step: null, guessing: false, drawn: null };
const latest = { images: null, terms: null };

// --- numbers ----------------------------------------------------------------------------------------------------------

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const root = (rate) => Math.sqrt(Math.max(0, rate));

function short(value) {
  if (!known(value)) return "not computed";
  const size = Math.abs(value);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : size >= 0.995 || size === 0 ? value.toFixed(2) : value.toPrecision(2);
}

// What was measured: of less than a hundredth nobody reads the digits.
const amount = (value) => short(known(value) && Math.abs(value) < 0.005 ? 0 : value);
const setting = (betas) => `(${betas.map(short).join(", ")})`;
const ends = axes.map((axis) => [Math.log(axis[0]), Math.log(axis[axis.length - 1])]);

function apart(row, betas) {
  return NAMES.reduce((sum, name, i) => sum + (Math.log(points[name][row]) - Math.log(betas[i])) ** 2, 0);
}

// The nearest row, of those where something is known.
function nearest(betas, is = () => true) {
  let found = null;
  for (let row = 0; row < rows; row++)
    if (is(row) && (found === null || apart(row, betas) < apart(found, betas) - 1e-12)) found = row;
  return found;
}

const value = (metric, row) => (known(points[metric.column][row]) ? metric.factor * points[metric.column][row] : null);

// --- rates at any betas: between the grid's, the roots are linear -----------------------------------------------------

const at = new Map();
for (let row = 0; row < rows; row++) at.set(`${axes[0].indexOf(points.beta_2[row])} ${axes[1].indexOf(points.beta_1[row])}`, row);

function between(axis, beta) {
  const x = Math.log(beta);
  let below = 0;
  while (below < axis.length - 2 && x > Math.log(axis[below + 1])) below++;
  if (axis.length === 1) return [0, 0, 0];
  const [low, high] = [Math.log(axis[below]), Math.log(axis[below + 1])];
  return [below, below + 1, clamp((x - low) / (high - low), 0, 1)];
}

function ratesAt(betas) {
  const [i0, i1, u] = between(axes[0], betas[0]);
  const [j0, j1, v] = between(axes[1], betas[1]);
  const corners = [[i0, j0, (1 - u) * (1 - v)], [i1, j0, u * (1 - v)], [i0, j1, (1 - u) * v], [i1, j1, u * v]];
  const sums = [0, 0];
  for (const [i, j, share] of corners) {
    if (share === 0) continue;
    const row = at.get(`${i} ${j}`);
    if (row === undefined || !known(points.rate_2[row]) || !known(points.rate_1[row])) return null;
    sums[0] += share * root(points.rate_2[row]);
    sums[1] += share * root(points.rate_1[row]);
  }
  return sums.map((sum) => sum * sum);
}

// Betas that the plane of rates can be moved to, with the roots of their rates.
const FINER = 6;
let places = null;
function reachable() {
  if (places) return places;
  const finer = (axis) =>
    !live ? axis : axis.flatMap((beta, i) => i + 1 === axis.length ? [beta]
      : Array.from({ length: FINER }, (_, k) => Math.exp(Math.log(beta) + (k / FINER) * Math.log(axis[i + 1] / beta))));
  places = [];
  for (const first of finer(axes[0]))
    for (const second of finer(axes[1])) {
      const rates = ratesAt([first, second]);
      if (rates) places.push([first, second, root(rates[0]), root(rates[1])]);
    }
  return places;
}

// --- pictures of a plane ----------------------------------------------------------------------------------------------

const VIRIDIS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [110, 206, 88], [181, 222, 43], [253, 231, 37]];
function colour(share) {
  const x = clamp(share, 0, 1) * (VIRIDIS.length - 1);
  const i = Math.min(VIRIDIS.length - 2, Math.floor(x));
  return `rgb(${VIRIDIS[i].map((low, k) => Math.round(low + (x - i) * (VIRIDIS[i + 1][k] - low))).join(" ")})`;
}

const metricNow = () => metrics.find(({ column }) => column === state.metric) || metrics[0];

function scaleOf(metric) {
  const all = [...Array(rows).keys()].map((row) => value(metric, row)).filter(known);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const wide = metric.log && low > 0 && high / low > 5;
  const to = wide ? Math.log : (x) => x;
  return { low, high, share: (x) => (high > low ? (to(x) - to(low)) / (to(high) - to(low)) : 0.5) };
}

const MARGIN = { left: 44, right: 10, top: 8, bottom: 36 };

// A plane on a canvas: where a point is drawn, and which point is drawn somewhere.
function plane(canvas, [x0, x1], [y0, y1]) {
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  const wide = width - MARGIN.left - MARGIN.right;
  const high = height - MARGIN.top - MARGIN.bottom;
  return {
    pen, width, height,
    x: (value) => MARGIN.left + ((value - x0) / (x1 - x0)) * wide,
    y: (value) => MARGIN.top + (1 - (value - y0) / (y1 - y0)) * high,
    from: (px, py) => [
      clamp(x0 + ((px - MARGIN.left) / wide) * (x1 - x0), x0, x1),
      clamp(y0 + (1 - (py - MARGIN.top) / high) * (y1 - y0), y0, y1),
    ],
  };
}

function frame(at, xTicks, yTicks, xName, yName, place, text) {
  const { pen, width, height } = at;
  pen.strokeStyle = "#75757f";
  pen.fillStyle = "#1b1b1f";
  pen.lineWidth = 1;
  pen.strokeRect(MARGIN.left, MARGIN.top, width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom);
  pen.textAlign = "center";
  for (const tick of xTicks) {
    const x = at.x(place(tick));
    line(pen, [[x, height - MARGIN.bottom], [x, height - MARGIN.bottom + 4]]);
    pen.fillText(text(tick), x, height - MARGIN.bottom + 16);
  }
  pen.fillText(xName, (MARGIN.left + width - MARGIN.right) / 2, height - 4);
  pen.textAlign = "right";
  for (const tick of yTicks) {
    const y = at.y(place(tick));
    line(pen, [[MARGIN.left - 4, y], [MARGIN.left, y]]);
    pen.fillText(text(tick), MARGIN.left - 6, y + 4);
  }
  pen.save();
  pen.translate(11, (MARGIN.top + height - MARGIN.bottom) / 2);
  pen.rotate(-Math.PI / 2);
  pen.textAlign = "center";
  pen.fillText(yName, 0, 0);
  pen.restore();
}

function line(pen, path) {
  pen.beginPath();
  path.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
}

function outlined(pen, draw, ink, width = 2) {
  for (const [style, thick] of [["white", width + 2.5], [ink, width]]) {
    pen.strokeStyle = style;
    pen.lineWidth = thick;
    pen.beginPath();
    draw();
    pen.stroke();
  }
}

const CORNERS = {
  square: [[-8, -8], [8, -8], [8, 8], [-8, 8]],
  triangle: [[0, -7], [7, 5], [-7, 5]],
  diamond: [[0, -5], [4, 0], [0, 5], [-4, 0]],
};

function marks(at, x, y) {
  const { pen } = at;
  const { vae, line: equal, optima, hulls } = data.marks;
  const place = (row) => [at.x(x(row)), at.y(y(row))];
  pen.setLineDash([5, 4]);
  if (equal.length > 1) outlined(pen, () => equal.forEach((row, i) => pen[i ? "lineTo" : "moveTo"](...place(row))), RED, 1.5);
  pen.setLineDash([]);
  for (const row of state.guessing ? [] : hulls[state.metric] || []) {
    const [px, py] = place(row);
    outlined(pen, () => pen.arc(px, py, 7, 0, 7), PURPLE, 1.5);
  }
  if (vae !== null) outlined(pen, () => pen.arc(...place(vae), 4, 0, 7), "black");
  for (const [task, row] of state.guessing ? [] : Object.entries(optima)) {
    const [px, py] = place(row);
    const corners = CORNERS[SHAPES[task]];
    pen.fillStyle = "white";
    pen.strokeStyle = "black";
    pen.lineWidth = 1.5;
    pen.beginPath();
    corners.forEach(([dx, dy], i) => pen[i ? "lineTo" : "moveTo"](px + dx, py + dy));
    pen.closePath();
    pen.fill();
    pen.stroke();
  }
}

function cursor(at, px, py) {
  const { pen } = at;
  const arms = [[-13, 0, -5, 0], [5, 0, 13, 0], [0, -13, 0, -5], [0, 5, 0, 13]];
  outlined(pen, () => arms.forEach(([a, b, c, d]) => { pen.moveTo(px + a, py + b); pen.lineTo(px + c, py + d); }), "black", 2.5);
  outlined(pen, () => pen.arc(px, py, 8.5, 0, 7), "black", 2);
}

const margin = ([low, high], axis) => {
  const half = axis.length > 1 ? (high - low) / (axis.length - 1) / 2 : 0.5;
  return [low - half, high + half];
};
const betaLimits = ends.map((pair, i) => margin(pair, axes[i]));
const highest = ["rate_2", "rate_1"].map((name) => Math.max(0.01, ...points[name].filter(known)));
const rateLimits = highest.map((rate) => [-0.03 * root(rate), 1.06 * root(rate)]);

function edges(sorted, [low, high]) {
  const middles = sorted.slice(1).map((x, i) => (x + sorted[i]) / 2);
  return [low, ...middles, high];
}

function drawBetas() {
  const at = plane($("betas"), ...betaLimits);
  const { pen } = at;
  const metric = metricNow();
  const scale = scaleOf(metric);
  const there = [...Array(rows).keys()].filter((row) => known(value(metric, row)));
  const sides = NAMES.map((name, i) => {
    const sorted = [...new Set(there.map((row) => points[name][row]))].sort((a, b) => a - b).map(Math.log);
    return [sorted, edges(sorted, betaLimits[i])];
  });
  pen.fillStyle = "#e4e4ea";
  pen.fillRect(MARGIN.left, MARGIN.top, at.width - MARGIN.left - MARGIN.right, at.height - MARGIN.top - MARGIN.bottom);
  for (const row of there) {
    const [i, j] = NAMES.map((name, axis) => sides[axis][0].indexOf(Math.log(points[name][row])));
    const [left, right] = [at.x(sides[0][1][i]), at.x(sides[0][1][i + 1])];
    const [bottom, top] = [at.y(sides[1][1][j]), at.y(sides[1][1][j + 1])];
    pen.fillStyle = colour(scale.share(value(metric, row)));
    pen.fillRect(left, top, right - left + 0.5, bottom - top + 0.5);
  }
  marks(at, (row) => Math.log(points.beta_2[row]), (row) => Math.log(points.beta_1[row]));
  const ticks = axes.map((axis, i) => {
    const powers = [-3, -2, -1, 0, 1, 2, 3].map((power) => 10 ** power);
    const inside = powers.filter((tick) => Math.log(tick) >= betaLimits[i][0] && Math.log(tick) <= betaLimits[i][1]);
    return inside.length ? inside : [axis[0]];
  });
  frame(at, ...ticks, "β₂", "β₁", Math.log, String);
  cursor(at, at.x(Math.log(state.betas[0])), at.y(Math.log(state.betas[1])));
}

function roundRates(most) {
  const all = [0, 0.1, 0.3, 1, 3, 10, 20, 30, 50, 100, 200, 300, 500, 1000].filter((rate) => rate <= 1.05 * most);
  const kept = [];
  for (const rate of all) if (!kept.length || root(rate) - root(kept[kept.length - 1]) > 0.16 * root(most)) kept.push(rate);
  return kept;
}

function drawRates() {
  const at = plane($("rates"), ...rateLimits);
  const { pen } = at;
  const metric = metricNow();
  const scale = scaleOf(metric);
  const size = clamp(40 / Math.sqrt(rows), 2.5, 6);
  const order = [...Array(rows).keys()].sort((a, b) => known(value(metric, a)) - known(value(metric, b)));
  for (const row of order) {
    if (!known(points.rate_2[row])) continue;
    const found = value(metric, row);
    pen.fillStyle = known(found) ? colour(scale.share(found)) : "#d5d5dd";
    pen.beginPath();
    pen.arc(at.x(root(points.rate_2[row])), at.y(root(points.rate_1[row])), known(found) ? size : size / 2, 0, 7);
    pen.fill();
  }
  for (const { rate_2, rate_1 } of data.separate) {
    pen.strokeStyle = "#1b1b1f";
    pen.lineWidth = 1;
    pen.beginPath();
    pen.arc(at.x(root(rate_2)), at.y(root(rate_1)), 2.5, 0, 7);
    pen.stroke();
  }
  marks(at, (row) => root(points.rate_2[row]), (row) => root(points.rate_1[row]));
  frame(at, ...highest.map(roundRates), "R(z₂), √ scale", "R(z₁|z₂), √ scale", root, String);
  const rates = ratesAt(state.betas);
  if (rates) cursor(at, at.x(root(rates[0])), at.y(root(rates[1])));
}

// --- images -----------------------------------------------------------------------------------------------------------

const COLUMNS = 4;

// A signed difference, from -1 to 1: white where there is none.
function shade(pixels, at, difference) {
  const off = clamp(difference, -1, 1);
  const [full, size] = off > 0 ? [[211, 84, 0], off] : [[31, 95, 168], -off];
  for (let k = 0; k < 3; k++) pixels[at + k] = 255 - size * (255 - full[k]);
}

// Paint one image of maps (channels last) to pixels, as they are or as a signed difference from others.
function paint(pixels, offset, stride, maps, image, minus) {
  const { h, w, c } = maps;
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x++) {
      const from = ((image * h + y) * w + x) * c;
      const to = offset + 4 * (y * stride + x);
      if (minus) {
        let sum = 0;
        for (let k = 0; k < c; k++) sum += clamp(maps.data[from + k], 0, 1) - minus.data[from + k];
        shade(pixels, to, sum / c);
      } else for (let k = 0; k < 3; k++) pixels[to + k] = 255 * maps.data[from + (c === 1 ? 0 : k)];
      pixels[to + 3] = 255;
    }
}

function mosaic(name, maps, minus) {
  const canvas = canvasIn(name);
  const high = Math.ceil(maps.n / COLUMNS);
  canvas.width = COLUMNS * (maps.w + 1) - 1;
  canvas.height = high * (maps.h + 1) - 1;
  const pen = canvas.getContext("2d");
  const picture = pen.createImageData(canvas.width, canvas.height);
  picture.data.fill(128);
  for (let image = 0; image < maps.n; image++) {
    const place = Math.floor(image / COLUMNS) * (maps.h + 1) * canvas.width + (image % COLUMNS) * (maps.w + 1);
    paint(picture.data, 4 * place, canvas.width, maps, image, minus);
  }
  pen.putImageData(picture, 0, 0);
}

// The canvas in place of the still picture of that name.
function canvasIn(name) {
  const holder = $(name);
  let canvas = holder.querySelector("canvas");
  if (!canvas) {
    const still = holder.querySelector("img");
    canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", still.alt || "Difference between reconstructions and test images");
    still.hidden = true;
    holder.append(canvas);
  }
  return canvas;
}

// --- the network in its worker ----------------------------------------------------------------------------------------

let worker = null;
let asked = 0;
let waiting = null; // a move that was asked for while another is computed
let busy = false;
let originals = null;

function startNetwork() {
  const source = new Blob([data.network.script], { type: "text/javascript" });
  worker = new Worker(URL.createObjectURL(source));
  worker.onerror = (event) => fail(event.message);
  worker.onmessage = ({ data: said }) => {
    if (said.error) fail(said.error);
    if (said.ready) {
      originals = said.originals;
      mosaic("originals", originals);
      request();
    }
    if (said.images) showImages(said.images);
    if (said.terms) showTerms(said.terms);
  };
  const { script, ...load } = data.network;
  worker.postMessage({ load });
}

function request() {
  if (!live || !originals) return;
  waiting = { id: ++asked, betas: state.betas.slice(), drawn: state.drawn };
  if (!busy) send();
}

function send() {
  busy = true;
  worker.postMessage({ move: waiting });
  waiting = null;
}

function showImages(found) {
  busy = false;
  if (waiting) send();
  latest.images = found;
  mosaic("reconstructions", found.reconstructions);
  mosaic("difference", found.reconstructions, originals);
  mosaic("samples", found.samples);
  if (found.drawn) showDrawn(found.drawn);
  document.body.dataset.shown = found.id;
}

function showTerms(found) {
  if (found.id !== asked) return;
  latest.terms = found;
  termsTable(found, found.known);
  if (found.known === found.of) {
    document.body.dataset.settled = found.id;
    say();
  }
}

function fail(message) {
  $("error").textContent = `The network could not be computed: ${message}. What you see is a still picture.`;
  $("error").hidden = false;
}

// --- pictures that the run kept ---------------------------------------------------------------------------------------

let painted = 0;
async function showStored() {
  const row = nearest(state.betas, (candidate) => data.pictures[candidate]);
  const id = ++asked;
  if (row === null) return;
  const image = new Image();
  image.src = data.pictures[row];
  await image.decode();
  if (id < painted) return;
  painted = id;
  ["reconstructions", "samples"].forEach((name, i) => part(name, image, i));
  differ(await originalPixels(), part("difference", image, 0));
  document.body.dataset.shown = document.body.dataset.settled = id;
}

// One half of a picture on the canvas of that name.
function part(name, image, half) {
  const canvas = canvasIn(name);
  canvas.width = image.width / 2;
  canvas.height = image.height;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(image, (-half * image.width) / 2, 0);
  return pen;
}

let kept = null;
async function originalPixels() {
  if (kept) return kept;
  const image = $("originals").querySelector("img");
  await image.decode();
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0);
  kept = pen.getImageData(0, 0, canvas.width, canvas.height).data;
  return kept;
}

// In the place of a picture, how it differs from another; grey between images stays.
function differ(from, pen) {
  const { width, height } = pen.canvas;
  const picture = pen.getImageData(0, 0, width, height);
  const [h, w] = data.size;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      if (y % (h + 1) === h || x % (w + 1) === w) continue;
      const at = 4 * (y * width + x);
      let off = 0;
      for (let k = 0; k < 3; k++) off += (picture.data[at + k] - from[at + k]) / 765;
      shade(picture.data, at, off);
    }
  pen.putImageData(picture, 0, 0);
}

// --- tables -----------------------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";
function svg(name, attributes, inside = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, one] of Object.entries(attributes)) element.setAttribute(key, one);
  element.textContent = inside;
  return element;
}

function tableRow(table, key, name) {
  let row = table.querySelector(`tr[data-key="${key}"]`);
  if (!row) {
    row = table.tBodies[0].insertRow();
    row.dataset.key = key;
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    row.append(head);
    row.insertCell().className = "graph";
    row.insertCell().className = "number";
  }
  return row;
}

// D and the rates, as bars: now, and where the results of the nearest point are.
function termsTable(terms, count) {
  const row = nearest(state.betas, (candidate) => known(points.distortion[candidate]));
  const most = { distortion: Math.max(...points.distortion.filter(known)), rate_2: Math.max(...highest), rate_1: Math.max(...highest) };
  for (const [column, name] of Object.entries(TERMS)) {
    const line = tableRow($("terms"), column, name);
    const now = terms[column];
    const stored = row === null ? null : points[column][row];
    line.dataset.value = now;
    line.cells[2].textContent = known(now) ? `${amount(now)} nats = ${amount(now * BITS)} bits` : "";
    const graph = svg("svg", { viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" });
    const width = (x) => 100 * clamp(x / most[column], 0, 1);
    if (known(now)) graph.append(svg("rect", { x: 0, y: 3, width: width(now), height: 14, fill: column === "distortion" ? "#8a8a94" : "#1f5fa8" }));
    if (live && known(stored)) graph.append(svg("rect", { x: width(stored) - 0.4, y: 0, width: 0.8, height: 20, fill: "#1b1b1f" }));
    line.cells[1].replaceChildren(graph);
  }
  const total = terms.distortion + state.betas[0] * terms.rate_2 + state.betas[1] * terms.rate_1;
  for (const [key, name, one] of [["lagrangian", "L(β), Eq. 8", total], ["elbo", "ELBO", -(terms.distortion + terms.rate_2 + terms.rate_1)]]) {
    const line = tableRow($("terms"), key, name);
    line.dataset.value = one;
    line.cells[2].textContent = known(one) ? `${amount(one)} nats` : "";
  }
  if (live) {
    const line = tableRow($("terms"), "psnr", "PSNR");
    line.dataset.value = terms.psnr;
    line.cells[2].textContent = `${amount(terms.psnr)} dB`;
    const images = data.network.about.images;
    $("terms-about").textContent =
      `Computed here, on ${count === images ? images : `${count} of ${images}`} test images, per image. ` +
      "Black lines: the results of the nearest point, on all test images. Bars of the rates share a scale; that of D is its own.";
  } else $("terms-about").textContent = `The results of the model at ${setting(state.betas)}, on all test images, per image.`;
}

// What is stored of the nearest point where it was measured, on the range over all points.
function storedTable() {
  const shown = metrics.filter(({ stored }) => stored);
  const nearestTo = (metric) => nearest(state.betas, (candidate) => known(value(metric, candidate)));
  const where = new Set(shown.map(nearestTo));
  const place = (row) => (apart(row, state.betas) < 1e-6 ? "" : ` at ${setting([points.beta_2[row], points.beta_1[row]])}`);
  let several = false;
  for (const metric of shown) {
    const row = nearestTo(metric);
    const line = tableRow($("stored"), metric.column, metric.name);
    const { low, high, share } = scaleOf(metric);
    const along = (x) => 2 + 96 * clamp(share(x), 0, 1);
    const found = value(metric, row);
    const spread = points[`${metric.column}_sd`] && points[`${metric.column}_sd`][row];
    const graph = svg("svg", { viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" });
    graph.append(svg("rect", { x: 2, y: 9.5, width: 96, height: 1, fill: "#c9c9d1" }));
    if (known(spread)) {
      several = true;
      const [left, right] = [along(found - metric.factor * spread), along(found + metric.factor * spread)];
      graph.append(svg("rect", { x: left, y: 8, width: right - left, height: 4, fill: "#7fa6d3" }));
    }
    for (const model of data.separate)
      if (known(model[metric.column]) && NAMES.every((name) => Math.abs(Math.log(model[name] / points[name][row])) < 1e-4))
        graph.append(svg("rect", { x: along(metric.factor * model[metric.column]) - 0.5, y: 4, width: 1, height: 12, fill: "#a84300" }));
    graph.append(svg("rect", { x: along(found) - 0.7, y: 1, width: 1.4, height: 18, fill: "#1f5fa8" }));
    line.cells[1].replaceChildren(graph);
    line.dataset.value = found;
    const sd = known(spread) ? ` ± ${short(metric.factor * spread)}` : "";
    line.cells[2].textContent = `${amount(found)}${metric.unit ? ` ${metric.unit}` : ""}${sd}${where.size > 1 ? place(row) : ""}`;
    line.title = `${metric.name}: from ${short(low)} to ${short(high)} over all points`;
  }
  const [one] = where;
  const nearby = where.size === 1 && place(one) ? `${place(one)}, the nearest point` : where.size > 1 ? " at the nearest point where it did" : "";
  const notes = [`${live ? "Stored, not computed here" : "Stored"}: what the run measured${nearby}, between the lowest and the highest of all.`];
  if (several) notes.push("Band: the standard deviation over seeds.");
  if (data.separate.length) notes.push(`Orange: models trained one by one at the same betas (${data.separateRuns.join(", ")}).`);
  $("stored-about").textContent = notes.join(" ");
  document.querySelector(".stored").hidden = !shown.length;
}

// --- a drawing of one's own -------------------------------------------------------------------------------------------

const PAD = 28;
const drawing = new Uint8Array(PAD * PAD);
const pencil = { x: 14, y: 14, from: null, seen: false };
let taken = 0;

function dab(x, y) {
  for (const [dx, dy] of [[0, 0], [1, 0], [0, 1], [1, 1]]) {
    const [px, py] = [Math.round(x - 0.5) + dx, Math.round(y - 0.5) + dy];
    if (px >= 0 && px < PAD && py >= 0 && py < PAD) drawing[py * PAD + px] = 1;
  }
}

function stroke(from, to) {
  const steps = Math.max(1, Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])));
  for (let i = 0; i <= steps; i++) dab(from[0] + (i / steps) * (to[0] - from[0]), from[1] + (i / steps) * (to[1] - from[1]));
}

function showPad() {
  const pen = $("pad").getContext("2d");
  const picture = pen.createImageData(PAD, PAD);
  drawing.forEach((on, i) => picture.data.set(on ? [255, 255, 255, 255] : [0, 0, 0, 255], 4 * i));
  if (pencil.seen) picture.data.set([230, 120, 0, 255], 4 * (pencil.y * PAD + pencil.x));
  pen.putImageData(picture, 0, 0);
}

function drew() {
  showPad();
  state.drawn = Array.from(drawing);
  request();
}

function showDrawn({ terms, rebuilt }) {
  const pen = $("rebuilt").getContext("2d");
  const picture = pen.createImageData(PAD, PAD);
  paint(picture.data, 0, PAD, rebuilt, 0);
  pen.putImageData(picture, 0, 0);
  $("drawn-terms").dataset.values = JSON.stringify(terms);
  $("drawn-terms").textContent = `D = ${amount(terms[0])}, R(z₂) = ${amount(terms[1])}, R(z₁|z₂) = ${amount(terms[2])} nats`;
}

function takeImage() {
  const image = taken++ % originals.n;
  for (let i = 0; i < PAD * PAD; i++) drawing[i] = originals.data[image * PAD * PAD + i] > 0.5 ? 1 : 0;
  drew();
}

function setUpPad() {
  const pad = $("pad");
  const place = (event) => {
    const box = pad.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * PAD - 0.5, ((event.clientY - box.top) / box.height) * PAD - 0.5];
  };
  pad.onpointerdown = (event) => {
    pad.setPointerCapture(event.pointerId);
    pencil.seen = false;
    pencil.from = place(event);
    stroke(pencil.from, pencil.from);
    drew();
  };
  pad.onpointermove = (event) => {
    if (!pencil.from) return;
    const to = place(event);
    stroke(pencil.from, to);
    pencil.from = to;
    drew();
  };
  pad.onpointerup = pad.onpointercancel = () => { pencil.from = null; };
  pad.onkeydown = (event) => {
    const [dx, dy] = ARROWS[event.key] || [0, 0];
    if (!(event.key in ARROWS) && event.key !== " ") return;
    event.preventDefault();
    pencil.seen = true;
    pencil.x = clamp(pencil.x + dx, 0, PAD - 1);
    pencil.y = clamp(pencil.y - dy, 0, PAD - 1);
    if (event.key === " ") dab(pencil.x, pencil.y);
    drew();
  };
  pad.onblur = () => { pencil.seen = false; showPad(); };
  $("clear").onclick = () => { drawing.fill(0); drew(); };
  $("take").onclick = takeImage;
  $("draw").hidden = false;
  showPad();
}

// --- the tour ---------------------------------------------------------------------------------------------------------

function setUpTour() {
  data.tour.forEach((step, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `${i + 1}. ${step.title}`;
    button.setAttribute("aria-pressed", "false");
    button.onclick = () => begin(i);
    $("steps").append(button);
  });
  $("tour").hidden = !data.tour.length;
}

function begin(i, moved = false) {
  const step = data.tour[i];
  state.step = i;
  state.guessing = true; // the optima would tell
  [...$("steps").children].forEach((button, k) => button.setAttribute("aria-pressed", String(k === i)));
  $("step").hidden = false;
  $("question").textContent = step.question;
  $("answer").textContent = "";
  $("choices").replaceChildren(
    ...step.choices.map((choice, k) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = choice;
      button.onclick = () => answer(step, k);
      return button;
    }),
  );
  if (step.metric) choose(step.metric);
  if (!moved) move(step.from);
}

function answer(step, chosen) {
  state.guessing = false;
  [...$("choices").children].forEach((button, k) => {
    button.disabled = true;
    if (k === step.answer) button.className = "right";
    else if (k === chosen) button.className = "wrong";
  });
  $("answer").textContent = `${chosen === step.answer ? "Yes" : `No: ${step.choices[step.answer].toLowerCase()}`}. ${step.text}`;
  move(step.to);
}

// --- the point --------------------------------------------------------------------------------------------------------

function move(betas) {
  let next = betas.map((beta, i) => clamp(beta, axes[i][0], axes[i][axes[i].length - 1]));
  if (!live) {
    const row = nearest(next, (candidate) => known(points.rate_2[candidate]));
    if (row !== null) next = [points.beta_2[row], points.beta_1[row]];
  }
  state.betas = next;
  show();
}

function choose(column) {
  if (!metrics.some((metric) => metric.column === column)) return;
  state.metric = column;
  $("metric").value = column;
}

let drawAsked = false;
function show() {
  NAMES.forEach((name, i) => {
    const range = ends[i][1] - ends[i][0] || 1;
    $(name).value = (Math.log(state.betas[i]) - ends[i][0]) / range;
    $(name).setAttribute("aria-valuetext", `${name.replace("_", " ")} = ${short(state.betas[i])}`);
    $(`${name}-shown`).textContent = short(state.betas[i]);
  });
  if (!drawAsked) {
    drawAsked = true;
    requestAnimationFrame(() => { drawAsked = false; drawAll(); });
  }
  if (live) request();
  else showStored();
  remember();
}

function drawAll() {
  drawBetas();
  drawRates();
  const { low, high } = scaleOf(metricNow());
  const gradient = document.createElement("i");
  $("scale").replaceChildren(short(low), gradient, `${short(high)} ${metricNow().unit || ""}`);
  storedTable();
  if (!live) {
    const row = nearest(state.betas);
    termsTable({ distortion: points.distortion[row], rate_2: points.rate_2[row], rate_1: points.rate_1[row] });
    say();
  }
}

function say() {
  const terms = live ? latest.terms : Object.fromEntries(Object.keys(TERMS).map((name) => [name, points[name][nearest(state.betas)]]));
  if (terms && known(terms.distortion))
    $("status").textContent =
      `β₂ = ${short(state.betas[0])}, β₁ = ${short(state.betas[1])}: D = ${amount(terms.distortion)}, ` +
      `R(z₂) = ${amount(terms.rate_2)}, R(z₁|z₂) = ${amount(terms.rate_1)} nats per image.`;
}

// The address says what is shown, so that a view can be linked.
function remember() {
  const words = { beta_2: Number(state.betas[0].toPrecision(6)), beta_1: Number(state.betas[1].toPrecision(6)), colour: state.metric };
  if (state.step !== null) words.tour = state.step + 1;
  try {
    history.replaceState(null, "", `#${new URLSearchParams(words)}`);
  } catch {
    // a frame without an address of its own
  }
}

function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  const betas = NAMES.map((name, i) => (words.has(name) && Number(words.get(name)) > 0 ? Number(words.get(name)) : state.betas[i]));
  const step = Number(words.get("tour")) - 1;
  if (data.tour[step] && step !== state.step) begin(step, true);
  if (words.has("colour")) choose(words.get("colour"));
  move(betas);
}

const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

// One step along an axis: to the next beta of the grid, or a quarter of the way where there is a network.
function step(i, sign, fine) {
  const axis = axes[i];
  const width = axis.length > 1 ? Math.log(axis[axis.length - 1] / axis[0]) / (axis.length - 1) : 0;
  if (live) return state.betas[i] * Math.exp(sign * width * (fine ? 0.25 : 1));
  const here = axis.indexOf(state.betas[i]);
  return axis[clamp(here + sign, 0, axis.length - 1)];
}

function steer(canvas, locate, directions) {
  const go = (event) => {
    const box = canvas.getBoundingClientRect();
    move(locate(event.clientX - box.left, event.clientY - box.top));
  };
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    canvas.dataset.held = "yes";
    go(event);
  };
  canvas.onpointermove = (event) => { if (canvas.dataset.held) go(event); };
  canvas.onpointerup = canvas.onpointercancel = () => { delete canvas.dataset.held; };
  canvas.onkeydown = (event) => {
    if (event.key === "Home") move([1, 1]);
    else if (event.key in ARROWS) {
      const betas = state.betas.slice();
      ARROWS[event.key].forEach((sign, i) => { if (sign) betas[i] = step(i, sign * directions, event.shiftKey); });
      move(betas);
    } else return;
    event.preventDefault();
  };
}

function limitsOf(canvas, limits) {
  const { width, height } = canvas.getBoundingClientRect();
  const [[x0, x1], [y0, y1]] = limits;
  return (px, py) => [
    x0 + ((px - MARGIN.left) / (width - MARGIN.left - MARGIN.right)) * (x1 - x0),
    y0 + (1 - (py - MARGIN.top) / (height - MARGIN.top - MARGIN.bottom)) * (y1 - y0),
  ];
}

function setUp() {
  for (const { column, name, unit } of metrics) $("metric").add(new Option(unit ? `${name} (${unit})` : name, column));
  $("metric").value = state.metric;
  $("metric").onchange = () => { choose($("metric").value); show(); };
  NAMES.forEach((name, i) => {
    $(name).oninput = () => {
      const betas = state.betas.slice();
      betas[i] = Math.exp(ends[i][0] + Number($(name).value) * (ends[i][1] - ends[i][0]));
      move(betas);
    };
    $(name).step = axes[i].length > 1 ? 1 / ((live ? 4 : 1) * (axes[i].length - 1)) : "any";
    $(name).disabled = axes[i].length === 1;
  });
  steer($("betas"), (x, y) => limitsOf($("betas"), betaLimits)(x, y).map(Math.exp), 1);
  steer($("rates"), (x, y) => {
    const [a, b] = limitsOf($("rates"), rateLimits)(x, y);
    let found = state.betas;
    let least = Infinity;
    for (const [first, second, u, v] of reachable()) {
      const far = (u - a) ** 2 + (v - b) ** 2;
      if (far < least) [found, least] = [[first, second], far];
    }
    return found;
  }, -1); // a lower beta, a higher rate
  const legend = [];
  const sign = (inside, words) => legend.push(`<span><svg viewBox="-9 -9 18 18" aria-hidden="true">${inside}</svg>${words}</span>`);
  if (data.marks.vae !== null) sign('<circle r="4" fill="none" stroke="black" stroke-width="2"/>', "VAE");
  if (data.marks.line.length > 1) sign(`<path d="M-8 0H8" stroke="${RED}" stroke-width="2" stroke-dasharray="4 3"/>`, "β-VAEs");
  sign(`<circle r="6" fill="none" stroke="${PURPLE}" stroke-width="2"/>`, "best for their total rate");
  for (const [task, corners] of Object.entries(SHAPES))
    if (task in data.marks.optima) sign(`<path d="M${CORNERS[corners].join("L")}Z" fill="white" stroke="black" stroke-width="1.5"/>`, `best for ${task}`);
  if (data.separate.length) sign('<circle r="2.5" fill="none" stroke="black"/>', "trained one by one");
  $("legend").innerHTML = legend.join(" ");
  setUpTour();
  if (live) {
    startNetwork();
    if (data.network.about.pixel_bits === 1) setUpPad();
  }
  window.addEventListener("hashchange", recall);
  new ResizeObserver(() => drawAll()).observe($("betas"));
  recall();
}

setUp();
