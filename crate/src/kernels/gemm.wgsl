// GEMM family: C = epilogue(A[M,K] x W[K,N]). Sections start with "//@ name"; a kernel is one "kernel.*" section
// with its placeholders replaced by other sections or by numbers (gemm.rs).
// P: P[0] = (M, N, K, gate stride: 0 or N).

//@ a.vec
// K % 4 == 0: rows of A are vec4. k4 counts groups of 4.
fn lda(m: u32, k4: u32) -> vec4<f32> { return A[m * (P[0].z / 4u) + k4]; }

//@ a.any
// Any K: scalar loads, zero past K (never reads out of range).
fn lda(m: u32, k4: u32) -> vec4<f32> {
  let k = k4 * 4u; let i = m * P[0].z; let e = P[0].z - 1u; // clamped loads, no branches
  let v = vec4<f32>(A[i + k], A[i + min(k + 1u, e)], A[i + min(k + 2u, e)], A[i + min(k + 3u, e)]);
  return select(vec4<f32>(), v, vec4<u32>(k, k + 1u, k + 2u, k + 3u) <= vec4<u32>(e));
}

//@ w.f32
const GS: u32 = 32u;
struct Group { s: vec4<f32>, m: vec4<f32> }
fn group(kg: u32, n4: u32) -> Group { return Group(vec4<f32>(), vec4<f32>()); }
// f32 [K,N], N % 4 == 0 and K % 4 == 0.
fn ldw(k4: u32, n4: u32, g: Group) -> mat4x4<f32> {
  let s = P[0].y / 4u; let i = k4 * 4u * s + n4;
  return mat4x4<f32>(W[i], W[i + s], W[i + 2u * s], W[i + 3u * s]);
}

//@ w.f32any
const GS: u32 = 32u;
struct Group { s: vec4<f32>, m: vec4<f32> }
fn group(kg: u32, n4: u32) -> Group { return Group(vec4<f32>(), vec4<f32>()); }
// f32 [K,N], any K and N: zero outside.
fn ldw1(k: u32, n: u32) -> vec4<f32> {
  // Clamped loads, no branches. Columns past N may hold anything (never stored), rows past K must be zero.
  let e = P[0].y - 1u; let i = min(k, P[0].z - 1u) * P[0].y;
  let v = vec4<f32>(W[i + n], W[i + min(n + 1u, e)], W[i + min(n + 2u, e)], W[i + min(n + 3u, e)]);
  return select(vec4<f32>(), v, k < P[0].z);
}
fn ldw(k4: u32, n4: u32, g: Group) -> mat4x4<f32> {
  let k = k4 * 4u; let n = n4 * 4u;
  return mat4x4<f32>(ldw1(k, n), ldw1(k + 1u, n), ldw1(k + 2u, n), ldw1(k + 3u, n));
}

//@ w.f16
const GS: u32 = 32u;
struct Group { s: vec4<f32>, m: vec4<f32> }
fn group(kg: u32, n4: u32) -> Group { return Group(vec4<f32>(), vec4<f32>()); }
// f16 [K, N4*4] (columns padded by repack), 4 columns = one vec2<u32>; rows past K read as zero.
fn ldw1(k: u32, n4: u32) -> vec4<f32> {
  let w = W[min(k, P[0].z - 1u) * ((P[0].y + 3u) / 4u) + n4];
  return select(vec4<f32>(), vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y)), k < P[0].z);
}
fn ldw(k4: u32, n4: u32, g: Group) -> mat4x4<f32> {
  let k = k4 * 4u;
  return mat4x4<f32>(ldw1(k, n4), ldw1(k + 1u, n4), ldw1(k + 2u, n4), ldw1(k + 3u, n4));
}

