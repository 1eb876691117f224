//! The JavaScript border: the only file that names `JsValue`.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use js_sys::{Function, Promise, Reflect, Uint8Array};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::condition::Condition;
use crate::contract::{EngineCondition, EngineInfo, EngineModel, EngineResult, KernelReport};
use crate::device::{Compute, DeviceChoice};
use crate::error::{Error, Result};
use crate::host::{Event, GpuLedger, Host, SilentHost};
use crate::kernels::check::{REVISION, prepare_with, trust};
use crate::models::registry::Registry;
use crate::options::{GenerateOptions, GivenOptions, suggested};
use crate::pipeline::{Clip, Inputs, Pipeline, inspect};

mod memory;
mod source;

use source::model_files;

unsafe extern "C" {
    fn __wasm_call_ctors();
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console)]
    fn error(message: &str);
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
}

/// Runs once when the module is instantiated.
#[wasm_bindgen(start)]
pub fn start() {
    // Without this call the linker makes every export re-run all static constructors: fifty times the launch cost.
    // SAFETY: called once, before any other code of the module runs.
    unsafe { __wasm_call_ctors() };
    std::panic::set_hook(Box::new(|info| {
        let message = info.to_string();
        error(&message);
        // The instance is dead after a panic; the worker hears of it here, before the trap.
        if let Ok(hook) = Reflect::get(&js_sys::global(), &"__tabreelPanic".into())
            && let Some(hook) = hook.dyn_ref::<Function>()
        {
            let _ = hook.call1(&JsValue::NULL, &JsValue::from_str(&message));
        }
    }));
    let _ = console_log::init_with_level(log::Level::Warn);
}

/// A compute device and, once loaded, a model on it.
#[wasm_bindgen]
pub struct Engine {
    compute: Compute,
    pipeline: RefCell<Option<Rc<Pipeline>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateOptions {
    device: DeviceChoice,
}

#[wasm_bindgen]
impl Engine {
    /// Initialises a device: `{ device: 'gpu' | 'cpu' }`.
    pub async fn create(options: JsValue) -> Result<Engine, JsValue> {
        let options: CreateOptions = from_js(options)?;
        let compute = Compute::new(options.device).await.map_err(to_js_error)?;
        Ok(Self { compute, pipeline: RefCell::default() })
    }

    /// Compares the kernels with their plain twins on this device, unless `known` says what an earlier run found:
    /// a `KernelReport`, as this returns. `host.tick`, if there is a host, is called after each kernel. Call before `load`.
    #[wasm_bindgen(js_name = checkKernels)]
    pub async fn check_kernels(&self, known: JsValue, host: JsValue) -> Result<JsValue, JsValue> {
        let host: Box<dyn Host> = match host.is_undefined() {
            true => Box::new(SilentHost),
            false => Box::new(JsHost::new(host)?),
        };
        let revision = format!("{REVISION:016x}");
        // What an older engine wrote, or what was damaged, may not even be readable: then the check is made again.
        if let Ok(known) = from_js::<KernelReport>(known)
            && known.revision == revision
            && self.compute.is_gpu()
        {
            trust(&self.compute, known.findings.into_iter().map(Into::into).collect());
        }
        let findings = prepare_with(&self.compute, host.as_ref()).await.into_iter().map(Into::into).collect();
        to_js(&KernelReport { revision, findings })
    }

    /// What it computes on, and how large the module's memory has grown.
    pub fn info(&self) -> Result<JsValue, JsValue> {
        let memory = core::arch::wasm32::memory_size(0) as u64 * 65_536;
        to_js(&EngineInfo::new(&self.compute, memory))
    }

    /// Builds the model of a folder whose files the host reads: an array of `{ path, size, read(start, end) }`, `read`
    /// giving a promise of a `Uint8Array` of the bytes from `start` up to `end`. Only headers and configurations are read
    /// whole. The files are kept as long as the model: its larger parts may be read again. A file with a `strength` besides is a
    /// LoRA for the transformer.
    /// `budget`, in bytes, bounds the weights that are on the device at once; undefined leaves it to the engine.
    pub async fn load(&self, files: JsValue, host: JsValue, budget: Option<f64>) -> Result<JsValue, JsValue> {
        let host = JsHost::new(host)?;
        let budget = budget.map(whole_bytes).transpose().map_err(to_js_error)?;
        // Unload first: two models at once may not fit.
        self.pipeline.borrow_mut().take();
        let files = model_files(&files)?;
        let registry = Registry::default();
        let pipeline = Pipeline::load_within(&registry, &files, self.compute.clone(), budget, &host).await;
        let pipeline = pipeline.map_err(to_js_error)?;
        pipeline.warm_up(&host).await.map_err(to_js_error)?;
        let info = to_js(&EngineModel::new(&pipeline));
        *self.pipeline.borrow_mut() = Some(Rc::new(pipeline));
        info
    }

