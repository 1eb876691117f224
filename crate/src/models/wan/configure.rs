//! Wan's models told by their tensors: loose files bring no config.json.
//!
//! Source: the config.json files of `Wan-AI/*-Diffusers` as diffusers' `convert_wan_to_diffusers.py` writes them; what the
//! makers suggest: `wan/configs` and the README of <https://github.com/Wan-Video/Wan2.1> and `Wan2.2`; AnyFlow: diffusers
//! `pipeline_anyflow.py` and `scheduling_flow_map_euler_discrete.py`.

use serde_json::{Value, json};

use super::config::{FLOW_MAP_CLASS, SECOND_TIME};
use crate::error::{Error, Result};
use crate::models::family::Known;
use crate::models::sizes::{along, layers, shared};
use crate::options::ModelDefaults;
use crate::weights::WeightSet;

/// Every published Wan has heads of this width.
const HEAD: usize = 128;
/// Pixels (or latent cells) in one token of every published Wan: 1 × 2 × 2.
const PATCH: usize = 4;

/// What Wan's own configuration steers away from (`sample_neg_prompt` of `wan/configs/shared_config.py`).
pub const NEGATIVE: &str = "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，\
    丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，\
    三条腿，背景人很多，倒着走";

/// A transformer, with or without a control branch.
///
/// # Errors
/// [`Error::Weights`] when a tensor that tells a size is missing, or the width is no multiple of [`HEAD`].
pub fn transformer(set: &WeightSet) -> Result<Known> {
    let hidden = along(set, "proj_out.weight", 1)?;
    let out_channels = along(set, "proj_out.weight", 0)? / PATCH;
    let in_channels = shared(set, "patch_embedding.weight", hidden * PATCH)?;
    let num_layers = layers(set, "blocks");
    if !hidden.is_multiple_of(HEAD) {
        let rule = format!("a width that is a multiple of {HEAD}, every published Wan's head, or a config.json");
        return Err(Error::weights("proj_out.weight", rule, format!("width {hidden}")));
    }
    let mut config = json!({
        "_class_name": "WanTransformer3DModel", "patch_size": [1, 2, 2],
        "num_attention_heads": hidden / HEAD, "attention_head_dim": HEAD,
        "in_channels": in_channels, "out_channels": out_channels, "num_layers": num_layers,
        "text_dim": along(set, "condition_embedder.text_embedder.linear_1.weight", 1)?,
        "freq_dim": along(set, "condition_embedder.time_embedder.linear_1.weight", 1)?,
        "ffn_dim": along(set, "blocks.0.ffn.net.0.proj.weight", 0)?,
        "cross_attn_norm": set.get("blocks.0.norm2.weight").is_some(), "eps": 1e-6, "rope_max_seq_len": 1024,
        // Wan 2.2 TI2V alone has 48 latent channels, and times of its own for the tokens of a first frame.
        "expand_timesteps": in_channels == 48 && out_channels == 48,
    });
    if set.get("condition_embedder.image_embedder.norm1.weight").is_some() {
        config["image_dim"] = along(set, "condition_embedder.image_embedder.norm1.weight", 0)?.into();
        config["added_kv_proj_dim"] = along(set, "blocks.0.attn2.add_k_proj.weight", 1)?.into();
        config["pos_embed_seq_len"] =
            along(set, "condition_embedder.image_embedder.pos_embed", 1).map_or(Value::Null, Value::from);
    }
    let vace = layers(set, "vace_blocks");
    // 15 of 30 in the 1.3B, 8 of 40 in the 14B: evenly spread, from the first on.
    if let Some(stride) = num_layers.checked_div(vace) {
        config["_class_name"] = "WanVACETransformer3DModel".into();
        config["vace_layers"] = (0..vace).map(|i| i * stride.max(1)).collect::<Vec<_>>().into();
        config["vace_in_channels"] = shared(set, "vace_patch_embedding.weight", hidden * PATCH)?.into();
    }
    let flow_map = set.get(SECOND_TIME).is_some();
    if flow_map {
        config["_class_name"] = FLOW_MAP_CLASS.into();
    }
    // AnyFlow's causal sibling sees earlier frames through an embedding of its own.
    if set.get("far_patch_embedding.weight").is_some() {
        let rule = "a transformer that makes all frames at once";
        return Err(Error::weights("far_patch_embedding.weight", rule, "a causal one (FAR), which is not supported"));
    }
    let kind = match (vace > 0, in_channels > out_channels, out_channels) {
        _ if flow_map => "AnyFlow",
        (true, ..) => "2.1 VACE",
        (_, _, 48) => "2.2 TI2V",
        (_, true, _) => "I2V",
        _ => "2.1 T2V",
    };
    let size = match (hidden, num_layers) {
        (1536, 30) => "1.3B".into(),
        (3072, 30) => "5B".into(),
        (5120, 40) => "14B".into(),
        _ => format!("of width {hidden} with {num_layers} layers"),
    };
    let wide = out_channels == 48;
    let scheduler = match flow_map {
        true => flow_map_euler(),
        false => unipc(if wide { 5.0 } else { 3.0 }),
    };
    Ok(Known {
        name: format!("Wan {kind} {size}"),
        config,
        scheduler: Some(scheduler),
        defaults: ModelDefaults {
            negative_prompt: Some(NEGATIVE.into()),
            width: Some(if wide { 1280 } else { 832 }),
            height: Some(if wide { 704 } else { 480 }),
            num_frames: Some(if wide { 121 } else { 81 }),
            fps: Some(if wide { 24.0 } else { 16.0 }),
            // AnyFlow was distilled with its guidance inside, and to any number of steps; its makers show 4.
            num_steps: Some(if flow_map { 4 } else { 50 }),
            guidance_scale: Some(if flow_map { 1.0 } else { 5.0 }),
            ..ModelDefaults::default()
        },
    })
}

