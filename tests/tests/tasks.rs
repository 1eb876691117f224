//! Tasks on the command line with the default model, in few steps: what is given is kept to the bit, lengths are right, bad
//! input is refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use image::codecs::gif::GifDecoder;
use image::{AnimationDecoder, ColorType};
use serde_json::Value;
use tabreel_tests::{read_arrays, root, tabreel, tabreel_binary};
use tempfile::TempDir;

/// Sides of the clips made here, px.
const SIDE: usize = 48;

struct Workshop(TempDir);

/// A clip, `[F, H, W, 3]`.
#[derive(Debug, PartialEq)]
struct Frames {
    size: [usize; 3],
    rgb: Vec<u8>,
}

impl Frames {
    fn frame(&self, index: usize) -> &[u8] {
        let bytes = self.size[1] * self.size[2] * 3;
        &self.rgb[index * bytes..(index + 1) * bytes]
    }

    fn frames(&self, range: std::ops::Range<usize>) -> Vec<&[u8]> {
        range.map(|index| self.frame(index)).collect()
    }
}

impl Workshop {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.at(name).to_str().expect("a path in UTF-8").to_owned()
    }

    /// `tabreel generate` to a file of this name.
    fn run(&self, out: &str, flags: &[&str]) -> std::process::Output {
        let model = root().join("models/small-world");
        let (model, out) = (model.to_str().expect("UTF-8"), self.path(out));
        let mut args = vec!["generate", "--model", model, "--prompt", "a large red ball rolls left over sand by day"];
        args.extend(["--guidance", "1", "--seed", "5", "--device", "cpu", "--out", &out]);
        if !flags.contains(&"--steps") {
            args.extend(["--steps", "2"]);
        }
        args.extend(flags);
        tabreel(&args)
    }

    /// The clip that it makes, and what it said.
    fn make(&self, flags: &[&str]) -> (Frames, String) {
        let output = self.run("made.safetensors", flags);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{flags:?}: {said}");
        let frames = read_arrays(&self.at("made.safetensors")).expect("a file").remove("frames").expect("frames");
        let [f, h, w, 3] = frames.shape[..] else { panic!("{:?}", frames.shape) };
        (Frames { size: [f, h, w], rgb: frames.values.iter().map(|&v| v as u8).collect() }, said)
    }

    fn refused(&self, flags: &[&str], code: i32, words: &[&str]) {
        let output = self.run("refused.gif", flags);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in: {said}");
        }
        assert!(!self.at("refused.gif").exists());
    }

    /// A picture of a sky, a ground and a ball, with some texture so that no pixel is like its neighbour.
    fn picture(&self, name: &str, width: usize, height: usize) -> Vec<u8> {
        let rgb = scene(width, height, width / 2);
        save(&self.at(name), &rgb, width, height);
        rgb
    }

    /// A clip of a moving ball as a GIF, and its frames as a GIF has them.
    fn clip(&self, name: &str, frames: usize) -> Frames {
        let file = std::fs::File::create(self.at(name)).expect("a file");
        let mut encoder = image::codecs::gif::GifEncoder::new(file);
        for i in 0..frames {
            let rgba = scene(SIDE, SIDE, SIDE / 4 + 2 * i).chunks(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
            let buffer = image::RgbaImage::from_raw(SIDE as u32, SIDE as u32, rgba).expect("a frame");
            let delay = image::Delay::from_numer_denom_ms(1000, 16);
            encoder.encode_frame(image::Frame::from_parts(buffer, 0, 0, delay)).expect("written");
        }
        drop(encoder);
        let file = std::io::BufReader::new(std::fs::File::open(self.at(name)).expect("the file"));
        let read = GifDecoder::new(file).expect("a GIF").into_frames().collect_frames().expect("frames");
        let rgb = read.iter().flat_map(|f| f.buffer().pixels().flat_map(|p| [p[0], p[1], p[2]]).collect::<Vec<_>>());
        Frames { size: [frames, SIDE, SIDE], rgb: rgb.collect() }
    }
}