    /// Tells what such files are, what they lack, and whether this device can run them: an `Inspection`. A file `loose/NAME` is
    /// put where its tensors say. Only headers are read.
    pub async fn inspect(&self, files: JsValue, budget: Option<f64>) -> Result<JsValue, JsValue> {
        let budget = budget.map(whole_bytes).transpose().map_err(to_js_error)?;
        let files = model_files(&files)?;
        let found = inspect(&Registry::default(), &files, &self.compute, budget).await;
        to_js(&found.map_err(to_js_error)?)
    }

    /// Makes a clip; frames, steps and previews go to `host.event` as they come. What `options` leave open comes from the
    /// model's card, then from the table of options; the seed is 0 then. `condition` is undefined or an `EngineCondition`, whose
    /// pictures are copied in one by one.
    pub async fn generate(&self, options: JsValue, condition: JsValue, host: JsValue) -> Result<JsValue, JsValue> {
        let host = JsHost::new(host)?;
        let condition = match condition.is_undefined() || condition.is_null() {
            true => Condition::default(),
            false => from_js::<EngineCondition>(condition)?.into_condition().map_err(to_js_error)?,
        };
        let inputs = Inputs { condition, ..Inputs::default() };
        let options: GivenOptions = from_js(options)?;
        let pipeline = self.loaded()?;
        let options = settle(options, &pipeline)?;
        let clip = pipeline.generate(&options, &inputs, &host).await.map_err(to_js_error)?;
        to_js(&EngineResult::new(&clip, &options, &self.compute))
    }

    /// Makes clips of text, of any sizes, as many as the device has room for in one pass of the model; each is what `generate`
    /// makes of it. An event `clips` says which of them the next events are about; `made(place, result)` is called for each, in
    /// order, after its frames.
    #[wasm_bindgen(js_name = generateBatch)]
    pub async fn generate_batch(&self, clips: JsValue, made: Function, host: JsValue) -> Result<(), JsValue> {
        let host = JsHost::new(host)?;
        let asked: Vec<GivenOptions> = from_js(clips)?;
        let pipeline = self.loaded()?;
        let clips = asked.into_iter().map(|options| settle(options, &pipeline)).collect::<Result<Vec<_>, _>>()?;
        let mut tell = |place: usize, clip: Clip| -> Result<()> {
            let Some(options) = clips.get(place) else {
                return Err(Error::Internal("a clip that was not asked for".into()));
            };
            to_js(&EngineResult::new(&clip, options, &self.compute))
                .and_then(|result| made.call2(&JsValue::NULL, &(place as f64).into(), &result))
                .map(drop)
                .map_err(|thrown| Error::Internal(format!("made threw: {thrown:?}")))
        };
        pipeline.generate_packed(&clips, &host, &mut tell).await.map_err(to_js_error)
    }

    /// Frees the model.
    pub fn dispose(&self) {
        self.pipeline.borrow_mut().take();
        self.compute.release_unused();
    }
}

impl Engine {
    /// The model; a clone, so that no borrow is held across an await.
    fn loaded(&self) -> Result<Rc<Pipeline>, JsValue> {
        let pipeline = self.pipeline.borrow().clone();
        pipeline.ok_or_else(|| to_js_error(Error::options("load a model before generating")))
    }
}

/// What is asked for, with what the model suggests where it is left open.
fn settle(asked: GivenOptions, pipeline: &Pipeline) -> Result<GenerateOptions, JsValue> {
    let card = pipeline.card();
    let suggested = suggested(&card.default, &card.presets, asked.preset.as_deref()).map_err(to_js_error)?;
    Ok(asked.settle(&suggested))
}

/// A [`Host`] on the JavaScript side: `{ event(event, rgba?), aborted(): boolean, tick(): Promise<void>, gpu?: ledger }`.
struct JsHost {
    this: JsValue,
    event: Function,
    aborted: Function,
    tick: Function,
    ledger: Option<JsLedger>,
}

/// A [`GpuLedger`] on the JavaScript side: `{ keepAll(), destroyBut(kept: GPUBuffer[], bytes): boolean }`.
struct JsLedger {
    this: JsValue,
    keep_all: Function,
    destroy_but: Function,
}

impl GpuLedger for JsLedger {
    fn keep_all(&self) {
        if let Err(thrown) = self.keep_all.call0(&self.this) {
            error(&format!("gpu.keepAll threw: {thrown:?}"));
        }
    }

