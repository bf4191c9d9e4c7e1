// The network in a thread of its own. In: {load}, then {move}s. Out: {ready}, {images} of a move, {terms} as they become
// known. A new move ends the sums of the one before.
"use strict";

const PART = 16; // images between two looks at what has come in
let network, shown, held, samples, drawn, move;

self.onmessage = ({ data }) => {
  try {
    if (data.load) load(data.load);
    if (data.move) start(data.move);
  } catch (error) {
    self.postMessage({ error: String(error.message || error) });
  }
};

function vectors(data, n) {
  return { data, n, size: data.length / n };
}

function noise(buffer, n, [above, below]) {
  const numbers = halves(buffer);
  return [vectors(numbers.subarray(0, n * above), n), vectors(numbers.subarray(n * above, n * (above + below)), n)];
}

function load({ about, letters, tables, steps, images: packed, noise: evaluation, generation }) {
  network = new Network(about, bytes(tables, letters), bytes(steps, letters));
  held = { x: some(images(bytes(packed, letters), about.image_shape, about.pixel_bits), 0, about.images) };
  [held.noise2, held.noise1] = noise(bytes(evaluation, letters), held.x.n, about.latents);
  samples = noise(bytes(generation, letters), about.shown, about.latents);
  shown = some(held.x, 0, about.shown);
  self.postMessage({ ready: true, originals: shown });
}

function start(asked) {
  move = asked;
  const started = performance.now();
  network.at(asked.betas);
  const found = { id: asked.id, betas: asked.betas };
  found.reconstructions = network.reconstruct(shown);
  found.samples = network.generate(...samples);
  if (asked.drawn) {
    const x = { ...some(held.x, 0, 1), data: Float64Array.from(asked.drawn) };
    const terms = network.measure(x, some(held.noise2, 0, 1), some(held.noise1, 0, 1));
    found.drawn = { terms: [terms.distortion[0], terms.rate_2[0], terms.rate_1[0]], rebuilt: terms.rebuilt };
  }
  found.milliseconds = performance.now() - started;
  self.postMessage({ images: found });
  sum(asked.id, 0, { distortion: 0, rate_2: 0, rate_1: 0, psnr: 0 });
}

function sum(id, from, sums) {
  if (move.id !== id) return;
  const x = some(held.x, from, from + PART);
  const found = network.measure(x, some(held.noise2, from, from + PART), some(held.noise1, from, from + PART));
  const size = x.data.length / x.n;
  for (let i = 0; i < x.n; i++) {
    for (const term of ["distortion", "rate_2", "rate_1"]) sums[term] += found[term][i];
    let error = 0;
    for (let j = i * size; j < (i + 1) * size; j++) error += (found.rebuilt.data[j] - x.data[j]) ** 2;
    sums.psnr += -10 * Math.log10(error / size);
  }
  const known = from + x.n;
  const means = Object.fromEntries(Object.entries(sums).map(([name, value]) => [name, value / known]));
  self.postMessage({ terms: { id, betas: move.betas, known, of: held.x.n, ...means } });
  if (known < held.x.n) setTimeout(sum, 0, id, known, sums); // lets a move in
}
