// Flash attention (Dao 2205.14135; online softmax, Milakov & Gimelshein 1805.02867) for real GPUs.
// A workgroup of CG x RG threads owns 4 * RG query rows of one head and walks over the keys, CG * KT at a time:
//   scores: a thread makes 4 rows x KT keys, with q and k staged KC vectors at a time;
//   sums:   a thread keeps 4 rows x every CG-th vector of the head, with v staged VK keys at a time.
// Rows of a thread are the lanes of vec4s wherever a number belongs to a row.
{{ half }}
@group(0) @binding(0) var<storage, read_write> q: array<vec4<f32>>;   // [B, L, N, K]
@group(0) @binding(1) var<storage, read_write> k: array<vec4<f32>>;   // [B, S, N, K]
@group(0) @binding(2) var<storage, read_write> v: array<vec4<f32>>;   // [B, S, N, K]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>; // [B, L, N * K]
// P = [L, S, N, Bb], [scale, K / 4, -, -]
{{ score }}

const K4: u32 = {{ k4 }}u; // vectors in a head
const CG: u32 = {{ cg }}u;
const RG: u32 = {{ rg }}u;
const KT: u32 = {{ kt }}u;
const KC: u32 = {{ kc }}u;
const VK: u32 = {{ vk }}u; // divides CG * KT
const THREADS: u32 = CG * RG;
const ROWS: u32 = 4u * RG;
const KEYS: u32 = CG * KT;
const OWN: u32 = (K4 + CG - 1u) / CG; // vectors of the head kept by a thread
const STAGE: u32 = {{ stage }}u; // the larger of (ROWS + KEYS) * KC and VK * K4
const HIDDEN: f32 = -1.0e30;  // finite: a row whose keys are all hidden gives the mean of the values
const OUTSIDE: f32 = -2.0e30; // keys past S: exp(OUTSIDE - maximum) is 0 even in such a row

var<workgroup> stage: array<{{ lane }}, STAGE>;      // q and k, or v
var<workgroup> weight: array<vec4<f32>, KEYS * RG>; // exponentials, [key][row group]
var<workgroup> part: array<vec4<f32>, THREADS>;     // for reductions over the threads of a row group

