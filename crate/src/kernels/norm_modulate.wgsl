//@ kernel
// Layer norm over a row, then modulation (adaLN, DiT 2212.09748, 3.2) or a learned gain and shift.
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;   // [B, L, D]
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>; // [B, L, D]
// P = [B * L, D / 4, L, R], [eps, scale slot, shift slot, Bm]
{{ apply }}
{{ rows }}

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let D4: u32 = P[0].y;
  // Threads past the end repeat the last row: an early return would make the barriers non-uniform.
  let row: u32 = min((group.y * 65535u + group.x) * ({{ wg }}u / SPREAD) + t / SPREAD, P[0].x - 1u);
  let lane: u32 = t % SPREAD;
  var sum: vec4<f32> = vec4<f32>(0.0);
  for (var c: u32 = lane; c < D4; c += SPREAD) { sum += x[row * D4 + c]; }
  let mean: f32 = across(dot(sum, vec4<f32>(1.0)), t) / f32(4u * D4);
  // A second walk instead of E[x^2] - E[x]^2, which cancels when the mean is large.
  var squares: f32 = 0.0;
  for (var c: u32 = lane; c < D4; c += SPREAD) {
    let a: vec4<f32> = x[row * D4 + c] - vec4<f32>(mean);
    squares += dot(a, a);
  }
  let scale: f32 = 1.0 / sqrt(across(squares, t) / f32(4u * D4) + bitcast<f32>(P[1].x));
  for (var c: u32 = lane; c < D4; c += SPREAD) {
    out[row * D4 + c] = apply((x[row * D4 + c] - vec4<f32>(mean)) * scale, row, c);
  }
}

//@ apply.affine
@group(0) @binding(2) var<storage, read_write> gain: array<vec4<f32>>; // [D]
@group(0) @binding(3) var<storage, read_write> shift: array<vec4<f32>>; // [D]
@group(0) @binding(4) var<uniform> P: array<vec4<u32>, 2>;
fn apply(x: vec4<f32>, row: u32, c: u32) -> vec4<f32> { return x * gain[c] + shift[c]; }

//@ apply.modulate
@group(0) @binding(2) var<storage, read_write> six: array<vec4<f32>>; // [Bm, R, 6, D]
@group(0) @binding(3) var<uniform> P: array<vec4<u32>, 2>;
fn apply(x: vec4<f32>, row: u32, c: u32) -> vec4<f32> {
  // Bm is 1 or B and R is 1 or L: min() repeats the only one.
  let at: u32 = (min(row / P[0].z, P[1].w - 1u) * P[0].w + min(row % P[0].z, P[0].w - 1u)) * 6u;
  return x * (vec4<f32>(1.0) + six[(at + P[1].y) * P[0].y + c]) + six[(at + P[1].z) * P[0].y + c];
}

