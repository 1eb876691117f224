//! Tasks that take more than one condition: a clip made longer at either end, closed to a loop, joined to another. Each is a
//! row of windows, clips of the model's own length that overlap with what is there already; [`run`] makes them one after
//! another and gives their frames to the host as they come, so that memory does not grow with the length.
//!
//! Tasks of one clip are no more than a [`Condition`]: [`complete`], [`upscale`], [`sketch`].

mod drift;
mod relay;
mod size;
mod window;

pub use size::size_for;
pub use window::{Way, Window, bridge, extension, longest, overlap_of, shortest};

use std::collections::BTreeMap;

use crate::condition::{Condition, Fit, Picture, Piece, Values, edges};
use crate::error::{Error, Result};
use crate::host::{Event, Host};
use crate::options::GenerateOptions;
use crate::pipeline::{Clip, Inputs, Pipeline};
use crate::size::ClipSize;
use relay::Relay;

/// The most frames that a task may add to a clip.
pub const MOST_ADDED: usize = 100_000;

/// What to make of a clip or two.
#[derive(Debug, Clone)]
pub enum Task {
    /// A clip with more frames after its end, or before its start.
    Extend {
        /// The clip.
        clip: Vec<Picture>,
        /// Frames to add.
        by: usize,
        /// True to add them before its start.
        backward: bool,
        /// Frames that each window takes over from what is there; `None` for half a window, nine at most with a stride of 4.
        overlap: Option<usize>,
    },
    /// A clip with frames after its end that lead back to its start. Without frames the clip itself is made first.
    Loop {
        /// The clip.
        clip: Vec<Picture>,
    },
    /// Two clips with frames between them.
    Connect {
        /// The clip that comes first.
        from: Vec<Picture>,
        /// The clip that it leads to.
        to: Vec<Picture>,
    },
}

/// What each window of a task is given beside the frames that it takes over.
#[derive(Debug, Clone)]
pub struct Beside {
    /// Things that should appear.
    pub references: Vec<Picture>,
    /// See [`Condition::control_scale`].
    pub control_scale: f32,
}

impl Default for Beside {
    fn default() -> Self {
        Self { references: Vec::new(), control_scale: Condition::default().control_scale }
    }
}

impl Beside {
    fn with(&self, mut condition: Condition) -> Condition {
        condition.pieces.extend(self.references.iter().cloned().map(Piece::Reference));
        condition.control_scale = self.control_scale;
        condition
    }
}

/// A finished task, whose frames went to the host.
#[derive(Debug, Clone)]
pub struct Made {
    /// Frames in all, the given ones too.
    pub num_frames: usize,
    /// What the last window left; its timings are those of all windows.
    pub last: Clip,
}

/// A clip, some of whose pixels are open: those that a mask marks, that are not opaque or, contained in another aspect, that lie
/// around it. Inpainting, outpainting, completion.
pub fn complete(clip: Vec<Picture>, mask: Vec<Picture>, fit: Fit) -> Condition {
    let mask = if mask.is_empty() { None } else { Some(Piece::Mask(mask)) };
    Condition::of(std::iter::once(Piece::Clip { at: 0, frames: clip, fit }).chain(mask).collect())
}

/// A clip made anew from a small share of noise, at whatever size is asked for: what is missing in the enlarged one is drawn.
pub fn upscale(clip: Vec<Picture>, strength: f64) -> Condition {
    Condition::of(vec![Piece::Source { frames: clip, strength }])
}

/// A clip as a line drawing of its own size that another clip follows.
///
/// # Errors
/// As [`edges`].
pub fn sketch(clip: &[Picture], height: usize, width: usize) -> Result<Piece> {
    Ok(Piece::Control(clip.iter().map(|picture| edges(picture, height, width)).collect::<Result<_>>()?))
}

