//! The tokenizer and the text encoder.

use pollster::block_on;
use tabreel::config;
use tabreel::device::Compute;
use tabreel::host::SilentHost;
use tabreel::models::umt5::{Umt5Config, Umt5Encoder};
use tabreel::nn::loader::Loader;
use tabreel::pace::Pace;
use tabreel::tokenizer::Tokenizer;
use tabreel_tests::Case;

use crate::models::{say, weights};

/// A padded batch through the encoder, from each weight file that the case has: under transformers' names, Wan's and llama.cpp's.
pub fn umt5(case: &mut Case, compute: &Compute) -> Result<(), String> {
    let json = case.config["weights"].to_string();
    let config: Umt5Config = config::parse(json.as_bytes(), "weights", &["UMT5EncoderModel"]).map_err(say)?;
    for file in ["weights.safetensors", "weights_original.pth", "weights.gguf"] {
        if !case.dir.join(file).exists() {
            continue;
        }
        let set = weights(case, file)?;
        let encoder = block_on(Umt5Encoder::load(&Loader::new(&set, compute.device()), &config)).map_err(say)?;
        let ids = case.get("in.input_ids")?;
        let batch = ids.shape[0];
        let ids: Vec<u32> = ids.values.iter().map(|&v| v as u32).collect();
        let mask: Vec<u8> = case.get("in.attention_mask")?.values.iter().map(|&v| v as u8).collect();
        let pace = Pace::new(&SilentHost, compute);
        let embeds = block_on(encoder.forward(&ids, &mask, batch, &pace)).map_err(say)?;
        case.compare_tensor("out.last_hidden_state", embeds);
    }
    Ok(())
}

/// The ids of each text: all of them right is 0, any wrong one fails.
pub fn tokenizer(case: &mut Case) -> Result<(), String> {
    let read = |name: &str| std::fs::read(case.dir.join(name)).map_err(|e| format!("{name}: {e}"));
    let expected: serde_json::Value = serde_json::from_slice(&read("expected.json")?).map_err(say)?;
    let tokenizer = Tokenizer::from_json(&read("tokenizer.json")?).map_err(say)?;
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let texts = list(&expected["texts"]);
    for (text, ids) in texts.iter().zip(list(&expected["ids_transformers"])) {
        let text = text.as_str().unwrap_or_default();
        let ids: Vec<u32> = list(&ids).iter().map(|id| id.as_u64().unwrap_or(u64::MAX) as u32).collect();
        let found = tokenizer.encode(text, 512).map_err(say)?;
        let same = found.ids == ids && found.kept == found.total;
        case.results.push((
            format!("ids of {text:?}"),
            if same { Ok(0.0) } else { Err(format!("{:?}, expected {ids:?}", found.ids)) },
        ));
    }
    Ok(())
}