//@ w.bf16
const GS: u32 = 32u;
struct Group { s: vec4<f32>, m: vec4<f32> }
fn group(kg: u32, n4: u32) -> Group { return Group(vec4<f32>(), vec4<f32>()); }
// bf16 [K, N4*4], as w.f16: a bf16 is the upper half of an f32.
fn ldw1(k: u32, n4: u32) -> vec4<f32> {
  let w = W[min(k, P[0].z - 1u) * ((P[0].y + 3u) / 4u) + n4];
  let v = bitcast<vec4<f32>>(vec4<u32>(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
  return select(vec4<f32>(), v, k < P[0].z);
}
fn ldw(k4: u32, n4: u32, g: Group) -> mat4x4<f32> {
  let k = k4 * 4u;
  return mat4x4<f32>(ldw1(k, n4), ldw1(k + 1u, n4), ldw1(k + 2u, n4), ldw1(k + 3u, n4));
}

//@ w.quant
// GGUF types, repacked by repack.mjs. K is a multiple of 32 (256 for *_K) by the format; n4s = ceil(N/4).
fn n4s() -> u32 { return (P[0].y + 3u) / 4u; }
// Exact f16 -> f32: unpack2x16float may flush subnormals, and *_K block scales are often subnormal.
fn half4(i: u32) -> vec4<f32> {
  let a = W[i]; let b = W[i + 1u];
  let h = vec4<u32>(a & 0xffffu, a >> 16u, b & 0xffffu, b >> 16u);
  let e = (h >> vec4<u32>(10u)) & vec4<u32>(31u);
  let s = (h & vec4<u32>(0x8000u)) << vec4<u32>(16u);
  let mant = h & vec4<u32>(0x3ffu);
  let norm = ((e + vec4<u32>(112u)) << vec4<u32>(23u)) | (mant << vec4<u32>(13u));
  let sub = bitcast<vec4<u32>>(vec4<f32>(mant) * 5.9604644775390625e-8);
  return bitcast<vec4<f32>>(select(norm, sub, e == vec4<u32>(0u)) | s);
}
fn bytes(w: u32) -> vec4<u32> { return (vec4<u32>(w) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u); }
fn sbytes(w: u32) -> vec4<f32> { return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(w) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u)); }
// 4 nibbles of a word, from bit b.
fn nib(w: u32, b: u32) -> vec4<u32> { return (vec4<u32>(w >> b) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u); }
// 4 single bits from bit b, moved to bit 4.
fn hi1(w: u32, b: u32) -> vec4<u32> { return ((vec4<u32>(w >> b) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u)) << vec4<u32>(4u); }
// 4 two-bit fields from bit b, moved to bit 4.
fn hi2(w: u32, b: u32) -> vec4<u32> { return ((vec4<u32>(w >> b) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u)) << vec4<u32>(4u); }
{{ quant }}

//@ q.q8_0
const GS: u32 = 32u;
struct Group { s: vec4<f32>, m: vec4<f32> }
fn group(kg: u32, n4: u32) -> Group {
  let t = n4s(); let K = P[0].z;
  return Group(half4(K * t + (kg * t + n4) * 2u), vec4<f32>());
}
fn ldw(k4: u32, n4: u32, g: Group) -> mat4x4<f32> {
  let t = n4s();
  let i = k4 * 4u * t + n4;
  return mat4x4<f32>(sbytes(W[i]) * g.s, sbytes(W[i + t]) * g.s, sbytes(W[i + 2u * t]) * g.s, sbytes(W[i + 3u * t]) * g.s);
}

//@ q.q4_0
const GS: u32 = 32u;
struct Group { s: vec4<f32>, m: vec4<f32> }
fn group(kg: u32, n4: u32) -> Group {
  let t = n4s(); let K = P[0].z;
  return Group(half4(K / 2u * t + (kg * t + n4) * 2u), vec4<f32>());
}
fn ldw(k4: u32, n4: u32, g: Group) -> mat4x4<f32> {
  let t = n4s();
  let i = k4 * 2u * t + n4; let a = W[i]; let b = W[i + t];
  return mat4x4<f32>(
    (vec4<f32>(nib(a, 0u)) - vec4<f32>(8.0)) * g.s,
    (vec4<f32>(nib(a, 16u)) - vec4<f32>(8.0)) * g.s,
    (vec4<f32>(nib(b, 0u)) - vec4<f32>(8.0)) * g.s,
    (vec4<f32>(nib(b, 16u)) - vec4<f32>(8.0)) * g.s);
}

