// Causal conv3d for software adapters: no workgroup memory, no barrier.
// One thread: 8 neighbouring pixels of a row x 4 output channels; loaded pixels serve all taps along W.
// Loads cost most on a CPU adapter (each lane loads alone), so the tile is long in pixels and small in weights.
@group(0) @binding(0) var<storage, read_write> X: array<f32>;
@group(0) @binding(1) var<storage, read_write> W: array<{{ four }}>; // four output channels each
@group(0) @binding(2) var<storage, read_write> BIAS: array<f32>;
@group(0) @binding(3) var<storage, read_write> Y: array<f32>;
{{ if_past }} @group(0) @binding(4) var<storage, read_write> PAST: array<f32>;
{{ if_residual }} @group(0) @binding({{ at_residual }}) var<storage, read_write> RESIDUAL: array<f32>;
// 0: C_in, F, H, W of X   1: C_out, F, H, W of the convolution's result
// 2: batch, time stride, frames standing before X (lead), frames in PAST
// 3: kt, kh, pad above, pad left   4: workgroups in x, split, 0, 0
@group(0) @binding({{ at_params }}) var<uniform> P: array<vec4<u32>, 5>;

const KW: u32 = {{ kw }}u;      // taps along W: 1, 3, or 2 in the doubled form
const STRIDE: u32 = {{ stride }}u; // along H and W: 1 or 2
const DOUBLED: bool = {{ doubled }}; // nearest x2 before a 3x3: four 2x2 convolutions, one for each parity of (h, w)

// Accumulators of the eight pixels; the vec4 runs over output channels.
var<private> s0: vec4<f32>;
var<private> s1: vec4<f32>;
var<private> s2: vec4<f32>;
var<private> s3: vec4<f32>;
var<private> s4: vec4<f32>;
var<private> s5: vec4<f32>;
var<private> s6: vec4<f32>;
var<private> s7: vec4<f32>;

fn weights(at: u32) -> vec4<f32> {
  let w = W[at];
  return {{ read_four }};
}

fn tap(a: vec4<f32>, b: vec4<f32>, w: vec4<f32>) {
  s0 = s0 + a.x * w;
  s1 = s1 + a.y * w;
  s2 = s2 + a.z * w;
  s3 = s3 + a.w * w;
  s4 = s4 + b.x * w;
  s5 = s5 + b.y * w;
  s6 = s6 + b.z * w;
  s7 = s7 + b.w * w;
}

// All taps along W of one input channel: a, b, c, d and e hold the row's pixels in order.
fn taps(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, e: f32, k: u32) {
  if (STRIDE == 2u) {
    tap(vec4<f32>(a.xz, b.xz), vec4<f32>(c.xz, d.xz), weights(k));
    tap(vec4<f32>(a.yw, b.yw), vec4<f32>(c.yw, d.yw), weights(k + 1u));
    tap(vec4<f32>(a.z, b.xz, c.x), vec4<f32>(c.z, d.xz, e), weights(k + 2u));
  } else {
    tap(a, b, weights(k));
    if (KW >= 2u) { tap(vec4<f32>(a.yzw, b.x), vec4<f32>(b.yzw, c.x), weights(k + 1u)); }
    if (KW >= 3u) { tap(vec4<f32>(a.zw, b.xy), vec4<f32>(b.zw, c.xy), weights(k + 2u)); }
  }
}

// Columns i .. i + 3 of a row: clamped for loading, with a mask that zeroes those outside.
struct Columns { at: vec4<u32>, inside: vec4<bool> }
fn columns(first: i32, width: u32) -> Columns {
  let i = vec4<i32>(first) + vec4<i32>(0, 1, 2, 3);
  let last = vec4<i32>(i32(width) - 1);
  let inside = (i >= vec4<i32>(0)) & (i <= last);
  return Columns(vec4<u32>(clamp(i, vec4<i32>(0), last)), inside);
}

fn load_x(row: u32, c: Columns) -> vec4<f32> {
  let v = vec4<f32>(X[row + c.at.x], X[row + c.at.y], X[row + c.at.z], X[row + c.at.w]);
  return select(vec4<f32>(0.0), v, c.inside);
}
fn load_x2(row: u32, c: Columns) -> vec4<f32> { // only the two that 2 or 3 taps need
  let v = vec4<f32>(X[row + c.at.x], X[row + c.at.y], 0.0, 0.0);
  return select(vec4<f32>(0.0), v, c.inside);
}
{{ if_past }} fn load_past(row: u32, c: Columns) -> vec4<f32> {
{{ if_past }}   let v = vec4<f32>(PAST[row + c.at.x], PAST[row + c.at.y], PAST[row + c.at.z], PAST[row + c.at.w]);
{{ if_past }}   return select(vec4<f32>(0.0), v, c.inside);
{{ if_past }} }

