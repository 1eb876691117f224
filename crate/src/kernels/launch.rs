//! Hand-written WGSL on Burn's tensors: text, buffers, sizes, go.
//!
//! A kernel's text is a template (`{{ name }}`); its storage buffers are bound in order, all `read_write` (Burn's
//! pools may put two tensors into one buffer, and WebGPU refuses one buffer read-only and writable in one dispatch),
//! and the sizes follow as the last binding, a uniform `array<vec4<u32>, n>`.
//!
//! Source of the recipe: burn-cubecl 0.22.1 `template/base.rs` (the same trait, written here so that Burn's `template`
//! feature is not needed).

use std::cell::Cell;

use burn::tensor::{DType, Device, Int, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::metadata::Info;
use cubecl::ir::{ElemType, UIntKind};
use cubecl::prelude::{
    AddressType, CubeCount, CubeDim, ExecutionMode, KernelDefinition, KernelId, KernelMetadata, KernelSettings, Scope,
};
use cubecl::server::{KernelArguments, MetadataBindingInfo};
use cubecl::{CubeKernel, PrecompiledSource};

thread_local! {
    static LAUNCHES: Cell<usize> = const { Cell::new(0) };
}

/// Kernels of ours queued (or run, on the CPU) by this thread so far: tells a test that it was the kernel that ran, not
/// its twin, whatever tests beside it do.
pub fn launches() -> usize {
    LAUNCHES.get()
}

pub(super) fn count_launch() {
    LAUNCHES.set(LAUNCHES.get() + 1);
}

/// A text with named sections (`//@ name` starts one) and placeholders (`{{ name }}`).
#[derive(Debug, Clone, Copy)]
pub struct Template(pub &'static str);

impl Template {
    /// The text of a section.
    ///
    /// # Panics
    /// When there is none of that name: the templates are part of this crate.
    pub fn section(self, name: &str) -> &'static str {
        let found = self.0.split("//@ ").find_map(|part| {
            let (title, body) = part.split_once('\n')?;
            (title.trim() == name).then_some(body.trim())
        });
        match found {
            Some(text) => text,
            None => unreachable!("a kernel template lacks the section {name}"),
        }
    }
}

/// `text` with every placeholder filled in; values may hold placeholders themselves.
pub fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut text = text.to_string();
    // Three levels: kernel, section, snippet.
    for _ in 0..3 {
        for (name, value) in values {
            text = text.replace(&format!("{{{{ {name} }}}}"), value);
        }
    }
    debug_assert!(!text.contains("{{ "), "a placeholder has no value in\n{text}");
    text
}

/// One variant of a kernel.
pub struct Shader {
    /// Its name in messages.
    pub name: &'static str,
    /// Identifies the variant: pipelines are cached by `name` and `key`, never by text.
    pub key: String,
    /// Makes the text (entry point `main`); called once for each variant.
    pub source: Box<dyn Fn() -> String + Send + Sync>,
    /// Threads of a workgroup, as the text declares them.
    pub threads: u32,
}

impl Shader {
    /// Queues the kernel: `buffers` bound in order, then `words` as the uniform, over `count` workgroups.
    pub fn launch(self, buffers: &[&CubeTensor], words: &[u32], count: [u32; 3]) {
        let Some(first) = buffers.first() else { return };
        let client = first.client.clone();
        let mut words = words.to_vec();
        words.resize(words.len().next_multiple_of(4), 0);
        let pairs = words.chunks_exact(2).map(|p| u64::from(p[0]) | u64::from(p[1]) << 32).collect();
        let arguments = KernelArguments::new()
            .with_buffers(buffers.iter().map(|b| b.handle.clone().binding()).collect())
            .with_info(MetadataBindingInfo::custom(pairs));
        count_launch();
        client.launch(Box::new(self), CubeCount::Static(count[0], count[1], count[2]), arguments);
    }
}

impl KernelMetadata for Shader {
    fn name(&self) -> &'static str {
        self.name
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info((self.name, self.key.clone()))
    }

    fn address_type(&self) -> ElemType {
        UIntKind::U32.into()
    }
}

impl CubeKernel for Shader {
    fn define(&self) -> KernelDefinition {
        let dim = CubeDim::new_1d(self.threads);
        let settings = KernelSettings::new(*dim, ExecutionMode::Checked, AddressType::U32);
        KernelDefinition { body: Scope::root(settings.clone()), settings, info: Info::default() }
    }

    fn source(&self) -> Option<PrecompiledSource> {
        Some(PrecompiledSource { source: (self.source)(), entrypoint_name: "main".into(), lang: "wgsl" })
    }
}

/// The GPU's side of a tensor, in memory order; `None` for a tensor on the CPU or of another type than f32.
pub fn on_gpu<const D: usize>(tensor: &Tensor<D>) -> Option<CubeTensor> {
    let primitive = tensor.clone().try_into_primitive::<CubeBackend>().ok()?;
    (primitive.dtype == DType::F32).then(|| into_contiguous(primitive))
}

/// The GPU's side of 32-bit words.
pub fn words_on_gpu(tensor: &Tensor<1, Int>) -> Option<CubeTensor> {
    let primitive = tensor.clone().try_into_primitive::<CubeBackend>().ok()?;
    (primitive.dtype == DType::I32).then(|| into_contiguous(primitive))
}

/// True for a device that the kernels run on.
pub fn is_gpu(device: &Device) -> bool {
    on_gpu(&Tensor::<1>::empty([1], device)).is_some()
}

/// A new tensor beside `like`, its contents undefined.
pub fn output_like<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    let bytes = shape.iter().product::<usize>() * size_of::<f32>();
    let handle = like.client.empty(bytes);
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), Shape::from(shape), handle, DType::F32)
}

/// Back to Burn.
pub fn tensor<const D: usize>(primitive: CubeTensor) -> Tensor<D> {
    Tensor::from_primitive::<CubeBackend>(primitive)
}

/// What a workgroup's tile is made of, as values of a template: `half` (declarations), `lane` (a type), `narrow` (f32
/// vector to lane).
pub fn lane_values(half: bool) -> [(&'static str, &'static str); 3] {
    const HALF: &str = "enable f16;
fn narrow(v: vec4<f32>) -> vec4<f16> { return vec4<f16>(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0))); }
";
    match half {
        true => [("half", HALF), ("lane", "vec4<f16>"), ("narrow", "narrow")],
        false => [("half", ""), ("lane", "vec4<f32>"), ("narrow", "")],
    }
}

/// `n / d`, rounded up.
pub fn blocks(n: usize, d: usize) -> u32 {
    n.div_ceil(d) as u32
}

/// A count of workgroups, past WebGPU's 65,535 folded into y: the kernels count them as `y × 65535 + x`.
pub fn fold(groups: usize) -> [u32; 3] {
    const MOST: usize = 65_535;
    [groups.min(MOST) as u32, blocks(groups, MOST).max(1), 1]
}