//@ q.q4_1
const GS: u32 = 32u;
struct Group { s: vec4<f32>, m: vec4<f32> }
fn group(kg: u32, n4: u32) -> Group {
  let t = n4s(); let K = P[0].z;
  return Group(half4(K / 2u * t + (kg * t + n4) * 2u), half4(K / 2u * t + K / 16u * t + (kg * t + n4) * 2u));
}
fn ldw(k4: u32, n4: u32, g: Group) -> mat4x4<f32> {
  let t = n4s();
  let i = k4 * 2u * t + n4; let a = W[i]; let b = W[i + t];
  return mat4x4<f32>(
    vec4<f32>(nib(a, 0u)) * g.s + g.m,
    vec4<f32>(nib(a, 16u)) * g.s + g.m,
    vec4<f32>(nib(b, 0u)) * g.s + g.m,
    vec4<f32>(nib(b, 16u)) * g.s + g.m);
}

//@ q.q5_0
const GS: u32 = 32u;
struct Group { s: vec4<f32>, m: vec4<f32> }
fn group(kg: u32, n4: u32) -> Group {
  let t = n4s(); let K = P[0].z;
  return Group(half4(K / 8u * 5u * t + (kg * t + n4) * 2u), vec4<f32>());
}
fn ldw(k4: u32, n4: u32, g: Group) -> mat4x4<f32> {
  let t = n4s();
  let i = k4 * 2u * t + n4; let a = W[i]; let b = W[i + t];
  let h = W[P[0].z / 2u * t + (k4 / 2u) * t + n4] >> ((k4 & 1u) * 16u);
  return mat4x4<f32>(
    (vec4<f32>((nib(a, 0u) | hi1(h, 0u))) - vec4<f32>(16.0)) * g.s,
    (vec4<f32>((nib(a, 16u) | hi1(h, 4u))) - vec4<f32>(16.0)) * g.s,
    (vec4<f32>((nib(b, 0u) | hi1(h, 8u))) - vec4<f32>(16.0)) * g.s,
    (vec4<f32>((nib(b, 16u) | hi1(h, 12u))) - vec4<f32>(16.0)) * g.s);
}

//@ q.q5_1
const GS: u32 = 32u;
struct Group { s: vec4<f32>, m: vec4<f32> }
fn group(kg: u32, n4: u32) -> Group {
  let t = n4s(); let K = P[0].z;
  return Group(half4(K / 8u * 5u * t + (kg * t + n4) * 2u), half4(K / 8u * 5u * t + K / 16u * t + (kg * t + n4) * 2u));
}
fn ldw(k4: u32, n4: u32, g: Group) -> mat4x4<f32> {
  let t = n4s();
  let i = k4 * 2u * t + n4; let a = W[i]; let b = W[i + t];
  let h = W[P[0].z / 2u * t + (k4 / 2u) * t + n4] >> ((k4 & 1u) * 16u);
  return mat4x4<f32>(
    vec4<f32>((nib(a, 0u) | hi1(h, 0u))) * g.s + g.m,
    vec4<f32>((nib(a, 16u) | hi1(h, 4u))) * g.s + g.m,
    vec4<f32>((nib(b, 0u) | hi1(h, 8u))) * g.s + g.m,
    vec4<f32>((nib(b, 16u) | hi1(h, 12u))) * g.s + g.m);
}

//@ q.q4_k
const GS: u32 = 32u;
struct Group { s: vec4<f32>, m: vec4<f32> }
fn group(kg: u32, n4: u32) -> Group {
  let t = n4s(); let K = P[0].z;
  let o = K / 2u * t; let d = o + (kg / 8u * t + n4) * 2u;
  let sm = o + K / 64u * t + (kg * t + n4) * 2u; // after d (K/128 * t words) and dmin (as many)
  return Group(half4(d) * vec4<f32>(bytes(W[sm])), half4(d + K / 128u * t) * vec4<f32>(bytes(W[sm + 1u])));
}
fn ldw(k4: u32, n4: u32, g: Group) -> mat4x4<f32> {
  let t = n4s();
  let i = k4 * 2u * t + n4; let a = W[i]; let b = W[i + t];
  return mat4x4<f32>(
    vec4<f32>(nib(a, 0u)) * g.s - g.m,
    vec4<f32>(nib(a, 16u)) * g.s - g.m,
    vec4<f32>(nib(b, 0u)) * g.s - g.m,
    vec4<f32>(nib(b, 16u)) * g.s - g.m);
}

