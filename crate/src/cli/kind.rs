//! What a weight file is, by its tensors: for `inspect`.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::names;
use crate::models::registry::Registry;
use crate::pipeline::bytes_on;
use crate::weights::{TensorInfo, WeightFile, WeightSet, lora};

/// Name, role and configuration of a model, or the ranks of a LoRA; null for anything else.
pub fn of(files: &[WeightFile]) -> Result<Value> {
    let downs: Vec<&TensorInfo> = files.iter().flat_map(lora::downs).collect();
    if !downs.is_empty() {
        let mut ranks: Vec<usize> = downs.iter().filter_map(|info| info.shape.first().copied()).collect();
        ranks.sort_unstable();
        ranks.dedup();
        return Ok(json!({ "name": "LoRA", "role": "lora", "layers": downs.len(), "ranks": ranks }));
    }
    let set = names::to_diffusers(WeightSet::new(files.to_vec())?)?;
    let known = match Registry::default().identify(&set) {
        Ok(known) => known,
        // Tensors that tell its sizes are missing: the report says so instead of failing.
        Err(why) => return Ok(json!({ "problem": why.to_string() })),
    };
    let Some((role, known)) = known else { return Ok(Value::Null) };
    let memory = bytes_on(true, &set);
    Ok(json!({ "name": known.name, "role": role.words(), "config": known.config, "memoryOnGpu": memory }))
}

/// In words, for the head of a report; `size` puts bytes into words.
pub fn words(kind: &Value, size: impl Fn(u64) -> String) -> Option<String> {
    if let Some(problem) = kind["problem"].as_str() {
        return Some(format!("cannot be told by its tensors: {problem}"));
    }
    let name = kind["name"].as_str()?;
    Some(match kind["role"].as_str() {
        Some("lora") => format!("{name} of {} layers, rank {}", kind["layers"], kind["ranks"]),
        role => {
            let memory = size(kind["memoryOnGpu"].as_u64().unwrap_or(0));
            format!("{name} ({}), about {memory} of weights on a GPU", role.unwrap_or_default())
        }
    })
}