    fn destroy_but(&self, kept: &[wgpu::Buffer], bytes: u64) -> bool {
        let kept: js_sys::Array = kept.iter().filter_map(|b| b.as_webgpu()).map(|b| JsValue::from(b.clone())).collect();
        match self.destroy_but.call2(&self.this, &kept, &(bytes as f64).into()) {
            Ok(done) => done.is_truthy(),
            Err(thrown) => {
                error(&format!("gpu.destroyBut threw: {thrown:?}"));
                false
            }
        }
    }
}

/// A number of bytes, 1 or more.
fn whole_bytes(given: f64) -> Result<u64> {
    match given.fract() == 0.0 && (1.0..=9e15).contains(&given) {
        true => Ok(given as u64),
        false => Err(Error::options(format!("budget must be a whole number of bytes, 1 or more, got {given}"))),
    }
}

/// A method of a JavaScript object.
fn method(this: &JsValue, path: &str) -> Result<Function, JsValue> {
    let name = path.rsplit('.').next().unwrap_or(path);
    Reflect::get(this, &name.into())
        .ok()
        .and_then(|f| f.dyn_into::<Function>().ok())
        .ok_or_else(|| to_js_error(Error::options(format!("{path} must be a function"))))
}

impl JsHost {
    fn new(this: JsValue) -> Result<Self, JsValue> {
        let gpu = Reflect::get(&this, &"gpu".into()).unwrap_or(JsValue::UNDEFINED);
        let ledger = match gpu.is_object() {
            true => Some(JsLedger {
                keep_all: method(&gpu, "host.gpu.keepAll")?,
                destroy_but: method(&gpu, "host.gpu.destroyBut")?,
                this: gpu,
            }),
            false => None,
        };
        let (event, aborted) = (method(&this, "host.event")?, method(&this, "host.aborted")?);
        Ok(Self { event, aborted, tick: method(&this, "host.tick")?, ledger, this })
    }
}

impl Host for JsHost {
    fn event(&self, event: Event) {
        let pixels = match &event {
            Event::Preview { rgba, .. } | Event::Frame { rgba, .. } => Uint8Array::from(rgba.as_slice()).into(),
            _ => JsValue::UNDEFINED,
        };
        if let Err(thrown) = to_js(&event).and_then(|event| self.event.call2(&self.this, &event, &pixels)) {
            error(&format!("host.event threw: {thrown:?}"));
        }
    }

    fn aborted(&self) -> bool {
        self.aborted.call0(&self.this).is_ok_and(|v| v.is_truthy())
    }

    fn tick(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async move {
            if let Ok(promise) = self.tick.call0(&self.this) {
                // A rejected tick means no more than that the turn is over.
                let _ = JsFuture::from(Promise::resolve(&promise)).await;
            }
        })
    }

    fn now_secs(&self) -> f64 {
        performance_now() / 1000.0
    }

    fn free_memory(&self) -> Option<u64> {
        Some(memory::free())
    }

    fn gpu_ledger(&self) -> Option<&dyn GpuLedger> {
        self.ledger.as_ref().map(|ledger| ledger as &dyn GpuLedger)
    }
}

fn to_js(value: &impl Serialize) -> Result<JsValue, JsValue> {
    to_plain(value).map_err(|e| to_js_error(Error::Internal(format!("{e}"))))
}

/// Plain objects, and numbers a JavaScript programmer expects.
fn to_plain(value: &impl Serialize) -> Result<JsValue, serde_wasm_bindgen::Error> {
    value.serialize(&serde_wasm_bindgen::Serializer::json_compatible())
}

fn from_js<T: serde::de::DeserializeOwned>(value: JsValue) -> Result<T, JsValue> {
    serde_wasm_bindgen::from_value(value).map_err(|e| to_js_error(Error::options(format!("{e}"))))
}

fn to_js_error(error: Error) -> JsValue {
    let report = error.report();
    // Serializing two strings cannot fail.
    to_plain(&report).unwrap_or_else(|_| JsValue::from_str(&report.message))
}