fn scene(width: usize, height: usize, ball: usize) -> Vec<u8> {
    let pixel = |i: usize| {
        let (x, y) = (i % width, i / width);
        let inside = x.abs_diff(ball).pow(2) + y.abs_diff(height / 2).pow(2) < (height / 6).pow(2);
        let texture = (x * 7 + y * 3) as u8 % 4;
        match (inside, y < height / 2) {
            (true, _) => [210 + texture, 40, 35],
            (false, true) => [150 + texture, 190, 235],
            (false, false) => [62, 138 + texture, 50],
        }
    };
    (0..width * height).flat_map(pixel).collect()
}

fn save(path: &Path, rgb: &[u8], width: usize, height: usize) {
    image::save_buffer(path, rgb, width as u32, height as u32, ColorType::Rgb8).expect("a picture");
}

/// Flags of the usual size with others.
fn sized<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    [&["--width", "48", "--height", "48"], flags].concat()
}

#[test]
fn a_given_frame_comes_back_to_the_bit() {
    let shop = Workshop::new();
    let given = shop.picture("given.png", SIDE, SIDE);
    let (first, last) = (shop.path("given.png"), format!("-1={}", shop.path("given.png")));
    let (made, _) = shop.make(&sized(&["--frames", "9", "--image", &first, "--keyframe", &last]));
    assert_eq!((made.frame(0), made.frame(8)), (&given[..], &given[..]));
    assert_ne!(made.frame(4), given);
    let (raw, _) = shop.make(&sized(&["--frames", "5", "--image", &first, "--no-paste"]));
    assert_ne!(raw.frame(0), given, "the decoder's own version");
}

/// Whether a pixel lies in the region of [`save_mask`].
fn inside(i: usize) -> bool {
    (12..36).contains(&(i % SIDE)) && (12..36).contains(&(i / SIDE))
}

/// `mask.png`: a square in the middle is painted.
fn save_mask(shop: &Workshop) {
    let mask: Vec<u8> = (0..SIDE * SIDE).flat_map(|i| [if inside(i) { 255 } else { 0 }; 3]).collect();
    save(&shop.at("mask.png"), &mask, SIDE, SIDE);
}

#[test]
fn a_painted_region_changes_and_the_rest_stays() {
    let shop = Workshop::new();
    let given = shop.picture("given.png", SIDE, SIDE);
    save_mask(&shop);
    let (clip, mask) = (shop.path("given.png"), shop.path("mask.png"));
    let (made, _) = shop.make(&sized(&["--clip", &clip, "--mask", &mask]));
    assert_eq!(made.size, [1, SIDE, SIDE], "as long as what is painted on");
    let pixels = || made.rgb.chunks(3).zip(given.chunks(3)).enumerate();
    assert!(pixels().filter(|(i, _)| !inside(*i)).all(|(_, (a, b))| a == b));
    let changed = pixels().filter(|(i, (a, b))| inside(*i) && a != b).count();
    assert!(changed > 24 * 24 / 2, "{changed} of {} pixels", 24 * 24);
    // the same over a clip, its first frames as many as the model can make
    let clip = shop.clip("clip.gif", 7);
    let (made, said) = shop.make(&sized(&["--clip", &shop.path("clip.gif"), "--mask", &mask]));
    assert_eq!(made.size[0], 5);
    assert!(said.contains("5 of 7 frames are used"), "{said}");
    let outside = |frames: &Frames| -> Vec<u8> {
        let all = frames.rgb[..5 * SIDE * SIDE * 3].chunks(3).enumerate();
        all.filter(|(i, _)| !inside(i % (SIDE * SIDE))).flat_map(|(_, p)| p.to_vec()).collect()
    };
    assert_eq!(outside(&made), outside(&clip));
}

