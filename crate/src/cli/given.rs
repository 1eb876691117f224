//! What `generate` is given besides the prompt: flags, the files behind them, and the pieces or the task that they make.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{clips, pictures};
use crate::condition::{Condition, DEFAULT_SEAM_PX, Fit, MOST_CLIP_BYTES, Picture, Piece, edges};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::options::{GenerateOptions, GivenOptions};
use crate::pipeline::{ModelCard, Pipeline};
use crate::tasks::{self, Beside, Task, Way, longest};

/// The most frames that a clip of one window has, as the table of options says.
const MOST_FRAMES: usize = 1025;
/// Shapes whose ratios differ by a smaller share are taken for the same; as `outpaint` of pkg/src/tasks.ts.
const SAME_SHAPE: f64 = 0.01;

/// Flags that give files. A clip is a PNG, JPEG, WebP, GIF, BMP or Y4M file, or anything that an installed ffmpeg decodes.
#[derive(Debug, Clone, Args)]
#[command(
    next_help_heading = "Given pictures and clips (PNG, JPEG, WebP, GIF, BMP, Y4M; MP4, WebM and others through ffmpeg)"
)]
pub struct GivenArgs {
    /// Picture for the first frame.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Picture for the last frame.
    #[arg(long, value_name = "FILE")]
    last_image: Option<PathBuf>,
    /// Picture for frame N, from 0, or from −1 for the last; can be repeated.
    #[arg(long, value_name = "N=FILE", allow_hyphen_values = true)]
    keyframe: Vec<Placed>,
    /// Clip whose first frame lies at frame AT, 0 if it is left out; can be repeated.
    #[arg(long, value_name = "[AT=]FILE", allow_hyphen_values = true)]
    clip: Vec<Placed>,
    /// White where given frames are to be made anew: a picture, or a clip of as many frames.
    #[arg(long, value_name = "FILE")]
    mask: Option<PathBuf>,
    /// Picture or clip of lines that the new clip follows (edges, a sketch), white on black.
    #[arg(long, value_name = "FILE", conflicts_with = "edges")]
    control: Option<PathBuf>,
    /// Picture or clip whose edges the new clip follows.
    #[arg(long, value_name = "FILE")]
    edges: Option<PathBuf>,
    /// Have every frame follow a single picture of --control or --edges, not the first frame alone.
    #[arg(long)]
    hold: bool,
    /// How strongly lines and known pixels steer, 0 to 10; 1 as trained.
    #[arg(long, value_name = "SCALE")]
    control_scale: Option<f32>,
    /// Picture of something that should appear, seen whole in the middle of white; can be repeated.
    #[arg(long, value_name = "FILE")]
    reference: Vec<PathBuf>,
    /// Clip to start from in place of noise.
    #[arg(long, value_name = "FILE", conflicts_with = "upscale")]
    source: Option<PathBuf>,
    /// Which part of the steps is run on a --source (0.6 if left out), an --upscale (0.3) or what the --mask of a --clip marks (1):
    /// 1 keeps nothing of it.
    #[arg(long, value_name = "0…1")]
    strength: Option<f64>,
    /// Clip to go on from; --frames is the length of each window of it.
    #[arg(long, value_name = "FILE", group = "task")]
    extend: Option<PathBuf>,
    /// Frames to add to --extend; one window's if left out.
    #[arg(long, value_name = "FRAMES", requires = "extend")]
    by: Option<usize>,
    /// Frames that each window takes over from what is there.
    #[arg(long, value_name = "FRAMES", requires = "extend")]
    overlap: Option<usize>,
    /// Add the frames before the clip's start.
    #[arg(long, requires = "extend")]
    backward: bool,
    /// Close a clip, or without one what the prompt makes, to a seamless loop.
    #[arg(long = "loop", value_name = "FILE", num_args = 0..=1, group = "task")]
    looped: Option<Option<PathBuf>>,
    /// Two clips to make the frames between.
    #[arg(long, value_names = ["FROM", "TO"], num_args = 2, group = "task")]
    connect: Option<Vec<PathBuf>>,
    /// Picture or clip to paint around, in another aspect (--width and --height).
    #[arg(long, value_name = "FILE", group = "task")]
    outpaint: Option<PathBuf>,
    /// Picture or clip to make larger: twice, or to --width and --height.
    #[arg(long, value_name = "FILE", group = "task")]
    upscale: Option<PathBuf>,
    /// How given pictures of another shape are fitted [default: cover].
    #[arg(long, value_enum)]
    fit: Option<Fit>,
    /// How far colours are evened out beside given pixels, 0 to 64 px [default: 4].
    #[arg(long, value_name = "PX")]
    seam: Option<usize>,
    /// Leave the decoder's version of given pixels instead of the pixels themselves.
    #[arg(long)]
    no_paste: bool,
}

