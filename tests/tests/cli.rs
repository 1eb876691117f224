//! The built command line on the fixture folders: every output format, conversion, inspection, bad input.

use std::path::{Path, PathBuf};
use std::process::Output;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;
use tabreel::options::MODEL_OPTIONS;
use tabreel::weights::{MetaValue, StoredType, gguf_write};
use tabreel_tests::{Array, Case, done, float8_file, read_arrays, root, safetensors_file, tabreel};
use tempfile::TempDir;

fn case() -> Case {
    Case::open(&root().join("tests/fixtures/folder_t2v")).expect("the committed fixture")
}

fn model() -> PathBuf {
    root().join("tests/fixtures/folder_t2v/model")
}

fn temp() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// `tabreel generate` with the fixture's request, some options of it replaced or added; an empty value is a flag.
fn generate(model: &Path, out: &Path, change: &[(&str, &str)]) -> Output {
    let args = case().config["args"].clone();
    let plain = |key: &str| args[key].as_str().map_or_else(|| args[key].to_string(), str::to_owned);
    let mut request: Vec<(String, String)> = vec![
        ("--model".into(), text(model).into()),
        ("--prompt".into(), plain("prompt")),
        ("--negative".into(), plain("negative_prompt")),
        ("--width".into(), plain("width")),
        ("--height".into(), plain("height")),
        ("--frames".into(), plain("num_frames")),
        ("--steps".into(), plain("num_steps")),
        ("--guidance".into(), plain("guidance_scale")),
        ("--seed".into(), plain("seed")),
        ("--fps".into(), "8".into()),
        ("--out".into(), text(out).into()),
    ];
    for (name, value) in change {
        request.retain(|(n, _)| n != name);
        request.push(((*name).into(), (*value).into()));
    }
    let args: Vec<String> = request
        .into_iter()
        .map(|(name, value)| if value.is_empty() { name } else { format!("{name}={value}") })
        .collect();
    let args: Vec<&str> = std::iter::once("generate").chain(args.iter().map(String::as_str)).collect();
    tabreel(&args)
}

/// Demands this exit code, and every word in what was printed to stderr.
fn refused(output: Output, code: i32, words: &[&str]) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
    assert!(!err.contains("panicked"), "{err}");
    for word in words {
        assert!(err.contains(word), "{word:?} is not in: {err}");
    }
}

/// The reference's frames as bytes, `[F, H, W, 3]`.
fn expected_frames() -> Array {
    let video = case().get("out.video").expect("the case has a video").clone();
    let [1, 3, frames, height, width] = video.shape[..] else { panic!("{:?}", video.shape) };
    let pixels = frames * height * width;
    let values =
        (0..pixels * 3).map(|i| ((video.values[i % 3 * pixels + i / 3] * 0.5 + 0.5) * 255.0).round()).collect();
    Array { shape: vec![frames, height, width, 3], values }
}

