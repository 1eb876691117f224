//! The walk from prompts to frames: of one clip, or of several that go through the model together.

use burn::tensor::Tensor;

use super::clock::StageClock;
use super::preview::Preview;
use super::stages::Work;
use super::{Asked, Clip, Inputs, Made, Parts, Pipeline, values_of};
use crate::error::Result;
use crate::host::{Event, Host, Stage};
use crate::memory::buffer_of;
use crate::models::family::{Alone, Packed, Request};
use crate::pace::Pace;
use crate::sampling;

impl Pipeline {
    /// Makes clips that go through the model together, or one alone, which may have more than text. Where they are of a batch,
    /// `first` is the place of the first in it.
    pub(super) async fn run(
        &self,
        first: Option<usize>,
        asked: &[Asked<'_>],
        inputs: &Inputs,
        host: &dyn Host,
        made: &mut Made<'_>,
    ) -> Result<()> {
        let done = self.walk(first, asked, inputs, host, made).await;
        self.end_stage(inputs, host, &[]);
        done
    }

    async fn walk(
        &self,
        first: Option<usize>,
        asked: &[Asked<'_>],
        inputs: &Inputs,
        host: &dyn Host,
        made: &mut Made<'_>,
    ) -> Result<()> {
        let about = |place: usize, count: usize| {
            if let Some(first) = first {
                host.event(Event::Clips { first: first + place, count });
            }
        };
        let mut clock = StageClock::new(host);
        let pace = Pace::new(host, &self.compute);

        let (mut prompts, mut tokens) = (Vec::with_capacity(asked.len()), Vec::with_capacity(asked.len()));
        for (place, Asked { options, .. }) in asked.iter().enumerate() {
            about(place, 1);
            let (of_clip, count) = self.embed(options, inputs, &mut clock, &pace).await?;
            prompts.push(of_clip);
            tokens.push(count);
        }
        self.end_stage(inputs, host, &prompts.iter().flatten().map(buffer_of).collect::<Vec<_>>());

        about(0, asked.len());
        clock.start(Stage::Condition);
        let (batched, planned_bytes) = match (asked, prompts.as_slice(), tokens.as_slice()) {
            ([alone], [prompts], [(kept, _)]) => {
                let (size, known) = (alone.timeline.size, alone.timeline.video.is_some());
                let seen = self.stages().prompts(size, prompts.len(), self.max_tokens());
                let work = Work { size, tokens: *kept, prompts: seen, known };
                (seen.rows > 1, self.planned_bytes(work))
            }
            _ => (false, self.planned_pack(asked)),
        };
        let packed = self.prepare(asked, prompts, batched, &pace).await?;
        let mut samplings = Vec::with_capacity(asked.len());
        for (Asked { options, timeline }, prepared) in asked.iter().zip(packed.clips()) {
            samplings.push(self.start(options, inputs, timeline, prepared, &pace).await?);
        }
        let leads: Vec<usize> = packed.clips().into_iter().map(|prepared| prepared.lead_frames()).collect();

        clock.start(Stage::Denoise);
        let mut preview = Preview {
            codec: self.parts.codec.as_ref(),
            pace: &pace,
            wanted: matches!(asked, [alone] if alone.options.preview),
            lead: leads.first().copied().unwrap_or_default(),
        };
        // The schedulers, which remember earlier steps, end with it: as long as they live, nothing of the stage is freed.
        let latents = sampling::run(packed.as_ref(), samplings, &pace, &mut preview).await?;
        drop(packed);
        pace.settle().await?;
        let kept: Vec<_> = latents.iter().map(buffer_of).collect();
        self.end_stage(inputs, host, &kept);

        let together = clock.finish();
        let loads: Vec<f64> = asked.iter().map(|asked| self.load_of(asked.options).tokens.max(1) as f64).collect();
        let all: f64 = loads.iter().sum();
        let each = latents.iter().zip(leads).zip(asked).zip(tokens).zip(loads);
        for (place, ((((latents, lead), Asked { timeline, .. }), tokens), load)) in each.enumerate() {
            about(place, 1);
            let mut clock = StageClock::new(host);
            clock.start(Stage::Decode);
            let (latents_shape, values) = (latents.dims(), values_of(latents).await?);
            let shown = latents.clone().narrow(2, lead, latents_shape[2] - lead);
            self.decode(shown, timeline, &pace).await?;
            if place + 1 < asked.len() {
                self.end_stage(inputs, host, &kept);
            }
            let mut timings = clock.finish();
            for (stage, seconds) in &together {
                *timings.entry(*stage).or_default() += *seconds * load / all;
            }
            let clip = Clip { latents: values, latents_shape, tokens, planned_bytes, timings };
            made(first.unwrap_or_default() + place, clip)?;
        }
        Ok(())
    }

    /// The model, ready for these clips with a row or two of prompts each.
    async fn prepare<'a>(
        &'a self,
        asked: &'a [Asked<'a>],
        prompts: Vec<Vec<Tensor<3>>>,
        batched: bool,
        pace: &'a Pace<'_>,
    ) -> Result<Box<dyn Packed + 'a>> {
        let Parts { image, denoiser, codec, .. } = &self.parts;
        let (codec, room, image_encoder) = (codec.as_ref(), self.room(), image.as_deref());
        let request = |(asked, prompts): (&'a Asked<'a>, Vec<Tensor<3>>)| Request {
            timeline: &asked.timeline,
            codec,
            room,
            image_encoder,
            prompts,
            batched,
        };
        let mut requests: Vec<Request<'a>> = asked.iter().zip(prompts).map(request).collect();
        match requests.pop() {
            // Any model takes one.
            Some(only) if requests.is_empty() => {
                let alone: Box<dyn Packed + 'a> = Box::new(Alone(denoiser.prepare(only, pace).await?));
                Ok(alone)
            }
            last => {
                requests.extend(last);
                denoiser.prepare_packed(requests, pace).await
            }
        }
    }
}
