// The network of a conditioned run, as hvae_core/models/{conditioning,ghvae,lvae,distributions}.py have it.
//
// Maps are {data, n, h, w, c} with channels last; vectors are {data, n, size} in PyTorch's order, so that noise drawn
// there belongs to the same latents here. Numbers are float64, which JavaScript computes fastest; weights come rounded,
// as whole multiples of steps. All sums are in nats.
"use strict";

const SMALLEST_STD = 1e-6;

// --- numbers packed as text -----------------------------------------------------------------------------------------

// Five letters are four bytes: a number to base 85, the highest digit first. Zeros may follow in the end.
function bytes(text, letters) {
  const digit = new Uint8Array(128);
  for (let i = 0; i < letters.length; i++) digit[letters.charCodeAt(i)] = i;
  const found = new DataView(new ArrayBuffer((4 * text.length) / 5));
  for (let i = 0; i < text.length; i += 5) {
    let word = 0;
    for (let j = i; j < i + 5; j++) word = 85 * word + digit[text.charCodeAt(j)];
    found.setUint32((4 * i) / 5, word);
  }
  return found.buffer;
}

function halves(buffer) {
  const packed = new Uint16Array(buffer);
  const known = new Float64Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
    known[bits] = bits & 0x8000 ? -size : size;
  }
  return Float64Array.from(packed, (bits) => known[bits]);
}

// uint8 images, or one bit a pixel, the first in the highest; as maps with values from 0 to 1.
function images(buffer, [c, h, w], bits) {
  const size = c * h * w;
  const all = new Uint8Array(buffer);
  const n = Math.floor(((8 / bits) * all.length) / size);
  const data = new Float64Array(n * size);
  for (let i = 0; i < n; i++)
    for (let channel = 0; channel < c; channel++)
      for (let pixel = 0; pixel < h * w; pixel++) {
        const from = (i * c + channel) * h * w + pixel;
        const value = bits === 1 ? (all[from >> 3] >> (7 - (from & 7))) & 1 : all[from] / 255;
        data[(i * h * w + pixel) * c + channel] = value;
      }
  return { data, n, h, w, c };
}

// --- layers ---------------------------------------------------------------------------------------------------------

// out[i][j] = bias[j] + sum_k a[i][k] b[j][k], four by four at a time, so that each number read serves four sums.
function multiply(a, aAt, rows, inner, b, bAt, columns, bias, biasAt, out, outAt) {
  for (let i = 0; i < rows; i += 4) {
    const high = Math.min(4, rows - i);
    const a0 = aAt + i * inner;
    const a1 = high > 1 ? a0 + inner : a0;
    const a2 = high > 2 ? a0 + 2 * inner : a0;
    const a3 = high > 3 ? a0 + 3 * inner : a0;
    for (let j = 0; j < columns; j += 4) {
      const wide = Math.min(4, columns - j);
      const b0 = bAt + j * inner;
      const b1 = wide > 1 ? b0 + inner : b0;
      const b2 = wide > 2 ? b0 + 2 * inner : b0;
      const b3 = wide > 3 ? b0 + 3 * inner : b0;
      let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
      let s20 = 0, s21 = 0, s22 = 0, s23 = 0, s30 = 0, s31 = 0, s32 = 0, s33 = 0;
      for (let k = 0; k < inner; k++) {
        const y0 = b[b0 + k], y1 = b[b1 + k], y2 = b[b2 + k], y3 = b[b3 + k];
        let x = a[a0 + k];
        s00 += x * y0; s01 += x * y1; s02 += x * y2; s03 += x * y3;
        x = a[a1 + k];
        s10 += x * y0; s11 += x * y1; s12 += x * y2; s13 += x * y3;
        x = a[a2 + k];
        s20 += x * y0; s21 += x * y1; s22 += x * y2; s23 += x * y3;
        x = a[a3 + k];
        s30 += x * y0; s31 += x * y1; s32 += x * y2; s33 += x * y3;
      }
      if (high === 4 && wide === 4) {
        const o = outAt + i * columns + j;
        const p = o + columns, q = p + columns, r = q + columns;
        let t0 = 0, t1 = 0, t2 = 0, t3 = 0;
        if (bias) {
          const at = biasAt + j;
          t0 = bias[at]; t1 = bias[at + 1]; t2 = bias[at + 2]; t3 = bias[at + 3];
        }
        out[o] = s00 + t0; out[o + 1] = s01 + t1; out[o + 2] = s02 + t2; out[o + 3] = s03 + t3;
        out[p] = s10 + t0; out[p + 1] = s11 + t1; out[p + 2] = s12 + t2; out[p + 3] = s13 + t3;
        out[q] = s20 + t0; out[q + 1] = s21 + t1; out[q + 2] = s22 + t2; out[q + 3] = s23 + t3;
        out[r] = s30 + t0; out[r + 1] = s31 + t1; out[r + 2] = s32 + t2; out[r + 3] = s33 + t3;
        continue;
      }
      const sums = [s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33];
      for (let r = 0; r < high; r++)
        for (let q = 0; q < wide; q++)
          out[outAt + (i + r) * columns + j + q] = sums[4 * r + q] + (bias ? bias[biasAt + j + q] : 0);
    }
  }
}

