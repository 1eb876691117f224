//! Writes `pkg/src/contract.ts`, and fails while it is not what the types and the table of options say.

use std::fmt::Write as _;
use std::path::PathBuf;

use ts_rs::{Config, TS};

use super::{
    EngineCondition, EngineInfo, EngineModel, EnginePicture, EnginePiece, EngineResult, KernelFinding, KernelReport,
    TokenCount,
};
use crate::condition::{Capabilities, Fit, MOST_CLIP_BYTES};
use crate::device::{AdapterInfo, DeviceChoice};
use crate::error::{ErrorCode, ErrorReport};
use crate::host::{Event, Stage};
use crate::kernels::Kernel;
use crate::options::{
    CALLER_OPTIONS, Fallback, GUIDED_ABOVE, Kind, MODEL_OPTIONS, MOST_NUMBERS, Multiple, OptionSpec, Preset, Rules,
    Value,
};
use crate::pipeline::{
    BINDINGS, InspectedPart, Inspection, LEAST_BUDGET, MOST_BUDGET, MOST_TEXT_BYTES, Plan, PlannedPart, TAB_BUDGET,
    TAB_MEMORY, WEIGHT_STEMS, WEIGHTS,
};
use crate::tasks::MOST_ADDED;

const HEAD: &str = "/** What the engine and its callers agree on. Written from the Rust types by `npm run contract`: do not edit. */\n";

#[test]
fn the_committed_typescript_is_what_the_rust_types_say() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../pkg/src/contract.ts");
    let wanted = contract();
    if std::env::var_os("TABREEL_WRITE").is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == wanted, "pkg/src/contract.ts is out of date: run `npm run contract`");
}

fn contract() -> String {
    let mut out = HEAD.to_owned();
    type_of::<DeviceChoice>(&mut out);
    type_of::<AdapterInfo>(&mut out);
    type_of::<EngineInfo>(&mut out);
    type_of::<Rules>(&mut out);
    type_of::<Capabilities>(&mut out);
    type_of::<PlannedPart>(&mut out);
    type_of::<Plan>(&mut out);
    type_of::<InspectedPart>(&mut out);
    type_of::<Inspection>(&mut out);
    type_of::<EngineModel>(&mut out);
    type_of::<Fit>(&mut out);
    type_of::<EnginePicture>(&mut out);
    type_of::<EnginePiece>(&mut out);
    type_of::<EngineCondition>(&mut out);
    type_of::<TokenCount>(&mut out);
    type_of::<EngineResult>(&mut out);
    type_of::<Stage>(&mut out);
    type_of::<Event>(&mut out);
    type_of::<ErrorCode>(&mut out);
    type_of::<ErrorReport>(&mut out);
    let codes = ErrorCode::ALL.map(|code| serde_json::to_value(code).unwrap().as_str().unwrap().to_owned());
    let codes = quoted(codes.iter().map(String::as_str)).join(", ");
    out += &format!(
        "\n/** All error codes. */\nexport const ERROR_CODES = [{codes}] as const satisfies readonly TabreelErrorCode[];\n"
    );
    let kernels = quoted(Kernel::ALL.iter().map(|kernel| kernel.name())).join(" | ");
    out += &format!("\n/** A kernel's name in reports. */\nexport type KernelName = {kernels};\n");
    type_of::<KernelFinding>(&mut out);
    type_of::<KernelReport>(&mut out);
    options(&mut out);
    out
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.map(|name| format!("'{name}'")).collect()
}

fn type_of<T: TS>(out: &mut String) {
    let config = Config::new().with_large_int("number");
    let docs = T::docs().unwrap_or_default();
    let text = format!("\n{docs}export {}\n", T::decl(&config));
    // Rust's links are no links here.
    out.push_str(&text.replace("[`", "`").replace("`]", "`"));
}