fn largest_difference(a: &Array, b: &Array) -> f32 {
    assert_eq!(a.shape, b.shape);
    a.values.iter().zip(&b.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn safetensors_holds_the_latents_and_frames_that_diffusers_gives() {
    let folder = temp();
    let out = folder.path().join("clip.safetensors");
    done(generate(&model(), &out, &[]));
    let found = read_arrays(&out).expect("a safetensors file");
    let latents = found["latents"].relative_l2(case().get("out.latents").expect("latents"));
    assert!(latents.as_ref().is_ok_and(|rel| *rel <= 1e-4), "{latents:?}");
    assert!(largest_difference(&found["frames"], &expected_frames()) <= 1.0);
    assert_eq!(found.len(), 2);
}

#[test]
fn a_gif_has_every_frame_at_its_size() {
    let folder = temp();
    let out = folder.path().join("clip.gif");
    done(generate(&model(), &out, &[]));
    let bytes = std::fs::read(&out).expect("the file");
    assert_eq!(&bytes[..6], b"GIF89a");
    assert_eq!((u16::from_le_bytes([bytes[6], bytes[7]]), u16::from_le_bytes([bytes[8], bytes[9]])), (48, 32));
    // graphic control extensions, one for each frame, and the loop
    assert_eq!(bytes.windows(4).filter(|w| matches!(w, [0x21, 0xf9, 4, _])).count(), 9);
    assert!(bytes.windows(11).any(|w| w == b"NETSCAPE2.0"), "it loops");
}

#[test]
fn a_png_is_a_sheet_of_all_frames_and_one_frame_is_a_picture() {
    let folder = temp();
    let size = |path: &Path| {
        let bytes = std::fs::read(path).expect("the file");
        assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        (number(16), number(20))
    };
    let sheet = folder.path().join("sheet.png");
    done(generate(&model(), &sheet, &[]));
    let (width, height) = size(&sheet);
    assert!(width >= 48 && height >= 32 && width * height >= 9 * 48 * 32, "{width} × {height}");
    let picture = folder.path().join("picture.png");
    done(generate(&model(), &picture, &[("--frames", "1"), ("--steps", "1")]));
    assert_eq!(size(&picture), (48, 32));
}

#[test]
fn a_y4m_has_the_size_rate_and_frames() {
    let folder = temp();
    let out = folder.path().join("clip.y4m");
    done(generate(&model(), &out, &[]));
    let bytes = std::fs::read(&out).expect("the file");
    let end = bytes.iter().position(|&b| b == b'\n').expect("a header line");
    let header = String::from_utf8_lossy(&bytes[..end]).into_owned();
    assert!(header.starts_with("YUV4MPEG2 ") && header.contains(" W48 H32 ") && header.contains(" F8:1"), "{header}");
    assert_eq!(bytes.windows(6).filter(|w| w == b"FRAME\n").count(), 9);
    let chroma = if header.contains("C444") { 2 * 48 * 32 } else { 48 * 32 / 2 };
    assert_eq!(bytes.len(), end + 1 + 9 * (6 + 48 * 32 + chroma));
}

#[test]
fn the_same_seed_gives_the_same_file_and_another_seed_another() {
    let folder = temp();
    let make = |name: &str, seed: &str| {
        let out = folder.path().join(name);
        done(generate(&model(), &out, &[("--seed", seed), ("--frames", "1"), ("--steps", "2")]));
        read_arrays(&out).expect("a safetensors file")
    };
    let (a, b, c) = (make("a.safetensors", "5"), make("b.safetensors", "5"), make("c.safetensors", "6"));
    assert_eq!(a["frames"], b["frames"]);
    assert!(largest_difference(&a["frames"], &c["frames"]) > 5.0);
}

#[test]
fn json_prints_one_object_a_line_with_steps_and_the_result() {
    let folder = temp();
    let out = folder.path().join("clip.gif");
    let printed = done(generate(&model(), &out, &[("--json", "")]));
    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let of = |kind: &str| lines.iter().filter(|l| l["type"] == kind).cloned().collect::<Vec<_>>();
    let steps: Vec<_> = of("step").iter().map(|s| (s["step"].as_u64(), s["numSteps"].as_u64())).collect();
    assert_eq!(steps, (1..=4).map(|i| (Some(i), Some(4))).collect::<Vec<_>>());
    let last = lines.last().expect("lines");
    assert_eq!((&last["type"], &last["seed"], &last["numFrames"]), (&"done".into(), &42.into(), &9.into()));
    assert!(last["timings"]["denoise"].as_f64().is_some_and(|s| s > 0.0), "{last}");

    let output = generate(&model(), &out, &[("--json", ""), ("--frames", "8")]);
    assert_eq!(output.status.code(), Some(2));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let error: Value = serde_json::from_str(printed.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&error["type"], &error["code"]), (&"error".into(), &"invalid-options".into()));
}

#[test]
fn a_long_prompt_is_cut_and_says_how_many_tokens_were_kept() {
    let folder = temp();
    let out = folder.path().join("clip.png");
    let prompt = "red ball ".repeat(400);
    let printed =
        done(generate(&model(), &out, &[("--json", ""), ("--prompt", &prompt), ("--frames", "1"), ("--steps", "1")]));
    let last: Value = serde_json::from_str(printed.lines().last().expect("lines")).expect("JSON");
    let (kept, total) = (last["tokens"]["kept"].as_u64(), last["tokens"]["total"].as_u64());
    assert!(kept == Some(512) && total > Some(512), "{last}");
    assert!(printed.lines().any(|l| l.contains("warning") && l.contains("512")), "{printed}");
}

#[test]
fn inspect_names_classes_tensors_and_types() {
    let printed = done(tabreel(&["inspect", text(&model())]));
    for word in
        ["WanPipeline", "WanTransformer3DModel", "UMT5EncoderModel", "AutoencoderKLWan", "UniPCMultistepScheduler"]
    {
        assert!(printed.contains(word), "{word} is not in:\n{printed}");
    }
    let file = model().join("transformer/diffusion_pytorch_model.safetensors");
    let printed = done(tabreel(&["inspect", text(&file)]));
    assert!(printed.contains("blocks.0.attn1.to_q.weight") && printed.contains("48"), "{printed}");
    let json = done(tabreel(&["inspect", "--json", text(&file)]));
    for line in json.lines() {
        let _: Value = serde_json::from_str(line).expect(line);
    }
    assert!(json.contains("blocks.0.attn1.to_q.weight"));
}

#[test]
fn inspect_says_what_is_missing_what_is_left_over_and_whether_it_runs() {
    let report = |paths: &[&Path]| -> Value {
        let mut args = vec!["inspect", "--json"];
        args.extend(paths.iter().map(|path| text(path)));
        serde_json::from_str(&done(tabreel(&args))).expect("JSON")
    };
    let found = &report(&[&model()])["inspection"];
    assert_eq!(found["runs"], true, "{found}");
    let parts: Vec<&str> =
        found["parts"].as_array().expect("parts").iter().filter_map(|p| p["part"].as_str()).collect();
    assert_eq!(parts, ["tokenizer", "text_encoder", "transformer", "vae"]);
    assert!(found["plan"]["vae"]["bytes"].as_u64() > Some(0), "{found}");
    let told = done(tabreel(&["inspect", text(&model())]));
    assert!(
        told.contains("runs on this machine's CPU: ")
            && told.contains("takes: text alone, a source clip\ntakes not: a first frame, "),
        "{told}"
    );

    let folder = temp();
    let file = folder.path().join("of_any_name.bin");
    std::fs::copy(model().join("text_encoder/model.safetensors"), &file).expect("a copy");
    let found = &report(&[&file])["inspection"];
    assert_eq!((&found["parts"][0]["part"], &found["runs"]), (&"text_encoder".into(), &false.into()), "{found}");
    assert_eq!(found["reason"], "still missing: tokenizer, transformer, vae");
    let found = &report(&[&file, &model().join("tokenizer/tokenizer.json")])["inspection"];
    assert_eq!(found["reason"], "still missing: transformer, vae", "{found}");

    let damaged = copied_model(folder.path());
    let transformer = damaged.join("transformer/diffusion_pytorch_model.safetensors");
    let mut bytes = std::fs::read(&transformer).expect("the transformer");
    let name = b"blocks.1.attn1.to_q.bias";
    let at = bytes.windows(name.len()).position(|window| window == name).expect("the name");
    bytes[at + name.len() - 1] = b'x';
    std::fs::write(&transformer, bytes).expect("written");
    let found = &report(&[&damaged])["inspection"];
    let part = &found["parts"][2];
    assert!(part["problem"].as_str().is_some_and(|why| why.contains("blocks.1.attn1.to_q.bias")), "{part}");
    assert_eq!(found["runs"], false);
}

#[test]
fn a_clip_says_which_model_made_it_and_inspect_whether_it_is_this_one() {
    let folder = temp();
    let clip = folder.path().join("a.png");
    done(generate(&model(), &clip, &[("--frames", "1"), ("--steps", "1")]));
    let json = |args: &[&str]| -> Value { serde_json::from_str(&done(tabreel(args))).expect("JSON") };
    let made = json(&["inspect", "--json", text(&clip)])["recipe"]["model"].clone();
    let hash = made["hash"].as_str().expect("a hash");
    assert!(hash.len() == 64 && made["name"] == "model", "{made}");
    assert_eq!(json(&["inspect", "--json", text(&model())])["hash"], hash);
    assert!(done(tabreel(&["inspect", text(&model())])).contains(&format!("hash {hash}")));
    assert!(done(tabreel(&["inspect", text(&clip)])).contains(hash));

    let compare = |of: &Path| json(&["inspect", "--json", text(&clip), "--model", text(of)])["model"].clone();
    let words = |of: &Path| done(tabreel(&["inspect", text(&clip), "--model", text(of)]));
    assert_eq!((&compare(&model())["same"], &compare(&model())["differs"]), (&true.into(), &Value::Null));
    assert!(words(&model()).contains("made with model, the model of --model"));
    // Of the same name, and one byte longer.
    let other = copied_model(folder.path());
    let config = other.join("transformer/config.json");
    let longer = std::fs::read_to_string(&config).expect("a configuration") + "\n";
    std::fs::write(&config, longer).expect("written");
    assert_eq!(compare(&other)["same"], false);
    assert!(words(&other).contains("made with another version of model: with model the result will differ"));
    refused(
        tabreel(&["inspect", text(&model()), "--model", text(&other)]),
        2,
        &["--model is for a clip", "got a model"],
    );
}

/// A copy of the fixture's model folder.
fn copied_model(to: &Path) -> PathBuf {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).expect("a folder");
        for entry in std::fs::read_dir(from).expect("the folder") {
            let path = entry.expect("an entry").path();
            let target = to.join(path.file_name().expect("a name"));
            if path.is_dir() {
                copy(&path, &target);
            } else {
                std::fs::copy(&path, &target).expect("copied");
            }
        }
    }
    let model_copy = to.join("model");
    copy(&model(), &model_copy);
    model_copy
}

#[test]
fn given_latents_take_the_place_of_the_seeds_noise() {
    let folder = temp();
    let (noise, out) = (folder.path().join("noise.safetensors"), folder.path().join("clip.safetensors"));
    let given = case().get("out.noise").expect("the noise").clone();
    let bytes: Vec<u8> = given.values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let write = |shape: Vec<usize>| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &bytes).expect("a view");
        safetensors::serialize_to_file([("latents", view)], None, &noise).expect("written");
    };
    write(given.shape.clone());
    done(generate(&model(), &out, &[("--seed", "999"), ("--latents", text(&noise))]));
    let latents =
        read_arrays(&out).expect("a file")["latents"].relative_l2(case().get("out.latents").expect("latents"));
    assert!(latents.as_ref().is_ok_and(|rel| *rel <= 1e-4), "{latents:?}");

    let [b, c, f, h, w] = given.shape[..] else { panic!("{:?}", given.shape) };
    write(vec![b, c, f, w, h]);
    refused(generate(&model(), &out, &[("--latents", text(&noise))]), 2, &["latents must be", "got"]);
    write(vec![given.values.len()]);
    refused(generate(&model(), &out, &[("--latents", text(&noise))]), 4, &["[1, C, F, H, W]"]);
}

