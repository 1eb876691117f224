use std::slice::from_ref;

use super::*;

/// Frames of one brightness each, 2 × 2 px.
fn clip(brightness: impl IntoIterator<Item = u8>) -> Vec<Picture> {
    brightness.into_iter().map(|v| Picture::new(2, 2, Values::Rgba([v, v, v, 255].repeat(4))).unwrap()).collect()
}

fn bytes(clip: &[Picture]) -> Vec<u8> {
    clip.iter().map(|p| p.rgba(2, 2).unwrap()[0]).collect()
}

fn pieces(window: &Window) -> Vec<(usize, Vec<u8>)> {
    let piece = |piece: &Piece| match piece {
        Piece::Clip { at, frames, .. } => (*at, bytes(frames)),
        Piece::Frame { at: 0, picture, .. } => (0, bytes(from_ref(picture))),
        Piece::Frame { at: -1, picture, .. } => (window.num_frames - 1, bytes(from_ref(picture))),
        _ => panic!("windows are made of clips, or a frame at either end"),
    };
    window.condition.pieces.iter().map(piece).collect()
}

const CLIPS: Way = Way { multiple: 4, clips: true };

#[test]
fn a_model_without_clips_is_given_a_frame_at_either_end() {
    let (a, b, frames) = (clip(0..17), clip(100..117), Way { clips: false, ..CLIPS });
    let overlap = overlap_of(None, 17, frames, false).unwrap();
    assert_eq!((overlap, overlap_of(None, 17, frames, true).unwrap()), (1, 1));
    assert!(overlap_of(Some(5), 17, frames, false).is_err_and(|e| e.to_string().contains("takes no clips, got 5")));
    let window = extension(&a[16..], 100, 17, 4, false).unwrap();
    assert!(matches!(&window.condition.pieces[..], [Piece::Frame { at: 0, .. }]));
    assert_eq!((window.added(), pieces(&window)), (16, vec![(0, vec![16])]));
    assert_eq!(pieces(&bridge(&a, &b, 17, frames).unwrap()), [(0, vec![16]), (16, vec![100])]);
}

#[test]
fn a_window_is_no_longer_than_it_must_be() {
    assert_eq!((longest(20, 4), longest(17, 4), longest(3, 4), longest(0, 4)), (17, 17, 1, 1));
    assert_eq!((shortest(18, 4), shortest(17, 4), shortest(1, 4)), (21, 17, 1));
    let known = clip(0..9);
    let window = extension(&known, 100, 17, 4, false).unwrap();
    assert_eq!((window.num_frames, window.added(), pieces(&window)), (17, 8, vec![(0, (0..9).collect())]));
    let window = extension(&known, 2, 17, 4, false).unwrap();
    assert_eq!((window.num_frames, window.added()), (13, 4));
    let window = extension(&known[..8], 100, 17, 4, true).unwrap();
    assert_eq!((window.num_frames, pieces(&window)), (17, vec![(9, (0..8).collect())]));
    assert!(!window.condition.paste);
    assert!(extension(&known, 5, 9, 4, false).is_err());
}

#[test]
fn a_bridge_stands_on_both_ends() {
    let (a, b) = (clip(0..17), clip(100..117));
    let window = bridge(&a, &b, 17, CLIPS).unwrap();
    assert_eq!(pieces(&window), [(0, (12..17).collect()), (13, (100..104).collect::<Vec<u8>>())]);
    assert_eq!(window.added(), 8);
    // A short window, and clips of one frame.
    assert_eq!(pieces(&bridge(&a, &b, 9, CLIPS).unwrap()), [(0, vec![16]), (5, vec![100, 101, 102, 103])]);
    assert_eq!(pieces(&bridge(&a[..1], &b[..1], 17, CLIPS).unwrap()), [(0, vec![0]), (16, vec![100])]);
    assert_eq!(pieces(&bridge(&a, &b, 5, CLIPS).unwrap()), [(0, vec![16]), (2, vec![100, 101, 102])]);
    assert_eq!(
        bridge(&a, &b, 1, CLIPS).unwrap_err().to_string(),
        "a window needs 3 frames at least, two to stand and one to make, got 1"
    );
}