/// The table and the types made of it.
fn options(out: &mut String) {
    out.push_str(
        "\n/** One row of the table of options. */\nexport interface OptionSpec {\n  /** What kind of value it takes. */\n  readonly kind: 'text' | 'label' | 'whole' | 'number' | 'choice' | 'list' | 'flag';\n  /** What a 'choice' chooses among. */\n  readonly choices?: readonly string[];\n  \
         /** What it does. */\n  readonly doc: string;\n  /** What the number counts; empty without a unit. */\n  readonly unit: string;\n  /** The command line's flag, and the name in a shared link. */\n  readonly flag?: string;\n  \
         /** The least. */\n  readonly min?: number;\n  /** The most. */\n  readonly max?: number;\n  /** True if `min` itself is not allowed. */\n  readonly aboveMin?: boolean;\n  \
         /** Which of the model's multiples a size keeps to. */\n  readonly multiple?: keyof SizeRules;\n  /** What stands in for a missing value; missing itself where that is no constant. */\n  \
         readonly default?: string | number | boolean;\n}\n",
    );
    let _ = write!(
        out,
        "\n/** Guidance up to here is none: a step takes one pass of the model instead of two. */\nexport const GUIDED_ABOVE = {GUIDED_ABOVE};\n\n/** The most numbers of an option that is a list. */\nexport const MOST_NUMBERS = {MOST_NUMBERS};\n"
    );
    // Previews are asked for by listening to them.
    let caller: Vec<&OptionSpec> = CALLER_OPTIONS.iter().filter(|row| row.kind != Kind::Flag).collect();
    let all = || caller.iter().copied().chain(MODEL_OPTIONS);
    out.push_str("\n/** What a clip is made from. Everything but the prompt (by a model of classes: the class) has a default, which the model suggests. */\nexport interface ClipOptions {\n");
    for row in all() {
        let optional = if row.default == Fallback::Required { "" } else { "?" };
        field(out, row, optional, "");
    }
    out.push_str("}\n\n/** Everything that makes the same clip again, with nothing left open. */\nexport interface ClipRecipe {\n");
    // A preset is what it stands for by then.
    for row in all().filter(|row| row.name != "preset") {
        let open = matches!(row.default, Fallback::Words(_)) && row.name != "seed";
        field(out, row, if open { "?" } else { "" }, "");
    }
    out.push_str("}\n\n/** What a model suggests. */\nexport interface ModelDefaults {\n");
    for row in MODEL_OPTIONS {
        field(out, row, "?", " | undefined");
    }
    out.push_str("}\n");
    let mut preset = String::new();
    type_of::<Preset>(&mut preset);
    out.push_str(&preset.replace("type Preset = ", "type Preset = ModelDefaults & "));
    let _ = write!(
        out,
        "\n/** Bytes of weights that the engine keeps on a device where nobody says how many: of a GPU's largest binding so many times, within bounds; `tab` is all the memory that the engine can have on the CPU. */\nexport const MEMORY_BUDGET = {{ least: {LEAST_BUDGET}, most: {MOST_BUDGET}, bindings: {BINDINGS}, cpu: {TAB_BUDGET}, tab: {TAB_MEMORY} }} as const;\n"
    );
    let names = |of: &[&str]| quoted(of.iter().copied()).join(", ");
    let _ = write!(
        out,
        "\n/** The most frames that a task may add to a clip. */\nexport const MOST_ADDED = {MOST_ADDED};\n\n/** The most bytes of pixels (RGBA) that a given clip may have. */\nexport const MOST_CLIP_BYTES = {MOST_CLIP_BYTES};\n\n/** The longest configuration, card or tokenizer that is read, bytes. */\nexport const MOST_TEXT_BYTES = {MOST_TEXT_BYTES};\n\n/** Names of weights without an ending, as diffusers and transformers write them. */\nexport const WEIGHT_STEMS: readonly string[] = [{}];\n\n/** Endings of weights, the first that is there is taken. */\nexport const WEIGHT_ENDINGS: readonly string[] = [{}];\n",
        names(&WEIGHT_STEMS),
        names(&WEIGHTS)
    );
    out.push_str("\n/** The table of options, by name. */\nexport const OPTIONS: Readonly<Record<keyof ClipOptions, OptionSpec>> = {\n");
    for row in all() {
        spec(out, row);
    }
    out.push_str("};\n");
}

fn field(out: &mut String, row: &OptionSpec, optional: &str, or: &str) {
    let mut doc = row.doc.trim().replace('\n', " ");
    let notes: Vec<String> =
        row.range_words().into_iter().chain(row.default_words().map(|words| format!("default: {words}"))).collect();
    if !notes.is_empty() {
        doc = format!("{doc} [{}]", notes.join("; "));
    }
    let _ = writeln!(out, "  /** {doc} */\n  {}{optional}: {}{or};", camel(row.name), ts_type(row.kind));
}

fn spec(out: &mut String, row: &OptionSpec) {
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let mut fields = vec![
        format!(
            "kind: '{}'",
            match row.kind {
                Kind::Text => "text",
                Kind::Label => "label",
                Kind::Whole => "whole",
                Kind::Number => "number",
                Kind::Choice(_) => "choice",
                Kind::List => "list",
                Kind::Flag => "flag",
            }
        ),
        format!("doc: {}", quoted(&row.doc.trim().replace('\n', " "))),
        format!("unit: {}", quoted(row.unit)),
    ];
    if let Kind::Choice(words) = row.kind {
        fields.push(format!("choices: [{}]", self::quoted(words.iter().copied()).join(", ")));
    }
    fields.extend(row.flag.map(|flag| format!("flag: {}", quoted(flag))));
    if let Some(range) = row.range {
        fields.extend([format!("min: {}", range.min), format!("max: {}", range.max)]);
        if range.above_min {
            fields.push("aboveMin: true".into());
        }
    }
    fields.extend(row.multiple.map(|multiple| match multiple {
        Multiple::Width => "multiple: 'widthMultiple'".to_owned(),
        Multiple::Height => "multiple: 'heightMultiple'".to_owned(),
        Multiple::Frame => "multiple: 'frameMultiple'".to_owned(),
    }));
    if let Fallback::Value(value) = row.default {
        fields.push(match value {
            Value::Text(text) => format!("default: {}", quoted(text)),
            other => format!("default: {other}"),
        });
    }
    let _ = writeln!(out, "  {}: {{\n    {},\n  }},", camel(row.name), fields.join(",\n    "));
}

fn ts_type(kind: Kind) -> String {
    match kind {
        Kind::Text => "string".into(),
        Kind::Label => "string | number".into(),
        Kind::Choice(words) => quoted(words.iter().copied()).join(" | "),
        Kind::List => "number[]".into(),
        Kind::Whole | Kind::Number => "number".into(),
        Kind::Flag => "boolean".into(),
    }
}

fn camel(name: &str) -> String {
    let mut out = String::new();
    for (i, word) in name.split('_').enumerate() {
        let (first, rest) = word.split_at(word.len().min(1));
        out += &if i == 0 { first.to_owned() } else { first.to_uppercase() };
        out += rest;
    }
    out
}
