//! One op of the engine at a time, for `bench/engine.mjs`: with our kernels on, or off (stock Burn on the same tensors).
#![cfg(target_arch = "wasm32")]

mod models;

use std::cell::RefCell;

use burn::tensor::{Device, Tensor, TensorData};
use js_sys::Float32Array;
use tabreel::device::{Compute, DeviceChoice};
use tabreel::kernels::attention::{Scores, attention};
use tabreel::kernels::channel_norm::channel_norm;
use tabreel::kernels::conv3d::{Form, Precision, Weights, conv3d};
use tabreel::kernels::gemm::{Epilogue, Matrix, linear};
use tabreel::kernels::norm_modulate::norm_modulate;
use tabreel::kernels::repack::Packing;
use tabreel::kernels::rms_rope::rms_rope;
use tabreel::kernels::{Kernel, set_half_tiles, set_software_adapter};
use wasm_bindgen::prelude::*;

/// A device to run rows on.
#[wasm_bindgen]
pub struct Bench {
    compute: Compute,
}

/// An op with its inputs on the device.
#[wasm_bindgen]
pub struct Row {
    device: Device,
    own: bool,
    work: Box<dyn Fn() -> Vec<Tensor<1>>>,
    last: RefCell<Vec<Tensor<1>>>,
}

fn switch(device: &Device, own: bool) {
    for kernel in Kernel::ALL {
        kernel.set(device, own);
    }
}

fn js_error(error: impl ToString) -> JsValue {
    JsError::new(&error.to_string()).into()
}

fn flat<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    x.flatten(0, D - 1)
}

#[wasm_bindgen]
impl Row {
    fn new(device: Device, own: bool, work: impl Fn() -> Vec<Tensor<1>> + 'static) -> Self {
        Self { device, own, work: Box::new(work), last: RefCell::default() }
    }

    /// Queues the op once.
    pub fn run(&self) {
        switch(&self.device, self.own);
        *self.last.borrow_mut() = (self.work)();
    }

    /// Waits until all that was queued is done.
    pub async fn done(&self) -> Result<(), JsValue> {
        let last = self.last.borrow().last().cloned();
        finish(last).await
    }

    /// The outputs of the last run, joined in order.
    pub async fn read(&self) -> Result<Float32Array, JsValue> {
        let last = self.last.borrow().clone();
        values_of(last).await
    }
}

/// Waits for a tensor by reading one element of it.
async fn finish(last: Option<Tensor<1>>) -> Result<(), JsValue> {
    if let Some(last) = last {
        last.narrow(0, 0, 1).into_data_async().await.map_err(|e| js_error(format!("{e:?}")))?;
    }
    Ok(())
}

async fn values_of(tensors: Vec<Tensor<1>>) -> Result<Float32Array, JsValue> {
    let mut values = Vec::new();
    for tensor in tensors {
        let data = tensor.into_data_async().await.map_err(|e| js_error(format!("{e:?}")))?;
        values.extend(data.try_into_vec::<f32>().map_err(|e| js_error(format!("{e:?}")))?);
    }
    Ok(Float32Array::from(values.as_slice()))
}

#[wasm_bindgen]
impl Bench {
    /// `gpu` or `cpu`.
    pub async fn create(device: String) -> Result<Bench, JsValue> {
        let choice = if device == "gpu" { DeviceChoice::Gpu } else { DeviceChoice::Cpu };
        let compute = Compute::new(choice).await.map_err(js_error)?;
        set_software_adapter(compute.device(), compute.is_software());
        Ok(Self { compute })
    }

    /// Whether rows run from now on tile in 16-bit floats.
    #[wasm_bindgen(js_name = setHalfTiles)]
    pub fn set_half_tiles(&self, half: bool) {
        set_half_tiles(self.compute.device(), half);
    }

    /// Returns unused GPU memory.
    pub fn release(&self) {
        self.compute.release_unused();
    }

    fn device(&self) -> Device {
        self.compute.device().clone()
    }

