// Causal conv3d for real GPUs: implicit GEMM, output channels (BM) x pixels (BN), over taps and input channels (BK).
// One tap at a time: inside the loop over channels only an address moves, edges are decided once for each tap.
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
const BM: u32 = {{ bm }}u;      // tile: output channels
const BN: u32 = {{ bn }}u;      // tile: pixels
const BK: u32 = {{ bk }}u;      // tile: input channels
const M4: u32 = {{ m4 }}u;      // a thread's output channels / 4
const N4: u32 = {{ n4 }}u;      // a thread's pixels / 4
const ROWS: u32 = BM / (4u * M4); // threads along channels
const COLS: u32 = BN / (4u * N4); // threads along pixels
const THREADS: u32 = ROWS * COLS;
const BM4: u32 = BM / 4u;
const BN4: u32 = BN / 4u;

var<workgroup> TW: array<vec4<f32>, {{ bk }} * {{ bm }} / 4>; // [BK][BM / 4], vec4 over channels
var<workgroup> TX: array<vec4<f32>, {{ bk }} * {{ bn }} / 4>; // [BK][BN / 4], vec4 over pixels

fn weights(at: u32) -> vec4<f32> {
  let w = W[at];
  return {{ read_four }};
}

fn finish(v: f32, at: u32) {
  var r = v;
  {{ if_residual }} r = r + RESIDUAL[at];
  Y[at] = r;
}

// One input value; `ok` is false outside the picture and before all remembered frames.
fn fetch(ok: bool, old: bool, at: u32, c: u32) -> f32 {
  if (!ok || c >= P[0].x) { return 0.0; }
  {{ if_past }} if (old) { return PAST[at + c * P[2].w * P[0].z * P[0].w]; }
  return X[at + c * P[0].y * P[0].z * P[0].w];
}