function relu(x) {
  for (let i = 0; i < x.data.length; i++) if (!(x.data[i] > 0)) x.data[i] = 0;
  return x;
}

function flatten({ data, n, h, w, c }) {
  const out = new Float64Array(data.length);
  const pixels = h * w;
  for (let i = 0; i < n; i++)
    for (let p = 0; p < pixels; p++)
      for (let channel = 0; channel < c; channel++)
        out[(i * c + channel) * pixels + p] = data[(i * pixels + p) * c + channel];
  return { data: out, n, size: c * pixels };
}

function unflatten({ data, n, size }, h, w) {
  const out = new Float64Array(data.length);
  const pixels = h * w;
  const c = size / pixels;
  for (let i = 0; i < n; i++)
    for (let p = 0; p < pixels; p++)
      for (let channel = 0; channel < c; channel++)
        out[(i * pixels + p) * c + channel] = data[(i * c + channel) * pixels + p];
  return { data: out, n, h, w, c };
}

function concatenate(a, b) {
  const c = a.c + b.c;
  const out = new Float64Array(a.n * a.h * a.w * c);
  for (let i = 0; i < a.n * a.h * a.w; i++) {
    for (let j = 0; j < a.c; j++) out[i * c + j] = a.data[i * a.c + j];
    for (let j = 0; j < b.c; j++) out[i * c + a.c + j] = b.data[i * b.c + j];
  }
  return { data: out, n: a.n, h: a.h, w: a.w, c };
}

// --- one network for all betas --------------------------------------------------------------------------------------

// Where log betas lie between the points of a grid: rows of its table, and their shares.
function shares(log, low, high, knots) {
  let found = [[0, 1]];
  for (let layer = 0; layer < log.length; layer++) {
    const range = high[layer] > low[layer] ? high[layer] - low[layer] : 1;
    const at = Math.min(1, Math.max(0, (log[layer] - low[layer]) / range)) * (knots - 1);
    const below = Math.min(Math.floor(at), Math.max(0, knots - 2));
    const next = found.flatMap(([row, share]) => [
      [row * knots + below, share * (1 - (at - below))],
      [row * knots + below + 1, share * (at - below)],
    ]);
    found = next.filter(([, share]) => share > 0);
  }
  return found;
}

function interpolated(table, width, rows, out) {
  out.fill(0);
  for (const [row, share] of rows) {
    const from = row * width;
    for (let i = 0; i < width; i++) out[i] += share * table[from + i];
  }
  return out;
}

class Network {
  // about: what weights.py says of the network; tables: its whole numbers; steps: what they are multiples of.
  constructor(about, tables, steps) {
    const { parameters, channels, coarse, fine, betas, bits } = about;
    const [weights, scales] = [coarse ** betas.length * parameters, fine ** betas.length * 2 * channels];
    const layers = Object.values(about.layers);
    const groups = channels + layers.length;
    const whole = new { 8: Int8Array, 16: Int16Array }[bits](tables);
    const step = new Float32Array(steps);
    if (whole.length < weights + scales || step.length < coarse ** betas.length * groups + 2 * channels)
      throw Error("the network is damaged");
    this.about = about;
    this.changes = new Float64Array(weights);
    for (let from = 0, group = 0; from < weights; from += parameters, group += groups)
      layers.forEach(({ weight, count, bias, outputs, channel, inner }, number) => {
        for (let i = 0; i < count; i++)
          this.changes[from + weight + i] = whole[from + weight + i] * step[group + channel + (Math.floor(i / inner) % outputs)];
        for (let i = 0; i < outputs; i++)
          this.changes[from + bias + i] = whole[from + bias + i] * step[group + channels + number];
      });
    const last = coarse ** betas.length * groups;
    this.modulation = Float64Array.from({ length: scales }, (_, i) => whole[weights + i] * step[last + (i % (2 * channels))]);
    this.weights = new Float64Array(parameters);
    this.scales = new Float64Array(2 * channels);
    this.layers = about.layers;
    this.scratch = new Float64Array(0);
    this.family = about.family === "LVAE" ? LVAE : GHVAE;
  }

