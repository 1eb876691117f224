//! Whole layers: the engine's own model code on a row's weights, which come as a safetensors file in memory.

use std::cell::RefCell;
use std::rc::Rc;

use burn::tensor::Tensor;
use js_sys::Float32Array;
use tabreel::config::parse;
use tabreel::error::Result;
use tabreel::host::SilentHost;
use tabreel::models::umt5::{Layer, Umt5Config};
use tabreel::models::wan::{Block, Context, Decoder};
use tabreel::models::wan::{TransformerConfig, VaeConfig};
use tabreel::nn::conv::Memories;
use tabreel::nn::linear::Linear;
use tabreel::nn::loader::Loader;
use tabreel::nn::rope::Rope;
use tabreel::nn::tokens::Tokens;
use tabreel::pace::Pace;
use tabreel::weights::WeightSet;
use wasm_bindgen::prelude::*;

use super::{Bench, Row, finish, flat, js_error, switch, values_of};

/// What errors call the files that the row stands for.
const ROW: &str = "the row";

#[wasm_bindgen]
impl Bench {
    /// A transformer block: `x` `[l, d]`, `text` `[lt, d]`, `modulation` `[6, d]`, `grid` frames, rows and columns of
    /// tokens. With `vace` the projection of its output to a hint comes too.
    #[expect(clippy::too_many_arguments, reason = "one flat call from JavaScript")]
    pub async fn block(
        &self,
        own: bool,
        config: String,
        weights: Vec<u8>,
        x: Vec<f32>,
        text: Vec<f32>,
        modulation: Vec<f32>,
        grid: Vec<usize>,
        vace: bool,
    ) -> Result<Row, JsValue> {
        switch(&self.device(), own); // weights are packed for the kernels that will run
        let &[frames, rows, columns] = grid.as_slice() else { return Err(js_error("a grid has three sizes")) };
        let config: TransformerConfig = parse(config.as_bytes(), ROW, &[""]).map_err(js_error)?;
        let d = config.hidden_dim();
        let set = Rc::new(WeightSet::from_bytes(weights, ROW).map_err(js_error)?);
        let device = self.device();
        let loader = Loader::new(&set, &device);
        let block = Block::load(&loader, &config).await.map_err(js_error)?;
        let project = match vace {
            true => Some(Linear::load(&loader.at("proj_out"), d, d).await.map_err(js_error)?),
            false => None,
        };
        all_used(&set)?;
        let rope = Rope::new(config.attention_head_dim, [frames, rows, columns], config.rope_max_seq_len, &device)
            .map_err(js_error)?;
        let tokens = Tokens::of_one(rope);
        let x = self.tensor(&x, [1, x.len() / d, d]);
        let context = Context { text: self.tensor(&text, [1, text.len() / d, d]), image: None };
        let modulation = self.tensor(&modulation, [1, 1, 6, d]);
        Ok(Row::new(self.device(), own, move || {
            let stream = block.forward(x.clone(), &[&block.project(&context)], &modulation, &tokens);
            let hint = project.as_ref().map(|project| flat(project.forward(stream.clone())));
            std::iter::once(flat(stream)).chain(hint).collect()
        }))
    }

    /// A umT5 layer: `x` `[l, d]`, `position` `[heads, l, l]`, its relative position bias.
    #[wasm_bindgen(js_name = textLayer)]
    pub async fn text_layer(
        &self,
        own: bool,
        config: String,
        weights: Vec<u8>,
        x: Vec<f32>,
        position: Vec<f32>,
    ) -> Result<Row, JsValue> {
        switch(&self.device(), own);
        let config: Umt5Config = parse(config.as_bytes(), ROW, &[""]).map_err(js_error)?;
        let set = Rc::new(WeightSet::from_bytes(weights, ROW).map_err(js_error)?);
        let layer = Layer::load(&Loader::new(&set, &self.device()), &config).await.map_err(js_error)?;
        all_used(&set)?;
        let (l, heads) = (x.len() / config.d_model, config.num_heads);
        let (x, position) = (self.tensor(&x, [1, l, config.d_model]), self.tensor(&position, [1, heads, l, l]));
        Ok(Row::new(self.device(), own, move || vec![flat(layer.forward(x.clone(), None, position.clone(), heads))]))
    }

