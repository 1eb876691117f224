use super::*;

const SIZE: ClipSize = ClipSize { frames: 9, height: 4, width: 6 };

/// A picture of one brightness at the clip's size.
fn flat(value: f32) -> Picture {
    Picture::new(6, 4, Values::Rgb(vec![value; 72])).unwrap()
}

fn merge(pieces: Vec<Piece>) -> Result<Timeline> {
    Condition { pieces, ..Condition::default() }.merge(SIZE, &Capabilities::all())
}

fn refusal(pieces: Vec<Piece>) -> String {
    merge(pieces).err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn nothing_given_leaves_an_empty_timeline() {
    let timeline = merge(Vec::new()).unwrap();
    assert!(timeline.video.is_none() && timeline.references.is_empty() && timeline.source.is_none());
}

#[test]
fn first_and_last_picture_stand_and_the_rest_is_to_be_made() {
    let condition = Condition::of_images(Some(flat(1.0)), Some(flat(0.0)));
    let video = condition.merge(SIZE, &Capabilities::all()).unwrap().video.unwrap();
    let frame = |f: usize| (video.pixels[f * 24], video.to_generate[f * 24]);
    assert_eq!((frame(0), frame(1), frame(8)), ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)));
}

#[test]
fn control_fills_only_what_is_to_be_made() {
    let mut half = vec![0.0; 72];
    half[..36].fill(1.0);
    let mask = Picture::new(6, 4, Values::Rgb(half)).unwrap();
    let clip = Piece::Clip { at: 0, frames: vec![flat(1.0); 9] };
    let video = merge(vec![clip, Piece::Mask(vec![mask]), Piece::Control(vec![flat(0.25); 9])]).unwrap().video.unwrap();
    assert_eq!((video.pixels[0], video.to_generate[0]), (-0.5, 1.0));
    assert_eq!((video.pixels[12], video.to_generate[12]), (1.0, 0.0));
}

#[test]
fn each_refusal_names_the_rule_and_the_frames() {
    let frame = |at| Piece::Frame { at, picture: flat(0.5) };
    let clip = |at, n| Piece::Clip { at, frames: vec![flat(0.5); n] };
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

#[test]
fn a_picture_must_have_the_values_of_its_size() {
    let e = Picture::new(2, 2, Values::Rgba(vec![0; 12])).unwrap_err().to_string();
    assert_eq!(e, "a picture of 2 × 2 px must have 16 values, got 12");
    assert!(Picture::new(0, 2, Values::Rgba(Vec::new())).is_err());
}