/// A file and the frame that it is for.
#[derive(Debug, Clone)]
struct Placed {
    at: Option<i64>,
    file: PathBuf,
}

impl FromStr for Placed {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        // A path may have a "=" of its own: only a number before it is a frame.
        let placed = text.split_once('=').and_then(|(at, file)| Some((at.parse().ok()?, file)));
        Ok(match placed {
            Some((at, file)) => Self { at: Some(at), file: file.into() },
            None => Self { at: None, file: text.into() },
        })
    }
}

/// Everything that was given, read from its files.
#[derive(Debug)]
pub struct Given {
    args: GivenArgs,
    pieces: Vec<Piece>,
    edges: Vec<Picture>,
    tasks: Vec<Vec<Picture>>,
    /// What was done to the files, in words.
    pub notes: Vec<String>,
}

/// What is to be made.
#[derive(Debug)]
pub enum Arranged {
    /// One clip.
    Clip(Condition),
    /// Several windows, and what each is given beside its known frames.
    Task(Task, Beside),
}

impl Arranged {
    /// Whether a model can make it, in the main memory that `host` has left; `pipeline` may be a [`crate::pipeline::draft`].
    ///
    /// # Errors
    /// As [`Pipeline::check`], [`tasks::check`] and [`Pipeline::check_room`].
    pub fn check(&self, pipeline: &Pipeline, options: &GenerateOptions, host: &dyn Host) -> Result<()> {
        match self {
            Self::Clip(condition) => pipeline.check(options, condition).map(drop)?,
            Self::Task(task, beside) => tasks::check(pipeline, options, task, beside)?,
        }
        pipeline.check_room(options.size(), host)
    }
}

impl GivenArgs {
    /// Reads the files; clips come at `fps` frames a second.
    ///
    /// # Errors
    /// As [`clips::read`]; [`Error::InvalidOptions`] when flags do not go together.
    pub fn read(&self, fps: f64) -> Result<Given> {
        self.check()?;
        let mut notes = Vec::new();
        let mut clip = |path: &Path| {
            let clip = clips::read(path, fps, MOST_CLIP_BYTES)?;
            notes.extend(clip.notes);
            Ok::<_, Error>(clip.frames)
        };
        let fit = self.fit.unwrap_or_default();
        let mut pieces = Vec::new();
        let ends = [(0, &self.image), (-1, &self.last_image)].into_iter().filter_map(|(at, f)| Some((at, f.as_ref()?)));
        let keyframes = self.keyframe.iter().map(|placed| (placed.at.unwrap_or_default(), &placed.file));
        for (at, file) in ends.chain(keyframes) {
            pieces.push(Piece::Frame { at, picture: pictures::read(file, MOST_CLIP_BYTES)?, fit });
        }
        for Placed { at, file } in &self.clip {
            pieces.push(Piece::Clip { at: at.unwrap_or_default().max(0) as usize, frames: clip(file)?, fit });
        }
        if let Some(file) = &self.outpaint {
            pieces.push(Piece::Clip { at: 0, frames: clip(file)?, fit: self.fit.unwrap_or(Fit::Contain) });
        }
        if let Some(file) = &self.mask {
            pieces.push(Piece::Mask(clip(file)?));
        }
        if let Some(file) = &self.control {
            pieces.push(Piece::Control(clip(file)?));
        }
        for file in &self.reference {
            pieces.push(Piece::Reference(pictures::read(file, MOST_CLIP_BYTES)?));
        }
        if let (Some(file), Some(strength)) = (self.source.as_ref().or(self.upscale.as_ref()), self.strength()) {
            pieces.push(Piece::Source { frames: clip(file)?, strength });
        }
        let edges = self.edges.as_deref().map(&mut clip).transpose()?.unwrap_or_default();
        let of_tasks = self.extend.iter().chain(self.looped.iter().flatten()).chain(self.connect.iter().flatten());
        let tasks = of_tasks.map(|file| clip(file)).collect::<Result<_>>()?;
        Ok(Given { args: self.clone(), pieces, edges, tasks, notes })
    }

