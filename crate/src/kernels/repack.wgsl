// Stored weights [N, K] rearranged into the planes that the matrix product reads; see repack.rs, whose CPU form is the twin.
// One thread makes one word; the source is read byte by byte, since blocks of 18 or 34 bytes begin between words.
//@ kernel
@group(0) @binding(0) var<storage, read_write> stored: array<u32>;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;
@group(0) @binding(2) var<storage, read_write> unsound: array<atomic<u32>>; // [0]: an infinite value or one that is not a number was met
@group(0) @binding(3) var<uniform> P: array<vec4<u32>, 1>; // N, K, words in all

fn byte(at: u32) -> u32 { return (stored[at >> 2u] >> (8u * (at & 3u))) & 255u; }
{{ layout }}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) thread: vec3<u32>) {
  let at = (group.y * 65535u + group.x) * 64u + thread.x;
  if (at < P[0].z) { words[at] = word(at, P[0].x, P[0].y); }
}

//@ f32
// [K, N]: f32 as it is, turned.
fn word(at: u32, n: u32, k: u32) -> u32 {
  let value = stored[(at % n) * k + at / n];
  if ((value & 0x7f800000u) == 0x7f800000u) { atomicStore(&unsound[0], 1u); }
  return value;
}

//@ halves
fn half_of(row: u32, i: u32, n: u32, k: u32) -> u32 {
  if (row >= n) { return 0u; }
  let start = (row * k + i) * 2u;
  let value = byte(start) | (byte(start + 1u) << 8u);
  if ((value & {{ exponent }}) == {{ exponent }}) { atomicStore(&unsound[0], 1u); }
  return value;
}
fn word(at: u32, n: u32, k: u32) -> u32 {
  let t = (n + 3u) / 4u;
  let row = 4u * (at / 2u % t) + 2u * (at % 2u);
  let i = at / 2u / t;
  return half_of(row, i, n, k) | (half_of(row + 1u, i, n, k) << 16u);
}

//@ quantized
const LENGTH: u32 = {{ length }}u; // elements of a block
const SIZE: u32 = {{ size }}u; // bytes of a block
const SCALE: u32 = {{ scale }}u; // where a block's scale lies
const HIGH: u32 = {{ high }}u; // elements whose bits above the fourth share a word; 0: there are none
const MINIMUM: u32 = {{ minimum }}u; // 1: a minimum follows the scale

// Where block `b` of a row starts.
fn block(row: u32, b: u32, k: u32) -> u32 { return (row * (k / LENGTH) + b) * SIZE; }
{{ bits }}
fn half_at(row: u32, b: u32, offset: u32, n: u32, k: u32) -> u32 {
  if (row >= n) { return 0u; }
  let start = block(row, b, k) + offset;
  let value = byte(start) | (byte(start + 1u) << 8u);
  if ((value & 0x7c00u) == 0x7c00u) { atomicStore(&unsound[0], 1u); }
  return value;
}
fn halves_at(at: u32, offset: u32, n: u32, k: u32, t: u32) -> u32 {
  let row = 4u * (at / 2u % t) + 2u * (at % 2u);
  let b = at / 2u / t;
  return half_at(row, b, offset, n, k) | (half_at(row + 1u, b, offset, n, k) << 16u);
}
fn word(index: u32, n: u32, k: u32) -> u32 {
  let t = (n + 3u) / 4u;
  var at = index;
  let low_words = k / LOW * t;
  if (at < low_words) {
    var value = 0u;
    for (var e: u32 = 0u; e < LOW; e++) {
      let i = at / t * LOW + e;
      for (var j: u32 = 0u; j < 4u; j++) {
        let row = 4u * (at % t) + j;
        if (row < n) { value |= low(block(row, i / LENGTH, k), i % LENGTH) << (16u * e + LOW_BITS * j); }
      }
    }
    return value;
  }
  at -= low_words;
  if (HIGH > 0u) {
    let high_words = k / max(HIGH, 1u) * t;
    if (at < high_words) {
      var value = 0u;
      for (var e: u32 = 0u; e < HIGH; e++) {
        let i = at / t * HIGH + e;
        for (var j: u32 = 0u; j < 4u; j++) {
          let row = 4u * (at % t) + j;
          let bits = 32u / max(HIGH, 1u) / 4u;
          if (row < n) { value |= high(block(row, i / LENGTH, k), i % LENGTH) << (4u * bits * e + bits * j); }
        }
      }
      return value;
    }
    at -= high_words;
  }
  let scale_words = k / LENGTH * 2u * t;
  if (at < scale_words) { return halves_at(at, SCALE, n, k, t); }
  at -= scale_words;
  if (MINIMUM > 0u) {
    if (at < scale_words) { return halves_at(at, SCALE + 2u, n, k, t); }
    at -= scale_words;
  }
  return small_word(at, n, k, t);
}