#[test]
fn the_usual_overlap_is_whole_latent_frames() {
    let usual = |window, backward| overlap_of(None, window, CLIPS, backward).unwrap();
    assert_eq!([17, 33, 9, 5].map(|window| usual(window, false)), [9, 9, 5, 1]);
    assert_eq!([17, 33, 9, 5].map(|window| usual(window, true)), [8, 8, 4, 4]);
    let e = overlap_of(Some(17), 17, CLIPS, false).unwrap_err().to_string();
    assert_eq!(e, "the overlap must be 1 to 16 frames in a window of 17, got 17");
    assert!(overlap_of(None, 1, CLIPS, false).is_err());
}

#[test]
fn windows_are_counted_before_they_are_made() {
    let extend = |frames, by, overlap| Task::Extend { clip: clip(0..frames), by, backward: false, overlap };
    assert_eq!(extend(20, 8, None).windows(17, CLIPS).unwrap(), 1);
    assert_eq!(extend(20, 9, None).windows(17, CLIPS).unwrap(), 2);
    // A clip of one frame leaves more room in the first window.
    assert_eq!(extend(1, 24, None).windows(17, CLIPS).unwrap(), 2);
    assert_eq!(extend(1, 25, None).windows(17, CLIPS).unwrap(), 3);
    let refusal = |task: Task| task.windows(17, CLIPS).unwrap_err().to_string();
    assert_eq!(refusal(extend(0, 8, None)), "a clip to extend must have one frame at least, got none");
    assert_eq!(refusal(extend(9, 0, None)), "a clip can be extended by 1 to 100000 frames, got 0");
    assert!(refusal(Task::Connect { from: clip(0..3), to: Vec::new() }).contains("connect to must have one frame"));
}

#[test]
fn colours_are_held_to_the_known_frames() {
    // Two pixels a frame: the decoder gave 10 + 0.9 of what they were, so 100 and 200 came back as 100 and 190.
    let frame = |a: u8, b: u8| [a, a, a, 255, b, b, b, 255].to_vec();
    let (known, off) = (frame(100, 200), frame(100, 190));
    assert_eq!(drift::hold(vec![off.clone(), frame(55, 145)], from_ref(&known), &[]), [frame(50, 150)]);
    assert_eq!(drift::hold(vec![frame(55, 145), off.clone()], &[], from_ref(&known)), [frame(50, 150)]);
    // Between an end that is off by 30 and one that is right, half way is off by half.
    let made = vec![frame(70, 170), frame(85, 185), known.clone()];
    assert_eq!(drift::hold(made, from_ref(&known), from_ref(&known)), [frame(100, 200)]);
    // Nothing known, nothing changed; and of contrast only so much is believed.
    assert_eq!(drift::hold(vec![off.clone()], &[], &[]), [off]);
    let pale = drift::hold(vec![frame(140, 160), frame(140, 160)], &[known], &[]);
    assert_eq!(pale, [frame(138, 163)]);
}

#[test]
fn windows_are_given_what_stands_beside_them() {
    let window = extension(&clip(0..9), 8, 17, 4, false).unwrap();
    let beside = Beside { references: clip([7, 8]), control_scale: 0.5 };
    let condition = beside.with(window.condition.clone());
    assert!(matches!(&condition.pieces[..], [Piece::Clip { at: 0, .. }, Piece::Reference(_), Piece::Reference(_)]));
    assert_eq!((condition.control_scale, condition.paste), (0.5, false));
    assert_eq!(Beside::default().with(window.condition).control_scale, 1.0);
}

#[test]
fn tasks_of_one_clip_are_conditions() {
    use crate::condition::Capabilities;
    let size = ClipSize { frames: 5, height: 2, width: 4 };
    let outpainted = complete(clip(0..5), Vec::new(), Fit::Contain);
    let timeline = outpainted.merge(size, &Capabilities::all()).unwrap();
    let made = timeline.video.unwrap().frame(0).unwrap().unwrap().to_generate;
    assert_eq!(made, [1.0, 0.0, 0.0, 1.0].repeat(2), "the square lies in the middle");
    let upscaled = upscale(clip(0..5), 0.3);
    let timeline = upscaled.merge(size, &Capabilities::all()).unwrap();
    assert!(timeline.video.is_none() && timeline.source.is_some_and(|(frames, _)| frames.len() == 5));
    assert!(matches!(sketch(&clip(0..5), 2, 4).unwrap(), Piece::Control(frames) if frames.len() == 5));
}

/// Cases that `pkg/src/passes.ts` is held to as well.
fn shared_cases(of: &str) -> Vec<serde_json::Value> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/windows.json");
    let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    cases[of].as_array().filter(|cases| !cases.is_empty()).unwrap().clone()
}