    /// What recipes call what is made.
    pub fn task_name(&self, arranged: &Arranged, options: &GenerateOptions) -> &'static str {
        if self.upscale.is_some() { "upscale" } else { arranged.name(options) }
    }

    /// How much of a source, or of a region that starts from what stands there, is made anew.
    fn strength(&self) -> Option<f64> {
        let usual = self.source.as_ref().map(|_| 0.6).or(self.upscale.as_ref().map(|_| 0.3));
        usual.map(|usual| self.strength.unwrap_or(usual)).or(self.region_strength())
    }

    /// How much of what a mask marks in the clip below it is made anew, where less than everything is.
    fn region_strength(&self) -> Option<f64> {
        self.strength.filter(|&strength| strength != 1.0 && self.marks_region())
    }

    /// Whether a mask lies on a clip that begins with the new one, and nothing else is started from.
    fn marks_region(&self) -> bool {
        let begins = self.clip.iter().any(|placed| placed.at.unwrap_or_default() == 0);
        self.mask.is_some() && begins && self.source.is_none() && self.upscale.is_none()
    }

    /// The flag of a task of several windows.
    fn windows(&self) -> Option<&'static str> {
        let extend = self.extend.as_ref().map(|_| "--extend");
        extend.or(self.looped.as_ref().map(|_| "--loop")).or(self.connect.as_ref().map(|_| "--connect"))
    }

    fn check(&self) -> Result<()> {
        let given = self.files();
        if let Some(task) = self.windows()
            && let Some(other) = given.keys().find(|flag| *flag != "reference" && format!("--{flag}") != task)
        {
            return Err(Error::options(format!("{task} takes no other pictures or clips, got --{other}")));
        }
        let unused = [("fit", self.fit.is_some()), ("seam", self.seam.is_some()), ("no-paste", self.no_paste)];
        if let (Some(task), Some((flag, _))) = (self.windows(), unused.iter().find(|(_, given)| *given)) {
            return Err(Error::options(format!("{task} takes no --{flag}: its windows have their own")));
        }
        if self.strength.is_some() && self.source.is_none() && self.upscale.is_none() && !self.marks_region() {
            return Err(Error::options("--strength needs --source, --upscale, or --clip and --mask, got none of them"));
        }
        if self.hold && self.control.is_none() && self.edges.is_none() {
            return Err(Error::options("--hold needs --control or --edges, got neither"));
        }
        if self.strength().is_some() && !self.reference.is_empty() {
            return Err(Error::options("a source clip and reference pictures do not go together"));
        }
        if let Some(placed) = self.keyframe.iter().find(|placed| placed.at.is_none()) {
            let found = placed.file.display();
            return Err(Error::options(format!("--keyframe must be N=FILE with the number of a frame, got {found}")));
        }
        match self.clip.iter().find(|placed| placed.at.is_some_and(|at| at < 0)) {
            Some(Placed { at: Some(at), .. }) => {
                Err(Error::options(format!("--clip must begin at frame 0 or later, got frame {at}")))
            }
            _ => Ok(()),
        }
    }

    /// The files by their flags, as recipes have them.
    pub fn files(&self) -> Map<String, Value> {
        let mut out = Map::new();
        let one = [
            ("image", &self.image),
            ("last-image", &self.last_image),
            ("mask", &self.mask),
            ("control", &self.control),
            ("edges", &self.edges),
            ("source", &self.source),
            ("extend", &self.extend),
            ("outpaint", &self.outpaint),
            ("upscale", &self.upscale),
        ];
        out.extend(one.into_iter().filter_map(|(flag, file)| Some((flag.to_owned(), json!(name(file.as_ref()?))))));
        let placed = |all: &[Placed]| -> Value {
            let words = |placed: &Placed| format!("{}={}", placed.at.unwrap_or_default(), name(&placed.file));
            all.iter().map(words).collect()
        };
        let many = [
            ("keyframe", placed(&self.keyframe)),
            ("clip", placed(&self.clip)),
            ("reference", self.reference.iter().map(|file| name(file)).collect()),
            ("connect", self.connect.iter().flatten().map(|file| name(file)).collect()),
        ];
        out.extend(
            many.into_iter()
                .filter(|(_, files)| files.as_array().is_some_and(|all| !all.is_empty()))
                .map(|(flag, files)| (flag.to_owned(), files)),
        );
        out.extend(self.looped.iter().map(|file| ("loop".to_owned(), json!(file.as_deref().map(name)))));
        out
    }

    /// The files, and how they were taken.
    pub fn recipe(&self, arranged: &Arranged) -> Value {
        let by = match arranged {
            Arranged::Task(Task::Extend { by, .. }, _) => Some(*by),
            _ => None,
        };
        let mut out = self.files();
        let mut add = |key: &str, value: Value| {
            if !value.is_null() {
                out.insert(key.to_owned(), value);
            }
        };
        add("control-scale", json!(self.control_scale));
        add("strength", json!(self.strength()));
        add("by", json!(by));
        add("overlap", json!(self.overlap));
        add("fit", json!(self.fit.map(|fit| format!("{fit:?}").to_lowercase())));
        add("seam", json!(self.seam));
        add("hold", if self.hold { json!(true) } else { Value::Null });
        add("backward", if self.backward { json!(true) } else { Value::Null });
        add("no-paste", if self.no_paste { json!(true) } else { Value::Null });
        Value::Object(out)
    }
}

