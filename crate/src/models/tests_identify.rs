//! Models told by their tensors: the published ones by their true shapes, without their data.

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

use serde_json::json;

use super::clip::ClipVisionConfig;
use super::names;
use super::registry::{Registry, Role};
use super::taehv::TaehvConfig;
use super::tests::set_of;
use super::umt5::Umt5Config;
use super::wan::{TransformerConfig, VaeConfig};
use crate::error::Result;
use crate::weights::{ByteSource, WeightFile, WeightSet};

/// A file of which only the header is there.
#[derive(Debug)]
struct Header {
    bytes: Vec<u8>,
    len: u64,
}

impl ByteSource for Header {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_now(&self, range: Range<u64>) -> Result<Option<Cow<'_, [u8]>>> {
        let at = |offset: u64| (offset as usize).min(self.bytes.len());
        let mut bytes = self.bytes[at(range.start)..at(range.end)].to_vec();
        bytes.resize((range.end - range.start) as usize, 0);
        Ok(Some(Cow::Owned(bytes)))
    }
}

/// A set of bf16 tensors of these shapes.
fn shapes(tensors: &[(&str, &[usize])]) -> WeightSet {
    let (mut header, mut at) = (serde_json::Map::new(), 0usize);
    for (name, shape) in tensors {
        let end = at + 2 * shape.iter().product::<usize>();
        header.insert((*name).into(), json!({ "dtype": "BF16", "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    let mut text = serde_json::Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    let len = (bytes.len() + at) as u64;
    let file = WeightFile::open_now(Rc::new(Header { bytes, len }), "shapes.safetensors").unwrap();
    names::to_diffusers(WeightSet::new(vec![file]).unwrap()).unwrap()
}

fn wan(hidden: usize, ffn: usize, input: usize, output: usize, last: usize, more: &[(&str, &[usize])]) -> WeightSet {
    let block = format!("model.diffusion_model.blocks.{last}.self_attn.q.weight");
    let mut tensors: Vec<(&str, &[usize])> = more.to_vec();
    let (patch, head, q) = ([hidden, input, 1, 2, 2], [output * 4, hidden], [hidden, hidden]);
    let (time, text, up, norm) = ([hidden, 256], [hidden, 4096], [ffn, hidden], [hidden]);
    let projection = [6 * hidden, hidden];
    tensors.extend([
        ("model.diffusion_model.patch_embedding.weight", patch.as_slice()),
        ("model.diffusion_model.head.head.weight", &head),
        ("model.diffusion_model.time_embedding.0.weight", &time),
        ("model.diffusion_model.time_projection.1.weight", &projection),
        ("model.diffusion_model.text_embedding.0.weight", &text),
        ("model.diffusion_model.blocks.0.ffn.0.weight", &up),
        ("model.diffusion_model.blocks.0.norm3.weight", &norm),
        (&block, &q),
    ]);
    shapes(&tensors)
}

fn transformer(set: &WeightSet) -> (String, TransformerConfig, f64) {
    let (role, known) = Registry::default().identify(set).unwrap().unwrap();
    assert_eq!(role, Role::Denoiser);
    let config: TransformerConfig = serde_json::from_value(known.config).unwrap();
    config.check("transformer/config.json").unwrap();
    known.defaults.check().unwrap();
    assert!(known.defaults.negative_prompt.is_some_and(|text| text.starts_with("色调艳丽") && !text.contains(' ')));
    (known.name, config, known.scheduler.unwrap()["flow_shift"].as_f64().unwrap())
}

#[test]
fn the_published_transformers_are_known_by_their_shapes() {
    let (name, config, shift) = transformer(&wan(1536, 8960, 16, 16, 29, &[]));
    assert_eq!((name.as_str(), shift), ("Wan 2.1 T2V 1.3B", 3.0));
    assert_eq!((config.num_attention_heads, config.num_layers, config.ffn_dim, config.text_dim), (12, 30, 8960, 4096));
    assert_eq!((config.in_channels, config.out_channels(), config.cross_attn_norm), (16, 16, true));
    assert!(config.vace_layers.is_empty() && !config.expand_timesteps);

    let vace: [(&str, &[usize]); 2] = [
        ("model.diffusion_model.vace_patch_embedding.weight", &[1536, 96, 1, 2, 2]),
        ("model.diffusion_model.vace_blocks.14.after_proj.weight", &[1536, 1536]),
    ];
    let (name, config, _) = transformer(&wan(1536, 8960, 16, 16, 29, &vace));
    assert_eq!((name.as_str(), config.vace_in_channels), ("Wan 2.1 VACE 1.3B", 96));
    assert_eq!(config.vace_layers, (0..15).map(|i| 2 * i).collect::<Vec<_>>());

    let (name, config, shift) = transformer(&wan(3072, 14336, 48, 48, 29, &[]));
    assert_eq!((name.as_str(), shift, config.expand_timesteps), ("Wan 2.2 TI2V 5B", 5.0, true));
    let (name, config, _) = transformer(&wan(5120, 13824, 36, 16, 39, &[]));
    assert_eq!((name.as_str(), config.in_channels, config.num_attention_heads), ("Wan I2V 14B", 36, 40));

    let second: (&str, &[usize]) = ("condition_embedder.delta_embedder.linear_1.weight", &[1536, 256]);
    let (_, known) = Registry::default().identify(&wan(1536, 8960, 16, 16, 29, &[second])).unwrap().unwrap();
    let scheduler = known.scheduler.unwrap();
    assert_eq!(known.name, "Wan AnyFlow 1.3B");
    assert_eq!(known.config["_class_name"], "AnyFlowTransformer3DModel");
    assert_eq!(
        (&scheduler["_class_name"], scheduler["shift"].as_f64()),
        (&json!("FlowMapEulerDiscreteScheduler"), Some(5.0))
    );
    assert_eq!((known.defaults.num_steps, known.defaults.guidance_scale), (Some(4), Some(1.0)));
    let far: (&str, &[usize]) = ("far_patch_embedding.weight", &[1536, 16, 1, 4, 4]);
    let causal = Registry::default().identify(&wan(1536, 8960, 16, 16, 29, &[second, far])).unwrap_err().to_string();
    assert!(causal.contains("makes all frames at once, found a causal one"), "{causal}");

    let odd = Registry::default().identify(&wan(48, 96, 4, 4, 1, &[])).unwrap_err().to_string();
    assert!(odd.contains("a multiple of 128, every published Wan's head, or a config.json, found width 48"), "{odd}");
}

#[test]
fn the_published_image_encoder_is_known_by_its_shapes() {
    let at = |prefix: &str| {
        let shapes_of: [(&str, &[usize]); 5] = [
            ("embeddings.class_embedding", &[1280]),
            ("embeddings.patch_embedding.weight", &[1280, 3, 14, 14]),
            ("embeddings.position_embedding.weight", &[257, 1280]),
            ("encoder.layers.0.mlp.fc1.weight", &[5120, 1280]),
            ("encoder.layers.31.mlp.fc1.weight", &[5120, 1280]),
        ];
        let named: Vec<(String, &[usize])> =
            shapes_of.iter().map(|(name, s)| (format!("{prefix}{name}"), *s)).collect();
        shapes(&named.iter().map(|(name, shape)| (name.as_str(), *shape)).collect::<Vec<_>>())
    };
    // Wan's own file, with some of the text encoder that lies beside.
    let wans = shapes(&[
        ("visual.cls_embedding", &[1, 1, 1280]),
        ("visual.patch_embedding.weight", &[1280, 3, 14, 14]),
        ("visual.pos_embedding", &[1, 257, 1280]),
        ("visual.transformer.0.attn.to_qkv.weight", &[3840, 1280]),
        ("visual.transformer.0.mlp.0.weight", &[5120, 1280]),
        ("visual.transformer.31.mlp.0.weight", &[5120, 1280]),
        ("visual.head", &[1280, 1024]),
        ("textual.blocks.0.attn.q.weight", &[1024, 1024]),
        ("textual.token_embedding.weight", &[250_002, 1024]),
        ("log_scale", &[]),
    ]);
    assert_eq!(wans.len(), 6);
    for set in [at("vision_model."), at(""), wans] {
        let (role, known) = Registry::default().identify(&set).unwrap().unwrap();
        assert_eq!((role, known.name.as_str()), (Role::ImageEncoder, "CLIP ViT-H"));
        let config: ClipVisionConfig = serde_json::from_value(known.config).unwrap();
        config.check("image_encoder/config.json").unwrap();
        assert_eq!((config.image_size, config.tokens(), config.num_hidden_layers), (224, 257, 32));
        assert_eq!((config.num_attention_heads, config.intermediate_size), (16, 5120));
    }
    let other = shapes(&[
        ("vision_model.embeddings.class_embedding", &[1024]),
        ("vision_model.embeddings.patch_embedding.weight", &[1024, 3, 14, 14]),
    ]);
    let why = Registry::default().identify(&other).unwrap_err().to_string();
    assert!(why.contains("width 1280, of the ViT-H that Wan uses, or a config.json, found width 1024"), "{why}");
}

fn codec(set: &WeightSet) -> (String, serde_json::Value) {
    let (role, known) = Registry::default().identify(set).unwrap().unwrap();
    assert_eq!(role, Role::Codec);
    (known.name, known.config)
}

#[test]
fn the_vaes_are_known_by_their_shapes() {
    let vae = |z: usize, encoder: usize, decoder: usize, pixels: usize, more: (&str, &[usize])| {
        let config = codec(&shapes(&[
            ("model.conv2.weight", &[z, z, 1, 1, 1]),
            ("model.encoder.conv1.weight", &[encoder, pixels, 3, 3, 3]),
            ("model.decoder.conv1.weight", &[4 * decoder, z, 3, 3, 3]),
            ("model.decoder.head.2.weight", &[pixels, decoder, 3, 3, 3]),
            ("model.decoder.middle.0.residual.2.weight", &[4 * decoder, 4 * decoder, 3, 3, 3]),
            more,
        ]));
        let parsed: VaeConfig = serde_json::from_value(config.1).unwrap();
        parsed.check("vae/config.json").unwrap();
        (config.0, parsed)
    };
    let flat: (&str, &[usize]) = ("model.decoder.upsamples.3.resample.1.weight", &[192, 384, 3, 3]);
    let (name, config) = vae(16, 96, 96, 3, flat);
    assert_eq!((name.as_str(), config.base_dim, config.is_residual), ("Wan 2.1 VAE", 96, false));
    assert_eq!(config.latents_mean, VaeConfig::default().latents_mean);
    let (name, config) = vae(16, 24, 24, 3, flat);
    assert!(name.starts_with("lightvaew2_1") && config.base_dim == 24, "{name}");
    let nested: (&str, &[usize]) = ("model.decoder.upsamples.0.upsamples.3.resample.1.weight", &[1024, 1024, 3, 3]);
    let (name, config) = vae(48, 160, 256, 12, nested);
    assert_eq!((name.as_str(), config.is_residual, config.decoder_base_dim), ("Wan 2.2 VAE", true, Some(256)));
    assert_eq!((config.patch(), config.scale_factor_spatial, config.latents_std.len()), (2, 16, 48));
}

#[test]
fn tiny_decoders_are_known_by_their_shapes() {
    let tiny = |z: usize, pixels: usize, encoder: bool| {
        let mut tensors: Vec<(&str, &[usize])> = Vec::new();
        let (first, last, stem) = ([256, z, 3, 3], [pixels, 64, 3, 3], [64, pixels, 3, 3]);
        tensors.extend([
            ("decoder.1.weight", first.as_slice()),
            ("decoder.3.conv.0.weight", &[256, 512, 3, 3]),
            ("decoder.8.weight", &[128, 256, 3, 3]),
            ("decoder.14.weight", &[64, 128, 3, 3]),
            ("decoder.20.weight", &[64, 64, 3, 3]),
            ("decoder.22.weight", &last),
        ]);
        if encoder {
            tensors.push(("encoder.0.weight", &stem));
        }
        let (name, config) = codec(&shapes(&tensors));
        let config: TaehvConfig = serde_json::from_value(config).unwrap();
        config.check("vae/config.json").unwrap();
        (name, config)
    };
    let (name, config) = tiny(16, 3, true);
    assert_eq!((name.as_str(), config.patch_size, config.encoder_width), ("TAEHV for Wan 2.1 (taew2_1)", 1, Some(64)));
    assert_eq!(config.widths, [256, 128, 64, 64]);
    let (name, config) = tiny(48, 12, false);
    assert_eq!((name.as_str(), config.patch_size, config.encoder_width), ("TAEHV for Wan 2.2 (taew2_2)", 2, None));
    assert!(!config.is_super);
}

#[test]
fn the_larger_tiny_decoder_is_known_by_its_shapes() {
    let large = |z: usize| {
        let first = [512, z, 1, 1];
        let (name, config) = codec(&shapes(&[
            ("decoder.0.weight", &first),
            ("decoder.1.conv.0.weight", &[1024, 1, 7, 7]),
            ("decoder.1.conv.1.weight", &[2048, 1024, 1, 1]),
            ("decoder.1.conv.3.weight", &[512, 2048, 1, 1]),
            // The third block, where the other variant has its first.
            ("decoder.3.conv.0.weight", &[1024, 1, 7, 7]),
            ("decoder.4.weight", &[1024, 512, 3, 3]),
            ("decoder.7.conv.weight", &[256, 256, 1, 1]),
            ("decoder.14.conv.weight", &[256, 128, 1, 1]),
            ("decoder.21.conv.weight", &[128, 64, 1, 1]),
            ("decoder.22.weight", &[12, 64, 3, 3]),
            ("encoder.0.weight", &[64, 12, 3, 3]),
        ]));
        let config: TaehvConfig = serde_json::from_value(config).unwrap();
        config.check("vae/config.json").unwrap();
        assert_eq!((config.latent_channels, config.patch_size, config.is_super), (z, 2, true));
        assert_eq!((config.widths, config.encoder_width), (vec![512, 256, 128, 64], Some(64)));
        name
    };
    assert_eq!(large(48), "TAEHV for Wan 2.2 (taew2_2_super)");
    // Hunyuan Video 1.5's.
    assert_eq!(large(32), "TAEHV \"super\" for 32 latent channels");
}

#[test]
fn the_text_encoder_is_known_by_its_shapes_under_all_three_schemes_of_names() {
    let check = |tensors: &[(&str, &[usize])]| {
        let (role, known) = Registry::default().identify(&shapes(tensors)).unwrap().unwrap();
        let config: Umt5Config = serde_json::from_value(known.config).unwrap();
        config.check("text_encoder/config.json").unwrap();
        assert_eq!((role, known.name.as_str()), (Role::TextEncoder, "umT5-xxl encoder"));
        assert_eq!((config.vocab_size, config.d_model, config.d_kv, config.num_heads), (256_384, 4096, 64, 64));
        assert_eq!((config.d_ff, config.num_layers, config.relative_attention_num_buckets), (10_240, 24, 32));
    };
    check(&[
        ("shared.weight", &[256_384, 4096]),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", &[4096, 4096]),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", &[32, 64]),
        ("encoder.block.0.layer.1.DenseReluDense.wi_0.weight", &[10_240, 4096]),
        ("encoder.block.23.layer.0.layer_norm.weight", &[4096]),
    ]);
    check(&[
        ("token_embd.weight", &[256_384, 4096]),
        ("enc.blk.0.attn_q.weight", &[4096, 4096]),
        ("enc.blk.0.attn_rel_b.weight", &[32, 64]),
        ("enc.blk.0.ffn_gate.weight", &[10_240, 4096]),
        ("enc.blk.23.attn_norm.weight", &[4096]),
    ]);
    check(&[
        ("token_embedding.weight", &[256_384, 4096]),
        ("blocks.0.attn.q.weight", &[4096, 4096]),
        ("blocks.0.pos_embedding.embedding.weight", &[32, 64]),
        ("blocks.0.ffn.gate.0.weight", &[10_240, 4096]),
        ("blocks.23.norm1.weight", &[4096]),
    ]);
}

#[test]
fn the_fixtures_text_encoder_has_the_sizes_of_its_configuration() {
    let (_, known) = Registry::default().identify(&set_of("umt5/weights.safetensors")).unwrap().unwrap();
    let said: serde_json::Value = serde_json::from_slice(&super::tests::fixture("umt5/config.json")).unwrap();
    for field in ["vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads", "relative_attention_num_buckets"]
    {
        assert_eq!(known.config[field], said["weights"][field], "{field}");
    }
}