/// The scheduler of every published diffusers folder of Wan; 3 is its shift for 480 rows, 5 for 704 and 720.
fn unipc(flow_shift: f64) -> Value {
    json!({
        "_class_name": "UniPCMultistepScheduler", "num_train_timesteps": 1000, "solver_order": 2, "solver_type": "bh2",
        "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": flow_shift,
        "final_sigmas_type": "zero", "lower_order_final": true, "predict_x0": true,
    })
}

/// The scheduler of AnyFlow's folders.
fn flow_map_euler() -> Value {
    json!({ "_class_name": "FlowMapEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 5.0 })
}

/// A VAE of 2.1 or 2.2, at any width (`lightvaew2_1` has a quarter of the first's).
///
/// # Errors
/// [`Error::Weights`] when a tensor that tells a size is missing, or nobody knows the latents' mean and deviation.
pub fn vae(set: &WeightSet) -> Result<Known> {
    let z_dim = along(set, "post_quant_conv.weight", 0)?;
    let base_dim = along(set, "encoder.conv_in.weight", 0)?;
    let channels = along(set, "decoder.conv_out.weight", 0)?;
    let residual = set.names().any(|name| name.starts_with("decoder.up_blocks.0.upsampler."));
    let mut config = json!({
        "_class_name": "AutoencoderKLWan", "z_dim": z_dim, "base_dim": base_dim,
        // The middle of the decoder has the width of its widest level, 4 times the first.
        "decoder_base_dim": along(set, "decoder.conv_in.weight", 0)? / 4,
        "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": [], "temperal_downsample": [false, true, true],
        "is_residual": residual,
    });
    if channels == 12 {
        config["patch_size"] = 2.into();
        config["in_channels"] = 12.into();
        config["out_channels"] = 12.into();
        config["scale_factor_spatial"] = 16.into();
    }
    match z_dim {
        16 => {} // the default of the configuration
        48 => {
            config["latents_mean"] = json!(MEAN_48.as_slice());
            config["latents_std"] = json!(DEVIATION_48.as_slice());
        }
        _ => {
            let rule =
                "16 (Wan 2.1) or 48 (Wan 2.2) latent channels, whose mean and deviation are known, or a config.json";
            return Err(Error::weights("post_quant_conv.weight", rule, format!("{z_dim}")));
        }
    }
    let name = match (z_dim, base_dim) {
        (16, 96) => "Wan 2.1 VAE".into(),
        (48, 160) => "Wan 2.2 VAE".into(),
        (16, 24) => "lightvaew2_1 (Wan 2.1 VAE at a quarter of its width)".into(),
        _ => format!("Wan VAE of width {base_dim}, {z_dim} latent channels"),
    };
    Ok(Known::part(name, config))
}

// Statistics of the published Wan 2.2 VAE, `wan/modules/vae2_2.py`.
const MEAN_48: [f32; 48] = [
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891, 0.1570,
    -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502, -0.2055, -0.0322,
    0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520,
    0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
];
const DEVIATION_48: [f32; 48] = [
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165,
    0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659, 0.7069, 0.5338, 0.4889, 0.4917,
    0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600,
    0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
];