    /// The VAE's decoder: latent frames `before` make its memories, then every run decodes those of `latents`
    /// (`[n, z, h, w]`) after them.
    #[expect(clippy::too_many_arguments, reason = "one flat call from JavaScript")]
    pub async fn decode(
        &self,
        own: bool,
        config: String,
        weights: Vec<u8>,
        before: Vec<f32>,
        latents: Vec<f32>,
        height: usize,
        width: usize,
    ) -> Result<Decode, JsValue> {
        switch(&self.device(), own);
        let config: VaeConfig = parse(config.as_bytes(), ROW, &[""]).map_err(js_error)?;
        config.check(ROW).map_err(js_error)?;
        let set = Rc::new(WeightSet::from_bytes(weights, ROW).map_err(js_error)?);
        let decoder = Decoder::load(&Loader::new(&set, &self.device()), &config).await.map_err(js_error)?;
        all_used(&set)?;
        let shape = [1, config.z_dim, 1, height, width];
        let frames = |values: &[f32]| -> Vec<Tensor<5>> {
            values.chunks_exact(shape.iter().product()).map(|frame| self.tensor(frame, shape)).collect()
        };
        let latents = frames(&latents);
        let mut memories = Memories::default();
        let pace = Pace::new(&SilentHost, &self.compute);
        for frame in frames(&before) {
            memories.start_chunk();
            decoder.forward(frame, &mut memories, &pace).await.map_err(js_error)?;
        }
        let work = Work { compute: self.compute.clone(), decoder, latents, memories };
        Ok(Decode { own, work: Rc::new(work), last: RefCell::default() })
    }
}

/// A model that leaves weights of its row aside computes something else than the row.
fn all_used(set: &WeightSet) -> Result<(), JsValue> {
    let unused = set.unused();
    if unused.is_empty() { Ok(()) } else { Err(js_error(format!("weights not used: {}", unused.join(", ")))) }
}

struct Work {
    compute: tabreel::device::Compute,
    decoder: Decoder,
    latents: Vec<Tensor<5>>,
    memories: Memories,
}

impl Work {
    /// The last chunk's pixels; those before are dropped as they come, as a page does once they are drawn.
    async fn run(&self) -> Result<Option<Tensor<1>>> {
        let pace = Pace::new(&SilentHost, &self.compute);
        let mut memories = self.memories.clone();
        let mut last = None;
        for latent in &self.latents {
            memories.start_chunk();
            last = Some(flat(self.decoder.forward(latent.clone(), &mut memories, &pace).await?));
        }
        Ok(last)
    }
}

/// A decoder with latent frames on the device.
#[wasm_bindgen]
pub struct Decode {
    own: bool,
    work: Rc<Work>,
    last: RefCell<Option<Tensor<1>>>,
}

#[wasm_bindgen]
impl Decode {
    /// Decodes all frames once, at the engine's own pace: it gives the page its turns, as it does there.
    pub async fn run(&self) -> Result<(), JsValue> {
        switch(self.work.compute.device(), self.own);
        let work = self.work.clone();
        let last = work.run().await.map_err(js_error)?;
        *self.last.borrow_mut() = last;
        Ok(())
    }

    /// Waits until all that was queued is done.
    pub async fn done(&self) -> Result<(), JsValue> {
        let last = self.last.borrow().clone();
        finish(last).await
    }

    /// The frames of the last chunk, `[channels, frames, height, width]`.
    pub async fn read(&self) -> Result<Float32Array, JsValue> {
        let last = self.last.borrow().clone();
        values_of(last.into_iter().collect()).await
    }
}
