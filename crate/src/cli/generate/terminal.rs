//! What `generate` tells while it works: a progress bar and words, or JSON lines.

use std::cell::RefCell;
use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::compare;
use crate::cli::room;
use crate::cli::vocabulary::Vocabulary;
use crate::contract::EngineResult;
use crate::host::{Event, Host};

/// Frames collected so far, RGB, `[F, H, W, 3]`.
#[derive(Debug, Default)]
pub struct Frames {
    /// Bytes of all of them.
    pub rgb: Vec<u8>,
    /// How many.
    pub count: usize,
}

impl Frames {
    /// Clips of the same size, so many pixels wide each, from left to right.
    pub fn beside(mut clips: Vec<Self>, width: usize) -> Self {
        if clips.len() == 1 {
            return clips.remove(0);
        }
        let count = clips.iter().map(|clip| clip.count).min().unwrap_or_default();
        let clips: Vec<Vec<u8>> = clips.into_iter().map(|clip| clip.rgb).collect();
        Self { rgb: compare::beside(&clips, 3 * width), count }
    }
}

/// Shows progress on a terminal, or prints JSON lines.
pub struct TerminalHost {
    json: bool,
    bar: ProgressBar,
    started: Instant,
    frames: RefCell<Frames>,
}

impl TerminalHost {
    pub fn new(json: bool) -> Self {
        let bar = if json { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template("{msg:12} {wide_bar} {pos}/{len} {eta}") {
            bar.set_style(style);
        }
        Self { json, bar, started: Instant::now(), frames: RefCell::default() }
    }

    pub fn say(&self, what: &str, words: &str) {
        match self.json {
            true => self.line(&serde_json::json!({ "type": what, what: words }).to_string()),
            false => self.note(&format!("{what}: {words}")),
        }
    }

    /// A line of output. A reader that has gone away must not cost the clip.
    fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// A word to the person at the terminal, or to the log where there is no terminal to draw a bar on.
    fn note(&self, text: &str) {
        if self.bar.is_hidden() {
            let _ = writeln!(std::io::stderr(), "{text}");
        } else {
            self.bar.println(text);
        }
    }

    /// Says what was made of the prompt, and the words of it that say nothing to a small model.
    pub fn tell_prompt(&self, prompt: &str, vocabulary: Option<&Vocabulary>, suggested: bool) {
        if suggested {
            self.say("prompt", prompt);
        }
        let unknown = vocabulary.map(|vocabulary| vocabulary.unknown(prompt)).unwrap_or_default();
        if !unknown.is_empty() {
            let words: Vec<String> = unknown.iter().map(|word| format!("“{word}”")).collect();
            self.event(Event::warning(format!("this small model does not know {}", words.join(", "))));
        }
    }

    pub fn set_steps(&self, steps: usize) {
        self.bar.set_length(steps as u64);
        self.bar.set_position(0);
    }

    pub fn take_frames(&self) -> Frames {
        self.frames.take()
    }

    /// Nothing more is counted.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Says where a clip lies, and what was made.
    pub fn tell_made(&self, out: &Path, clip: &EngineResult) {
        let line = if self.json {
            let mut line = serde_json::json!(clip);
            line["type"] = "done".into();
            line["out"] = out.to_string_lossy().into();
            line.to_string()
        } else {
            let total = clip.timings.get("total").copied().unwrap_or_default();
            let made = format!("{} frames, seed {}, {total:.1} s", clip.num_frames, clip.seed);
            format!("{} ({made})", out.display())
        };
        self.bar.suspend(|| self.line(&line));
    }
}

impl Host for TerminalHost {
    fn event(&self, event: Event) {
        if self.json && matches!(event, Event::Stage { .. } | Event::Step { .. } | Event::Warning { .. }) {
            self.line(&serde_json::json!(event).to_string());
        }
        match event {
            Event::Loading { loaded, total, what } => {
                self.bar.set_length(total as u64);
                self.bar.set_position(loaded as u64);
                self.bar.set_message(format!("load {what}"));
            }
            Event::Stage { stage } => self.bar.set_message(stage.name()),
            // Several clips count theirs from 1 each.
            Event::Step { .. } => self.bar.inc(1),
            Event::Warning { message } if !self.json => self.note(&format!("warning: {message}")),
            Event::Warning { .. } => {}
            Event::Frame { index, rgba, .. } => {
                // Windows before a clip's start come last.
                let mut frames = self.frames.borrow_mut();
                let bytes = rgba.len() / 4 * 3;
                let end = (index + 1) * bytes;
                if frames.rgb.len() < end {
                    frames.rgb.resize(end, 0);
                }
                let rgb = rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]);
                frames.rgb[end - bytes..end].iter_mut().zip(rgb).for_each(|(into, value)| *into = value);
                frames.count = frames.count.max(index + 1);
            }
            Event::Preview { .. } | Event::Clips { .. } => {}
        }
    }

    fn aborted(&self) -> bool {
        false
    }

    fn tick(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(std::future::ready(()))
    }

    fn now_secs(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn free_memory(&self) -> Option<u64> {
        room::free()
    }
}
