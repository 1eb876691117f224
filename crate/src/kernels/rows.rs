//! Launching kernels that reduce over rows: one thread a row on software adapters, a workgroup a row on others.

use super::launch::{Shader, Template, fill, fold};

const ROWS: Template = Template(include_str!("rows.wgsl"));

/// A row kernel's shader and its dispatch; `part` names the placeholder and the section that makes the variant.
pub fn row_shader(
    name: &'static str,
    template: Template,
    part: (&'static str, &'static str),
    rows: usize,
    software: bool,
) -> (Shader, [u32; 3]) {
    let (threads, count) = if software { (8, fold(rows.div_ceil(8))) } else { (64, fold(rows)) };
    let source = move || {
        fill(
            template.section("kernel"),
            &[
                (part.0, template.section(part.1)),
                ("rows", ROWS.section(if software { "software" } else { "gpu" })),
                ("wg", &threads.to_string()),
            ],
        )
    };
    (Shader { name, key: format!("{} {threads}", part.1), source: Box::new(source), threads }, count)
}