  // W(beta) = (W + dW(beta)) (1 + s(beta)),  b(beta) = (b + db(beta)) (1 + s(beta)) + t(beta)
  at(betas) {
    const { parameters, channels, coarse, fine, low, high } = this.about;
    const log = betas.map(Math.log);
    interpolated(this.changes, parameters, shares(log, low, high, coarse), this.weights);
    interpolated(this.modulation, 2 * channels, shares(log, low, high, fine), this.scales);
    for (const layer of Object.values(this.layers)) {
      const { weight, count, bias, outputs, channel, inner } = layer;
      for (let i = 0; i < count; i++)
        this.weights[weight + i] *= 1 + this.scales[channel + (Math.floor(i / inner) % outputs)];
      for (let i = 0; i < outputs; i++)
        this.weights[bias + i] =
          this.weights[bias + i] * (1 + this.scales[channel + i]) + this.scales[channels + channel + i];
    }
    return this;
  }

  dense(name, x) {
    const { weight, bias, outputs, inner } = this.layers[name];
    const out = new Float64Array(x.n * outputs);
    multiply(x.data, 0, x.n, inner, this.weights, weight, outputs, this.weights, bias, out, 0);
    return { data: out, n: x.n, size: outputs };
  }

  room(size) {
    if (this.scratch.length < size) this.scratch = new Float64Array(size);
    return this.scratch;
  }

  // A convolution: the window of each output pixel becomes a row, and all rows are multiplied at once.
  conv(name, x) {
    const { weight, bias, outputs, inner, kernel, stride, padding } = this.layers[name];
    const { n, h, w, c } = x;
    const high = Math.floor((h + 2 * padding - kernel) / stride) + 1;
    const wide = Math.floor((w + 2 * padding - kernel) / stride) + 1;
    const windows = this.room(high * wide * inner);
    const out = new Float64Array(n * high * wide * outputs);
    for (let image = 0; image < n; image++) {
      let to = 0;
      for (let oy = 0; oy < high; oy++)
        for (let ox = 0; ox < wide; ox++)
          for (let ky = 0; ky < kernel; ky++) {
            const y = oy * stride - padding + ky;
            for (let kx = 0; kx < kernel; kx++) {
              const x0 = ox * stride - padding + kx;
              const inside = y >= 0 && y < h && x0 >= 0 && x0 < w;
              const from = ((image * h + y) * w + x0) * c;
              for (let k = 0; k < c; k++) windows[to++] = inside ? x.data[from + k] : 0;
            }
          }
      const place = image * high * wide * outputs;
      multiply(windows, 0, high * wide, inner, this.weights, weight, outputs, this.weights, bias, out, place);
    }
    return { data: out, n, h: high, w: wide, c: outputs };
  }

  // A transposed convolution: each input pixel is multiplied to a window, which is added where it lies.
  up(name, x) {
    const { weight, bias, outputs, inner, kernel, stride, padding } = this.layers[name];
    const { n, h, w } = x;
    const high = (h - 1) * stride - 2 * padding + kernel;
    const wide = (w - 1) * stride - 2 * padding + kernel;
    const width = kernel * kernel * outputs;
    const windows = this.room(h * w * width);
    const out = new Float64Array(n * high * wide * outputs);
    for (let i = 0; i < out.length; i++) out[i] = this.weights[bias + (i % outputs)];
    for (let image = 0; image < n; image++) {
      multiply(x.data, image * h * w * inner, h * w, inner, this.weights, weight, width, null, 0, windows, 0);
      let from = 0;
      for (let iy = 0; iy < h; iy++)
        for (let ix = 0; ix < w; ix++)
          for (let ky = 0; ky < kernel; ky++) {
            const y = iy * stride - padding + ky;
            for (let kx = 0; kx < kernel; kx++, from += outputs) {
              const x0 = ix * stride - padding + kx;
              if (y < 0 || y >= high || x0 < 0 || x0 >= wide) continue;
              const to = ((image * high + y) * wide + x0) * outputs;
              for (let k = 0; k < outputs; k++) out[to + k] += windows[from + k];
            }
          }
    }
    return { data: out, n, h: high, w: wide, c: outputs };
  }

  heads(name, h, layer = "dense") {
    const [mean, raw] = ["mean", "std"].map((head) => {
      const found = this[layer](`${name}.${head}`, h);
      return layer === "dense" ? found : flatten(found);
    });
    for (let i = 0; i < raw.data.length; i++) raw.data[i] = softplus(raw.data[i]) + SMALLEST_STD;
    return { mean, std: raw };
  }

