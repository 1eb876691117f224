use super::*;

const SIZE: ClipSize = ClipSize { frames: 9, height: 4, width: 6 };

/// A picture of one brightness at the clip's size.
fn flat(value: f32) -> Picture {
    Picture::new(6, 4, Values::Rgb(vec![value; 72])).unwrap()
}

/// What frame 0 shows.
fn first(condition: &Condition, capabilities: &Capabilities) -> Shown {
    condition.merge(SIZE, capabilities).unwrap().video.unwrap().frame(0).unwrap().unwrap()
}

fn refusal(pieces: Vec<Piece>) -> String {
    Condition::of(pieces).merge(SIZE, &Capabilities::all()).err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn nothing_given_leaves_an_empty_timeline() {
    let condition = Condition::default();
    let timeline = condition.merge(SIZE, &Capabilities::all()).unwrap();
    assert!(timeline.video.is_none() && timeline.references.is_empty() && timeline.source.is_none());
}

#[test]
fn first_and_last_picture_stand_and_the_rest_is_to_be_made() {
    let condition = Condition::of_images(Some(flat(1.0)), Some(flat(0.0)));
    let video = condition.merge(SIZE, &Capabilities::all()).unwrap().video.unwrap();
    let frame = |f: usize| video.frame(f).unwrap().map(|shown| (shown.planes[0], shown.to_generate[0]));
    assert_eq!((frame(0), frame(1), frame(8)), (Some((1.0, 0.0)), None, Some((-1.0, 0.0))));
}

#[test]
fn control_fills_only_what_is_to_be_made() {
    let mut half = vec![0.0; 72];
    half[..36].fill(1.0);
    let mask = Picture::new(6, 4, Values::Rgb(half)).unwrap();
    let clip = Piece::clip(0, vec![flat(1.0); 9]);
    let condition = Condition::of(vec![clip, Piece::Mask(vec![mask]), Piece::Control(vec![flat(0.25); 9])]);
    let shown = first(&condition, &Capabilities::all());
    assert_eq!((shown.planes[0], shown.to_generate[0]), (-0.5, 1.0));
    assert_eq!((shown.planes[12], shown.to_generate[12]), (1.0, 0.0));
}

#[test]
fn each_refusal_names_the_rule_and_the_frames() {
    let frame = |at| Piece::frame(at, flat(0.5));
    let clip = |at, n| Piece::clip(at, vec![flat(0.5); n]);
    assert_eq!(refusal(vec![frame(0), clip(0, 5)]), "each frame can be given once; frame 0 is given twice");
    assert_eq!(refusal(vec![clip(1, 4), clip(2, 3)]), "each frame can be given once; frames 2 to 4 are given twice");
    assert_eq!(refusal(vec![frame(9)]), "a picture must lie on one of the clip's 9 frames, got frame 9");
    assert_eq!(refusal(vec![frame(-10)]), "a picture must lie on one of the clip's 9 frames, got frame -10");
    assert!(refusal(vec![clip(5, 5)]).contains("got 5 from frame 5 on"));
    assert_eq!(refusal(vec![Piece::Mask(vec![flat(1.0)])]), "a mask needs given frames to lie on, got none");
    assert!(refusal(vec![clip(0, 9), Piece::Mask(vec![flat(1.0); 2])]).contains("as many as the clip, 9, got 2"));
    let source = |n, strength| Piece::Source { frames: vec![flat(0.5); n], strength };
    assert!(refusal(vec![source(4, 0.5)]).contains("as many frames as the clip, 9, got 4"));
    assert_eq!(refusal(vec![source(9, 1.5)]), "strength must be 0 to 1, got 1.5");
}

/// White at the clip's size in so many columns from the left, black else.
fn columns(white: usize) -> Picture {
    let row: Vec<f32> = (0..6).flat_map(|x| [if x < white { 1.0 } else { 0.0 }; 3]).collect();
    Picture::new(6, 4, Values::Rgb(row.repeat(4))).unwrap()
}

#[test]
fn what_leaves_nothing_to_make_or_nothing_standing_is_refused_with_the_frames() {
    let clip = |n| Piece::clip(0, vec![flat(0.5); n]);
    let nothing = "something must be left to make; all 9 frames are given and no mask lies on it";
    assert_eq!(refusal(vec![clip(9)]), nothing);
    let empty = refusal(vec![clip(5), Piece::Mask(vec![columns(0)])]);
    assert_eq!(empty, "a mask must mark something to make anew; it marks nothing of the given frames (frames 0 to 4)");
    let full = refusal(vec![Piece::frame(2, flat(0.5)), Piece::Mask(vec![columns(6)])]);
    assert!(full.contains("the mask covers them wholly (frame 2): leave them out instead"), "{full}");
    // A mask for each frame may cover some of them wholly.
    let mut masks = vec![columns(6); 9];
    masks[4] = columns(2);
    assert_eq!(refusal(vec![clip(9), Piece::Mask(masks)]), "");
    let clear = Picture::new(1, 1, Values::Rgba(vec![0; 4])).unwrap();
    assert!(refusal(vec![Piece::frame(0, clear)]).contains("they are transparent wholly (frame 0)"));
    assert_eq!(
        Condition { seam: 65, ..Condition::default() }.merge(SIZE, &Capabilities::all()).unwrap_err().to_string(),
        "seam must be 0 to 64 px, got 65 px"
    );
}

/// Which of the 6 × 4 pixels of frame 0 are to be made, by the rows' letters: `.` stands, `o` is open.
fn open(pieces: Vec<Piece>) -> String {
    let shown = first(&Condition::of(pieces), &Capabilities::all());
    let rows = shown.to_generate.chunks(6);
    rows.map(|row| row.iter().map(|&v| if v > 0.5 { 'o' } else { '.' }).collect::<String>())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn a_contained_picture_leaves_what_is_around_it_to_make() {
    let wide = Picture::new(12, 4, Values::Rgb(vec![1.0; 144])).unwrap();
    let piece = |fit| Piece::Frame { at: 0, picture: wide.clone(), fit };
    assert_eq!(open(vec![piece(Fit::Contain)]), "oooooo ...... ...... oooooo");
    assert_eq!(open(vec![piece(Fit::Cover)]), "...... ...... ...... ......");
    // The mask takes the picture's own fit: its left half, not the frame's.
    let left: Vec<f32> = (0..12).flat_map(|x| [if x < 6 { 1.0 } else { 0.0 }; 3]).collect();
    let mask = Piece::Mask(vec![Picture::new(12, 4, Values::Rgb(left.repeat(4))).unwrap()]);
    assert_eq!(open(vec![piece(Fit::Contain), mask]), "oooooo ooo... ooo... oooooo");
    let only_images = Capabilities { image: true, ..Capabilities::text_only("it takes a first frame only") };
    let e = Condition::of(vec![piece(Fit::Contain)]).merge(SIZE, &only_images).unwrap_err().to_string();
    assert_eq!(e, "this model takes no picture with room around it: it takes a first frame only");
}

#[test]
fn what_is_not_opaque_is_to_be_made_where_the_model_takes_masks() {
    let rgba: Vec<u8> = (0..24).flat_map(|i| [10, 20, 30, if i % 6 < 2 { 128 } else { 255 }]).collect();
    let piece = || Piece::frame(0, Picture::new(6, 4, Values::Rgba(rgba.clone())).unwrap());
    assert_eq!(open(vec![piece()]), ["oo...."; 4].join(" "));
    let images = Capabilities { image: true, ..Capabilities::text_only("") };
    let shown = first(&Condition::of(vec![piece()]), &images);
    assert!(shown.to_generate.iter().all(|&v| v == 0.0), "laid over white as a whole");
    // A mask painted on a transparent sheet marks what is painted.
    let sheet: Vec<u8> = (0..24).flat_map(|i| if i % 6 == 5 { [255; 4] } else { [0; 4] }).collect();
    let mask = Piece::Mask(vec![Picture::new(6, 4, Values::Rgba(sheet)).unwrap()]);
    assert_eq!(open(vec![Piece::frame(0, flat(0.5)), mask]), [".....o"; 4].join(" "));
}

#[test]
fn known_pixels_come_back_and_the_seam_evens_out_what_is_beside_them() {
    let bytes: Vec<u8> = (0..24).flat_map(|i| [i * 10, 255 - i, 7, 255]).collect();
    let given = Picture::new(6, 4, Values::Rgba(bytes.clone())).unwrap();
    let decoded = || -> Vec<u8> { bytes.chunks(4).flat_map(|p| [p[0] + 9, p[1] - 9, 16, 255]).collect() };
    let made = |seam, paste| {
        let pieces = vec![Piece::frame(0, given.clone()), Piece::Mask(vec![columns(3)])];
        let condition = Condition { seam, paste, ..Condition::of(pieces) };
        let timeline = condition.merge(SIZE, &Capabilities::all()).unwrap();
        let mut rgba = decoded();
        timeline.paste(0, &mut rgba).unwrap();
        let mut other = decoded();
        timeline.paste(1, &mut other).unwrap();
        assert_eq!(other, decoded(), "nothing is known of frame 1");
        rgba
    };
    assert_eq!(made(0, false), decoded());
    let hard = made(0, true);
    let soft = made(2, true);
    for (i, wanted) in bytes.iter().enumerate() {
        let (column, channel) = (i / 4 % 6, i % 4);
        if column >= 3 {
            assert_eq!((hard[i], soft[i]), (*wanted, *wanted));
        } else {
            assert_eq!(hard[i], decoded()[i]);
            // 9 off: a third of it is left beside the edge, two thirds behind that, all at the third pixel.
            let left = if channel == 3 { 0 } else { [9, 6, 3][column] };
            assert_eq!(soft[i].abs_diff(*wanted), left, "column {column} channel {channel}");
        }
    }
}

#[test]
fn what_a_model_cannot_take_is_refused_with_the_reason() {
    let text = Capabilities::text_only("it has no control branch");
    let e = Condition::of_images(Some(flat(0.5)), None).merge(SIZE, &text).unwrap_err().to_string();
    assert_eq!(e, "this model takes no first frame: it has no control branch");
    let ends = Capabilities { image: true, last_image: true, why: "it takes images only".into(), ..Default::default() };
    let e = Condition::of_images(None, Some(flat(0.5))).merge(SIZE, &ends).unwrap_err().to_string();
    assert_eq!(e, "this model takes a last frame only beside a first one, got the last alone");
    let e = Condition::default().merge(SIZE, &ends).unwrap_err().to_string();
    assert_eq!(e, "this model needs a picture for the first frame: it takes images only");
    let both = Capabilities { needs_last_image: true, why: "it needs both".into(), ..ends };
    let e = Condition::of_images(Some(flat(0.5)), None).merge(SIZE, &both).unwrap_err().to_string();
    assert_eq!(e, "this model needs a picture for the last frame: it needs both");
    assert!(Condition::of_images(Some(flat(0.5)), Some(flat(0.5))).merge(SIZE, &both).is_ok());
}

#[test]
fn another_aspect_is_cut_around_the_middle() {
    // black | white | black, twice as wide as needed: only the white middle is left
    let row: Vec<f32> = (0..24).flat_map(|x| [if (6..18).contains(&x) { 1.0 } else { 0.0 }; 3]).collect();
    let wide = Picture::new(24, 8, Values::Rgb(row.repeat(8))).unwrap();
    assert!(wide.planes(4, 6).unwrap().iter().all(|&v| v > 0.999));
}

#[test]
fn opacity_is_laid_over_white() {
    let picture = Picture::new(1, 1, Values::Rgba(vec![0, 0, 255, 0])).unwrap();
    assert_eq!(picture.planes(1, 1).unwrap(), [1.0, 1.0, 1.0]);
}

/// Worked out by diffusers' `WanVACEPipeline.preprocess_conditions` with a codec of stride 2: 5 × 3 px become 4 × 2 by Lanczos, these
/// 8 × 4 by plain interpolation, in the middle of 8 × 6.
#[test]
fn a_reference_is_whole_in_the_middle_of_a_white_frame() {
    let grey = [0, 255, 0, 200, 90, 30, 60, 255, 10, 0, 255, 128, 64, 32, 250];
    let picture = Picture::new(5, 3, Values::Rgba(grey.iter().flat_map(|&v| [v, v, v, 255]).collect())).unwrap();
    let wanted: [[f32; 8]; 6] = [
        [255.0; 8],
        [38.0, 68.0, 128.0, 147.2, 125.8, 104.5, 83.5, 73.0],
        [67.0, 87.6, 128.7, 137.4, 113.6, 97.9, 90.1, 86.3],
        [125.0, 126.7, 130.1, 117.6, 89.4, 84.6, 103.4, 112.8],
        [154.0, 146.2, 130.8, 107.8, 77.2, 78.0, 110.0, 126.0],
        [255.0; 8],
    ];
    let found = picture.on_white(6, 8, 2).unwrap();
    for (i, value) in found.iter().enumerate() {
        let (byte, wanted) = ((value * 0.5 + 0.5) * 255.0, wanted[i % 48 / 8][i % 8]);
        // Where Pillow's fixed numbers round the other way, one off.
        assert!((byte - wanted).abs() <= 1.1, "value {i}: {byte}, {wanted} expected");
    }
    assert_eq!(found.len(), 3 * 48);
    // At the frame's size it stays as it is, and what shines through is white.
    let half = Picture::new(6, 4, Values::Rgba([0, 0, 0, 0].repeat(24))).unwrap();
    assert!(half.on_white(4, 6, 2).unwrap().iter().all(|&value| value == 1.0));
    let exact = flat(0.25).on_white(4, 6, 2).unwrap();
    assert!(exact.iter().all(|&value| value == -0.5));
}

#[test]
fn a_picture_must_have_the_values_of_its_size() {
    let e = Picture::new(2, 2, Values::Rgba(vec![0; 12])).unwrap_err().to_string();
    assert_eq!(e, "a picture of 2 × 2 px must have 16 values, got 12");
    assert!(Picture::new(0, 2, Values::Rgba(Vec::new())).is_err());
}