#[test]
fn a_region_may_start_from_what_stands_there() {
    let shop = Workshop::new();
    let given = shop.picture("given.png", SIDE, SIDE);
    save_mask(&shop);
    let (clip, mask) = (shop.path("given.png"), shop.path("mask.png"));
    let make = |more: &[&str]| {
        let (made, _) = shop.make(&sized(&[&["--clip", &clip, "--mask", &mask, "--steps", "10"], more].concat()));
        let pixels = || made.rgb.chunks(3).zip(given.chunks(3)).enumerate();
        assert!(pixels().filter(|(i, _)| !inside(*i)).all(|(_, (a, b))| a == b), "{more:?}");
        let off = |(a, b): (&[u8], &[u8])| a.iter().zip(b).map(|(a, b)| usize::from(a.abs_diff(*b))).sum::<usize>();
        let changed = pixels().filter(|(i, _)| inside(*i)).map(|(_, pair)| off(pair)).sum::<usize>();
        (changed / (24 * 24 * 3), made)
    };
    let ((near, _), (_, half)) = (make(&["--strength", "0.1"]), make(&["--strength", "0.5"]));
    let ((far, anew), (_, whole)) = (make(&[]), make(&["--strength", "1"]));
    assert!(near < far, "a tenth changes {near} of 255, everything {far}");
    assert_eq!(anew, whole, "1 is what is made where nobody says anything");
    assert_ne!(anew, half);
    assert!(shop.run("made.png", &sized(&["--clip", &clip, "--mask", &mask, "--strength", "0.5"])).status.success());
    let told = tabreel(&["inspect", &shop.path("made.png"), "--json"]);
    let report: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    assert_eq!(report["recipe"]["task"], "inpaint");
    assert_eq!(report["recipe"]["given"]["strength"], 0.5);
}

#[test]
fn a_picture_of_lines_is_for_the_first_frame_or_held_for_all() {
    let shop = Workshop::new();
    shop.picture("lines.png", 2 * SIDE, 2 * SIDE);
    let lines = shop.path("lines.png");
    for flag in ["--control", "--edges"] {
        let (first, _) = shop.make(&sized(&["--frames", "5", flag, &lines]));
        let (held, _) = shop.make(&sized(&["--frames", "5", flag, &lines, "--hold"]));
        assert_eq!(held.size, first.size);
        assert_ne!(held.frame(4), first.frame(4), "{flag}");
    }
    shop.clip("clip.gif", 5);
    shop.refused(&sized(&["--edges", &shop.path("clip.gif"), "--hold"]), 2, &["a single picture", "5 frames"]);
    shop.refused(&sized(&["--hold"]), 2, &["--hold needs --control or --edges"]);
}

#[test]
fn a_clip_goes_on_at_either_end() {
    let shop = Workshop::new();
    let given = shop.clip("clip.gif", 6);
    let file = shop.path("clip.gif");
    let flags = sized(&["--frames", "9", "--extend", &file, "--by", "10"]);
    let (made, _) = shop.make(&flags);
    assert_eq!(made.size[0], 16);
    assert_eq!(made.frames(0..6), given.frames(0..6));
    assert_ne!(made.frame(15), given.frame(5));
    let (made, _) = shop.make(&[&flags[..], &["--backward"]].concat());
    assert_eq!(made.size[0], 16);
    assert_eq!(made.frames(10..16), given.frames(0..6));
    assert!(made.frames(0..10).iter().all(|frame| frame.iter().any(|&v| v > 0)), "none was left out");
    // steps are counted over all windows: 4 + 4 + 2 frames with an overlap of 5
    let output = shop.run("made.gif", &[&flags[..], &["--json"]].concat());
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let steps: Vec<_> =
        lines.iter().filter(|l| l["type"] == "step").map(|l| (l["step"].as_u64(), l["numSteps"].as_u64())).collect();
    assert_eq!(steps, (1..=6).map(|i| (Some(i), Some(6))).collect::<Vec<_>>());
    assert_eq!(lines.last().expect("a line")["numFrames"], 16);
}

