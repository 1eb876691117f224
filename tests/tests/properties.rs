//! What must hold for any input, tried on random ones.

use burn::tensor::{Device, Tensor, TensorData};
use pollster::block_on;
use proptest::prelude::*;
use std::rc::Rc;
use tabreel::config;
use tabreel::device::Compute;
use tabreel::error::ErrorCode;
use tabreel::host::SilentHost;
use tabreel::memory::pool::Pool;
use tabreel::models::family::{Room, VideoCodec};
use tabreel::models::wan::VaeConfig;
use tabreel::models::wan::{Tiles, Vae};
use tabreel::nn::loader::Loader;
use tabreel::nn::patch::{fold_pixels, patchify, unfold_pixels, unpatchify};
use tabreel::options::{GenerateOptions, GivenOptions, ModelDefaults, Rules};
use tabreel::pace::Pace;
use tabreel::size::ClipSize;
use tabreel::weights::WeightSet;
use tabreel_tests::{Array, Case, root};

/// A tensor of this shape with different, repeatable values.
fn numbers<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let mut state = seed | 1;
    let values: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn same<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> bool {
    Array::from_tensor(a) == Array::from_tensor(b)
}

/// Relative L2; a shape that differs is infinitely far.
fn distance<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f64 {
    Array::from_tensor(a).relative_l2(&Array::from_tensor(b)).unwrap_or(f64::INFINITY)
}