//@ q.q5_k
const GS: u32 = 32u;
struct Group { s: vec4<f32>, m: vec4<f32> }
fn group(kg: u32, n4: u32) -> Group {
  let t = n4s(); let K = P[0].z;
  let o = K / 8u * 5u * t; let d = o + (kg / 8u * t + n4) * 2u;
  let sm = o + K / 64u * t + (kg * t + n4) * 2u; // after d (K/128 * t words) and dmin (as many)
  return Group(half4(d) * vec4<f32>(bytes(W[sm])), half4(d + K / 128u * t) * vec4<f32>(bytes(W[sm + 1u])));
}
fn ldw(k4: u32, n4: u32, g: Group) -> mat4x4<f32> {
  let t = n4s();
  let i = k4 * 2u * t + n4; let a = W[i]; let b = W[i + t];
  let h = W[P[0].z / 2u * t + (k4 / 2u) * t + n4] >> ((k4 & 1u) * 16u);
  return mat4x4<f32>(
    vec4<f32>((nib(a, 0u) | hi1(h, 0u))) * g.s - g.m,
    vec4<f32>((nib(a, 16u) | hi1(h, 4u))) * g.s - g.m,
    vec4<f32>((nib(b, 0u) | hi1(h, 8u))) * g.s - g.m,
    vec4<f32>((nib(b, 16u) | hi1(h, 12u))) * g.s - g.m);
}

//@ q.q6_k
const GS: u32 = 16u;
struct Group { s: vec4<f32>, m: vec4<f32> }
fn group(kg: u32, n4: u32) -> Group {
  let t = n4s(); let K = P[0].z;
  let o = K / 4u * 3u * t; // low plane K/2, high plane K/4
  let s = sbytes(W[o + K / 128u * t + kg * t + n4]);
  return Group(half4(o + (kg / 16u * t + n4) * 2u) * s, vec4<f32>());
}
fn ldw(k4: u32, n4: u32, g: Group) -> mat4x4<f32> {
  let t = n4s();
  let i = k4 * 2u * t + n4; let a = W[i]; let b = W[i + t];
  let h = W[P[0].z / 2u * t + k4 * t + n4];
  return mat4x4<f32>(
    (vec4<f32>((nib(a, 0u) | hi2(h, 0u))) - vec4<f32>(32.0)) * g.s,
    (vec4<f32>((nib(a, 16u) | hi2(h, 8u))) - vec4<f32>(32.0)) * g.s,
    (vec4<f32>((nib(b, 0u) | hi2(h, 16u))) - vec4<f32>(32.0)) * g.s,
    (vec4<f32>((nib(b, 16u) | hi2(h, 24u))) - vec4<f32>(32.0)) * g.s);
}

//@ act
// tanh overflows to NaN on some drivers for large arguments: clamp (tanh(10) == 1 in f32).
fn gelu(x: T) -> T { return 0.5 * x * (T(1.0) + tanh(clamp(0.7978845608028654 * (x + 0.044715 * x * x * x), T(-10.0), T(10.0)))); }
// exp overflow would be fine mathematically; the clamp keeps it finite.
fn silu(x: T) -> T { return x / (T(1.0) + exp(clamp(-x, T(-80.0), T(80.0)))); }

//@ c.vec
// N % 4 == 0: C, bias, gate, residual are vec4. i: index in C, j: column, both in vec4.
alias T = vec4<f32>;
{{ act }}
fn put(m: u32, n4: u32, v: T) {
  let i = m * (P[0].y / 4u) + n4; let j = n4; let gi = m * (P[0].w / 4u) + n4;
  C[i] = {{ epi }};
}

//@ c.any
// Any N: element by element, guarded.
alias T = f32;
{{ act }}
fn put(m: u32, n4: u32, x: vec4<f32>) {
  var y = x;
  for (var e: u32 = 0u; e < 4u; e++) {
    let j = n4 * 4u + e; let i = m * P[0].y + j; let gi = m * P[0].w + j; let v = y[e];
    if (j < P[0].y) { C[i] = {{ epi }}; }
  }
}