    fn tensor<const D: usize>(&self, values: &[f32], shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &self.device())
    }

    /// `x` `[m, k]`, `weight` `[n, k]` → `[m, n]`; `packed` is the weight as GGUF stores it, read as it is by our kernel.
    #[expect(clippy::too_many_arguments, reason = "one flat call from JavaScript")]
    pub fn gemm(
        &self,
        own: bool,
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        m: usize,
        k: usize,
        n: usize,
        stored: &str,
        packed: &[u8],
    ) -> Result<Row, JsValue> {
        let packing = match stored {
            "f16" => Some(Packing::F16),
            "q8_0" => Some(Packing::Q8_0),
            "q4_0" => Some(Packing::Q4_0),
            "q4_k" => Some(Packing::Q4K),
            _ => None,
        };
        let weight = match packing.filter(|_| own && self.compute.is_gpu()) {
            Some(packing) => {
                let words = packing.repack("weight", packed, n, k).map_err(js_error)?;
                Matrix::packed(words, packing, [n, k], &self.device())
            }
            None => {
                let turned: Vec<f32> = (0..k * n).map(|i| weight[i % n * k + i / n]).collect();
                Matrix::Plain(self.tensor(&turned, [k, n]))
            }
        };
        let (x, bias) = (self.tensor(x, [m, k]), self.tensor(bias, [n]));
        Ok(Row::new(self.device(), own, move || vec![flat(linear(x.clone(), &weight, Some(&bias), Epilogue::Keep))]))
    }

    /// `q` `[lq, heads × dim]`, `k` and `v` `[lk, heads × dim]`.
    #[expect(clippy::too_many_arguments, reason = "one flat call from JavaScript")]
    pub fn attention(
        &self,
        own: bool,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        heads: usize,
        dim: usize,
        lq: usize,
        lk: usize,
    ) -> Row {
        let split = |x: &[f32], l: usize| self.tensor(x, [1, l, heads, dim]);
        let (q, k, v) = (split(q, lq), split(k, lk), split(v, lk));
        Row::new(self.device(), own, move || vec![flat(attention(q.clone(), k.clone(), v.clone(), Scores::default()))])
    }

    /// `x` `[cin, f, h, w]`, `past` `[cin, 2, h, w]` or empty, `weight` `[cout, cin, kt, kh, kw]`; `sizes` cin, cout, f, h,
    /// w, kt, kh, kw, stride in time and in space, frames of zeros or past before x.
    pub fn conv(
        &self,
        own: bool,
        x: &[f32],
        past: &[f32],
        weight: &[f32],
        bias: &[f32],
        sizes: &[usize],
    ) -> Result<Row, JsValue> {
        let &[cin, cout, f, h, w, kt, kh, kw, time_stride, stride, lead] = sizes else {
            return Err(js_error("eleven sizes are needed"));
        };
        switch(&self.device(), own); // weights are packed for the kernel that will run
        let form = Form { time_stride, halved: stride == 2, ..Form::plain([kt, kh, kw]) };
        let weights =
            Weights::new(weight.to_vec(), [cout, cin], form, Precision::F32, self.tensor(bias, [cout]), &self.device());
        let x = self.tensor(x, [1, cin, f, h, w]);
        let past = (!past.is_empty()).then(|| self.tensor(past, [1, cin, 2, h, w]));
        Ok(Row::new(self.device(), own, move || vec![flat(conv3d(x.clone(), past.clone(), lead, &weights, None))]))
    }

    /// `x` `[l, d]`, `six` `[6, d]`: layer norm × (1 + slot 1) + slot 0.
    pub fn modulate(&self, own: bool, x: &[f32], six: &[f32], l: usize, d: usize) -> Row {
        let (x, six) = (self.tensor(x, [1, l, d]), self.tensor(six, [1, 1, 6, d]));
        Row::new(self.device(), own, move || vec![flat(norm_modulate(x.clone(), &six, 1, 0, 1e-6))])
    }

    /// `q`, `k` `[l, d]`, gains `[d]`, `cos`, `sin` `[l, dim / 2]`.
    #[expect(clippy::too_many_arguments, reason = "one flat call from JavaScript")]
    pub fn rope(
        &self,
        own: bool,
        q: &[f32],
        k: &[f32],
        gain_q: &[f32],
        gain_k: &[f32],
        cos: &[f32],
        sin: &[f32],
        l: usize,
        d: usize,
        eps: f64,
    ) -> Row {
        let half = cos.len() / l;
        let (q, k) = (self.tensor(q, [1, l, d]), self.tensor(k, [1, l, d]));
        let (gain_q, gain_k) = (self.tensor(gain_q, [d]), self.tensor(gain_k, [d]));
        let (cos, sin) = (self.tensor(cos, [1, l, 1, half]), self.tensor(sin, [1, l, 1, half]));
        Row::new(self.device(), own, move || {
            let turn = |x: &Tensor<3>, gain| flat(rms_rope(x.clone(), gain, eps, &cos, &sin));
            vec![turn(&q, &gain_q), turn(&k, &gain_k)]
        })
    }

    /// `x` `[c, f, h, w]`, `gain` `[c]` with √c in it; then SiLU.
    #[wasm_bindgen(js_name = channelNorm)]
    pub fn channel_norm(&self, own: bool, x: &[f32], gain: &[f32], shape: &[usize]) -> Result<Row, JsValue> {
        let &[c, f, h, w] = shape else { return Err(js_error("four sizes are needed")) };
        let (x, gain) = (self.tensor(x, [1, c, f, h, w]), self.tensor(gain, [1, c, 1, 1, 1]));
        Ok(Row::new(self.device(), own, move || vec![flat(channel_norm(x.clone(), &gain, true))]))
    }
}