/// The VAE of a fixture case, on the CPU.
fn fixture_vae(case: &str) -> (Compute, Vae) {
    let compute = Compute::cpu();
    let case = Case::open(&root().join("tests/fixtures").join(case)).expect("the committed fixture");
    let config = case.config["weights"].to_string();
    let config: VaeConfig = config::parse(config.as_bytes(), "weights", &["AutoencoderKLWan"]).expect("its config");
    let bytes = std::fs::read(case.dir.join("weights.safetensors")).expect("its weights");
    let set = Rc::new(WeightSet::from_bytes(bytes, "weights.safetensors").expect("sound weights"));
    let vae = block_on(Vae::load(&Loader::new(&set, compute.device()), &config)).expect("a VAE");
    (compute, vae)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn unpatchify_undoes_patchify(
        grid in [1usize..4, 1..4, 1..4], patch in [1usize..3, 1..4, 1..4], batch in 1usize..3, channels in 1usize..5, seed: u64,
    ) {
        let device = Device::flex();
        let [f, h, w] = [0, 1, 2].map(|i| grid[i] * patch[i]);
        let x = numbers([batch, channels, f, h, w], seed, &device);
        let tokens = patchify(x.clone(), patch);
        let [b, l, inner] = tokens.dims();
        prop_assert_eq!([b, l, inner], [batch, grid.iter().product(), channels * patch.iter().product::<usize>()]);
        // the way in has the channel first inside a patch, the way out last
        let tokens = tokens.reshape([b, l, channels, inner / channels]).swap_dims(2, 3).reshape([b, l, inner]);
        prop_assert!(same(unpatchify(tokens, patch, grid), x));
    }

    #[test]
    fn unfolding_pixels_undoes_folding(size in [1usize..4, 1..4, 1..4], p in 1usize..4, channels in 1usize..4, seed: u64) {
        let [f, h, w] = size;
        let x = numbers([1, channels, f, h * p, w * p], seed, &Device::flex());
        let folded = fold_pixels(x.clone(), p);
        prop_assert_eq!(folded.dims(), [1, channels * p * p, f, h, w]);
        prop_assert!(same(unfold_pixels(folded, p), x));
    }

    #[test]
    fn checking_options_never_panics_and_passes_only_what_keeps_the_rules(
        prompt in ".{0,12}", width: usize, height in 0usize..5000, num_frames in prop_oneof![0usize..100, Just(usize::MAX)],
        num_steps in 0usize..300, fps in proptest::num::f64::ANY, guidance_scale in proptest::num::f64::ANY, seed: u64,
        flow_shift in proptest::option::of(proptest::num::f64::ANY), multiple in prop_oneof![Just(16usize), Just(32)],
        sound_size: bool, sampler in proptest::option::of("(unipc|euler|ddim)"),
        sigmas in proptest::option::of(proptest::collection::vec(-0.1f64..1.1, 0..4)),
        class_label in proptest::option::weighted(0.3, ".{0,4}"),
    ) {
        let (width, height) = if sound_size { (width % 9 * 16, height % 9 * 16) } else { (width, height) };
        let options = GenerateOptions {
            prompt, class_label, negative_prompt: String::new(), width, height, num_frames, fps, num_steps, guidance_scale, seed,
            preset: None, flow_shift, sampler, sigmas, preview: false,
        };
        let rules = Rules { width_multiple: multiple, height_multiple: multiple, frame_multiple: 4 };
        match options.check(rules) {
            Ok(()) => {
                prop_assert!(options.prompt.trim().is_empty() == options.class_label.is_some());
                prop_assert!(width > 0 && width % multiple == 0 && height > 0 && height % multiple == 0);
                prop_assert!(num_frames % 4 == 1 && (1..=200).contains(&num_steps));
                prop_assert!((1.0..=120.0).contains(&fps) && guidance_scale >= 0.0 && guidance_scale.is_finite());
                prop_assert!(seed <= 1 << 53);
                prop_assert!(options.sampler.as_deref() != Some("ddim"));
                let sigmas = options.sigmas.as_deref().unwrap_or(&[1.0]);
                prop_assert!(!sigmas.is_empty() && sigmas.windows(2).all(|pair| pair[0] > pair[1]));
                prop_assert!(sigmas.iter().all(|sigma| *sigma > 0.0 && *sigma <= 1.0));
            }
            Err(error) => {
                prop_assert_eq!(error.code(), ErrorCode::InvalidOptions);
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    #[test]
    fn reading_options_from_any_json_never_panics(text in r#"\{("(prompt|width|seed|fps|numFrames|x)":(-?[0-9]{1,25}|"a"|null|\[\]|1e99),?){0,6}\}"#) {
        if let Ok(options) = serde_json::from_str::<GivenOptions>(&text) {
            let rules = Rules { width_multiple: 16, height_multiple: 16, frame_multiple: 4 };
            let _ = options.settle(&ModelDefaults::default()).check(rules);
        }
    }
}

proptest! {
    // each case decodes or encodes two clips
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn later_latents_do_not_change_earlier_frames(known in 1usize..3, more in 1usize..3, seed: u64, wan22: bool) {
        let (compute, vae) = fixture_vae(if wan22 { "wan_vae22" } else { "wan_vae21" });
        let pace = Pace::new(&SilentHost, &compute);
        let z = vae.config().z_dim;
        let start = numbers([1, z, known, 2, 3], seed, compute.device());
        let decode = |rest: u64| {
            let rest = numbers([1, z, more, 2, 3], rest, compute.device());
            block_on(vae.decode(Tensor::cat(vec![start.clone(), rest], 2), &pace)).expect("decodes")
        };
        let alone = block_on(vae.decode(start.clone(), &pace)).expect("decodes");
        let frames = 4 * known - 3;
        prop_assert_eq!(alone.dims()[2], frames);
        let (a, b) = (decode(seed ^ 1), decode(!seed));
        prop_assert!(distance(a.clone().narrow(2, 0, frames), alone.clone()) < 1e-5);
        prop_assert!(distance(b.clone().narrow(2, 0, frames), alone) < 1e-5);
        prop_assert!(distance(a.narrow(2, frames, 4 * more), b.narrow(2, frames, 4 * more)) > 1e-2, "later frames do differ");
    }

    #[test]
    fn later_frames_do_not_change_earlier_latents(known in 1usize..3, seed: u64, wan22: bool) {
        let (compute, vae) = fixture_vae(if wan22 { "wan_vae22" } else { "wan_vae21" });
        let pace = Pace::new(&SilentHost, &compute);
        let start = numbers([1, 3, 4 * known - 3, 32, 32], seed, compute.device());
        let rest = numbers([1, 3, 4, 32, 32], !seed, compute.device());
        let alone = block_on(vae.encode(&start, &pace)).expect("encodes");
        let whole = block_on(vae.encode(&Tensor::cat(vec![start.clone(), rest], 2), &pace)).expect("encodes");
        prop_assert_eq!((alone.dims()[2], whole.dims()[2]), (known, known + 1));
        prop_assert!(distance(whole.narrow(2, 0, known), alone) < 1e-5);
    }

    #[test]
    fn a_clip_decoded_chunk_by_chunk_is_the_clip_decoded_whole(frames in 1usize..4, seed: u64, wan22: bool) {
        let (compute, vae) = fixture_vae(if wan22 { "wan_vae22" } else { "wan_vae21" });
        let pace = Pace::new(&SilentHost, &compute);
        let latents = numbers([1, vae.config().z_dim, frames, 2, 3], seed, compute.device());
        let whole = block_on(vae.decode(latents.clone(), &pace)).expect("decodes");
        let mut stream = vae.decode_stream();
        let chunks = (0..frames).map(|i| block_on(stream.push(latents.clone().narrow(2, i, 1), &pace)).expect("decodes"));
        let chunks: Vec<_> = chunks.collect();
        prop_assert_eq!(chunks.iter().map(|c| c.dims()[2]).collect::<Vec<_>>(), (0..frames).map(|i| if i == 0 { 1 } else { 4 }).collect::<Vec<_>>());
        // a stream leaves what is outside of −1…1 for those who look at whether it is finite
        prop_assert!(distance(Tensor::cat(chunks, 2).clamp(-1.0, 1.0), whole.clone()) < 1e-6);
        // one tile that holds everything changes nothing either
        let tiled = block_on(vae.decode_tiled(latents, Tiles::default(), &pace)).expect("decodes");
        prop_assert!(distance(tiled, whole) < 1e-6);
    }
}

#[test]
fn a_picture_that_does_not_fit_is_encoded_by_tiles_and_takes_what_a_tile_takes() {
    // Its latents are taken as they come: mean 0, deviation 1.
    let (compute, vae) = fixture_vae("wan_vae22");
    let pace = Pace::new(&SilentHost, &compute);
    let video = numbers([1, 3, 1, 160, 32], 7, compute.device());
    let encoded = |room| block_on(VideoCodec::encode(&vae, &video, room, &pace)).expect("encodes");
    let tiled = block_on(vae.encode_tiled(&video, Tiles::SIZES[2], &pace)).expect("encodes");
    let tiled = tiled.narrow(1, 0, vae.config().z_dim);
    let none = Room { bytes: 0, largest: 0 };
    assert!(same(encoded(none), tiled.clone()));
    assert!(distance(encoded(Room::ENDLESS), tiled) > 1e-3, "tiles see less than the whole");
    let peak = |height, room| {
        let pool = Pool::default();
        vae.rehearse_encode(&pool, ClipSize { frames: 1, height, width: 32 }, room);
        pool.peak()
    };
    assert_eq!(peak(1600, none), peak(128, Room::ENDLESS));
}