/// A file's own name: where it lay is nobody's business.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Given {
    /// Settles what the given clips say of the new one's length and size, where the caller did not, and arranges the pieces.
    ///
    /// # Errors
    /// As [`edges`]; [`Error::InvalidOptions`] when a source clip is left no step, or a clip to paint around has the frame's shape.
    pub fn arrange(
        mut self,
        mut options: GivenOptions,
        card: &ModelCard,
        pipeline: &Pipeline,
    ) -> Result<(Arranged, GenerateOptions, Vec<String>)> {
        let (rules, way) = (pipeline.rules(), tasks::way_of(pipeline));
        if let Some(Piece::Source { frames, .. }) = self.pieces.last()
            && self.args.upscale.is_some()
            && (options.width, options.height) == (None, None)
            && let Some(first) = frames.first()
        {
            let (width, height) = first.size();
            options.width = Some(nearest(2 * width, rules.width_multiple) as _);
            options.height = Some(nearest(2 * height, rules.height_multiple) as _);
        }
        if let Some(own) = self.main_clip().and_then(<[Picture]>::first).map(Picture::size) {
            let [width, height] = tasks::size_for([own.0, own.1], rules, &card.trained_sizes());
            let wanted = (options.width.unwrap_or(width), options.height.unwrap_or(height));
            (options.width, options.height) = (Some(wanted.0), Some(wanted.1));
            if self.args.outpaint.is_some() && self.args.fit.is_none() {
                check_shape(own, wanted)?;
            }
        }
        if options.num_frames.is_none()
            && let Some(frames) = self.whole_clip()
        {
            options.num_frames = Some(longest(frames, rules.frame_multiple).min(MOST_FRAMES) as _);
        }
        let options = options.settle(&card.default);
        self.cut(options.num_frames);
        if self.args.windows().is_some() {
            let task = self.task(options.num_frames, way)?;
            let references = self.pieces.into_iter().filter_map(|piece| match piece {
                Piece::Reference(picture) => Some(picture),
                _ => None,
            });
            let usual = Beside::default().control_scale;
            let control_scale = self.args.control_scale.unwrap_or(usual);
            let beside = Beside { references: references.collect(), control_scale };
            return Ok((Arranged::Task(task, beside), options, self.notes));
        }
        if !self.edges.is_empty() {
            let lines = self.edges.iter().map(|picture| edges(picture, options.height, options.width));
            self.pieces.push(Piece::Control(lines.collect::<Result<_>>()?));
        }
        if self.args.hold {
            self.hold(&options)?;
        }
        self.start_region();
        for piece in &self.pieces {
            // As the pipeline counts, which sees it only once the prompt is encoded.
            if let Piece::Source { strength, .. } = piece
                && options.num_steps as f64 * strength < 1.0
            {
                let steps = options.num_steps;
                return Err(Error::options(format!(
                    "strength must keep at least one of {steps} steps, got {strength}"
                )));
            }
        }
        let condition = Condition {
            control_scale: self.args.control_scale.unwrap_or(1.0),
            paste: !self.args.no_paste,
            seam: self.args.seam.unwrap_or(DEFAULT_SEAM_PX),
            ..Condition::of(self.pieces)
        };
        Ok((Arranged::Clip(condition), options, self.notes))
    }

    /// Has every frame follow the one picture of lines.
    fn hold(&mut self, options: &GenerateOptions) -> Result<()> {
        const PIXEL: usize = 12; // bytes, three floats
        let sides = [options.width, options.height, options.num_frames, PIXEL];
        let bytes = sides.iter().fold(1u64, |all, &side| all.saturating_mul(side as u64));
        if bytes > MOST_CLIP_BYTES {
            return Err(Error::options(format!(
                "a held picture may take at most {} bytes as a clip, {bytes} are needed: choose a smaller size or fewer frames",
                MOST_CLIP_BYTES
            )));
        }
        for piece in &mut self.pieces {
            if let Piece::Control(frames) = piece {
                let [only] = frames.as_slice() else {
                    let found = frames.len();
                    return Err(Error::options(format!(
                        "--hold is for a single picture, got a clip of {found} frames"
                    )));
                };
                // At the clip's size: a large one would be there as often as the clip has frames.
                let held = only.covering(options.height, options.width)?.into_owned();
                *frames = vec![held; options.num_frames];
            }
        }
        Ok(())
    }

    /// Has a region that is made anew in part start from what stands there: from the clip that the mask lies on.
    fn start_region(&mut self) {
        let Some(strength) = self.args.region_strength() else { return };
        let marked = self.pieces.iter().find_map(|piece| match piece {
            Piece::Clip { at: 0, frames, .. } => Some(frames.clone()),
            _ => None,
        });
        self.pieces.extend(marked.map(|frames| Piece::Source { frames, strength }));
    }

    fn task(&mut self, window: usize, way: Way) -> Result<Task> {
        let mut clips = std::mem::take(&mut self.tasks).into_iter();
        let mut next = || clips.next().unwrap_or_default();
        Ok(match (&self.args.extend, &self.args.looped) {
            (Some(_), _) => {
                let (clip, overlap, backward) = (next(), self.args.overlap, self.args.backward);
                let usual = || Ok(window - tasks::overlap_of(overlap, window, way, backward)?);
                let by = self.args.by.map_or_else(usual, Ok)?;
                Task::Extend { clip, by, backward, overlap }
            }
            (None, Some(_)) => Task::Loop { clip: next() },
            (None, None) => Task::Connect { from: next(), to: next() },
        })
    }

    /// The clip that a task is made of, at whose size it works; none where clips only lie on the timeline or are followed.
    fn main_clip(&self) -> Option<&[Picture]> {
        let edited = self.args.mask.is_some() || self.args.outpaint.is_some();
        let of_pieces = self.pieces.iter().find_map(|piece| match piece {
            Piece::Source { frames, .. } if self.args.source.is_some() => Some(frames),
            Piece::Clip { at: 0, frames, .. } if edited => Some(frames),
            _ => None,
        });
        of_pieces.or(self.tasks.first()).map(Vec::as_slice)
    }

    /// Frames of a clip that the new one is as long as: one that is edited, followed or started from. One picture to follow
    /// leaves the length open.
    fn whole_clip(&self) -> Option<usize> {
        let masked = self.args.mask.is_some();
        let of_pieces = self.pieces.iter().find_map(|piece| match piece {
            Piece::Source { frames, .. } => Some(frames.len()),
            Piece::Clip { at: 0, frames, .. } if masked || self.args.outpaint.is_some() => Some(frames.len()),
            Piece::Control(frames) if frames.len() > 1 => Some(frames.len()),
            _ => None,
        });
        of_pieces.or(Some(self.edges.len()).filter(|&frames| frames > 1))
    }

    /// Leaves away what is longer than the new clip, and says so.
    fn cut(&mut self, num_frames: usize) {
        let whole = self.args.mask.is_some() || self.args.outpaint.is_some();
        let mut notes = Vec::new();
        let mut cut = |what: &str, frames: &mut Vec<Picture>, from: usize| {
            let room = num_frames.saturating_sub(from);
            if frames.len() > room && room > 0 {
                notes.push(format!("{what}: {room} of {} frames are used", frames.len()));
                frames.truncate(room);
            }
        };
        for piece in &mut self.pieces {
            match piece {
                Piece::Clip { at, frames, .. } if whole => cut("the given clip", frames, *at),
                Piece::Mask(frames) => cut("the mask", frames, 0),
                Piece::Control(frames) => cut("the control clip", frames, 0),
                Piece::Source { frames, .. } => cut("the source clip", frames, 0),
                _ => {}
            }
        }
        cut("the clip whose edges are followed", &mut self.edges, 0);
        self.notes.extend(notes);
    }
}

