// Each pixel's channels scaled to length 1 (no less than 1e-12 is divided by), times a gain; then SiLU if asked for.
// Neighbouring threads hold neighbouring pixels; V is one pixel, or four when the number of pixels allows.
alias V = {{ type }};
@group(0) @binding(0) var<storage, read_write> x: array<V>;   // [B, C, M], M = F * H * W
@group(0) @binding(1) var<storage, read_write> out: array<V>; // [B, C, M]
@group(0) @binding(2) var<storage, read_write> gain: array<f32>; // [C], already times sqrt(C)
@group(0) @binding(3) var<uniform> P: array<vec4<u32>, 1>; // [B, C, M counted in V, -]

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let C: u32 = P[0].y;
  let M: u32 = P[0].z;
  let i: u32 = (group.y * 65535u + group.x) * 64u + t;
  if (i >= P[0].x * M) { return; }
  let at: u32 = (i / M) * C * M + i % M;
  var squares: V = V(0.0);
  for (var c: u32 = 0u; c < C; c++) {
    let a: V = x[at + c * M];
    squares += a * a;
  }
  let share: V = V(1.0) / max(sqrt(squares), V(1.0e-12));
  for (var c: u32 = 0u; c < C; c++) {
    let a: V = x[at + c * M] * share * gain[c];
    out[at + c * M] = {{ result }};
  }
}
