//@ kernel
// x / sqrt(mean(x^2) + eps) * gain over a whole row (RMSNorm 1910.07467 eq. 4), then rotary embedding per head.
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;   // [B, L, D]
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>; // [B, L, D]
@group(0) @binding(2) var<storage, read_write> gain: array<vec4<f32>>; // [D]
// P = [B * L, D / 4, K / 4, L], [eps, -, -, -]
{{ turn }}
{{ rows }}

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let D4: u32 = P[0].y;
  // Threads past the end repeat the last row: an early return would make the barriers non-uniform.
  let row: u32 = min((group.y * 65535u + group.x) * ({{ wg }}u / SPREAD) + t / SPREAD, P[0].x - 1u);
  let lane: u32 = t % SPREAD;
  var squares: f32 = 0.0;
  for (var c: u32 = lane; c < D4; c += SPREAD) {
    let a: vec4<f32> = x[row * D4 + c];
    squares += dot(a, a);
  }
  let scale: f32 = 1.0 / sqrt(across(squares, t) / f32(4u * D4) + bitcast<f32>(P[1].x));
  for (var c: u32 = lane; c < D4; c += SPREAD) {
    out[row * D4 + c] = turn(x[row * D4 + c] * scale * gain[c], row, c);
  }
}

//@ turn.none
@group(0) @binding(3) var<uniform> P: array<vec4<u32>, 2>;
fn turn(x: vec4<f32>, row: u32, c: u32) -> vec4<f32> { return x; }

//@ turn.rope
@group(0) @binding(3) var<storage, read_write> cosine: array<vec2<f32>>; // [L, K / 2]
@group(0) @binding(4) var<storage, read_write> sine: array<vec2<f32>>;
@group(0) @binding(5) var<uniform> P: array<vec4<u32>, 2>;
// Turns two neighbouring pairs of channels (RoFormer 2104.09864, 3.2).
fn turn(x: vec4<f32>, row: u32, c: u32) -> vec4<f32> {
  let at: u32 = (row % P[0].w) * P[0].z + c % P[0].z;
  let co: vec2<f32> = cosine[at];
  let si: vec2<f32> = sine[at];
  return vec4<f32>(x.x * co.x - x.y * si.x, x.x * si.x + x.y * co.x, x.z * co.y - x.w * si.y, x.z * si.y + x.w * co.y);
}