/// Refuses a frame of the shape that a clip has already: nothing would lie beside it.
fn check_shape(own: (usize, usize), wanted: (usize, usize)) -> Result<()> {
    let ratio = |(width, height): (usize, usize)| width as f64 / height.max(1) as f64;
    if (ratio(own) / ratio(wanted) - 1.0).abs() >= SAME_SHAPE {
        return Ok(());
    }
    Err(Error::options(format!(
        "outpaint needs a frame of another shape than the clip's {} × {} px, got {} × {} px",
        own.0, own.1, wanted.0, wanted.1
    )))
}

/// The multiple nearest to a length, px; at least one.
fn nearest(px: usize, multiple: usize) -> usize {
    let multiple = multiple.max(1);
    ((px + multiple / 2) / multiple).max(1) * multiple
}

impl Arranged {
    fn name(&self, options: &GenerateOptions) -> &'static str {
        let condition = match self {
            Self::Task(task, _) => return task.name(),
            Self::Clip(condition) => condition,
        };
        let has = |wanted: fn(&Piece) -> bool| condition.pieces.iter().any(wanted);
        if has(|piece| matches!(piece, Piece::Mask(_))) {
            "inpaint"
        } else if has(|piece| matches!(piece, Piece::Source { .. })) {
            "video-to-video"
        } else if has(|piece| matches!(piece, Piece::Clip { fit: Fit::Contain, .. })) {
            "outpaint"
        } else if has(|piece| matches!(piece, Piece::Control(_))) {
            "control-to-video"
        } else if has(|piece| matches!(piece, Piece::Clip { .. })) {
            "complete"
        } else if has(|piece| matches!(piece, Piece::Frame { .. })) {
            "image-to-video"
        } else if options.class_label.is_some() {
            "class-to-image"
        } else if options.num_frames == 1 {
            "text-to-image"
        } else {
            "text-to-video"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_number_before_an_equals_sign() {
        let placed = |text: &str| text.parse::<Placed>().map(|p| (p.at, p.file)).unwrap();
        assert_eq!(placed("8=a.png"), (Some(8), "a.png".into()));
        assert_eq!(placed("-1=a=b.png"), (Some(-1), "a=b.png".into()));
        assert_eq!(placed("odd=a.gif"), (None, "odd=a.gif".into()));
    }

    #[test]
    fn sizes_go_to_the_nearest_multiple() {
        assert_eq!((nearest(250, 16), nearest(3, 16), nearest(40, 16), nearest(39, 16)), (256, 16, 48, 32));
    }
}