/// Makes a task. `options.num_frames` is the length of a window; each has its own seed, counted up from `options.seed`. Frames
/// come to the host a window at a time with their index in the whole; those before a clip's start, the last ones first.
///
/// # Errors
/// As [`Pipeline::generate`], and [`Error::InvalidOptions`] before anything is computed: an empty clip, nothing to add, an
/// overlap that leaves no room in a window, a model that takes no clips.
pub async fn run(
    pipeline: &Pipeline,
    options: &GenerateOptions,
    task: &Task,
    beside: &Beside,
    host: &dyn Host,
) -> Result<Made> {
    check(pipeline, options, task, beside)?;
    let size = options.size();
    let mut work = Work {
        pipeline,
        options,
        beside,
        size,
        way: way_of(pipeline),
        host: Relay::new(host, options.num_steps, task.windows(options.num_frames, way_of(pipeline))?),
        last: None,
        windows: 0,
        timings: BTreeMap::new(),
    };
    let num_frames = match task {
        Task::Extend { clip, by, backward, overlap } => work.extend(clip, *by, *backward, *overlap).await?,
        Task::Loop { clip } if clip.is_empty() => {
            let clip = work.text_clip().await?;
            work.join(&clip, &clip, false).await?
        }
        Task::Loop { clip } => work.join(clip, clip, false).await?,
        Task::Connect { from, to } => work.join(from, to, true).await?,
    };
    let mut last = work.last.ok_or_else(|| Error::Internal("a task made no window".into()))?;
    last.timings = work.timings;
    Ok(Made { num_frames, last })
}

/// Whether a task can be made so, without making it.
///
/// # Errors
/// [`Error::InvalidOptions`] as [`run`].
pub fn check(pipeline: &Pipeline, options: &GenerateOptions, task: &Task, beside: &Beside) -> Result<()> {
    let (frames, way) = (options.num_frames, way_of(pipeline));
    task.windows(frames, way)?;
    let window = match task {
        Task::Extend { clip, by, backward, overlap } => {
            let overlap = overlap_of(*overlap, frames, way, *backward)?;
            extension(near(clip, overlap, *backward), *by, frames, way.multiple, *backward)?
        }
        Task::Loop { clip } if clip.is_empty() => {
            pipeline.check(options, &beside.with(Condition::default())).map(drop)?;
            // The way back is refused before the clip is made, of which it must know no more than its length.
            let clip = vec![Picture::new(1, 1, Values::Rgba(vec![255; 4]))?; frames];
            bridge(&clip, &clip, frames, way)?
        }
        Task::Loop { clip } => bridge(clip, clip, frames, way)?,
        Task::Connect { from, to } => bridge(from, to, frames, way)?,
    };
    let options = GenerateOptions { num_frames: window.num_frames, ..options.clone() };
    pipeline.check(&options, &beside.with(window.condition)).map(drop)
}

/// How a model takes what is known.
pub fn way_of(pipeline: &Pipeline) -> Way {
    Way { multiple: pipeline.rules().frame_multiple.max(1), clips: pipeline.capabilities().keyframes }
}

/// The frames of a clip that its extension sees.
fn near(clip: &[Picture], overlap: usize, backward: bool) -> &[Picture] {
    match backward {
        true => &clip[..overlap.min(clip.len())],
        false => &clip[clip.len().saturating_sub(overlap)..],
    }
}

impl Task {
    /// Its name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Extend { .. } => "extend",
            Self::Loop { .. } => "loop",
            Self::Connect { .. } => "connect",
        }
    }

    /// How many windows of so many frames it takes.
    ///
    /// # Errors
    /// As [`run`].
    pub fn windows(&self, window: usize, way: Way) -> Result<usize> {
        let needs = |what: &str, clip: &[Picture]| match clip.is_empty() {
            true => Err(Error::options(format!("{what} must have one frame at least, got none"))),
            false => Ok(()),
        };
        match self {
            Self::Extend { clip, by, backward, overlap } => {
                needs("a clip to extend", clip)?;
                if !(1..=MOST_ADDED).contains(by) {
                    return Err(Error::options(format!(
                        "a clip can be extended by 1 to {MOST_ADDED} frames, got {by}"
                    )));
                }
                let overlap = overlap_of(*overlap, window, way, *backward)?;
                let (mut left, mut known, mut windows) = (*by, clip.len().min(overlap), 0);
                while left > 0 {
                    let added = left.min(window - known);
                    (left, known, windows) = (left - added, (known + added).min(overlap), windows + 1);
                }
                Ok(windows)
            }
            Self::Loop { clip } => Ok(if clip.is_empty() { 2 } else { 1 }),
            Self::Connect { from, to } => {
                needs("the clip to connect from", from)?;
                needs("the clip to connect to", to)?;
                Ok(1)
            }
        }
    }
}