#[test]
fn windows_take_references_and_the_scale_of_what_steers() {
    let shop = Workshop::new();
    let given = shop.clip("clip.gif", 6);
    shop.picture("thing.png", SIDE, SIDE);
    let (file, thing) = (shop.path("clip.gif"), shop.path("thing.png"));
    let usual: [&str; 6] = ["--frames", "9", "--extend", &file, "--by", "4"];
    let extended = |more: &[&str]| {
        let (made, _) = shop.make(&sized(&[&usual[..], more].concat()));
        assert_eq!((made.size[0], made.frames(0..6)), (10, given.frames(0..6)));
        made.rgb
    };
    let plain = extended(&[]);
    assert_ne!(extended(&["--reference", &thing]), plain);
    assert_ne!(extended(&["--control-scale", "0.2"]), plain);
    assert_eq!(extended(&["--control-scale", "1"]), plain);
    let beyond = [&usual[..], &["--control-scale", "11"]].concat();
    shop.refused(&sized(&beyond), 2, &["control_scale must be 0 to 10, got 11"]);
}

#[test]
fn a_loop_is_closed_and_two_clips_are_joined() {
    let shop = Workshop::new();
    let (a, b) = (shop.clip("a.gif", 6), shop.clip("b.gif", 5));
    // a window of 9 with one frame of the end and four of the start leaves four to make
    let (made, _) = shop.make(&sized(&["--frames", "9", "--loop", &shop.path("a.gif")]));
    assert_eq!((made.size[0], made.frames(0..6)), (10, a.frames(0..6)));
    let (made, _) = shop.make(&sized(&["--frames", "9", "--connect", &shop.path("a.gif"), &shop.path("b.gif")]));
    assert_eq!(made.size[0], 15);
    assert_eq!((made.frames(0..6), made.frames(10..15)), (a.frames(0..6), b.frames(0..5)));
    // of the prompt alone: the clip itself, then its way back
    let (made, _) = shop.make(&sized(&["--frames", "9", "--loop"]));
    assert_eq!(made.size[0], 13);
}

#[test]
fn a_picture_grows_and_is_made_larger() {
    let shop = Workshop::new();
    let given = shop.picture("given.png", SIDE, SIDE);
    let file = shop.path("given.png");
    let (made, _) = shop.make(&["--outpaint", &file, "--width", "80", "--height", "48"]);
    assert_eq!(made.size, [1, 48, 80]);
    let middle: Vec<u8> = made.rgb.chunks(80 * 3).flat_map(|row| row[16 * 3..64 * 3].to_vec()).collect();
    assert_eq!(middle, given);
    let (made, _) = shop.make(&["--upscale", &file, "--steps", "4"]);
    assert_eq!(made.size, [1, 96, 96]);
    // red in the middle, blue above, green below: still the same picture
    let pixel = |x: usize, y: usize| &made.rgb[(y * 96 + x) * 3..][..3];
    assert!(pixel(48, 48)[0] > 140 && pixel(48, 8)[2] > 150 && pixel(48, 88)[1] > 90, "{:?}", pixel(48, 48));
}

#[test]
fn a_task_works_at_the_size_of_its_clip_or_the_nearest_of_the_model() {
    let shop = Workshop::new();
    let given = shop.clip("clip.gif", 5);
    shop.picture("wide.png", 150, 100);
    let (file, wide) = (shop.path("clip.gif"), shop.path("wide.png"));
    // The clip's own size, where the model takes it: known frames come back as they are.
    let (made, _) = shop.make(&["--frames", "9", "--extend", &file, "--by", "4"]);
    assert_eq!((made.size, made.frames(0..5)), ([9, SIDE, SIDE], given.frames(0..5)));
    let (connected, looped): (&[&str], &[&str]) = (&["--connect", &file, &file], &["--loop", &file]);
    for flags in [connected, looped] {
        let (made, _) = shop.make(&[flags, &["--frames", "9", "--steps", "1"]].concat());
        assert_eq!(made.size[1..], [SIDE, SIDE], "{flags:?}");
    }
    let (made, _) = shop.make(&["--source", &file, "--strength", "0.5"]);
    assert_eq!(made.size, [5, SIDE, SIDE]);
    // What is asked for goes before it, one side as well.
    let (made, _) = shop.make(&["--outpaint", &file, "--width", "80"]);
    assert_eq!(made.size, [5, SIDE, 80]);
    let said = ["another shape than the clip's 48 × 48 px, got 48 × 48 px"];
    shop.refused(&["--outpaint", &file], 2, &said);
    // Another, that it does not take: the model's size of the nearest shape.
    let (made, _) = shop.make(&["--source", &wide, "--strength", "0.5"]);
    assert_eq!(made.size, [1, 128, 192]);
    // A picture that only lies on the timeline says nothing of the clip's size.
    let (made, _) = shop.make(&["--frames", "5", "--steps", "1", "--image", &wide]);
    assert_eq!(made.size, [5, 128, 128]);
}