//@ kernel.sw
// Software adapters: one thread = 8 rows x 8 columns in registers, no workgroup memory, no barrier, K unrolled by 4.
// (Lanes are SIMD lanes of the CPU; deeper unrolling spills and halves the speed.) Tiles are numbered linearly,
// columns fastest; dispatch (x, y) with x*y >= tiles/16.
{{ bindings }}
{{ a }}
{{ w }}
{{ c }}
@compute @workgroup_size(16)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let M = P[0].x; let n4n = (P[0].y + 3u) / 4u; let k4n = (P[0].z + 3u) / 4u; let nt = (n4n + 1u) / 2u;
  let tile = (wid.y * nwg.x + wid.x) * 16u + lid;
  let m0 = tile / nt * 8u; let na = tile % nt * 2u;
  if (m0 >= M) { return; }
  let nb = min(na + 1u, n4n - 1u); // edge columns and rows are computed twice, stored once
  let r0 = min(m0 + 0u, M - 1u); let r1 = min(m0 + 1u, M - 1u); let r2 = min(m0 + 2u, M - 1u); let r3 = min(m0 + 3u, M - 1u);
  let r4 = min(m0 + 4u, M - 1u); let r5 = min(m0 + 5u, M - 1u); let r6 = min(m0 + 6u, M - 1u); let r7 = min(m0 + 7u, M - 1u);
  var c0 = vec4<f32>(); var c1 = vec4<f32>(); var c2 = vec4<f32>(); var c3 = vec4<f32>(); var c4 = vec4<f32>(); var c5 = vec4<f32>(); var c6 = vec4<f32>(); var c7 = vec4<f32>();
  var d0 = vec4<f32>(); var d1 = vec4<f32>(); var d2 = vec4<f32>(); var d3 = vec4<f32>(); var d4 = vec4<f32>(); var d5 = vec4<f32>(); var d6 = vec4<f32>(); var d7 = vec4<f32>();
  for (var kg: u32 = 0u; kg * (GS / 4u) < k4n; kg++) {
    let ga = group(kg, na); let gb = group(kg, nb);
    let ke = min((kg + 1u) * (GS / 4u), k4n);
    for (var k: u32 = kg * (GS / 4u); k < ke; k++) {
      let wa = ldw(k, na, ga); let wb = ldw(k, nb, gb);
      let a0 = lda(r0, k); let a1 = lda(r1, k); let a2 = lda(r2, k); let a3 = lda(r3, k);
      let a4 = lda(r4, k); let a5 = lda(r5, k); let a6 = lda(r6, k); let a7 = lda(r7, k);
      c0 += a0.x * wa[0]; d0 += a0.x * wb[0]; c1 += a1.x * wa[0]; d1 += a1.x * wb[0]; c2 += a2.x * wa[0]; d2 += a2.x * wb[0]; c3 += a3.x * wa[0]; d3 += a3.x * wb[0];
      c4 += a4.x * wa[0]; d4 += a4.x * wb[0]; c5 += a5.x * wa[0]; d5 += a5.x * wb[0]; c6 += a6.x * wa[0]; d6 += a6.x * wb[0]; c7 += a7.x * wa[0]; d7 += a7.x * wb[0];
      c0 += a0.y * wa[1]; d0 += a0.y * wb[1]; c1 += a1.y * wa[1]; d1 += a1.y * wb[1]; c2 += a2.y * wa[1]; d2 += a2.y * wb[1]; c3 += a3.y * wa[1]; d3 += a3.y * wb[1];
      c4 += a4.y * wa[1]; d4 += a4.y * wb[1]; c5 += a5.y * wa[1]; d5 += a5.y * wb[1]; c6 += a6.y * wa[1]; d6 += a6.y * wb[1]; c7 += a7.y * wa[1]; d7 += a7.y * wb[1];
      c0 += a0.z * wa[2]; d0 += a0.z * wb[2]; c1 += a1.z * wa[2]; d1 += a1.z * wb[2]; c2 += a2.z * wa[2]; d2 += a2.z * wb[2]; c3 += a3.z * wa[2]; d3 += a3.z * wb[2];
      c4 += a4.z * wa[2]; d4 += a4.z * wb[2]; c5 += a5.z * wa[2]; d5 += a5.z * wb[2]; c6 += a6.z * wa[2]; d6 += a6.z * wb[2]; c7 += a7.z * wa[2]; d7 += a7.z * wb[2];
      c0 += a0.w * wa[3]; d0 += a0.w * wb[3]; c1 += a1.w * wa[3]; d1 += a1.w * wb[3]; c2 += a2.w * wa[3]; d2 += a2.w * wb[3]; c3 += a3.w * wa[3]; d3 += a3.w * wb[3];
      c4 += a4.w * wa[3]; d4 += a4.w * wb[3]; c5 += a5.w * wa[3]; d5 += a5.w * wb[3]; c6 += a6.w * wa[3]; d6 += a6.w * wb[3]; c7 += a7.w * wa[3]; d7 += a7.w * wb[3];
    }
  }
  // One copy of the epilogue in a loop: unrolled, its 16 copies take the CPU drivers seconds to compile.
  var out = array<vec4<f32>, 16>(c0, d0, c1, d1, c2, d2, c3, d3, c4, d4, c5, d5, c6, d6, c7, d7);
  let end = min(M - m0, 8u) * 2u; // a run-time bound also keeps the drivers from unrolling it again
  for (var i: u32 = 0u; i < end; i++) {
    let n = na + i % 2u;
    if (n < n4n) { put(m0 + i / 2u, n, out[i]); }
  }
}

