//! How long each stage took.

use std::collections::BTreeMap;

use crate::host::{Event, Host, Stage};

/// Announces stages and adds up their seconds.
pub(super) struct StageClock<'a> {
    host: &'a dyn Host,
    running: Option<(Stage, f64)>,
    timings: BTreeMap<&'static str, f64>,
}

impl<'a> StageClock<'a> {
    pub fn new(host: &'a dyn Host) -> Self {
        Self { host, running: None, timings: BTreeMap::new() }
    }

    pub fn start(&mut self, stage: Stage) {
        self.stop();
        self.host.event(Event::Stage { stage });
        self.running = Some((stage, self.host.now_secs()));
    }

    fn stop(&mut self) {
        if let Some((stage, since)) = self.running.take() {
            *self.timings.entry(stage.name()).or_default() += self.host.now_secs() - since;
        }
    }

    pub fn finish(mut self) -> BTreeMap<&'static str, f64> {
        self.stop();
        let total = self.timings.values().sum();
        self.timings.insert("total", total);
        self.timings
    }
}