fn number(case: &serde_json::Value, key: &str) -> usize {
    case[key].as_u64().unwrap_or_else(|| panic!("{key} in {case}")) as usize
}

fn way(case: &serde_json::Value) -> Way {
    Way { multiple: number(case, "multiple"), clips: case["clips"].as_bool().unwrap() }
}

#[test]
fn overlaps_and_bridges_are_those_of_the_package() {
    for case in shared_cases("overlap") {
        for (key, backward) in [("forward", false), ("backward", true)] {
            let found = overlap_of(None, number(&case, "window"), way(&case), backward).ok();
            assert_eq!(found.map(|n| n as u64), case[key].as_u64(), "{key} of {case}");
        }
    }
    for case in shared_cases("bridge") {
        let grey = |frames: usize| clip(std::iter::repeat_n(0, frames));
        let (from, to) = (grey(number(&case, "from")), grey(number(&case, "to")));
        let window = bridge(&from, &to, number(&case, "window"), way(&case)).ok();
        let ends = window.map(|window| (window.before.len() as u64, window.after.len() as u64));
        assert_eq!(ends, case["head"].as_u64().zip(case["tail"].as_u64()), "{case}");
    }
}

#[test]
fn extensions_take_the_passes_of_the_package() {
    for case in shared_cases("extension") {
        let (mut have, mut left, mut passes) = (number(&case, "have"), number(&case, "add"), Vec::new());
        while left > 0 {
            let known = clip(std::iter::repeat_n(0, have.min(number(&case, "overlap"))));
            let window = extension(&known, left, number(&case, "window"), number(&case, "multiple"), false).unwrap();
            let fresh = window.added().min(left);
            passes.push([window.num_frames, known.len(), fresh]);
            (have, left) = (have + fresh, left - fresh);
        }
        assert_eq!(serde_json::json!(passes), case["passes"], "{case}");
    }
}

#[test]
fn a_model_is_asked_for_what_the_package_asks_it_for() {
    use crate::condition::Capabilities;
    for case in shared_cases("can") {
        let can = |key: &str| case["can"][key].as_bool().unwrap_or_else(|| panic!("{key} in {case}"));
        let capabilities = Capabilities {
            text: can("text"),
            image: can("image"),
            last_image: can("lastImage"),
            needs_last_image: can("needsLastImage"),
            keyframes: can("keyframes"),
            ..Capabilities::default()
        };
        let takes = |condition: &Condition, frames: usize| {
            condition.merge(ClipSize { frames, height: 2, width: 2 }, &capabilities).is_ok()
        };
        let picture = || clip(0..1).pop();
        let way = Way { multiple: 4, clips: capabilities.keyframes };
        let extends = |backward| {
            let known = clip(0..overlap_of(None, 17, way, backward).unwrap() as u8);
            let window = extension(&known, 8, 17, 4, backward).unwrap();
            takes(&window.condition, window.num_frames)
        };
        let joined = bridge(&clip(0..17), &clip(0..17), 17, way).unwrap();
        let found = [
            ("first", takes(&Condition::of_images(picture(), None), 17)),
            ("ends", takes(&Condition::of_images(picture(), picture()), 17)),
            ("forward", extends(false)),
            ("backward", extends(true)),
            ("bridge", takes(&joined.condition, joined.num_frames)),
        ];
        for (what, found) in found {
            assert_eq!(Some(found), case[what].as_bool(), "{what} of {case}");
        }
    }
}

#[test]
fn a_task_works_at_the_size_that_the_package_takes() {
    for case in shared_cases("size") {
        let pair = |key: &str| serde_json::from_value::<[usize; 2]>(case[key].clone()).unwrap();
        let [width_multiple, height_multiple] = pair("multiples");
        let rules = crate::options::Rules { width_multiple, height_multiple, frame_multiple: 4 };
        let trained: Vec<[usize; 2]> = serde_json::from_value(case["trained"].clone()).unwrap();
        assert_eq!(size_for(pair("own"), rules, &trained), pair("size"), "{case}");
    }
}

#[test]
fn colours_are_held_as_the_package_holds_them() {
    for case in shared_cases("colours") {
        let frames = |key: &str| serde_json::from_value::<Vec<Vec<u8>>>(case[key].clone()).unwrap();
        let held = drift::hold(frames("made"), &frames("before"), &frames("after"));
        assert_eq!(held, frames("held"), "{}", case["name"]);
    }
}