  // D and the rates of each image, in nats, by samples z = mean + std * noise; and the images rebuilt by modes.
  measure(x, noise2, noise1) {
    const features = this.family.features(this, x);
    const q2 = this.family.upper(this, x, features);
    const z2 = sample(q2, noise2);
    const q1 = this.family.lower(this, z2, features);
    const p1 = this.family.prior(this, z2);
    const rebuilt = this.likelihood(this.family.lower(this, q2.mean, features).mean);
    return {
      distortion: this.distortion(x, this.decode(sample(q1, noise1))),
      rate_2: divergence(q2, null),
      rate_1: divergence(q1, p1),
      rebuilt,
    };
  }

  reconstruct(x) {
    const features = this.family.features(this, x);
    const { mean } = this.family.upper(this, x, features);
    return this.likelihood(this.family.lower(this, mean, features).mean);
  }

  generate(noise2, noise1) {
    return this.likelihood(sample(this.family.prior(this, noise2), noise1));
  }

  decode(z1) {
    const h = relu(this.up("px_conv2", relu(this.up("px_conv1", unflatten(z1, 4, 4)))));
    return this.up("px_conv3", h);
  }

  likelihood(z1) {
    const mean = this.decode(z1);
    if (mean.c === 1) for (let i = 0; i < mean.data.length; i++) mean.data[i] = 1 / (1 + Math.exp(-mean.data[i]));
    return mean;
  }

  distortion(x, decoded) {
    const size = x.data.length / x.n;
    const sigma = this.about.sigma_x;
    const out = new Float64Array(x.n);
    for (let i = 0; i < x.data.length; i++) {
      const [value, mean] = [x.data[i], decoded.data[i]];
      out[Math.floor(i / size)] +=
        x.c === 1
          ? softplus(mean) - mean * value
          : 0.5 * ((value - mean) / sigma) ** 2 + Math.log(sigma) + 0.5 * Math.log(2 * Math.PI);
    }
    return out;
  }
}

// --- the two architectures ------------------------------------------------------------------------------------------

const GHVAE = {
  features: (net, x) => relu(net.conv("q1_conv2", relu(net.conv("q1_conv1", x)))),
  upper(net, x) {
    const h = relu(net.conv("q2_conv2", relu(net.conv("q2_conv1", x))));
    return net.heads("q2_heads", flatten(relu(net.conv("q2_conv3", h))));
  },
  lower(net, z2, onX) {
    const onZ2 = relu(net.up("q1_up", unflatten(relu(net.dense("q1_fc", z2)), 4, 4)));
    return net.heads("q1_heads", relu(net.conv("q1_joint", concatenate(onX, onZ2))), "conv");
  },
  prior: (net, z2) => net.heads("p1_heads", relu(net.dense("p1_fc", z2))),
};

const LVAE = {
  features: (net, x) => relu(net.conv("q2_conv2", relu(net.conv("q2_conv1", x)))), // d_1
  upper: (net, x, d1) => net.heads("q2_heads", flatten(relu(net.conv("q2_conv3", d1)))),
  // The product of what the image says and the prior; the second head gives the variance of the former.
  lower(net, z2, d1) {
    const { mean, std: variance } = net.heads("q1_heads", relu(net.conv("q1_conv", d1)), "conv");
    const prior = LVAE.prior(net, z2);
    const product = { mean: { ...mean, data: new Float64Array(mean.data.length) } };
    product.std = { ...mean, data: new Float64Array(mean.data.length) };
    for (let i = 0; i < mean.data.length; i++) {
      const known = prior.std.data[i] ** 2;
      const share = known / (known + variance.data[i]);
      product.mean.data[i] = prior.mean.data[i] + share * (mean.data[i] - prior.mean.data[i]);
      product.std.data[i] = 1 / Math.sqrt(1 / known + 1 / variance.data[i]);
    }
    return product;
  },
  prior: GHVAE.prior,
};

// --- distributions --------------------------------------------------------------------------------------------------

const softplus = (x) => (x > 20 ? x : Math.log1p(Math.exp(x)));

function sample({ mean, std }, noise) {
  const data = new Float64Array(mean.data.length);
  for (let i = 0; i < data.length; i++) data[i] = mean.data[i] + std.data[i] * noise.data[i];
  return { ...mean, data };
}

// KL[q || p] of each image; of p = null against the standard normal.
function divergence(q, p) {
  const { n, size } = q.mean;
  const out = new Float64Array(n);
  for (let i = 0; i < n * size; i++) {
    const std = p ? p.std.data[i] : 1;
    const ratio = q.std.data[i] / std;
    const shift = (q.mean.data[i] - (p ? p.mean.data[i] : 0)) / std;
    out[Math.floor(i / size)] += 0.5 * (ratio * ratio + shift * shift - 1) - Math.log(ratio);
  }
  return out;
}

// Some of these maps or vectors.
function some({ data, n, ...shape }, from, to) {
  const each = data.length / n;
  const end = Math.min(to, n);
  return { data: data.subarray(from * each, end * each), n: end - from, ...shape };
}