#[test]
fn prompts_kept_as_the_model_reads_them_make_the_same_clip_without_a_text_encoder() {
    let folder = temp();
    let [kept, plain, again] = ["prompt.safetensors", "plain.y4m", "again.y4m"].map(|name| folder.path().join(name));
    done(generate(&model(), &plain, &[("--save-embeds", text(&kept))]));
    let textless = copied_model(folder.path());
    for part in ["text_encoder", "tokenizer"] {
        std::fs::remove_dir_all(textless.join(part)).expect("the part");
    }
    done(generate(&textless, &again, &[("--embeds", text(&kept))]));
    let bytes = |path: &Path| std::fs::read(path).expect("a clip");
    assert!(bytes(&plain) == bytes(&again));
    // Without them the encoder is missed; and a file of something else is told.
    assert!(!generate(&textless, &again, &[]).status.success());
    let other = folder.path().join("clip.safetensors");
    done(generate(&model(), &other, &[("--steps", "1")]));
    refused(generate(&textless, &again, &[("--embeds", text(&other))]), 4, &["prompt", "no such tensor"]);
    let unguided = folder.path().join("unguided.safetensors");
    done(generate(&model(), &again, &[("--steps", "1"), ("--guidance", "1"), ("--save-embeds", text(&unguided))]));
    refused(generate(&model(), &again, &[("--embeds", text(&unguided))]), 2, &["embeddings of the negative prompt"]);
}

#[test]
fn a_folder_with_a_converted_transformer_gives_nearly_the_same_clip() {
    let exact = case().get("out.latents").expect("latents").clone();
    for (kind, bound) in [("f16", 2e-3), ("q8_0", 5e-2), ("q4_0", 0.5)] {
        let folder = temp();
        let model = copied_model(folder.path());
        let original = model.join("transformer/diffusion_pytorch_model.safetensors");
        let converted = model.join("transformer/diffusion_pytorch_model.gguf");
        done(tabreel(&["convert", text(&original), text(&converted), "--type", kind]));
        let bytes = std::fs::read(&converted).expect("the file");
        assert_eq!(&bytes[..4], b"GGUF");
        assert!(bytes.len() < std::fs::metadata(&original).expect("the original").len() as usize);
        let printed = done(tabreel(&["inspect", text(&converted)]));
        assert!(printed.to_lowercase().contains(kind), "{printed}");
        std::fs::remove_file(&original).expect("removed");

        let out = folder.path().join("clip.safetensors");
        done(generate(&model, &out, &[]));
        let rel = read_arrays(&out).expect("a file")["latents"].relative_l2(&exact).expect("same shape");
        assert!(rel <= bound, "{kind}: relative L2 {rel}");
        assert!(rel > 1e-7, "{kind}: the converted file was used");
    }
}

/// `tabreel generate` with the default model, in few steps; the first frame's pixels.
fn first_frame(folder: &Path, name: &str, change: &[(&str, &str)]) -> Vec<f32> {
    let out = folder.join(name).with_extension("safetensors");
    let model = root().join("models/small-world");
    let mut args = vec!["generate", "--model", text(&model), "--prompt", "a large red ball rises over snow by day"];
    args.extend(["--steps", "6", "--frames", "5", "--out", text(&out), "--device", "cpu"]);
    args.extend(change.iter().flat_map(|(name, value)| [*name, *value]));
    done(tabreel(&args));
    let frames = read_arrays(&out).expect("a safetensors file").remove("frames").expect("frames");
    let [_, height, width, 3] = frames.shape[..] else { panic!("{:?}", frames.shape) };
    frames.values[..height * width * 3].to_vec()
}

#[test]
fn a_picture_becomes_the_first_frame_and_another_the_last() {
    let folder = temp();
    let given = first_frame(folder.path(), "given", &[("--seed", "1")]);
    let side = (given.len() / 3).isqrt() as u32;
    let picture = folder.path().join("given.png");
    let bytes: Vec<u8> = given.iter().map(|&v| v as u8).collect();
    image::save_buffer(&picture, &bytes, side, side, image::ColorType::Rgb8).expect("a picture");
    let off = |frame: &[f32]| frame.iter().zip(&given).map(|(a, b)| (a - b).abs()).sum::<f32>() / given.len() as f32;
    let without = off(&first_frame(folder.path(), "without", &[("--seed", "2")]));
    let with = off(&first_frame(folder.path(), "with", &[("--seed", "2"), ("--image", text(&picture))]));
    assert!(with < without / 2.0, "mean difference {with} with the picture, {without} without");
    // both ends at once are taken too
    let ends = [("--image", text(&picture)), ("--last-image", text(&picture))];
    assert!(off(&first_frame(folder.path(), "ends", &ends)) < without / 2.0);
}

#[test]
fn a_picture_that_is_none_or_that_the_model_cannot_take_is_refused() {
    let folder = temp();
    let (out, words) = (folder.path().join("clip.gif"), folder.path().join("words.png"));
    std::fs::write(&words, "no picture").expect("a file");
    refused(generate(&model(), &out, &[("--image", text(&words))]), 2, &["words.png", "PNG, JPEG"]);
    refused(generate(&model(), &out, &[("--image", "nowhere.png")]), 3, &["nowhere.png"]);
    let picture = folder.path().join("grey.png");
    image::save_buffer(&picture, &[128; 12], 2, 2, image::ColorType::Rgb8).expect("a picture");
    refused(generate(&model(), &out, &[("--image", text(&picture))]), 2, &["no first frame", "no control branch"]);
    assert!(!out.exists());
}