@compute @workgroup_size({{ threads }}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let L: u32 = P[0].x;
  let S: u32 = P[0].y;
  let scale: f32 = bitcast<f32>(P[1].x);
  let stride: u32 = P[0].z * P[1].y;
  let n: u32 = group.y;
  let b: u32 = group.z;
  let cg: u32 = t % CG;
  let rg: u32 = t / CG;
  let l0: u32 = group.x * ROWS;
  let q_at: u32 = b * L * stride + n * K4;
  let k_at: u32 = b * S * stride + n * K4;

  var sum: array<array<vec4<f32>, 4>, OWN>;
  for (var i: u32 = 0u; i < OWN; i++) { sum[i] = array<vec4<f32>, 4>(); }
  var top: vec4<f32> = vec4<f32>(HIDDEN); // running maximum of each row
  var total: vec4<f32> = vec4<f32>(0.0);  // this thread's share of the running sum of exponentials

  for (var s0: u32 = 0u; s0 < S; s0 += KEYS) {
    var score: array<vec4<f32>, KT>; // [key], a lane per row
    for (var j: u32 = 0u; j < KT; j++) { score[j] = vec4<f32>(0.0); }
    for (var c0: u32 = 0u; c0 < K4; c0 += KC) {
      workgroupBarrier();
      for (var i: u32 = t; i < (ROWS + KEYS) * KC; i += THREADS) {
        let row: u32 = i / KC;
        let c: u32 = c0 + i % KC;
        var x: vec4<f32> = vec4<f32>(0.0);
        if (c < K4) {
          if (row < ROWS) {
            x = q[q_at + min(l0 + row, L - 1u) * stride + c] * scale;
          } else {
            x = k[k_at + min(s0 + row - ROWS, S - 1u) * stride + c];
          }
        }
        // Transposed, so that neighbouring threads read neighbouring keys.
        stage[select((i % KC) * KEYS + row - ROWS + ROWS * KC, (i % KC) * ROWS + row, row < ROWS)] = {{ narrow }}(x);
      }
      workgroupBarrier();
      for (var c: u32 = 0u; c < KC; c++) {
        let at: u32 = c * ROWS + rg * 4u;
        let q0: vec4<f32> = vec4<f32>(stage[at]);
        let q1: vec4<f32> = vec4<f32>(stage[at + 1u]);
        let q2: vec4<f32> = vec4<f32>(stage[at + 2u]);
        let q3: vec4<f32> = vec4<f32>(stage[at + 3u]);
        for (var j: u32 = 0u; j < KT; j++) {
          let x: vec4<f32> = vec4<f32>(stage[ROWS * KC + c * KEYS + j * CG + cg]);
          score[j] += vec4<f32>(dot(q0, x), dot(q1, x), dot(q2, x), dot(q3, x));
        }
      }
    }

    var high: vec4<f32> = top;
    for (var j: u32 = 0u; j < KT; j++) {
      let s: u32 = s0 + j * CG + cg;
      if (s < S) {
        let l: u32 = l0 + rg * 4u;
        let e: u32 = L - 1u;
        score[j] = vec4<f32>(edit(score[j].x, b, n, min(l, e), s), edit(score[j].y, b, n, min(l + 1u, e), s),
                             edit(score[j].z, b, n, min(l + 2u, e), s), edit(score[j].w, b, n, min(l + 3u, e), s));
      } else {
        score[j] = vec4<f32>(OUTSIDE);
      }
      high = max(high, score[j]);
    }
    part[t] = high;
    workgroupBarrier();
    for (var i: u32 = 0u; i < CG; i++) { high = max(high, part[rg * CG + i]); }
    let shrink: vec4<f32> = exp(top - high);
    top = high;
    total *= shrink;
    for (var j: u32 = 0u; j < KT; j++) {
      let e: vec4<f32> = exp(score[j] - high);
      total += e;
      weight[(j * CG + cg) * RG + rg] = e;
    }
    for (var i: u32 = 0u; i < OWN; i++) {
      sum[i][0] *= shrink.x;
      sum[i][1] *= shrink.y;
      sum[i][2] *= shrink.z;
      sum[i][3] *= shrink.w;
    }

    for (var j0: u32 = 0u; j0 < KEYS; j0 += VK) {
      workgroupBarrier(); // also: every thread has read its scores' stage, and `weight` is complete after the next one
      for (var i: u32 = t; i < VK * K4; i += THREADS) {
        stage[i] = {{ narrow }}(v[k_at + min(s0 + j0 + i / K4, S - 1u) * stride + i % K4]);
      }
      workgroupBarrier();
      for (var j: u32 = 0u; j < VK; j++) {
        let e: vec4<f32> = weight[(j0 + j) * RG + rg];
        for (var i: u32 = 0u; i < OWN; i++) {
          // Threads past the head's last vector repeat it; they store nothing.
          let x: vec4<f32> = vec4<f32>(stage[j * K4 + min(i * CG + cg, K4 - 1u)]);
          sum[i][0] += e.x * x;
          sum[i][1] += e.y * x;
          sum[i][2] += e.z * x;
          sum[i][3] += e.w * x;
        }
      }
    }
  }

  workgroupBarrier();
  part[t] = total;
  workgroupBarrier();
  var all: vec4<f32> = vec4<f32>(0.0);
  for (var i: u32 = 0u; i < CG; i++) { all += part[rg * CG + i]; }
  let share: vec4<f32> = vec4<f32>(1.0) / all;
  let l: u32 = l0 + rg * 4u;
  for (var i: u32 = 0u; i < OWN; i++) {
    let c: u32 = i * CG + cg;
    if (c < K4) {
      let at: u32 = q_at + l * stride + c;
      if (l < L) { out[at] = sum[i][0] * share.x; }
      if (l + 1u < L) { out[at + stride] = sum[i][1] * share.y; }
      if (l + 2u < L) { out[at + 2u * stride] = sum[i][2] * share.z; }
      if (l + 3u < L) { out[at + 3u * stride] = sum[i][3] * share.w; }
    }
  }
}
