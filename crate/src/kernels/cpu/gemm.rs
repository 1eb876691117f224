//! A linear layer on the CPU: the product, then bias and epilogue in one pass.

use burn::tensor::Tensor;

use super::{Target, Values, View, math, product, tensor};
use crate::kernels::ops::Epilogue;

/// As [`crate::kernels::gemm::linear_plain`]; `None` where a tensor is elsewhere or shapes need broadcasting.
pub fn linear<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    epilogue: &Epilogue,
) -> Option<Tensor<D>> {
    let mut shape = x.dims();
    let [k, n] = weight.dims();
    let m = shape.iter().product::<usize>() / k.max(1);
    shape[D - 1] = n;
    if m * n * k == 0 {
        return None;
    }
    let added = match epilogue {
        Epilogue::Add(residual) | Epilogue::GatedAdd(_, residual) => {
            (residual.dims().iter().product::<usize>() == m * n).then(|| Values::of(residual))?
        }
        _ => None,
    };
    let gate = match epilogue {
        // One gate for all rows, or one for each.
        Epilogue::GatedAdd(gate, _) => Some(match gate.dims() {
            [1, 1, _] => (Values::of(gate)?, 0),
            [gates, rows, _] if gates * rows == m => (Values::of(gate)?, n),
            _ => return None,
        }),
        _ => None,
    };
    if matches!(epilogue, Epilogue::Add(_) | Epilogue::GatedAdd(..)) && added.is_none() {
        return None;
    }
    let (a, w) = (Values::of(x)?, Values::of(weight)?);
    let bias = match bias {
        Some(bias) => Some(Values::of(bias)?),
        None => None,
    };
    let mut out = vec![0.0; m * n];
    product(
        [m, n, k],
        Target { values: &mut out, row: n, column: 1, add: false },
        View { values: a.as_slice(), row: k, column: 1 },
        View { values: w.as_slice(), row: n, column: 1 },
        1.0,
    );
    for (i, row) in out.chunks_exact_mut(n).enumerate() {
        if let Some(bias) = &bias {
            row.iter_mut().zip(bias.as_slice()).for_each(|(x, bias)| *x += bias);
        }
        match epilogue {
            Epilogue::Keep => {}
            Epilogue::Gelu => row.iter_mut().for_each(|x| *x = math::gelu(*x)),
            Epilogue::Silu => row.iter_mut().for_each(|x| *x = math::silu(*x)),
            Epilogue::Add(_) | Epilogue::GatedAdd(..) => {
                if let Some((gate, step)) = &gate {
                    row.iter_mut().zip(&gate.as_slice()[i * step..]).for_each(|(x, gate)| *x *= gate);
                }
                if let Some(added) = &added {
                    row.iter_mut().zip(&added.as_slice()[i * n..]).for_each(|(x, added)| *x += added);
                }
            }
        }
    }
    Some(tensor(out, shape))
}