#[test]
fn other_clips_come_through_ffmpeg_at_the_right_rate() {
    let shop = Workshop::new();
    let size = format!("testsrc=size={SIDE}x{SIDE}:rate=8:duration=1");
    let written = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &size, "-pix_fmt", "yuv420p", &shop.path("clip.mp4")])
        .status()
        .expect("ffmpeg is there for the tests");
    assert!(written.success());
    let file = shop.path("clip.mp4");
    let (made, said) = shop.make(&sized(&["--edges", &file]));
    assert_eq!(made.size[0], 13, "the longest of its 16 frames that the model can make");
    assert!(said.contains("clip.mp4: 8 frames a second, resampled to 16 frames at 16"), "{said}");
    assert!(said.contains("13 of 16 frames are used"), "{said}");
    let (made, _) = shop.make(&sized(&["--frames", "5", "--source", &file, "--strength", "0.5"]));
    assert_eq!(made.size[0], 5);
    // what it wrote itself it reads itself
    let y4m = shop.run("clip.y4m", &sized(&["--frames", "5"]));
    assert!(y4m.status.success());
    let (made, said) = shop.make(&sized(&["--frames", "5", "--control", &shop.path("clip.y4m")]));
    assert!(made.size[0] == 5 && !said.contains("resampled"), "{said}");

    std::fs::write(shop.at("no.mp4"), "no clip").expect("a file");
    shop.refused(&["--clip", &shop.path("no.mp4")], 2, &["no.mp4", "ffmpeg decodes"]);
    let output = Command::new(tabreel_binary())
        .args([
            "generate",
            "--model",
            "models/small-world",
            "--prompt",
            "a",
            "--out",
            &shop.path("a.gif"),
            "--source",
            &file,
        ])
        .current_dir(root())
        .env("PATH", shop.0.path())
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && said.contains("ffmpeg, which is not installed"), "{said}");
    let output = Command::new(tabreel_binary())
        .args(["generate", "--model", "models/small-world", "--prompt", "a", "--out", &shop.path("a.mp4")])
        .current_dir(root())
        .env("PATH", shop.0.path())
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(3) && said.contains("written through ffmpeg, which is not installed"),
        "{said}"
    );
    assert!(!shop.at("a.mp4").exists() && !shop.at("a.mp4.partial").exists());
}

