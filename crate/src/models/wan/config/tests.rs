//! Configurations that are refused.

use super::*;

#[test]
fn a_vae_whose_levels_do_not_match_its_scale_is_refused() {
    let config = VaeConfig { dim_mult: vec![1, 2], temperal_downsample: vec![true], ..VaeConfig::default() };
    assert!(config.check("vae/config.json").is_err());
    assert!(VaeConfig::default().check("vae/config.json").is_ok());
}

fn vae(change: impl Fn(&mut VaeConfig)) -> String {
    let mut config = VaeConfig::default();
    change(&mut config);
    config.check("vae/config.json").err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn numbers_of_a_vae_that_could_only_end_in_a_fault_are_named() {
    assert!(vae(|c| c.latents_std[3] = f32::INFINITY).contains("vae/config.json: latents_std[3]: expected a finite"));
    assert!(vae(|c| c.latents_std[0] = 0.0).contains("latents_std[0]"));
    assert!(vae(|c| c.latents_mean[1] = f32::NAN).contains("latents_mean[1]"));
    assert!(vae(|c| c.patch_size = Some(1 << 30)).contains("patch_size"));
    assert!(vae(|c| c.decoder_base_dim = Some(0)).contains("decoder_base_dim"));
    assert!(vae(|c| c.dim_mult[2] = 0).contains("dim_mult[2]"));
    assert!(vae(|c| c.out_channels = 12).contains("out_channels: expected 3"));
}

#[test]
fn numbers_of_a_transformer_that_could_only_end_in_a_fault_are_named() {
    let text = |change: fn(&mut TransformerConfig)| {
        let mut config = TransformerConfig::default();
        change(&mut config);
        config.check("transformer/config.json").err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(text(|_| ()), "");
    assert!(text(|c| c.num_attention_heads = usize::MAX / 64 + 2).contains("json: num_attention_heads"));
    assert!(text(|c| c.eps = -1e-6).contains("eps: expected a finite number above 0"));
    assert!(text(|c| c.eps = 1e-60).contains("eps"));
    assert!(text(|c| c.vace_layers = vec![0, 5, 5]).contains("each once"));
    assert!(text(|c| c.patch_size[1] = 0).contains("patch_size[1]"));
    assert!(text(|c| c.gate_value = f64::NAN).contains("gate_value: expected a number from 0 to 1"));
    let flow_map = text(|c| (c.class, c.image_dim) = (FLOW_MAP_CLASS.into(), Some(1280)));
    assert!(flow_map.contains("image_dim: expected none for AnyFlowTransformer3DModel"), "{flow_map}");
}
