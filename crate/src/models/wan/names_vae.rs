//! Original Wan VAE names ↔ diffusers `AutoencoderKLWan` names, for both families.
//!
//! Wan 2.1 keeps one flat list per side (`decoder.upsamples.K`), Wan 2.2 a list of lists
//! (`decoder.upsamples.B.upsamples.J`); diffusers groups the decoder by block in both.

use crate::weights::rename::{Direction, Naming, Renamer, replace_head};

/// The original names of Wan's VAE, 2.1 or 2.2.
pub struct VaeNames;

impl Naming for VaeNames {
    fn is_foreign(&self, name: &str) -> bool {
        is_original(name)
    }

    fn to_diffusers(&self, names: &[&str]) -> Renamer {
        let layout = Layout::of_original(names.iter().copied());
        Box::new(move |name, info| (to_diffusers(name, layout), info.shape.clone()))
    }

    fn covers(&self, names: &[&str]) -> bool {
        names.iter().any(|n| is_diffusers(n))
    }

    fn to_foreign(&self, names: &[&str]) -> Box<dyn Fn(&str) -> String> {
        let layout = Layout::of_diffusers(names.iter().copied());
        Box::new(move |name| to_original(name, layout))
    }
}

/// diffusers, original: inside a residual block.
const RESNET: &[(&str, &str)] = &[
    ("norm1", "residual.0"),
    ("conv1", "residual.2"),
    ("norm2", "residual.3"),
    ("conv2", "residual.6"),
    ("conv_shortcut", "shortcut"),
];

/// diffusers, original: at the ends.
const ENDS: &[(&str, &str)] = &[
    ("quant_conv", "conv1"),
    ("post_quant_conv", "conv2"),
    ("encoder.conv_in", "encoder.conv1"),
    ("encoder.norm_out", "encoder.head.0"),
    ("encoder.conv_out", "encoder.head.2"),
    ("decoder.conv_in", "decoder.conv1"),
    ("decoder.norm_out", "decoder.head.0"),
    ("decoder.conv_out", "decoder.head.2"),
    ("encoder.mid_block.attentions.0", "encoder.middle.1"),
    ("decoder.mid_block.attentions.0", "decoder.middle.1"),
];

/// What the numbering depends on.
#[derive(Debug, Clone, Copy, Default)]
struct Layout {
    /// Residual blocks per level of the encoder (the decoder has one more); `None` if no level is resampled.
    num_res_blocks: Option<usize>,
    /// True for Wan 2.2, whose levels are lists of their own.
    nested: bool,
}

impl Layout {
    fn of_original<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut layout = Self::default();
        for name in names {
            let path: Vec<&str> = name.split('.').collect();
            match path[..] {
                [_, "downsamples", _, "downsamples", ..] | [_, "upsamples", _, "upsamples", ..] => layout.nested = true,
                // The first resampler closes the first level: n + 1 residual blocks precede it.
                ["decoder", "upsamples", k, ref rest @ ..] if is_resampler(rest) => {
                    let n = k.parse().ok().and_then(|k: usize| k.checked_sub(1));
                    layout.num_res_blocks = n.into_iter().chain(layout.num_res_blocks).min();
                }
                _ => {}
            }
        }
        layout
    }

    fn of_diffusers<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut layout = Self::default();
        for name in names {
            let path: Vec<&str> = name.split('.').collect();
            match path[..] {
                ["decoder", "up_blocks", _, "resnets", j, ..] => {
                    layout.num_res_blocks = layout.num_res_blocks.max(j.parse().ok())
                }
                ["encoder", "down_blocks", _, "resnets", j, ..] => {
                    layout.nested = true;
                    layout.num_res_blocks = layout.num_res_blocks.max(j.parse().ok().map(|j: usize| j + 1));
                }
                _ => {}
            }
        }
        layout
    }

    /// Entries per level in the flat list of the decoder.
    fn stride(self) -> usize {
        self.num_res_blocks.map_or(usize::MAX, |n| n.saturating_add(2))
    }
}

/// True for a name that only the original uses.
fn is_original(name: &str) -> bool {
    ["encoder.downsamples.", "decoder.upsamples.", "encoder.middle.", "decoder.middle."]
        .iter()
        .any(|m| name.starts_with(m))
}