#[test]
fn a_result_keeps_its_recipe() {
    let shop = Workshop::new();
    shop.picture("given.png", SIDE, SIDE);
    let file = shop.path("given.png");
    for name in ["a.png", "a.gif", "a.safetensors"] {
        let made = shop.run(name, &sized(&["--frames", "5", "--image", &file]));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let json = tabreel(&["inspect", "--json", &shop.path(name)]);
        let printed: Value = serde_json::from_slice(&json.stdout).expect("JSON");
        let recipe = &printed["recipe"];
        assert_eq!(recipe["model"]["name"], "small-world", "{name}");
        assert_eq!(recipe["task"], "image-to-video", "{name}");
        assert_eq!((&recipe["options"]["seed"], &recipe["options"]["numSteps"]), (&5.into(), &2.into()));
        assert_eq!(recipe["given"]["image"], "given.png", "the name, not where it lies");
        let words = tabreel(&["inspect", &shop.path(name)]);
        assert!(String::from_utf8_lossy(&words.stdout).contains("a large red ball rolls left"), "{name}");
    }
    for name in ["a.mp4", "a.webm"] {
        let made = shop.run(name, &sized(&["--frames", "5"]));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let printed = tabreel(&["inspect", "--json", &shop.path(name)]);
        let printed: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
        assert_eq!(printed["recipe"]["options"]["prompt"], "a large red ball rolls left over sand by day", "{name}");
        let probed = Command::new("ffprobe")
            .args(["-v", "error", "-select_streams", "v:0", "-count_frames", "-of", "csv=p=0"])
            .args(["-show_entries", "stream=width,height,color_space,avg_frame_rate,nb_read_frames", &shop.path(name)])
            .output()
            .expect("ffprobe is there for the tests");
        assert_eq!(String::from_utf8_lossy(&probed.stdout).trim(), format!("{SIDE},{SIDE},bt709,16/1,5"), "{name}");
    }
    let made = shop.run("larger.png", &["--upscale", &file, "--frames", "1", "--steps", "4"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let printed = tabreel(&["inspect", "--json", &shop.path("larger.png")]);
    let printed: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
    assert_eq!(printed["recipe"]["task"], "upscale");
    let none = tabreel(&["inspect", &file]);
    assert!(none.status.code() == Some(2) && String::from_utf8_lossy(&none.stderr).contains("no recipe"));
}

#[test]
fn what_does_not_go_together_is_refused_before_anything_is_made() {
    let shop = Workshop::new();
    shop.picture("given.png", SIDE, SIDE);
    save(&shop.at("black.png"), &vec![0; SIDE * SIDE * 3], SIDE, SIDE);
    let (file, black) = (shop.path("given.png"), shop.path("black.png"));
    let at = |frame: &str| format!("{frame}={file}");
    let refused =
        |flags: &[&str], words: &[&str]| shop.refused(&sized(&[&["--frames", "9"], flags].concat()), 2, words);
    refused(&["--clip", &file, "--mask", &black], &["mark something", "frame 0"]);
    refused(&["--keyframe", &at("3"), "--keyframe", &at("3")], &["frame 3 is given twice"]);
    refused(&["--keyframe", &at("12")], &["9 frames", "frame 12"]);
    refused(&["--keyframe", &file], &["N=FILE"]);
    refused(&["--clip", &at("-2")], &["frame 0 or later"]);
    refused(&["--mask", &file], &["given frames to lie on"]);
    refused(&["--extend", &file, "--mask", &black], &["--extend takes no other", "--mask"]);
    refused(&["--extend", &file, "--by", "0"], &["1 to 100000 frames, got 0"]);
    refused(&["--extend", &file, "--overlap", "9"], &["1 to 8 frames in a window of 9"]);
    refused(&["--strength", "0.5"], &["--source, --upscale, or --clip and --mask"]);
    refused(&["--clip", &at("4"), "--mask", &file, "--strength", "0.5"], &["--clip and --mask"]);
    refused(&["--source", &file, "--strength", "2"], &["strength must be 0 to 1, got 2"]);
    refused(&["--source", &file, "--strength", "0.05", "--steps", "3"], &["at least one of 3 steps, got 0.05"]);
    refused(&["--source", &file, "--reference", &file], &["do not go together"]);
    refused(&["--source", &file], &["as many frames as the clip, 9, got 1"]);
    refused(&["--image", &file, "--seam", "100"], &["seam must be 0 to 64 px"]);
    refused(&["--extend", &file, "--seam", "2"], &["--extend takes no --seam"]);
    refused(&["--loop", &file, "--no-paste"], &["--loop takes no --no-paste"]);
    refused(&["--backward"], &["--extend"]);
    shop.refused(&["--image", &shop.path("nowhere.png")], 3, &["nowhere.png"]);
}