#[test]
fn an_output_that_cannot_be_written_is_found_out_before_the_model_is_loaded() {
    let folder = temp();
    let nowhere = folder.path().join("no/clip.gif");
    // the model does not exist either: the output is looked at first
    refused(generate(Path::new("no-model"), &nowhere, &[]), 3, &["no/clip.gif"]);
    let taken = folder.path().join("folder.gif");
    std::fs::create_dir(&taken).expect("a folder");
    refused(generate(Path::new("no-model"), &taken, &[]), 3, &["is a folder"]);
    // and one that ends in an error leaves the file that was there, and no other
    let out = folder.path().join("clip.gif");
    std::fs::write(&out, "an older clip").expect("a file");
    refused(generate(Path::new("no-model"), &out, &[]), 3, &["no-model"]);
    assert_eq!(std::fs::read(&out).expect("the file"), b"an older clip");
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn the_device_and_warnings_are_said_where_there_is_no_terminal() {
    let folder = temp();
    let output = generate(&model(), &folder.path().join("clip.gif"), &[("--device", "cpu")]);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    done(output);
    assert!(err.contains("device: CPU"), "{err}");
}

#[test]
fn a_card_lists_every_file_with_its_size_and_hash_and_keeps_the_rest() {
    let folder = temp();
    let model = copied_model(folder.path());
    std::fs::write(model.join("tabreel.json"), r#"{"name":"mine","default":{"num_steps":3}}"#).expect("a card");
    done(tabreel(&["card", text(&model)]));
    let card: Value = serde_json::from_slice(&std::fs::read(model.join("tabreel.json")).expect("it")).expect("JSON");
    assert_eq!((&card["name"], &card["default"]["num_steps"]), (&"mine".into(), &3.into()));
    assert_eq!(card["multiples"], serde_json::json!({ "width": 16, "height": 16, "frames": 4 }));
    let files = card["files"].as_array().expect("a list");
    let index = files.iter().find(|file| file["path"] == "model_index.json").expect("the index is listed");
    assert_eq!(index["bytes"], std::fs::metadata(model.join("model_index.json")).expect("it").len());
    assert_eq!(index["sha256"].as_str().map(str::len), Some(64));
    assert!(files.iter().all(|file| file["path"] != "tabreel.json"));
    refused(tabreel(&["card", text(folder.path())]), 4, &["model_index.json"]);
}

#[test]
fn a_few_step_grid_is_taken_as_published_with_the_0_at_its_end() {
    let folder = temp();
    let make = |name: &str, sigmas: &str, sampler: &str| {
        let out = folder.path().join(name);
        let flags = [("--sampler", sampler), ("--sigmas", sigmas), ("--steps", "2"), ("--frames", "1")];
        done(generate(&model(), &out, &flags));
        read_arrays(&out).expect("a safetensors file")["latents"].clone()
    };
    let few = make("a.safetensors", "0.95,0.6,0", "stochastic");
    assert_eq!(few, make("b.safetensors", "0.95,0.6", "stochastic"));
    assert!(largest_difference(&few, &make("c.safetensors", "0.95,0.6", "euler")) > 1e-3);
    assert!(largest_difference(&few, &make("d.safetensors", "0.95,0.5", "stochastic")) > 1e-3);
}

#[test]
fn a_preset_of_the_card_fills_what_was_not_given() {
    let folder = temp();
    let model = copied_model(folder.path());
    let card = r#"{ "name": "mine", "default": { "num_steps": 9, "num_frames": 1, "width": 48, "height": 32 },
        "presets": { "few": { "about": "Quick.", "sampler": "stochastic", "sigmas": [0.95, 0.6, 0], "guidance_scale": 1 },
                     "distilled": { "lora": "rcm", "num_steps": 2 }, "fine": { "num_steps": 5, "sizes": [[32, 48]] } } }"#;
    std::fs::write(model.join("tabreel.json"), card).expect("a card");
    let out = folder.path().join("clip.safetensors");
    let run = |more: &[&str]| {
        let plain = [
            "--json",
            "generate",
            "--model",
            text(&model),
            "--prompt",
            "a red ball",
            "--seed",
            "3",
            "--out",
            text(&out),
        ];
        tabreel(&[&plain[..], more].concat())
    };
    let latents = |more: &[&str]| {
        done(run(more));
        read_arrays(&out).expect("a safetensors file")["latents"].clone()
    };
    let few = latents(&["--preset", "few"]);
    assert_eq!(few, latents(&["--sampler", "stochastic", "--sigmas", "0.95,0.6", "--guidance", "1"]));
    assert!(largest_difference(&few, &latents(&["--preset", "few", "--sigmas", "0.95,0.5"])) > 1e-3);
    let done_line = |more: &[&str]| -> Value {
        serde_json::from_str(done(run(more)).lines().last().expect("lines")).expect("JSON")
    };
    let fine = done_line(&["--preset", "fine", "--width", "48"]);
    assert_eq!((&fine["width"], &fine["height"]), (&48.into(), &48.into()));

    let words = |more: &[&str]| {
        let output = run(more);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let unknown = words(&["--preset", "fast"]);
    assert!(unknown.contains("preset must be one of distilled, few, fine, got fast"), "{unknown}");
    let lora = words(&["--preset", "distilled"]);
    assert!(lora.contains("preset distilled needs the LoRA rcm: give its file with --lora"), "{lora}");

    let told = done(tabreel(&["inspect", text(&model)]));
    assert!(told.contains("presets: distilled (needs the LoRA rcm); few (Quick); fine"), "{told}");
    let told = done(tabreel(&["card", text(&model)]));
    assert!(told.contains("presets: distilled (needs the LoRA rcm); few (Quick); fine"), "{told}");
    std::fs::write(model.join("tabreel.json"), r#"{ "presets": { "odd": { "sigmas": [0.5, 0.9] } } }"#)
        .expect("a card");
    refused(tabreel(&["card", text(&model)]), 4, &["a sound preset odd", "sigmas must fall"]);
}

#[test]
fn what_a_card_suggests_makes_the_clip_that_its_flags_make() {
    let (here, there) = (temp(), temp());
    let (carded, plain) = (copied_model(here.path()), copied_model(there.path()));
    // The levels of noise go without a number of steps and a shift; the test of presets has them.
    let card = serde_json::json!({ "negative_prompt": "blue", "width": 48, "height": 32, "num_frames": 5, "fps": 9, "num_steps": 3,
        "guidance_scale": 2, "flow_shift": 12, "sampler": "euler" });
    let flags = MODEL_OPTIONS.iter().filter(|row| row.name != "sigmas").map(|row| {
        let value = &card[row.name];
        assert!(!value.is_null(), "{} is not tried here", row.name);
        let words = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("--{}={words}", row.flag.expect("a flag"))
    });
    let flags: Vec<String> = flags.collect();
    let run = |model: &Path, flags: &[String]| {
        let out = model.with_extension("safetensors");
        let mut args = vec!["generate", "--model", text(model), "--prompt", "a red ball", "--seed", "3"];
        args.extend(["--device", "cpu", "--out", text(&out)]);
        args.extend(flags.iter().map(String::as_str));
        done(tabreel(&args));
        let told: Value = serde_json::from_str(&done(tabreel(&["inspect", "--json", text(&out)]))).expect("JSON");
        (read_arrays(&out).expect("a safetensors file"), told["recipe"]["options"].clone())
    };
    let suggest = |default: &Value| {
        let card = serde_json::json!({ "default": default }).to_string();
        std::fs::write(carded.join("tabreel.json"), card).expect("a card");
    };
    suggest(&card);
    let (suggested, options) = run(&carded, &[]);
    let (asked, same_options) = run(&plain, &flags);
    assert!(suggested == asked, "the frames differ");
    assert_eq!(options, same_options);
    assert_eq!((&options["flowShift"], &options["negativePrompt"]), (&12.0.into(), &"blue".into()));
    for name in ["flow_shift", "negative_prompt"] {
        let mut without = card.clone();
        without.as_object_mut().expect("a table").remove(name);
        suggest(&without);
        assert!(run(&carded, &[]).0 != asked, "{name} of a card changes nothing");
    }
}

#[test]
fn bad_options_end_with_code_2_and_name_rule_and_value() {
    let folder = temp();
    let out = folder.path().join("clip.gif");
    for (change, words) in [
        (("--frames", "80"), ["4n + 1", "80"]),
        (("--width", "100"), ["multiple of 16 px", "100"]),
        (("--height", "0"), ["1 to 2048 px", "0"]),
        (("--steps", "0"), ["1 to 200", "0"]),
        (("--guidance", "-3"), ["guidance", "-3"]),
        (("--guidance", "NaN"), ["guidance", "NaN"]),
        (("--fps", "1000"), ["fps", "1000"]),
        (("--prompt", "  "), ["prompt", "empty"]),
        (("--seed", "18446744073709551615"), ["seed", "18446744073709551615"]),
        (("--seed", "-1"), ["seed", "-1"]),
        (("--frames", "many"), ["frames", "many"]),
        (("--surprise", "1"), ["unexpected", "surprise"]),
        (("--sampler", "ddim"), ["sampler", "ddim"]),
        (("--sigmas", "0.5,0.9"), ["must fall", "0.5, 0.9"]),
        (("--sigmas", "1,many"), ["numbers with commas", "many"]),
        (("--sigmas", "1,0.5"), ["number of sigmas, 2", "steps"]),
    ] {
        refused(generate(&model(), &out, &[change]), 2, &words);
        assert!(!out.exists(), "{change:?} left a file");
    }
    refused(generate(&model(), &folder.path().join("clip.mov"), &[]), 2, &["mov", "gif", "png", "y4m", "safetensors"]);
    refused(tabreel(&["dance"]), 2, &["dance"]);
    refused(tabreel(&["convert", text(&model()), "out.gguf", "--type", "q9_9"]), 2, &["q9_9"]);
}

#[test]
fn damaged_folders_end_with_codes_3_and_4_and_name_the_file_or_tensor() {
    type Damage = fn(&Path);
    fn edit(file: &Path, from: &str, to: &str) {
        let json = std::fs::read_to_string(file).expect("a config");
        assert!(json.contains(from), "{from} is not in {}", file.display());
        std::fs::write(file, json.replace(from, to)).expect("written");
    }
    const WEIGHTS: &str = "transformer/diffusion_pytorch_model.safetensors";
    let cases: [(Damage, i32, &[&str]); 9] = [
        (|m| std::fs::remove_file(m.join(WEIGHTS)).expect("removed"), 3, &["transformer"]),
        (
            |m| std::fs::remove_file(m.join("vae/config.json")).expect("removed"),
            4,
            &["vae/config.json", "post_quant_conv"],
        ),
        (|m| std::fs::remove_file(m.join("model_index.json")).expect("removed"), 3, &["model_index.json"]),
        (
            |m| {
                let bytes = std::fs::read(m.join(WEIGHTS)).expect("weights");
                std::fs::write(m.join(WEIGHTS), &bytes[..bytes.len() / 2]).expect("written");
            },
            4,
            &["transformer"],
        ),
        (
            |m| std::fs::write(m.join(WEIGHTS), b"not weights").expect("written"),
            4,
            &["transformer", "safetensors, GGUF or PyTorch"],
        ),
        (|m| edit(&m.join("transformer/config.json"), "\"ffn_dim\": 96", "\"ffn_dim\": 100"), 4, &["ffn", "100", "96"]),
        (
            |m| edit(&m.join("transformer/config.json"), "WanTransformer3DModel", "FluxTransformer2DModel"),
            4,
            &["FluxTransformer2DModel"],
        ),
        (|m| std::fs::write(m.join("tokenizer/tokenizer.json"), b"{}").expect("written"), 4, &["tokenizer"]),
        (
            |m| {
                let mut bytes = std::fs::read(m.join(WEIGHTS)).expect("weights");
                let end = bytes.len();
                bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
                std::fs::write(m.join(WEIGHTS), bytes).expect("written");
            },
            4,
            &["NaN"],
        ),
    ];
    for (i, (damage, code, words)) in cases.into_iter().enumerate() {
        let folder = temp();
        let model = copied_model(folder.path());
        damage(&model);
        let output = generate(&model, &folder.path().join("clip.gif"), &[]);
        println!("case {i}: {}", String::from_utf8_lossy(&output.stderr));
        refused(output, code, words);
    }
    let folder = temp();
    refused(generate(Path::new("/no/such/folder"), &folder.path().join("clip.gif"), &[]), 3, &["/no/such/folder"]);
    refused(tabreel(&["inspect", "/no/such/file.gguf"]), 3, &["/no/such/file.gguf"]);
}

#[test]
fn an_unknown_gguf_type_is_named_and_its_values_refused() {
    let folder = temp();
    let file = folder.path().join("odd.gguf");
    let mut bytes = std::fs::read(root().join("tests/fixtures/wan_gguf/wan.gguf")).expect("the fixture");
    // the type of the first tensor follows its name, rank and sizes; GGUF has no type 200
    let name = b"scale_shift_table".as_slice();
    let name = if bytes.windows(name.len()).any(|w| w == name) { name } else { b"head.modulation".as_slice() };
    let at = bytes.windows(name.len()).position(|w| w == name).expect("a tensor name") + name.len();
    let rank = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
    let kind = at + 4 + 8 * rank;
    bytes[kind..kind + 4].copy_from_slice(&200u32.to_le_bytes());
    std::fs::write(&file, bytes).expect("written");
    let shown = tabreel(&["inspect", text(&file)]);
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains("GGUF type 200"));
    let (file, out) = (text(&file), folder.path().join("out.gguf"));
    refused(tabreel(&["convert", file, text(&out), "--type", "q8_0"]), 4, &["scale_shift_table", "GGUF type 200"]);
    assert!(!out.exists());
}

/// A copy of the fixture folder with one field of one of its configurations replaced.
fn with_field(component_file: &str, field: &str, value: Value) -> TempDir {
    let folder = temp();
    for dir in ["", "scheduler", "text_encoder", "tokenizer", "transformer", "vae"] {
        std::fs::create_dir_all(folder.path().join(dir)).expect("a folder");
        for entry in std::fs::read_dir(model().join(dir)).expect("the fixture's folder") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                std::fs::copy(&path, folder.path().join(dir).join(path.file_name().expect("a name"))).expect("a copy");
            }
        }
    }
    let path = folder.path().join(component_file);
    // The folder has no card; it may have one.
    let text = std::fs::read(&path).unwrap_or_else(|_| b"{}".to_vec());
    let mut config: Value = serde_json::from_slice(&text).expect("JSON");
    config[field] = value;
    std::fs::write(&path, config.to_string()).expect("a config");
    folder
}

