//! Standard normal noise, number for number what PyTorch draws on a CPU for the same seed.
//!
//! PyTorch uses a Mersenne Twister and two ways to make normals from it: below 16 values pairs in f64, one at a time;
//! from 16 on blocks of 16 in f32, with its own vectorised logarithm, sine and cosine. The second way is repeated
//! here operation by operation (with its fused multiply-adds, as on any x86 machine with AVX2), so it gives the same
//! bits on every platform; the first goes through the platform's f64 `ln_1p`, `sin` and `cos`.
//!
//! Source: PyTorch 2.15 `aten/src/ATen/core/MT19937RNGEngine.h`, `ATen/core/DistributionsHelper.h`,
//! `ATen/native/cpu/DistributionTemplates.h` (`normal_fill_AVX2`), `ATen/native/cpu/avx_mathfun.h`.

use std::f32::consts::PI;

/// `torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))` in row-major order.
pub fn randn(seed: u64, shape: &[usize]) -> Vec<f32> {
    TorchRng::new(seed).randn(shape)
}

/// PyTorch's CPU generator. Several draws from one generator follow on as they do there.
#[derive(Debug, Clone)]
pub struct TorchRng {
    twister: Twister,
    /// The second normal of a pair, kept for the next single draw.
    spare: Option<f64>,
}

/// Values in one block of the vectorised path; below this many the scalar path runs.
const BLOCK: usize = 16;

impl TorchRng {
    /// A generator as `manual_seed` leaves it; only the low 32 bits of the seed count, as in PyTorch.
    pub fn new(seed: u64) -> Self {
        Self { twister: Twister::new(seed as u32), spare: None }
    }

    /// Normals of mean 0 and variance 1 for a tensor of this shape, in row-major order.
    pub fn randn(&mut self, shape: &[usize]) -> Vec<f32> {
        let count = shape.iter().product();
        if count < BLOCK {
            return (0..count).map(|_| self.single() as f32).collect();
        }
        let mut values: Vec<f32> = (0..count).map(|_| self.twister.uniform()).collect();
        values.as_chunks_mut::<BLOCK>().0.iter_mut().for_each(box_muller);
        if count % BLOCK != 0
            && let Some(tail) = values.last_chunk_mut::<BLOCK>()
        {
            // The last 16 are drawn again, over part of the last whole block.
            tail.fill_with(|| self.twister.uniform());
            box_muller(tail);
        }
        values
    }

    /// One normal; pairs share two uniforms.
    fn single(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (angle, height) = (self.twister.uniform_f64(), self.twister.uniform_f64());
        let radius = (-2.0 * (-height).ln_1p()).sqrt();
        let theta = 2.0 * std::f64::consts::PI * angle;
        self.spare = Some(radius * theta.sin());
        radius * theta.cos()
    }
}

/// Turns 16 uniforms of [0, 1) into 16 normals: the first eight give the radii, the last eight the angles.
fn box_muller(block: &mut [f32; BLOCK]) {
    for i in 0..BLOCK / 2 {
        let radius = (-2.0 * ln(1.0 - block[i])).sqrt();
        let (sin, cos) = sin_cos(2.0 * PI * block[i + 8]);
        // The reference multiplies by a deviation of 1 and adds a mean of 0, which turns −0 into 0.
        block[i] = radius * cos + 0.0;
        block[i + 8] = radius * sin + 0.0;
    }
}

/// `a·b + c` rounded once.
fn fma(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

/// Cephes' single-precision logarithm of 0 < x ≤ 1, as `log256_ps` evaluates it.
#[allow(clippy::excessive_precision)] // constants as printed in the source
fn ln(x: f32) -> f32 {
    const SQRT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
    const POLYNOMIAL: [f32; 8] = [
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    ];
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    let mut exponent = ((bits >> 23) as i32 - 0x7f) as f32 + 1.0;
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000); // 0.5 … 1
    let x = if mantissa < SQRT_HALF {
        exponent -= 1.0;
        (mantissa - 1.0) + mantissa
    } else {
        mantissa - 1.0
    };
    let square = x * x;
    let y = POLYNOMIAL.iter().fold(7.0376836292e-2, |y, c| fma(y, x, *c)) * x;
    let y = fma(y, square, exponent * -2.12194440e-4) - square * 0.5;
    fma(exponent, 0.693359375, x + y)
}

/// Cephes' single-precision sine and cosine of 0 ≤ x ≤ 2π, as `sincos256_ps` evaluates them.
#[allow(clippy::excessive_precision)] // constants as printed in the source
fn sin_cos(x: f32) -> (f32, f32) {
    const FOUR_OVER_PI: f32 = 1.27323954473516;
    let octant = ((x * FOUR_OVER_PI) as i32 + 1) & !1;
    let y = octant as f32;
    // x − octant·π/4, with π/4 in three parts.
    let x = fma(y, -0.78515625, x);
    let x = fma(y, -2.4187564849853515625e-4, x);
    let x = fma(y, -3.77489497744594108e-8, x);
    let z = x * x;

    let c = fma(2.443315711809948e-5, z, -1.388731625493765e-3);
    let c = fma(c, z, 4.166664568298827e-2) * z;
    let c = fma(c, z, -(z * 0.5)) + 1.0;

    let s = fma(-1.9515295891e-4, z, 8.3321608736e-3);
    let s = fma(s, z, -1.6666654611e-1) * z;
    let s = fma(s, x, x);

    let (sin, cos) = if octant & 2 == 0 { (s, c) } else { (c, s) };
    let sin = if octant & 4 != 0 { -sin } else { sin };
    let cos = if (octant - 2) & 4 == 0 { -cos } else { cos };
    (sin, cos)
}