/// True for a name that only diffusers' Wan VAE uses.
fn is_diffusers(name: &str) -> bool {
    ["encoder.mid_block.", "decoder.mid_block."].iter().any(|m| name.starts_with(m))
}

fn is_resampler(rest: &[&str]) -> bool {
    matches!(rest.first(), Some(&("resample" | "time_conv")))
}

fn to_diffusers(name: &str, layout: Layout) -> String {
    let path: Vec<&str> = name.split('.').collect();
    let resnet = |rest: &[&str]| replace_head(&rest.join("."), RESNET, Direction::Backward);
    match path[..] {
        [side, "middle", k @ ("0" | "2"), ref rest @ ..] => {
            format!("{side}.mid_block.resnets.{}.{}", if k == "0" { 0 } else { 1 }, resnet(rest))
        }
        ["encoder", "downsamples", b, "downsamples", _, ref rest @ ..] if is_resampler(rest) => {
            format!("encoder.down_blocks.{b}.downsampler.{}", rest.join("."))
        }
        ["encoder", "downsamples", b, "downsamples", j, ref rest @ ..] => {
            format!("encoder.down_blocks.{b}.resnets.{j}.{}", resnet(rest))
        }
        ["encoder", "downsamples", k, ref rest @ ..] => format!("encoder.down_blocks.{k}.{}", resnet(rest)),
        ["decoder", "upsamples", b, "upsamples", _, ref rest @ ..] if is_resampler(rest) => {
            format!("decoder.up_blocks.{b}.upsampler.{}", rest.join("."))
        }
        ["decoder", "upsamples", b, "upsamples", j, ref rest @ ..] => {
            format!("decoder.up_blocks.{b}.resnets.{j}.{}", resnet(rest))
        }
        ["decoder", "upsamples", k, ref rest @ ..] => {
            let Ok(k) = k.parse::<usize>() else { return name.to_owned() };
            let (b, j) = (k / layout.stride(), k % layout.stride());
            if is_resampler(rest) {
                format!("decoder.up_blocks.{b}.upsamplers.0.{}", rest.join("."))
            } else {
                format!("decoder.up_blocks.{b}.resnets.{j}.{}", resnet(rest))
            }
        }
        _ => replace_head(name, ENDS, Direction::Backward),
    }
}

fn to_original(name: &str, layout: Layout) -> String {
    let path: Vec<&str> = name.split('.').collect();
    let resnet = |rest: &[&str]| replace_head(&rest.join("."), RESNET, Direction::Forward);
    let n = layout.num_res_blocks.unwrap_or(0);
    let flat = |b: &str, j: usize| b.parse::<usize>().map_or(j, |b| b.saturating_mul(n + 2).saturating_add(j));
    match path[..] {
        [side, "mid_block", "resnets", k, ref rest @ ..] => {
            format!("{side}.middle.{}.{}", if k == "0" { 0 } else { 2 }, resnet(rest))
        }
        ["encoder", "down_blocks", b, "resnets", j, ref rest @ ..] => {
            format!("encoder.downsamples.{b}.downsamples.{j}.{}", resnet(rest))
        }
        ["encoder", "down_blocks", b, "downsampler", ref rest @ ..] => {
            format!("encoder.downsamples.{b}.downsamples.{n}.{}", rest.join("."))
        }
        ["encoder", "down_blocks", k, ref rest @ ..] => format!("encoder.downsamples.{k}.{}", resnet(rest)),
        ["decoder", "up_blocks", b, "resnets", j, ref rest @ ..] if layout.nested => {
            format!("decoder.upsamples.{b}.upsamples.{j}.{}", resnet(rest))
        }
        ["decoder", "up_blocks", b, "upsampler", ref rest @ ..] => {
            format!("decoder.upsamples.{b}.upsamples.{}.{}", n + 1, rest.join("."))
        }
        ["decoder", "up_blocks", b, "resnets", j, ref rest @ ..] => {
            format!("decoder.upsamples.{}.{}", flat(b, j.parse().unwrap_or(0)), resnet(rest))
        }
        ["decoder", "up_blocks", b, "upsamplers", "0", ref rest @ ..] => {
            format!("decoder.upsamples.{}.{}", flat(b, n + 1), rest.join("."))
        }
        _ => replace_head(name, ENDS, Direction::Forward),
    }
}