//@ small.none
fn small_word(at: u32, n: u32, k: u32, t: u32) -> u32 { return 0u; }

//@ small.pairs
// Eight 6-bit scales and minima of a block, packed into its bytes 4 to 15.
fn small_word(at: u32, n: u32, k: u32, t: u32) -> u32 {
  let which = at % 2u; // 0: scales, 1: minima
  let s = at / 2u / t % 8u;
  let b = at / 2u / t / 8u;
  var value = 0u;
  for (var j: u32 = 0u; j < 4u; j++) {
    let row = 4u * (at / 2u % t) + j;
    if (row >= n) { break; }
    let start = block(row, b, k) + 4u;
    var one = 0u;
    if (s < 4u) {
      one = byte(start + s + 4u * which) & 63u;
    } else {
      let both = byte(start + s + 4u);
      one = ((both >> (4u * which)) & 15u) | ((byte(start + s - 4u + 4u * which) >> 6u) << 4u);
    }
    value |= one << (8u * j);
  }
  return value;
}

//@ small.bytes
// Sixteen 8-bit scales of a block, its bytes 192 to 207.
fn small_word(at: u32, n: u32, k: u32, t: u32) -> u32 {
  let part = at / t;
  var value = 0u;
  for (var j: u32 = 0u; j < 4u; j++) {
    let row = 4u * (at % t) + j;
    if (row < n) { value |= byte(block(row, part / 16u, k) + 192u + part % 16u) << (8u * j); }
  }
  return value;
}

//@ bits.q8_0
const LOW: u32 = 1u;
const LOW_BITS: u32 = 8u;
fn low(start: u32, i: u32) -> u32 { return byte(start + 2u + i); }
fn high(start: u32, i: u32) -> u32 { return 0u; }

//@ bits.nibbles
const LOW: u32 = 2u;
const LOW_BITS: u32 = 4u;
fn low(start: u32, i: u32) -> u32 { return (byte(start + {{ nibbles }}u + i % 16u) >> (4u * (i / 16u))) & 15u; }
fn high(start: u32, i: u32) -> u32 { return (byte(start + {{ fifth }}u + i / 8u) >> (i % 8u)) & 1u; }

//@ bits.k
const LOW: u32 = 2u;
const LOW_BITS: u32 = 4u;
fn low(start: u32, i: u32) -> u32 {
  let up = i / 32u;
  return (byte(start + {{ nibbles }}u + up / 2u * 32u + i % 32u) >> (4u * (up % 2u))) & 15u;
}
fn high(start: u32, i: u32) -> u32 { return (byte(start + 16u + i % 32u) >> (i / 32u)) & 1u; }

//@ bits.q6_k
const LOW: u32 = 2u;
const LOW_BITS: u32 = 4u;
fn low(start: u32, i: u32) -> u32 { return (byte(start + i / 128u * 64u + i % 64u) >> (4u * (i / 32u % 4u / 2u))) & 15u; }
fn high(start: u32, i: u32) -> u32 { return (byte(start + 128u + i / 128u * 32u + i % 32u) >> (2u * (i / 32u % 4u))) & 3u; }