//@ kernel.gpu8
// Real GPUs: workgroup tile (8*ty) x (8*tx), 8x8 per thread. Halves of a thread tile lie half a workgroup tile
// apart, so neighbouring threads read neighbouring vec4 (no bank conflict) and store coalesced. Dispatch (N tiles, M tiles).
{{ half }}{{ bindings }}
{{ a }}
{{ w }}
{{ c }}
const TX: u32 = {{ tx }}u; const TY: u32 = {{ ty }}u; const BK: u32 = {{ bk }}u; const THREADS: u32 = TX * TY;
const BM: u32 = TY * 8u; const BM4: u32 = TY * 2u; const BN4: u32 = TX * 2u;
const AS: u32 = BM4 + 1u; // padded row of the A tile: halves the bank conflicts of the transposed store
var<workgroup> sa: array<{{ lane }}, BK * AS>;
var<workgroup> sw: array<{{ lane }}, BK * BN4>;
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let M = P[0].x; let n4n = (P[0].y + 3u) / 4u; let k4n = (P[0].z + 3u) / 4u;
  let tx = lid % TX; let ty = lid / TX;
  var c0 = vec4<f32>(); var c1 = vec4<f32>(); var c2 = vec4<f32>(); var c3 = vec4<f32>(); var c4 = vec4<f32>(); var c5 = vec4<f32>(); var c6 = vec4<f32>(); var c7 = vec4<f32>();
  var d0 = vec4<f32>(); var d1 = vec4<f32>(); var d2 = vec4<f32>(); var d3 = vec4<f32>(); var d4 = vec4<f32>(); var d5 = vec4<f32>(); var d6 = vec4<f32>(); var d7 = vec4<f32>();
  for (var kt: u32 = 0u; kt < k4n; kt += BK / 4u) {
    // Each thread stages blocks of 4 x 4: A transposed to k-major, W dequantized.
    for (var u = lid; u < BM4 * (BK / 4u); u += THREADS) {
      let k4 = u % (BK / 4u); let m4 = u / (BK / 4u);
      if (kt + k4 < k4n) {
        let r = wid.y * BM + m4 * 4u;
        let v = transpose(mat4x4<f32>(lda(min(r, M - 1u), kt + k4), lda(min(r + 1u, M - 1u), kt + k4), lda(min(r + 2u, M - 1u), kt + k4), lda(min(r + 3u, M - 1u), kt + k4)));
        let s = k4 * 4u * AS + m4;
        sa[s] = {{ narrow }}(v[0]); sa[s + AS] = {{ narrow }}(v[1]); sa[s + 2u * AS] = {{ narrow }}(v[2]); sa[s + 3u * AS] = {{ narrow }}(v[3]);
      }
    }
    for (var u = lid; u < BN4 * (BK / 4u); u += THREADS) {
      let n4 = min(wid.x * BN4 + u % BN4, n4n - 1u); let k4 = u / BN4;
      if (kt + k4 < k4n) {
        let v = ldw(kt + k4, n4, group((kt + k4) / (GS / 4u), n4));
        let s = k4 * 4u * BN4 + u % BN4;
        sw[s] = {{ narrow }}(v[0]); sw[s + BN4] = {{ narrow }}(v[1]); sw[s + 2u * BN4] = {{ narrow }}(v[2]); sw[s + 3u * BN4] = {{ narrow }}(v[3]);
      }
    }
    workgroupBarrier();
    let ke = min(BK, (k4n - kt) * 4u);
    for (var k: u32 = 0u; k < ke; k++) {
      let a0 = vec4<f32>(sa[k * AS + ty]); let a1 = vec4<f32>(sa[k * AS + TY + ty]);
      let wa = vec4<f32>(sw[k * BN4 + tx]); let wb = vec4<f32>(sw[k * BN4 + TX + tx]);
      c0 += a0.x * wa; d0 += a0.x * wb; c1 += a0.y * wa; d1 += a0.y * wb; c2 += a0.z * wa; d2 += a0.z * wb; c3 += a0.w * wa; d3 += a0.w * wb;
      c4 += a1.x * wa; d4 += a1.x * wb; c5 += a1.y * wa; d5 += a1.y * wb; c6 += a1.z * wa; d6 += a1.z * wb; c7 += a1.w * wa; d7 += a1.w * wb;
    }
    workgroupBarrier();
  }
  // One copy of the epilogue in a loop (16 unrolled copies compile slowly); the array lives only here, after the K loop.
  var out = array<vec4<f32>, 16>(c0, d0, c1, d1, c2, d2, c3, d3, c4, d4, c5, d5, c6, d6, c7, d7);
  for (var i: u32 = 0u; i < 16u; i++) {
    let m = wid.y * BM + (i / 8u) * TY * 4u + ty * 4u + i / 2u % 4u; let n = wid.x * BN4 + i % 2u * TX + tx;
    if (m < M && n < n4n) { put(m, n, out[i]); }
  }
}

