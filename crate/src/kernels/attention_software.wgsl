// Flash attention (Dao 2205.14135; online softmax, Milakov & Gimelshein 1805.02867) for CPU adapters.
// A thread owns 4 query rows of one head and walks over the keys, 4 at a time. No workgroup memory, no barriers, and
// no arrays: software adapters keep those in memory. The running sums live in `out`, so any K works.
@group(0) @binding(0) var<storage, read_write> q: array<vec4<f32>>;   // [B, L, N, K]
@group(0) @binding(1) var<storage, read_write> k: array<vec4<f32>>;   // [B, S, N, K]
@group(0) @binding(2) var<storage, read_write> v: array<vec4<f32>>;   // [B, S, N, K]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>; // [B, L, N * K]
// P = [L, S, N, Bb], [scale, K / 4, B, -]
{{ score }}

const HIDDEN: f32 = -1.0e30;  // finite: a row whose keys are all hidden gives the mean of the values
const OUTSIDE: f32 = -2.0e30; // keys past S: exp(OUTSIDE - maximum) is 0 even in such a row

// Score of a key with what the variant adds; `s` may lie past the end.
fn finish(score: f32, b: u32, n: u32, l: u32, s: u32, S: u32) -> f32 {
  return select(OUTSIDE, edit(score, b, n, l, min(s, S - 1u)), s < S);
}

fn finish4(score: vec4<f32>, b: u32, n: u32, l: u32, s: u32, S: u32) -> vec4<f32> {
  return vec4<f32>(finish(score.x, b, n, l, s, S), finish(score.y, b, n, l, s + 1u, S),
                   finish(score.z, b, n, l, s + 2u, S), finish(score.w, b, n, l, s + 3u, S));
}

fn highest(a: vec4<f32>) -> f32 { return max(max(a.x, a.y), max(a.z, a.w)); }