/// The 32-bit Mersenne Twister MT19937.
#[derive(Debug, Clone)]
struct Twister {
    state: Vec<u32>,
    next: usize,
}

const STATE: usize = 624;

impl Twister {
    fn new(seed: u32) -> Self {
        let mut state = vec![seed; STATE];
        for i in 1..STATE {
            let before = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: STATE }
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == STATE {
            self.turn();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn turn(&mut self) {
        for k in 0..STATE {
            let y = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % STATE] & 0x7fff_ffff);
            let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[k] = self.state[(k + 397) % STATE] ^ (y >> 1) ^ twist;
        }
        self.next = 0;
    }

    /// 24 random bits in [0, 1).
    fn uniform(&mut self) -> f32 {
        (self.next_u32() & 0x00ff_ffff) as f32 / 16_777_216.0
    }

    /// 53 random bits in [0, 1); the first draw gives the high half.
    fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.next_u32());
        let bits = ((high << 32) | u64::from(self.next_u32())) & ((1 << 53) - 1);
        bits as f64 / 9_007_199_254_740_992.0
    }
}

#[cfg(test)]
#[allow(clippy::excessive_precision, clippy::unreadable_literal)] // as Python prints them
mod tests {
    use super::*;

    /// Order-dependent digest of the exact bits.
    fn digest(values: &[f32]) -> u64 {
        values.iter().fold(0xcbf2_9ce4_8422_2325, |h, v| (h ^ u64::from(v.to_bits())).wrapping_mul(0x0100_0000_01b3))
    }

    /// Seed, shape, digest of torch 2.15.0's values.
    const BLOCKED: &[(u64, &[usize], u64)] = &[
        (0, &[16], 0xf1048bdebedebeff),
        (0, &[17], 0xe286cca8e0964ccf),
        (1, &[31], 0x05342fc79a8ebb7a),
        (2, &[32], 0x76c6740d0120bea8),
        (3, &[33], 0xbee1008c3678431b),
        (42, &[1, 16, 5, 8, 8], 0x6fa447394dcda373),
        (42, &[1, 4, 3, 4, 6], 0x99ec8632e687e451),
        (7, &[1, 16, 3, 30, 52], 0x7ce4894f10f65763),
        (4294967301, &[100], 0xc7991bb774db7a58),
        (9223372036854775807, &[1000], 0x9e965550b08efea9),
        (123456789, &[2, 3, 7, 11], 0x697cf98d8c251b07),
    ];

    #[test]
    fn sixteen_or_more_values_are_torchs_bit_for_bit() {
        for &(seed, shape, want) in BLOCKED {
            assert_eq!(digest(&randn(seed, shape)), want, "seed {seed}, shape {shape:?}");
        }
    }

    #[test]
    fn fewer_than_sixteen_values_are_torchs() {
        let cases: &[(u64, &[f32])] = &[
            (0, &[1.5409960746765137]),
            (
                5,
                &[
                    -0.4867807626724243,
                    -0.6038215756416321,
                    -0.5580962300300598,
                    0.6675242781639099,
                    -0.19741509854793549,
                    1.9427834749221802,
                    -1.4017020463943481,
                ],
            ),
        ];
        for (seed, want) in cases {
            assert_eq!(randn(*seed, &[want.len()]), *want);
        }
    }

    #[test]
    fn draws_from_one_generator_follow_on_as_in_torch() {
        let mut rng = TorchRng::new(11);
        assert_eq!(rng.randn(&[3]), [0.7376294732093811, 1.9459291696548462, -0.6995416283607483]);
        assert_eq!(digest(&rng.randn(&[20])), 0x85cbb27ca581b545);
        let four = rng.randn(&[2, 2]);
        assert_eq!(four, [-1.3022973537445068, 0.5462409257888794, -2.0750153064727783, -0.9691131711006165]);
        assert_eq!(rng.randn(&[1]), [-2.1354315280914307]);
        assert_eq!(digest(&rng.randn(&[40])), 0xd9657f1c81f6f9c6);
        assert_eq!(rng.randn(&[2]), [0.8195101618766785, -1.5769215822219849]);
    }

    #[test]
    fn a_shape_without_elements_draws_nothing() {
        let mut rng = TorchRng::new(0);
        assert!(rng.randn(&[0, 16]).is_empty());
        assert_eq!(rng.randn(&[]), [1.5409960746765137]); // a scalar has one element
    }

    #[test]
    fn noise_has_mean_zero_and_variance_one() {
        let values = randn(99, &[100_000]);
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / 1e5;
        let variance = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