/// A task on its way.
struct Work<'a> {
    pipeline: &'a Pipeline,
    options: &'a GenerateOptions,
    beside: &'a Beside,
    size: ClipSize,
    way: Way,
    host: Relay<'a>,
    last: Option<Clip>,
    windows: u64,
    timings: BTreeMap<&'static str, f64>,
}

impl Work<'_> {
    async fn extend(&mut self, clip: &[Picture], by: usize, backward: bool, overlap: Option<usize>) -> Result<usize> {
        let overlap = overlap_of(overlap, self.size.frames, self.way, backward)?;
        let near = |clip: &[Picture]| near(clip, overlap, backward).to_vec();
        let mut known = near(clip);
        self.show(if backward { by } else { 0 }, clip)?;
        let mut left = by;
        while left > 0 {
            let window = extension(&known, left, self.size.frames, self.way.multiple, backward)?;
            let mut made = self.make(&window).await?;
            // The last window may have room for more than is wanted: what is furthest from the clip goes.
            match backward {
                true => drop(made.drain(..made.len().saturating_sub(left))),
                false => made.truncate(left),
            }
            let index = if backward { left - made.len() } else { clip.len() + by - left };
            self.show(index, &made)?;
            left -= made.len();
            // What was made may be shorter than the overlap: the frames before it go on to count.
            known = match backward {
                true => near(&[made, known].concat()),
                false => near(&[known, made].concat()),
            };
        }
        Ok(clip.len() + by)
    }

    /// Frames that lead from one clip to another; with `show_second` the other follows, else it is the first again.
    async fn join(&mut self, from: &[Picture], to: &[Picture], show_second: bool) -> Result<usize> {
        let window = bridge(from, to, self.size.frames, self.way)?;
        self.show(0, from)?;
        let made = self.make(&window).await?;
        self.show(from.len(), &made)?;
        let so_far = from.len() + made.len();
        if show_second {
            self.show(so_far, to)?;
        }
        Ok(so_far + if show_second { to.len() } else { 0 })
    }

    /// A clip from the prompt alone.
    async fn text_clip(&mut self) -> Result<Vec<Picture>> {
        self.pass(&Condition::default(), self.size.frames).await?.into_iter().map(|rgba| self.picture(rgba)).collect()
    }

    /// The frames that a window adds, their colours held to those of the frames that it took over.
    async fn make(&mut self, window: &Window) -> Result<Vec<Picture>> {
        let made = self.pass(&window.condition, window.num_frames).await?;
        let ClipSize { height, width, .. } = self.size;
        let bytes = |clip: &[Picture]| clip.iter().map(|p| p.rgba(height, width)).collect::<Result<Vec<_>>>();
        let held = drift::hold(made, &bytes(&window.before)?, &bytes(&window.after)?);
        held.into_iter().map(|rgba| self.picture(rgba)).collect()
    }

    async fn pass(&mut self, condition: &Condition, num_frames: usize) -> Result<Vec<Vec<u8>>> {
        let seed = self.options.seed.saturating_add(self.windows).min((1 << 53) - 1);
        let options = GenerateOptions { num_frames, seed, ..self.options.clone() };
        let inputs = Inputs { condition: self.beside.with(condition.clone()), ..Inputs::default() };
        let clip = self.pipeline.generate(&options, &inputs, &self.host).await?;
        for (stage, seconds) in &clip.timings {
            *self.timings.entry(stage).or_default() += seconds;
        }
        self.windows += 1;
        self.host.window_done();
        self.last = Some(clip);
        Ok(self.host.take())
    }

    fn picture(&self, rgba: Vec<u8>) -> Result<Picture> {
        Picture::new(self.size.width, self.size.height, Values::Rgba(rgba))
    }

    /// Gives frames to the host, the first as number `index` of the whole.
    fn show(&self, index: usize, frames: &[Picture]) -> Result<()> {
        let ClipSize { height, width, .. } = self.size;
        for (i, picture) in frames.iter().enumerate() {
            let rgba = picture.rgba(height, width)?;
            self.host.outer().event(Event::Frame { index: index + i, width, height, rgba });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