@compute @workgroup_size({{ wg }}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let L: u32 = P[0].x;
  let S: u32 = P[0].y;
  let scale: f32 = bitcast<f32>(P[1].x);
  let K4: u32 = P[1].y;
  let stride: u32 = P[0].z * K4;
  // Lanes run over the rows of all heads, so that short clips fill them too. Workgroups past 65535 fold into y.
  let thread: u32 = (group.y * 65535u + group.x) * {{ wg }}u + local.x;
  let quads: u32 = (L + 3u) / 4u;
  let n: u32 = (thread / quads) % P[0].z;
  let b: u32 = thread / (quads * P[0].z);
  let l0: u32 = (thread % quads) * 4u;
  if (b >= P[1].z) { return; }
  // Rows past the end repeat the last row: they compute and store the same numbers.
  let l1: u32 = min(l0 + 1u, L - 1u);
  let l2: u32 = min(l0 + 2u, L - 1u);
  let l3: u32 = min(l0 + 3u, L - 1u);
  let at0: u32 = (b * L + l0) * stride + n * K4;
  let at1: u32 = (b * L + l1) * stride + n * K4;
  let at2: u32 = (b * L + l2) * stride + n * K4;
  let at3: u32 = (b * L + l3) * stride + n * K4;
  let base: u32 = b * S * stride + n * K4;
  var top0: f32 = HIDDEN;
  var top1: f32 = HIDDEN;
  var top2: f32 = HIDDEN;
  var top3: f32 = HIDDEN;
  var total: vec4<f32> = vec4<f32>(0.0);

  for (var s: u32 = 0u; s < S; s += 4u) {
    let k0: u32 = base + min(s, S - 1u) * stride;
    let k1: u32 = base + min(s + 1u, S - 1u) * stride;
    let k2: u32 = base + min(s + 2u, S - 1u) * stride;
    let k3: u32 = base + min(s + 3u, S - 1u) * stride;
    var a0: vec4<f32> = vec4<f32>(0.0);
    var a1: vec4<f32> = vec4<f32>(0.0);
    var a2: vec4<f32> = vec4<f32>(0.0);
    var a3: vec4<f32> = vec4<f32>(0.0);
    for (var c: u32 = 0u; c < K4; c++) {
      let q0: vec4<f32> = q[at0 + c];
      let q1: vec4<f32> = q[at1 + c];
      let q2: vec4<f32> = q[at2 + c];
      let q3: vec4<f32> = q[at3 + c];
      let x0: vec4<f32> = k[k0 + c];
      let x1: vec4<f32> = k[k1 + c];
      let x2: vec4<f32> = k[k2 + c];
      let x3: vec4<f32> = k[k3 + c];
      a0 += vec4<f32>(dot(q0, x0), dot(q0, x1), dot(q0, x2), dot(q0, x3));
      a1 += vec4<f32>(dot(q1, x0), dot(q1, x1), dot(q1, x2), dot(q1, x3));
      a2 += vec4<f32>(dot(q2, x0), dot(q2, x1), dot(q2, x2), dot(q2, x3));
      a3 += vec4<f32>(dot(q3, x0), dot(q3, x1), dot(q3, x2), dot(q3, x3));
    }
    a0 = finish4(a0 * scale, b, n, l0, s, S);
    a1 = finish4(a1 * scale, b, n, l1, s, S);
    a2 = finish4(a2 * scale, b, n, l2, s, S);
    a3 = finish4(a3 * scale, b, n, l3, s, S);

    let high0: f32 = max(top0, highest(a0));
    let high1: f32 = max(top1, highest(a1));
    let high2: f32 = max(top2, highest(a2));
    let high3: f32 = max(top3, highest(a3));
    let shrink: vec4<f32> = exp(vec4<f32>(top0 - high0, top1 - high1, top2 - high2, top3 - high3));
    top0 = high0;
    top1 = high1;
    top2 = high2;
    top3 = high3;
    a0 = exp(a0 - vec4<f32>(high0));
    a1 = exp(a1 - vec4<f32>(high1));
    a2 = exp(a2 - vec4<f32>(high2));
    a3 = exp(a3 - vec4<f32>(high3));
    let one: vec4<f32> = vec4<f32>(1.0);
    total = total * shrink + vec4<f32>(dot(a0, one), dot(a1, one), dot(a2, one), dot(a3, one));

    // The sums of the first keys replace what `out` held before; the last keys' sums are divided by the total.
    let first: bool = s == 0u;
    let share: vec4<f32> = select(one, one / total, s + 4u >= S);
    for (var c: u32 = 0u; c < K4; c++) {
      var o0: vec4<f32> = select(out[at0 + c] * shrink.x, vec4<f32>(0.0), first);
      var o1: vec4<f32> = select(out[at1 + c] * shrink.y, vec4<f32>(0.0), first);
      var o2: vec4<f32> = select(out[at2 + c] * shrink.z, vec4<f32>(0.0), first);
      var o3: vec4<f32> = select(out[at3 + c] * shrink.w, vec4<f32>(0.0), first);
      let v0: vec4<f32> = v[k0 + c];
      let v1: vec4<f32> = v[k1 + c];
      let v2: vec4<f32> = v[k2 + c];
      let v3: vec4<f32> = v[k3 + c];
      o0 += a0.x * v0 + a0.y * v1 + a0.z * v2 + a0.w * v3;
      o1 += a1.x * v0 + a1.y * v1 + a1.z * v2 + a1.w * v3;
      o2 += a2.x * v0 + a2.y * v1 + a2.z * v2 + a2.w * v3;
      o3 += a3.x * v0 + a3.y * v1 + a3.z * v2 + a3.w * v3;
      out[at0 + c] = o0 * share.x;
      out[at1 + c] = o1 * share.y;
      out[at2 + c] = o2 * share.z;
      out[at3 + c] = o3 * share.w;
    }
  }
}