fn store(v: vec4<f32>, column: u32, width: u32, out: vec4<u32>, left: u32) {
  if (column >= width) { return; }
  let step = select(1u, 2u, DOUBLED);
  for (var i: u32 = 0u; i < left; i = i + 1u) {
    let at = out[i] + column * step;
    var r = v[i];
    {{ if_residual }} r = r + RESIDUAL[at];
    Y[at] = r;
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let channels = P[0].x;
  let plane = P[0].z * P[0].w;
  let volume = P[0].y * plane;
  let grid_h = select(P[1].z, P[0].z, DOUBLED); // pixels of one parity are as many as input pixels
  let grid_w = select(P[1].w, P[0].w, DOUBLED);
  let per_row = (grid_w + 7u) / 8u;
  let tiles = P[2].x * P[1].y * grid_h * per_row;
  let blocks = (P[1].x + 3u) / 4u;

  // thread -> (parity, block of 4 channels, batch, frame, row, first pixel)
  let id = (group.y * P[4].x + group.x) * 64u + lane;
  let tile = id % tiles;
  let parity = id / tiles / blocks;
  let block = (id / tiles) % blocks;
  if (parity >= select(1u, 4u, DOUBLED)) { return; }
  let w0 = (tile % per_row) * 8u;
  let h = (tile / per_row) % grid_h;
  let f = (tile / per_row / grid_h) % P[1].y;
  let batch = tile / per_row / grid_h / P[1].y;

  let pad_h = select(i32(P[3].z), 1 - i32(parity >> 1u), DOUBLED);
  let pad_w = select(i32(P[3].w), 1 - i32(parity & 1u), DOUBLED);
  let left = i32(w0 * STRIDE) - pad_w;
  let ca = columns(left, P[0].w);
  let cb = columns(left + 4, P[0].w);
  let cc = columns(left + 8, P[0].w);
  let cd = columns(left + 12, P[0].w);
  let ce = columns(left + 16, P[0].w);

  let o = block * 4u;
  let some = min(4u, P[1].x - o);
  let top = P[1].x - 1u;
  let bias = vec4<f32>(BIAS[o], BIAS[min(o + 1u, top)], BIAS[min(o + 2u, top)], BIAS[min(o + 3u, top)]);
  s0 = bias;
  s1 = bias;
  s2 = bias;
  s3 = bias;
  s4 = bias;
  s5 = bias;
  s6 = bias;
  s7 = bias;

  for (var dt: u32 = 0u; dt < P[3].x; dt = dt + 1u) {
    let t = i32(f * P[2].y + dt) - i32(P[2].z);
    for (var dh: u32 = 0u; dh < P[3].y; dh = dh + 1u) {
      let r = i32(h * STRIDE + dh) - pad_h;
      let row_inside = r >= 0 && r < i32(P[0].z);
      let k = (((parity * blocks + block) * P[3].x + dt) * P[3].y + dh) * channels * KW;
      if (row_inside && t >= 0 && t < i32(P[0].y)) {
        let base = batch * channels * volume + u32(t) * plane + u32(r) * P[0].w;
        for (var c: u32 = 0u; c < channels; c = c + 1u) {
          let at = base + c * volume;
          let a = load_x(at, ca);
          let b = load_x(at, cb);
          var m = vec4<f32>(0.0);
          var n = vec4<f32>(0.0);
          var e: f32 = 0.0;
          if (STRIDE == 2u) {
            m = load_x(at, cc);
            n = load_x(at, cd);
            e = select(0.0, X[at + ce.at.x], ce.inside.x);
          } else if (KW > 1u) {
            m = load_x2(at, cc);
          }
          taps(a, b, m, n, e, k + c * KW);
        }
      }
{{ if_past }}       let p = t + i32(P[2].w);
{{ if_past }}       if (row_inside && t < 0 && p >= 0) {
{{ if_past }}         let old = P[2].w * plane;
{{ if_past }}         let base = batch * channels * old + u32(p) * plane + u32(r) * P[0].w;
{{ if_past }}         for (var c: u32 = 0u; c < channels; c = c + 1u) {
{{ if_past }}           let at = base + c * old;
{{ if_past }}           let a = load_past(at, ca);
{{ if_past }}           let b = load_past(at, cb);
{{ if_past }}           var m = vec4<f32>(0.0);
{{ if_past }}           if (KW > 1u) { m = load_past(at, cc); }
{{ if_past }}           taps(a, b, m, vec4<f32>(0.0), 0.0, k + c * KW);
{{ if_past }}         }
{{ if_past }}       }
    }
  }

  // With split = s, channel j * C_out / s + c at frame f goes to channel c, frame f * s + j.
  let split = P[4].y;
  let apart = P[1].x / split;
  let oc = vec4<u32>(o) + vec4<u32>(0u, 1u, 2u, 3u);
  let frame = (batch * apart + oc % apart) * (P[1].y * split) + f * split + oc / apart;
  let step = select(1u, 2u, DOUBLED);
  let y = frame * (P[1].z * P[1].w) + (h * step + select(0u, parity >> 1u, DOUBLED)) * P[1].w + select(0u, parity & 1u, DOUBLED);
  store(s0, w0, grid_w, y, some);
  store(s1, w0 + 1u, grid_w, y, some);
  store(s2, w0 + 2u, grid_w, y, some);
  store(s3, w0 + 3u, grid_w, y, some);
  store(s4, w0 + 4u, grid_w, y, some);
  store(s5, w0 + 5u, grid_w, y, some);
  store(s6, w0 + 6u, grid_w, y, some);
  store(s7, w0 + 7u, grid_w, y, some);
}