#[test]
fn a_number_that_no_model_can_have_is_named_by_file_and_field() {
    use serde_json::json;
    for (file, field, value) in [
        ("vae/config.json", "patch_size", json!(1u64 << 62)),
        ("vae/config.json", "decoder_base_dim", json!(0)),
        ("vae/config.json", "latents_std", json!([0.0, 1.0, 1.0, 1.0])),
        ("transformer/config.json", "num_attention_heads", json!((1u64 << 62) + 2)),
        ("transformer/config.json", "eps", json!(-1e-6)),
        ("text_encoder/config.json", "relative_attention_num_buckets", json!(0)),
        ("text_encoder/config.json", "relative_attention_max_distance", json!(1)),
        ("text_encoder/config.json", "num_layers", json!(0)),
        ("text_encoder/config.json", "layer_norm_epsilon", json!(-1.0)),
        ("scheduler/scheduler_config.json", "solver_order", json!(9)),
        ("scheduler/scheduler_config.json", "flow_shift", json!(0.0)),
        ("tabreel.json", "max_sequence_length", json!(0)),
        ("tabreel.json", "max_sequence_length", json!(4097)),
        ("tabreel.json", "max_sequence_length", json!(1_000_000_000_000u64)),
        ("tabreel.json", "default", json!({ "num_frames": 1_000_000_000_000u64 })),
    ] {
        let folder = with_field(file, field, value);
        let output = generate(folder.path(), &folder.path().join("clip.gif"), &[("--device", "cpu")]);
        let told = field.trim_start_matches("flow_");
        refused(output, 4, &[file, told]);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_folder_that_holds_itself_is_read_once() {
    let folder = with_field("vae/config.json", "_name_or_path", Value::Null);
    for name in ["loop", "vae/loop"] {
        std::os::unix::fs::symlink(folder.path(), folder.path().join(name)).expect("a link");
    }
    let out = folder.path().join("clip.gif");
    done(generate(folder.path(), &out, &[("--device", "cpu"), ("--steps", "1")]));
}

/// Where a tensor's values lie in a safetensors file.
fn bytes_of(file: &[u8], tensor: &str) -> std::ops::Range<usize> {
    let head = 8 + u64::from_le_bytes(file[..8].try_into().expect("a length")) as usize;
    let header: Value = serde_json::from_slice(&file[8..head]).expect("a header");
    assert_eq!(header[tensor]["dtype"], "F32");
    let at = |i: usize| head + header[tensor]["data_offsets"][i].as_u64().expect("an offset") as usize;
    at(0)..at(1)
}

#[test]
fn a_model_whose_numbers_overflow_makes_no_clip() {
    type Changes<'a> = &'a [(&'a str, f32)];
    let cases: [(&str, Changes<'_>, &str); 2] = [
        ("transformer", &[("proj_out.bias", 3e38)], "the latents are not finite"),
        // In the decoder's last layer alone: infinities there, and no other place, would be white pixels.
        (
            "vae",
            &[("decoder.conv_out.weight", 1e36), ("decoder.conv_out.bias", 3.4e38)],
            "the decoder produced a value that is not finite",
        ),
    ];
    for (part, changes, words) in cases {
        let folder = with_field("vae/config.json", "_name_or_path", Value::Null);
        let weights = folder.path().join(part).join("diffusion_pytorch_model.safetensors");
        let mut file = std::fs::read(&weights).expect("weights");
        for (tensor, number) in changes {
            let place = bytes_of(&file, tensor);
            file[place].chunks_exact_mut(4).for_each(|value| value.copy_from_slice(&number.to_le_bytes()));
        }
        std::fs::write(&weights, file).expect("weights");
        let out = folder.path().join("clip.gif");
        refused(generate(folder.path(), &out, &[("--device", "cpu")]), 1, &[words]);
        assert!(!out.exists());
    }
}

#[test]
fn a_lora_is_not_converted_as_a_part_of_a_model() {
    let dir = temp();
    let (lora, out) = (dir.path().join("style.safetensors"), dir.path().join("style.gguf"));
    let tensor = |at: usize, shape: [usize; 2]| serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [at, at + 32] });
    let header = serde_json::json!({
        "transformer.blocks.0.attn1.to_q.lora_A.weight": tensor(0, [1, 8]),
        "transformer.blocks.0.attn1.to_q.lora_B.weight": tensor(32, [8, 1]) })
    .to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&[0; 64]);
    std::fs::write(&lora, file).expect("a LoRA");
    refused(tabreel(&["convert", text(&lora), text(&out)]), 4, &["a LoRA", "--lora"]);
    assert!(!out.exists());
}

#[test]
fn of_several_sets_of_weights_in_a_part_one_is_taken() {
    let folder = with_field("vae/config.json", "_name_or_path", Value::Null);
    let part = folder.path().join("transformer");
    let clip = |name: &str| {
        let out = folder.path().join(name);
        done(generate(folder.path(), &out, &[("--device", "cpu"), ("--steps", "1")]));
        std::fs::read(out).expect("a clip")
    };
    let alone = clip("alone.y4m");
    for other in
        ["diffusion_pytorch_model.fp16.safetensors", "pytorch_lora_weights.safetensors", "diffusion_pytorch_model.pt"]
    {
        std::fs::write(part.join(other), b"not even weights").expect("a file");
    }
    assert_eq!(clip("beside.y4m"), alone);
    // An index goes before a file, and a shard that it does not list is an earlier download's.
    let file = std::fs::read(part.join("diffusion_pytorch_model.safetensors")).expect("weights");
    let header: Value =
        serde_json::from_slice(&file[8..8 + u64::from_le_bytes(file[..8].try_into().expect("8")) as usize])
            .expect("JSON");
    let map: serde_json::Map<String, Value> = header
        .as_object()
        .expect("a table")
        .keys()
        .filter(|k| *k != "__metadata__")
        .map(|k| (k.clone(), "shard-1.safetensors".into()))
        .collect();
    std::fs::write(part.join("shard-1.safetensors"), &file).expect("a shard");
    std::fs::write(part.join("diffusion_pytorch_model.safetensors"), b"stale").expect("a file");
    std::fs::write(
        part.join("diffusion_pytorch_model.safetensors.index.json"),
        serde_json::json!({ "weight_map": map }).to_string(),
    )
    .expect("an index");
    assert_eq!(clip("sharded.y4m"), alone);
    done(tabreel(&["card", text(folder.path())]));
    let listed = std::fs::read_to_string(folder.path().join("tabreel.json")).expect("a card");
    assert!(listed.contains("shard-1") && !listed.contains("lora") && !listed.contains("fp16"), "{listed}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_path_that_is_no_text_and_a_reader_that_goes_away_cost_nothing() {
    use std::os::unix::ffi::OsStrExt;
    use std::process::{Command, Stdio};
    let dir = temp();
    let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"mod\xffel"));
    let folder = with_field("vae/config.json", "_name_or_path", Value::Null);
    std::fs::rename(folder.path(), &odd).expect("a folder");
    let run =
        |args: &[&std::ffi::OsStr]| Command::new(tabreel_tests::tabreel_binary()).args(args).output().expect("a run");
    let file = odd.join("vae/diffusion_pytorch_model.safetensors");
    let gguf = odd.join("vae.gguf");
    let clip = odd.join("clip.png");
    for args in [
        &["inspect".as_ref(), odd.as_os_str()][..],
        &["inspect".as_ref(), odd.join("vae").as_os_str()],
        &["inspect".as_ref(), file.as_os_str()],
        &["convert".as_ref(), file.as_os_str(), gguf.as_os_str()],
        &[
            "generate".as_ref(),
            "--model".as_ref(),
            odd.as_os_str(),
            "--prompt".as_ref(),
            "a red circle".as_ref(),
            "--width".as_ref(),
            "32".as_ref(),
            "--height".as_ref(),
            "32".as_ref(),
            "--frames".as_ref(),
            "1".as_ref(),
            "--steps".as_ref(),
            "1".as_ref(),
            "--device".as_ref(),
            "cpu".as_ref(),
            "--out".as_ref(),
            clip.as_os_str(),
        ],
        &["inspect".as_ref(), clip.as_os_str()],
        &["card".as_ref(), odd.as_os_str()],
    ] {
        done(run(args));
        done(run(&[args, &["--json".as_ref()]].concat()));
    }
    for command in ["inspect", "card"] {
        let mut child = Command::new(tabreel_tests::tabreel_binary())
            .args([command.as_ref(), odd.as_os_str()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a run");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("an end");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// `tabreel generate` of the fixture, one step, as a command that can be changed.
#[cfg(target_os = "linux")]
fn one_step(program: &str, before: &[&str], device: &str, out: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    let model = model();
    command
        .args(before)
        .args(["generate", "--json", "--device", device, "--prompt", "a red circle", "--model"])
        .arg(model);
    command.args(["--width", "32", "--height", "32", "--frames", "5", "--steps", "1", "--out"]).arg(out);
    command
}

#[test]
#[cfg(target_os = "linux")]
fn a_clip_whose_reader_goes_away_is_written_all_the_same() {
    use std::process::Stdio;
    let dir = temp();
    let out = dir.path().join("clip.gif");
    let program = text(tabreel_tests::tabreel_binary());
    let mut child =
        one_step(program, &[], "cpu", &out).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a run");
    drop((child.stdout.take(), child.stderr.take()));
    assert!(child.wait().expect("an end").success());
    assert_eq!(&std::fs::read(&out).expect("the clip")[..6], b"GIF89a");
}

#[test]
#[cfg(target_os = "linux")]
fn a_write_that_fails_is_told_and_leaves_the_older_clip() {
    let dir = temp();
    let out = dir.path().join("clip.y4m");
    std::fs::write(&out, "an older clip").expect("a file");
    // No file may grow beyond a block, as on a full disk.
    let limited = ["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh", text(tabreel_tests::tabreel_binary())];
    let output = one_step("sh", &limited, "cpu", &out).output().expect("a run");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("clip.y4m") && said.contains("\"fetch\""), "{said}");
    assert_eq!(std::fs::read(&out).expect("the file"), b"an older clip");
    assert_eq!(std::fs::read_dir(dir.path()).expect("the folder").count(), 1);
}

#[test]
#[cfg(target_os = "linux")]
fn a_machine_without_a_gpu_ends_with_code_5() {
    let dir = temp();
    let out = dir.path().join("clip.gif");
    let program = text(tabreel_tests::tabreel_binary());
    let mut command = one_step(program, &[], "gpu", &out);
    // Neither Vulkan nor GL finds a driver, as on a machine without one.
    command.envs([("VK_DRIVER_FILES", "/nowhere"), ("VK_ICD_FILENAMES", "/nowhere")]);
    command.env("__EGL_VENDOR_LIBRARY_FILENAMES", "/nowhere");
    let output = command.output().expect("a run");
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("unsupported-device"), "{output:?}");
    assert!(!out.exists());
}

#[test]
fn what_the_model_refuses_is_told_before_its_weights_are_read() {
    let dir = temp();
    let folder = copied_model(dir.path());
    // Loading warns of a tensor that the model has no use for.
    let vae = folder.join("vae/diffusion_pytorch_model.safetensors");
    let mut tensors = read_arrays(&vae).expect("tensors");
    tensors.insert("of_no_use".into(), Array { shape: vec![1], values: vec![0.0] });
    std::fs::write(&vae, tabreel_tests::safetensors_file(&tensors)).expect("written");
    let out = dir.path().join("clip.gif");
    assert!(done(generate(&folder, &out, &[("--json", "")])).contains("of_no_use"));
    let picture = dir.path().join("picture.png");
    image::RgbImage::new(48, 32).save(&picture).expect("a picture");
    let output = generate(&folder, &out, &[("--json", ""), ("--image", text(&picture))]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("first frame") && !said.contains("of_no_use"), "{said}");
    let wide = generate(&folder, &out, &[("--width", "50")]);
    assert!(!String::from_utf8_lossy(&wide.stderr).contains("of_no_use"), "{wide:?}");
    refused(wide, 2, &["width", "50"]);
}

#[test]
fn a_prompt_is_said_in_the_models_words_and_unknown_ones_are_named() {
    let dir = temp();
    let (folder, out) = (root().join("models/small-world"), dir.path().join("picture.png"));
    let run = |more: &[&str]| {
        let usual =
            ["generate", "--json", "--model", text(&folder), "--device", "cpu", "--out", text(&out), "--seed", "4"];
        done(tabreel(
            &[&usual[..], &["--width", "64", "--height", "64", "--frames", "1", "--steps", "1"], more].concat(),
        ))
    };
    let prompt_of = |said: &str| {
        let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|line| line["prompt"].as_str().map(str::to_owned)).next()
    };
    let suggested = run(&["--prompt", "crimson spheres over sand", "--suggest"]);
    let prompt = prompt_of(&suggested).expect("the prompt is told");
    assert!(prompt.starts_with("a ") && prompt.contains("red ball") && prompt.contains("over sand"), "{prompt}");
    assert!(!suggested.contains("does not know"), "{suggested}");
    assert_eq!(prompt_of(&run(&["--suggest"])), prompt_of(&run(&["--prompt", "", "--suggest"])));
    let plain = run(&["--prompt", "a cat chases a red ball"]);
    assert!(plain.contains("does not know “cat”, “chases”"), "{plain}");
    refused(generate(&model(), &out, &[("--suggest", "")]), 2, &["--suggest needs a model whose card lists its words"]);
}

#[test]
fn step_counts_lie_side_by_side() {
    let dir = temp();
    let frames = |name: &str, change: &[(&str, &str)]| {
        let out = dir.path().join(name);
        done(generate(&model(), &out, change));
        read_arrays(&out).expect("frames")["frames"].clone()
    };
    let args = case().config["args"].clone();
    let steps = args["num_steps"].as_u64().expect("a number of steps").to_string();
    let [one, usual] = ["1", steps.as_str()].map(|n| frames(&format!("{n}.safetensors"), &[("--steps", n)]));
    let out = dir.path().join("both.safetensors");
    let without: Vec<String> = {
        let plain = |key: &str| args[key].as_str().map_or_else(|| args[key].to_string(), str::to_owned);
        let rows = ["prompt", "width", "height", "seed"].map(|key| format!("--{key}={}", plain(key)));
        let other = [("--negative", "negative_prompt"), ("--frames", "num_frames"), ("--guidance", "guidance_scale")];
        rows.into_iter().chain(other.map(|(flag, key)| format!("{flag}={}", plain(key)))).collect()
    };
    let mut run = vec!["generate", "--model"];
    let (folder, both) = (model(), format!("--compare-steps=1,{steps}"));
    run.extend([text(&folder), "--fps", "8", "--out", text(&out), &both]);
    run.extend(without.iter().map(String::as_str));
    done(tabreel(&run));
    let recipe: Value = serde_json::from_str(&done(tabreel(&["inspect", "--json", text(&out)]))).expect("JSON");
    assert_eq!(recipe["recipe"]["given"]["compare-steps"][0], 1, "{recipe}");
    let both = read_arrays(&out).expect("frames")["frames"].clone();
    assert_eq!(both.shape, [one.shape[0], one.shape[1], 2 * one.shape[2], 3]);
    let row = one.shape[2] * 3;
    for (at, values) in both.values.chunks_exact(2 * row).enumerate() {
        assert_eq!(values[..row], one.values[at * row..][..row]);
        assert_eq!(values[row..], usual.values[at * row..][..row]);
    }
    refused(generate(&model(), &out, &[("--compare-steps", "1,2")]), 2, &["--steps"]);
    let other = |numbers: &str| {
        let run: Vec<&str> = run.iter().filter(|arg| !arg.starts_with("--compare-steps")).copied().collect();
        tabreel(&[&run[..], &["--compare-steps", numbers]].concat())
    };
    refused(other("0,2"), 2, &["num_steps", "got 0"]);
    refused(other("4"), 2, &["two numbers of steps or more, got 1"]);
}

#[test]
fn a_dmd_folder_is_sampled_as_it_was_distilled() {
    let dir = temp();
    let folder = copied_model(dir.path());
    let index = folder.join("model_index.json");
    let json = std::fs::read_to_string(&index).expect("the index");
    std::fs::write(&index, json.replace("\"WanPipeline\"", "\"WanDMDPipeline\"")).expect("written");
    let out = dir.path().join("clip.png");
    let run = |more: &[&str]| {
        let usual = ["generate", "--model", text(&folder), "--prompt", "a", "--width", "32", "--height", "32"];
        done(tabreel(&[&usual[..], &["--frames", "1", "--device", "cpu", "--out", text(&out)], more].concat()));
        let recipe = done(tabreel(&["inspect", "--json", text(&out)]));
        serde_json::from_str::<Value>(&recipe).expect("JSON")["recipe"]["options"].clone()
    };
    let options = run(&[]);
    assert_eq!((&options["sampler"], &options["numSteps"]), (&"stochastic".into(), &3.into()), "{options}");
    assert_eq!((&options["guidanceScale"], &options["sigmas"]), (&1.0.into(), &serde_json::json!([1.0, 0.757, 0.522])));
    let options = run(&["--steps", "2", "--sampler", "unipc"]);
    assert_eq!((&options["sampler"], &options["numSteps"]), (&"unipc".into(), &2.into()), "{options}");
}

#[test]
fn what_the_table_refuses_is_refused_before_the_model_is_read() {
    let none = temp();
    let output = generate(none.path(), &none.path().join("clip.gif"), &[("--steps", "201")]);
    refused(output, 2, &["1 to 200 steps"]);
}

#[test]
fn serve_without_the_page_inside_says_how_to_get_it() {
    refused(tabreel(&["serve", "--port", "0"]), 3, &["built without the page", "npm run build:serve"]);
    refused(tabreel(&["serve", "--port", "65536"]), 2, &["65536"]);
}

#[test]
fn help_explains_itself() {
    let printed = done(tabreel(&["--help"]));
    for word in ["generate", "convert", "inspect", "serve", "--json"] {
        assert!(printed.contains(word), "{word} is not in:\n{printed}");
    }
    let printed = done(tabreel(&["generate", "--help"]));
    for word in [
        "--model",
        "--prompt",
        "--negative",
        "--width",
        "--height",
        "--frames",
        "--steps",
        "--guidance",
        "--seed",
        "--fps",
        "--latents",
        "--device",
        "--out",
    ] {
        assert!(printed.contains(word), "{word} is not in:\n{printed}");
    }
}

#[test]
fn loose_files_take_the_place_of_a_folders_parts_and_are_told_by_their_tensors() {
    let folder = temp();
    let (whole, loose) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    done(generate(&model(), &whole, &[]));
    let encoder = folder.path().join("an_encoder_of_any_name.bin");
    std::fs::copy(model().join("text_encoder/model.safetensors"), &encoder).expect("the encoder");
    let tokenizer = model().join("tokenizer/tokenizer.json");
    done(generate(&model(), &loose, &[("--text-encoder", text(&encoder)), ("--tokenizer", text(&tokenizer))]));
    assert_eq!(read_arrays(&whole).expect("a file")["latents"], read_arrays(&loose).expect("a file")["latents"]);

    let wrong = generate(&model(), &loose, &[("--transformer", text(&encoder))]);
    refused(wrong, 4, &["transformer: expected transformer/config.json, or the tensors of WanTransformer3DModel"]);
    let wrong = generate(&model(), &loose, &[("--tokenizer", text(&encoder))]);
    refused(wrong, 3, &["the model has no tokenizer"]);
}

/// The latents of one step of one frame with a folder of the fixture's shape.
fn one_frame(folder: &Path, model: &Path) -> Array {
    let out = folder.join("frame.safetensors");
    let plain = [("--prompt", "a red ball moves left"), ("--negative", "night"), ("--device", "cpu")];
    done(generate(model, &out, &[&plain[..], &[("--frames", "1"), ("--steps", "1")]].concat()));
    read_arrays(&out).expect("a safetensors file")["latents"].clone()
}

/// llama.cpp's name of a tensor of a T5 encoder.
fn llama_name(name: &str) -> String {
    let rules = [
        ("encoder.block.", "enc.blk."),
        (".layer.0.SelfAttention.relative_attention_bias", ".attn_rel_b"),
        (".layer.0.SelfAttention.", ".attn_"),
        (".layer.0.layer_norm", ".attn_norm"),
        (".layer.1.DenseReluDense.wi_0", ".ffn_gate"),
        (".layer.1.DenseReluDense.wi_1", ".ffn_up"),
        (".layer.1.DenseReluDense.wo", ".ffn_down"),
        (".layer.1.layer_norm", ".ffn_norm"),
        ("encoder.final_layer_norm", "enc.output_norm"),
        ("shared", "token_embd"),
    ];
    rules.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

/// The vocabulary of the fixture's tokenizer as llama.cpp puts it into a T5 encoder's GGUF file, without its table of normalisation.
fn vocabulary() -> Vec<(String, MetaValue)> {
    let expected = std::fs::read(root().join("tests/fixtures/tokenizer/expected.json")).expect("the fixture");
    let expected: Value = serde_json::from_slice(&expected).expect("JSON");
    let pieces = expected["pieces"].as_array().expect("pieces");
    let text = |piece: &Value| MetaValue::String(piece[0].as_str().expect("text").into());
    let score = |piece: &Value| MetaValue::F32(piece[1].as_f64().expect("a score") as f32);
    let kind = |piece: &Value| MetaValue::I32(piece[2].as_i64().expect("a kind") as i32);
    vec![
        ("general.architecture".into(), MetaValue::String("t5encoder".into())),
        ("tokenizer.ggml.model".into(), MetaValue::String("t5".into())),
        ("tokenizer.ggml.tokens".into(), MetaValue::Array(8, pieces.iter().map(text).collect())),
        ("tokenizer.ggml.scores".into(), MetaValue::Array(6, pieces.iter().map(score).collect())),
        ("tokenizer.ggml.token_type".into(), MetaValue::Array(5, pieces.iter().map(kind).collect())),
        ("tokenizer.ggml.eos_token_id".into(), MetaValue::U32(1)),
    ]
}

#[test]
fn a_text_encoder_that_brings_its_vocabulary_needs_no_tokenizer() {
    let folder = temp();
    let expected = one_frame(folder.path(), &model());
    let arrays = read_arrays(&model().join("text_encoder/model.safetensors")).expect("the text encoder");
    let bytes = |array: &Array| array.values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let spiece = std::fs::read(root().join("tests/fixtures/tokenizer/spiece.model")).expect("the fixture");

    // llama.cpp's file, and what ComfyUI loads: the SentencePiece file as one of the tensors.
    let mut gguf = Vec::new();
    let names: Vec<String> = arrays.keys().map(|name| llama_name(name)).collect();
    let values: Vec<&Array> = arrays.values().collect();
    let shapes = values.iter().map(|array| array.shape.as_slice());
    let tensors: Vec<_> =
        names.iter().zip(shapes).map(|(name, shape)| (name.as_str(), shape, StoredType::F32)).collect();
    gguf_write::write(&mut gguf, &vocabulary(), &tensors, |i| Ok(bytes(values[i]))).expect("a file");
    let mut stored: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> =
        arrays.iter().map(|(name, array)| (name.as_str(), Dtype::F32, array.shape.clone(), bytes(array))).collect();
    stored.push(("spiece_model", Dtype::U8, vec![spiece.len()], spiece.clone()));
    let views = stored.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as its shape says"))
    });
    let comfy = safetensors::serialize(views, None).expect("a file");

    for (name, file) in [("model.gguf", &gguf), ("model.safetensors", &comfy), ("spiece.model", &spiece)] {
        let parent = temp();
        let model = copied_model(parent.path());
        std::fs::remove_dir_all(model.join("tokenizer")).expect("removed");
        if name == "model.gguf" {
            std::fs::remove_file(model.join("text_encoder/model.safetensors")).expect("removed");
        }
        std::fs::write(model.join("text_encoder").join(name), file).expect("written");
        assert_eq!(one_frame(folder.path(), &model), expected, "{name}");
        let told: Value = serde_json::from_str(&done(tabreel(&["inspect", "--json", text(&model)]))).expect("JSON");
        assert_eq!(told["inspection"]["runs"], true, "{name}: {told}");
    }
}

#[test]
fn weights_in_8_bits_beside_their_scales_are_read_inspected_and_converted() {
    let folder = temp();
    // A layer's scales need not be called and shaped as another's: files of mixed types have them here and there.
    let files = ["text_encoder/model.safetensors", "transformer/diffusion_pytorch_model.safetensors"];
    let [packed, plain, converted] = [temp(), temp(), temp()];
    let [packed, plain, converted] = [&packed, &plain, &converted].map(|parent| copied_model(parent.path()));
    for file in files {
        let arrays = read_arrays(&model().join(file)).expect("weights");
        let (eight_bits, values) = float8_file(&arrays);
        std::fs::write(packed.join(file), eight_bits).expect("written");
        std::fs::write(plain.join(file), safetensors_file(&values)).expect("written");
        let told = done(tabreel(&["inspect", text(&packed.join(file))]));
        assert!(told.contains("F8_E4M3") && told.contains("scale_weight"), "{told}");
        let gguf = converted.join(file).with_extension("gguf");
        done(tabreel(&["convert", text(&packed.join(file)), text(&gguf), "--type", "f16"]));
        std::fs::remove_file(converted.join(file)).expect("removed");
    }
    let expected = one_frame(folder.path(), &plain);
    assert_eq!(one_frame(folder.path(), &packed), expected);
    // Every value is exact in 16 bits.
    assert_eq!(one_frame(folder.path(), &converted), expected);
    assert_ne!(one_frame(folder.path(), &model()), expected, "8 bits are fewer than 32");
}

#[test]
fn a_lora_that_fits_nothing_and_one_that_is_not_there_are_told() {
    let folder = temp();
    let out = folder.path().join("a.safetensors");
    let encoder = model().join("text_encoder/model.safetensors");
    refused(
        generate(&model(), &out, &[("--lora", &format!("{}=0.5", text(&encoder)))]),
        4,
        &["expected a LoRA for this model", "that fit nothing in it"],
    );
    refused(generate(&model(), &out, &[("--lora", "/nonexistent.safetensors")]), 3, &["/nonexistent.safetensors"]);
}