@compute @workgroup_size({{ threads }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let plane = P[0].z * P[0].w;
  let grid_h = select(P[1].z, P[0].z, DOUBLED); // pixels of one parity are as many as input pixels
  let grid_w = select(P[1].w, P[0].w, DOUBLED);
  let pixels = P[2].x * P[1].y * grid_h * grid_w;
  let blocks = (P[1].x + BM - 1u) / BM;
  let tiles = (pixels + BN - 1u) / BN;
  let slabs = (P[0].x + BK - 1u) / BK;

  // Neighbouring workgroups share their pixels, so the gathered inputs stay in the cache.
  let id = group.y * P[4].x + group.x;
  let block = id % blocks;
  let tile = (id / blocks) % tiles;
  let parity = id / blocks / tiles;
  if (parity >= select(1u, 4u, DOUBLED)) { return; } // whole workgroup
  let pad_h = select(i32(P[3].z), 1 - i32(parity >> 1u), DOUBLED);
  let pad_w = select(i32(P[3].w), 1 - i32(parity & 1u), DOUBLED);

  // Each thread gathers the same four pixels throughout (THREADS is a multiple of BN / 4).
  let mine = vec4<u32>(tile * BN + (lane % BN4) * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
  let real = mine < vec4<u32>(pixels);
  let gw = vec4<i32>((mine % grid_w) * STRIDE) - vec4<i32>(pad_w);
  let gh = vec4<i32>(((mine / grid_w) % grid_h) * STRIDE) - vec4<i32>(pad_h);
  let gt = vec4<i32>(((mine / (grid_w * grid_h)) % P[1].y) * P[2].y) - vec4<i32>(i32(P[2].z));
  let gb = (mine / (grid_w * grid_h)) / P[1].y;

  let row = lane / COLS;
  let col = lane % COLS;
  var acc: array<vec4<f32>, {{ m4 }} * {{ n4 }} * 4>; // [M4][pixel], vec4 over channels
  for (var i: u32 = 0u; i < M4 * N4 * 4u; i = i + 1u) { acc[i] = vec4<f32>(0.0); }

  for (var dt: u32 = 0u; dt < P[3].x; dt = dt + 1u) {
    let t = gt + vec4<i32>(i32(dt));
    let old = t < vec4<i32>(0);
    let p = select(t, t + vec4<i32>(i32(P[2].w)), old); // frame in X or in PAST
    let frames = select(vec4<u32>(P[0].y), vec4<u32>(P[2].w), old);
    for (var dh: u32 = 0u; dh < P[3].y; dh = dh + 1u) {
      let h = gh + vec4<i32>(i32(dh));
      for (var dw: u32 = 0u; dw < KW; dw = dw + 1u) {
        let w = gw + vec4<i32>(i32(dw));
        let ok = real & (p >= vec4<i32>(0)) & (p < vec4<i32>(frames)) & (h >= vec4<i32>(0)) & (h < vec4<i32>(i32(P[0].z)))
          & (w >= vec4<i32>(0)) & (w < vec4<i32>(i32(P[0].w)));
        let at = gb * (P[0].x * frames * plane) + vec4<u32>(p) * plane + vec4<u32>(h) * P[0].w + vec4<u32>(w);
        for (var slab: u32 = 0u; slab < slabs; slab = slab + 1u) {
          for (var i: u32 = lane; i < BK * BM4; i = i + THREADS) {
            let c = slab * BK + i / BM4;
            let k = ((((parity * blocks + block) * P[3].x + dt) * P[3].y + dh) * (slabs * BK) + c) * KW + dw;
            TW[i] = weights(k * BM4 + i % BM4);
          }
          for (var i: u32 = lane; i < BK * BN4; i = i + THREADS) {
            let c = slab * BK + i / BN4;
            TX[i] = vec4<f32>(fetch(ok.x, old.x, at.x, c), fetch(ok.y, old.y, at.y, c), fetch(ok.z, old.z, at.z, c), fetch(ok.w, old.w, at.w, c));
          }
          workgroupBarrier();
          for (var k: u32 = 0u; k < BK; k = k + 1u) {
            for (var n: u32 = 0u; n < N4; n = n + 1u) {
              let x = TX[k * BN4 + n * COLS + col];
              for (var m: u32 = 0u; m < M4; m = m + 1u) {
                let v = TW[k * BM4 + m * ROWS + row];
                let i = (m * N4 + n) * 4u;
                acc[i] = acc[i] + x.x * v;
                acc[i + 1u] = acc[i + 1u] + x.y * v;
                acc[i + 2u] = acc[i + 2u] + x.z * v;
                acc[i + 3u] = acc[i + 3u] + x.w * v;
              }
            }
          }
          workgroupBarrier();
        }
      }
    }
  }

  // With split = s, channel j * C_out / s + c at frame f goes to channel c, frame f * s + j.
  let split = P[4].y;
  let apart = P[1].x / split;
  let step = select(1u, 2u, DOUBLED);
  for (var n: u32 = 0u; n < N4; n = n + 1u) {
    for (var q: u32 = 0u; q < 4u; q = q + 1u) {
      let px = tile * BN + (n * COLS + col) * 4u + q;
      if (px < pixels) {
        let w = (px % grid_w) * step + select(0u, parity & 1u, DOUBLED);
        let h = ((px / grid_w) % grid_h) * step + select(0u, parity >> 1u, DOUBLED);
        let f = (px / (grid_w * grid_h)) % P[1].y;
        let batch = px / (grid_w * grid_h) / P[1].y;
        for (var m: u32 = 0u; m < M4; m = m + 1u) {
          let v = acc[(m * N4 + n) * 4u + q];
          for (var j: u32 = 0u; j < 4u; j = j + 1u) {
            let o = block * BM + (m * ROWS + row) * 4u + j;
            if (o < P[1].x) {
              let frame = (batch * apart + o % apart) * (P[1].y * split) + f * split + o / apart;
              finish(v[j] + BIAS[o], (frame * P[1].z + h) * P[1].w + w);
            }
          }
        }
      }
    }
  }
}
