//! A folder with an `image_encoder/`: what its model sees of the given picture, kept or streamed, and what is said without it.

use std::cell::RefCell;

use pollster::block_on;
use tabreel::condition::{Condition, Picture, Values};
use tabreel::device::Compute;
use tabreel::error::Error;
use tabreel::host::{Event, Host, SilentHost};
use tabreel::models::registry::Registry;
use tabreel::options::{GivenOptions, ModelDefaults};
use tabreel::pipeline::{Inputs, ModelFiles, Pipeline, inspect};
use tabreel_tests::folders::{ModelFolder, clip_weights};
use tabreel_tests::{Case, root, small_clip};

/// What was said while loading.
#[derive(Default)]
struct Said(RefCell<Vec<String>>);

impl Host for Said {
    fn event(&self, event: Event) {
        match event {
            Event::Loading { what, .. } => self.0.borrow_mut().push(what.to_owned()),
            other => self.0.borrow_mut().push(format!("{other:?}")),
        }
    }
}

fn folder() -> ModelFiles {
    ModelFolder::of_pictures().files()
}

fn latents(pipeline: &Pipeline, level: u8) -> Result<Vec<f32>, Error> {
    let rgba = (0..48 * 32).flat_map(|i| [(i * 5) as u8, (i / 48 * 7) as u8, level, 255]).collect();
    let picture = Picture::new(48, 32, Values::Rgba(rgba)).expect("a picture");
    let given = GivenOptions { guidance_scale: Some(2.0), ..small_clip() };
    let options = given.settle(&ModelDefaults::default());
    let inputs = Inputs { condition: Condition::of_images(Some(picture), None), ..Inputs::default() };
    block_on(pipeline.generate(&options, &inputs, &SilentHost)).map(|clip| clip.latents)
}

#[test]
fn a_folder_with_an_image_encoder_generates_from_a_picture_kept_or_streamed() {
    let (host, registry) = (Said::default(), Registry::default());
    let kept = block_on(Pipeline::load(&folder(), Compute::cpu(), &host)).expect("a sound folder");
    let said = host.0.take();
    assert!(said.iter().any(|what| what == "image_encoder"), "{said:?}");
    assert!(!said.iter().any(|what| what.contains("not used")), "{said:?}");
    let plan = kept.plan().and_then(|plan| plan.image_encoder).expect("it is planned");
    assert!(!plan.streamed && plan.bytes > 0);
    let made = latents(&kept, 200).expect("a clip");
    assert!(made.iter().all(|v| v.is_finite()));
    assert_ne!(made, latents(&kept, 90).expect("a clip"));

    let files = folder();
    let load = Pipeline::load_within(&registry, &files, Compute::cpu(), Some(1 << 16), &SilentHost);
    let streamed = block_on(load).expect("a sound folder");
    assert!(streamed.plan().and_then(|plan| plan.image_encoder).is_some_and(|part| part.streamed));
    assert_eq!(made, latents(&streamed, 200).expect("a clip"));
}

#[test]
fn a_folder_without_its_image_encoder_says_what_is_missing() {
    let found = |files: &ModelFiles| {
        block_on(inspect(&Registry::default(), files, &Compute::cpu(), None)).expect("files that can be read")
    };
    let whole = found(&folder());
    assert!(whole.runs && whole.missing.is_empty(), "{}", whole.reason);
    let part = whole.parts.iter().find(|part| part.part == "image_encoder").expect("it is told");
    assert!(part.left_over.is_empty() && part.problem.is_none(), "{part:?}");

    let mut files = folder();
    files.clear_part("image_encoder");
    let lacking = found(&files);
    assert_eq!((lacking.runs, lacking.missing), (false, vec!["image_encoder".to_owned()]));
    let pipeline = block_on(Pipeline::load(&files, Compute::cpu(), &SilentHost)).expect("all other parts");
    let e = latents(&pipeline, 0).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(e.contains("CLIP's view") && e.contains("without its image_encoder/"), "{e}");
}

/// A first + last frame model has a learned position for each token of both pictures.
#[test]
fn an_encoder_that_makes_another_number_of_tokens_is_refused() {
    let (mut files, case) = (folder(), Case::open(&root().join("tests/fixtures/pipe_clip")).expect("the fixture"));
    files.insert("transformer/config.json", case.config["transformer"].to_string().into_bytes());
    let weights = std::fs::read(case.dir.join("transformer.safetensors")).expect("the fixture");
    files.insert("transformer/diffusion_pytorch_model.safetensors", weights);
    assert!(block_on(Pipeline::load(&files, Compute::cpu(), &SilentHost)).is_ok());

    // One patch, and the class: two tokens.
    let mut config = case.config["image_encoder"].clone();
    config["image_size"] = 14.into();
    files.insert("image_encoder/config.json", config.to_string().into_bytes());
    files.insert("image_encoder/model.safetensors", clip_weights(&case, 2));
    let e = block_on(Pipeline::load(&files, Compute::cpu(), &SilentHost)).err().map(|e| e.to_string());
    let e = e.unwrap_or_default();
    assert!(e.contains("pos_embed_seq_len 4, as the image encoder has it") && e.contains("found 10"), "{e}");
}