//@ kernel.gpu4
// Real GPUs, small problems: workgroup tile (4*ty) x (4*tx), 4x4 per thread. Dispatch (N tiles, M tiles).
{{ half }}{{ bindings }}
{{ a }}
{{ w }}
{{ c }}
const TX: u32 = {{ tx }}u; const TY: u32 = {{ ty }}u; const BK: u32 = {{ bk }}u; const THREADS: u32 = TX * TY;
const BM: u32 = TY * 4u; const BM4: u32 = TY * 1u; const BN4: u32 = TX * 1u;
const AS: u32 = BM4 + 1u; // padded row of the A tile: halves the bank conflicts of the transposed store
var<workgroup> sa: array<{{ lane }}, BK * AS>;
var<workgroup> sw: array<{{ lane }}, BK * BN4>;
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let M = P[0].x; let n4n = (P[0].y + 3u) / 4u; let k4n = (P[0].z + 3u) / 4u;
  let tx = lid % TX; let ty = lid / TX;
  var c0 = vec4<f32>(); var c1 = vec4<f32>(); var c2 = vec4<f32>(); var c3 = vec4<f32>();
  for (var kt: u32 = 0u; kt < k4n; kt += BK / 4u) {
    // Each thread stages blocks of 4 x 4: A transposed to k-major, W dequantized.
    for (var u = lid; u < BM4 * (BK / 4u); u += THREADS) {
      let k4 = u % (BK / 4u); let m4 = u / (BK / 4u);
      if (kt + k4 < k4n) {
        let r = wid.y * BM + m4 * 4u;
        let v = transpose(mat4x4<f32>(lda(min(r, M - 1u), kt + k4), lda(min(r + 1u, M - 1u), kt + k4), lda(min(r + 2u, M - 1u), kt + k4), lda(min(r + 3u, M - 1u), kt + k4)));
        let s = k4 * 4u * AS + m4;
        sa[s] = {{ narrow }}(v[0]); sa[s + AS] = {{ narrow }}(v[1]); sa[s + 2u * AS] = {{ narrow }}(v[2]); sa[s + 3u * AS] = {{ narrow }}(v[3]);
      }
    }
    for (var u = lid; u < BN4 * (BK / 4u); u += THREADS) {
      let n4 = min(wid.x * BN4 + u % BN4, n4n - 1u); let k4 = u / BN4;
      if (kt + k4 < k4n) {
        let v = ldw(kt + k4, n4, group((kt + k4) / (GS / 4u), n4));
        let s = k4 * 4u * BN4 + u % BN4;
        sw[s] = {{ narrow }}(v[0]); sw[s + BN4] = {{ narrow }}(v[1]); sw[s + 2u * BN4] = {{ narrow }}(v[2]); sw[s + 3u * BN4] = {{ narrow }}(v[3]);
      }
    }
    workgroupBarrier();
    let ke = min(BK, (k4n - kt) * 4u);
    for (var k: u32 = 0u; k < ke; k++) {
      let a0 = vec4<f32>(sa[k * AS + ty]); let wa = vec4<f32>(sw[k * BN4 + tx]);
      c0 += a0.x * wa; c1 += a0.y * wa; c2 += a0.z * wa; c3 += a0.w * wa;
    }
    workgroupBarrier();
  }
  let na = wid.x * BN4 + tx; let ma = wid.y * BM + ty * 4u;
  if (na < n4n && ma + 0u < M) { put(ma + 0u, na, c0); }
  if (na < n4n && ma + 1u < M) { put(ma + 1u, na, c1); }
  if (na < n4n && ma + 2u < M) { put(ma + 2u, na, c2); }
  if (na < n4n && ma + 3u < M) { put(ma + 3u, na, c3); }
}

