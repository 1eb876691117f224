//! The same kernels for the CPU: plain Rust over slices, with the `gemm` crate for the products.
//!
//! Burn's flex calls libm for every exponential and walks through memory once for each operation: the default model's
//! DiT block takes 10 ms with it in wasm, 4 ms with these. The plain twins stay the oracle; `bench/README.md` has the
//! numbers.

pub mod attention;
pub mod conv3d;
pub mod gemm;
pub mod math;
pub mod rows;

use burn::tensor::{DType, Shape, Tensor};
use burn_flex::{Flex, FlexTensor, Layout};

/// A tensor's values in memory order.
#[derive(Debug)]
pub struct Values(FlexTensor);

impl Values {
    /// `None` for a tensor elsewhere or of another type than f32.
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        let primitive = tensor.clone().try_into_primitive::<Flex>().ok()?;
        (primitive.dtype() == DType::F32).then(|| Self(primitive.to_contiguous()))
    }

    /// The values.
    pub fn as_slice(&self) -> &[f32] {
        // Contiguous and f32, or it had not been made.
        self.0.as_slice().unwrap_or_default()
    }
}

/// A kernel's result, `values` in memory order, back to Burn.
pub fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    super::launch::count_launch();
    let layout = Layout::contiguous(Shape::from(shape));
    Tensor::from_primitive::<Flex>(FlexTensor::new(burn::tensor::Bytes::from_elems(values), layout, DType::F32))
}

/// A matrix in a slice: element (i, j) at `i × row + j × column`.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The slice, from the matrix's first element.
    pub values: &'a [f32],
    /// Steps from one row to the next.
    pub row: usize,
    /// Steps from one column to the next.
    pub column: usize,
}

/// Where a product goes.
#[derive(Debug)]
pub struct Target<'a> {
    /// The slice, from the matrix's first element.
    pub values: &'a mut [f32],
    /// Steps from one row to the next.
    pub row: usize,
    /// Steps from one column to the next.
    pub column: usize,
    /// Added to what is there, not stored over it.
    pub add: bool,
}

/// `out = factor × a · b` (or `+=`) for `a` of m × k and `b` of k × n.
///
/// # Panics
/// When a matrix reaches past its slice.
pub fn product([m, n, k]: [usize; 3], out: Target<'_>, a: View<'_>, b: View<'_>, factor: f32) {
    if m == 0 || n == 0 {
        return;
    }
    let fits = |length: usize, rows: usize, row: usize, columns: usize, column: usize| {
        rows == 0 || columns == 0 || (rows - 1) * row + (columns - 1) * column < length
    };
    assert!(
        fits(out.values.len(), m, out.row, n, out.column)
            && fits(a.values.len(), m, a.row, k, a.column)
            && fits(b.values.len(), k, b.row, n, b.column),
        "a product of {m}×{k}×{n} reaches past its slices"
    );
    let step = |n: usize| n as isize;
    // SAFETY: the assertion above keeps every element read or written inside its slice; `out` is borrowed mutably, so
    // it overlaps neither input.
    unsafe {
        ::gemm::gemm(
            m,
            n,
            k,
            out.values.as_mut_ptr(),
            step(out.column),
            step(out.row),
            out.add,
            a.values.as_ptr(),
            step(a.column),
            step(a.row),
            b.values.as_ptr(),
            step(b.column),
            step(b.row),
            1.0f32,
            factor,
            false,
            false,
            false,
            ::gemm::Parallelism::None,
        );
    }
}