//@ kernel.small
// M <= {{ rows }} (1, 2, 4 or 8). Workgroup = 8 column groups of 4 x {{ slices }} slices of K, summed in workgroup memory.
// Software adapters: slices 1 (the sum and its barrier disappear: use kernel.small1). Dispatch x = ceil(ceil(N/4)/8).
{{ bindings }}
{{ a }}
{{ w }}
{{ c }}
const ROWS: u32 = {{ rows }}u; const SLICES: u32 = {{ slices }}u;
var<workgroup> part: array<vec4<f32>, 8u * SLICES * ROWS>;
@compute @workgroup_size(8, SLICES)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) l: vec3<u32>) {
  let M = P[0].x; let n4n = (P[0].y + 3u) / 4u; let k4n = (P[0].z + 3u) / 4u;
  let n = wid.x * 8u + l.x; let n4 = min(n, n4n - 1u);
  var acc: array<vec4<f32>, ROWS>;
  for (var kg: u32 = l.y; kg * (GS / 4u) < k4n; kg += SLICES) {
    let g = group(kg, n4); let ke = min((kg + 1u) * (GS / 4u), k4n);
    for (var k: u32 = kg * (GS / 4u); k < ke; k++) {
      let w = ldw(k, n4, g);
      for (var r: u32 = 0u; r < ROWS; r++) { acc[r] += w * lda(min(r, M - 1u), k); } // w's columns are the 4 k's
    }
  }
  for (var r: u32 = 0u; r < ROWS; r++) { part[(r * SLICES + l.y) * 8u + l.x] = acc[r]; }
  workgroupBarrier();
  for (var r: u32 = l.y; r < ROWS; r += SLICES) {
    var s = vec4<f32>();
    for (var i: u32 = 0u; i < SLICES; i++) { s += part[(r * SLICES + i) * 8u + l.x]; }
    if (r < M && n < n4n) { put(r, n, s); }
  }
}

//@ kernel.small1
// M <= {{ rows }} (1, 2, 4 or 8) on software adapters: one thread = 4 columns, all rows. Dispatch x = ceil(ceil(N/4)/8).
{{ bindings }}
{{ a }}
{{ w }}
{{ c }}
const ROWS: u32 = {{ rows }}u;
@compute @workgroup_size(8)
fn main(@builtin(global_invocation_id) gid: vec3<u32>) {
  let M = P[0].x; let n4n = (P[0].y + 3u) / 4u; let k4n = (P[0].z + 3u) / 4u; let n4 = gid.x;
  if (n4 >= n4n) { return; }
  var acc: array<vec4<f32>, ROWS>;
  for (var kg: u32 = 0u; kg * (GS / 4u) < k4n; kg++) {
    let g = group(kg, n4); let ke = min((kg + 1u) * (GS / 4u), k4n);
    for (var k: u32 = kg * (GS / 4u); k < ke; k++) {
      let w = ldw(k, n4, g);
      for (var r: u32 = 0u; r < ROWS; r++) { acc[r] += w * lda(min(r, M - 1u), k); } // w's columns are the 4 k's
    }
  }
  for (var r: u32 = 0u; r < ROWS; r++) { if (r < M) { put(r, n4, acc[r]); } }
}
