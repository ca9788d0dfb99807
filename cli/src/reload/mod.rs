//! A configuration that changes while the process runs.
//!
//! ```text
//! file, secrets ──▶ watcher: look? ──▶ read, check ──┬─▶ valid: compare, publish ──▶ ingress, relay
//! SIGHUP ───────────────┘                            └─▶ invalid: the last valid one stays, and errors are logged
//! ```
//!
//! [`talaria_core::config::reload`] decides which parts of a new one come into force.
//!
//! - [`source`]: the file and the command line. [`watcher`]: when to read them again.
//! - [`published`]: the page `/config` of the admin port.

mod published;
mod source;
mod watcher;

pub(crate) use published::{Published, name, problems};
pub(crate) use source::{Overrides, Source};

use crate::metrics::keep_tenants;
use jiff::Timestamp;
use metrics::{counter, gauge};
use std::{path::PathBuf, sync::Arc};
use talaria_core::config::{self, Config, ConfigStatus, Fault, Problem, Reading, Reloaded, Role, Settings};
use tokio::{signal::unix::Signal, sync::watch};
use tokio_util::sync::CancellationToken;
use watcher::{Trigger, Watcher};

/// The current configuration of this process, and its status. Clones share it.
#[derive(Clone)]
pub(crate) struct Live {
    pub config: watch::Receiver<Arc<Config>>,
    /// Whether the file is in force.
    pub status: watch::Receiver<Arc<ConfigStatus>>,
    /// The settings in force.
    pub settings: watch::Receiver<Arc<Settings>>,
    pub role: Role,
    overridden: Vec<&'static str>,
}

/// Reloads the configuration when its files change.
pub(crate) struct Reloader {
    source: Source,
    /// The last valid settings.
    read: Settings,
    /// Other files that the configuration names.
    files: Vec<PathBuf>,
    config: watch::Sender<Arc<Config>>,
    status: watch::Sender<Arc<ConfigStatus>>,
    /// `read`, except for settings that need a restart.
    in_force: watch::Sender<Arc<Settings>>,
}

impl Reloader {
    /// Reads the configuration for the first time.
    pub(crate) fn start(source: Source) -> Result<(Self, Live), config::Error> {
        let Reading { settings, config } = source.read();
        let config = watch::Sender::new(Arc::new(config?));
        let status = watch::Sender::new(Arc::new(ConfigStatus::first(Timestamp::now())));
        let in_force = watch::Sender::new(Arc::new(settings.clone()));
        let live = Live {
            config: config.subscribe(),
            status: status.subscribe(),
            settings: in_force.subscribe(),
            role: source.role,
            overridden: source.overrides.keys(),
        };
        let files = settings.files().to_vec();
        Ok((Self { source, read: settings, files, config, status, in_force }, live))
    }

    /// Reads it again on changes and on SIGHUP, until `stop`.
    pub(crate) async fn run(mut self, hangup: Signal, stop: CancellationToken) {
        let mut watcher = Watcher::new(hangup);
        let mut seen = None;
        let work = async {
            let mut trigger = Trigger::Change;
            loop {
                if let Some(contents) = self.source.contents(&self.files).await {
                    if trigger == Trigger::Signal || seen.as_ref() != Some(&contents) {
                        let source = self.source.clone();
                        let reading = tokio::task::spawn_blocking(move || source.read()).await;
                        match reading {
                            Ok(reading) => self.apply_reading(reading, trigger),
                            Err(error) => tracing::error!(%error, "the configuration was not read"),
                        }
                    }
                    seen = Some(contents);
                }
                trigger = watcher.wait(&self.source.path, &self.files).await;
            }
        };
        tokio::select! { () = stop.cancelled() => {}, () = work => {} }
    }

    fn apply_reading(&mut self, Reading { settings, config }: Reading, trigger: Trigger) {
        self.files = self.read.files().iter().chain(settings.files()).cloned().collect();
        let config = match config {
            Ok(config) => config,
            Err(error) => return self.refuse(error.into_problems()),
        };
        self.files = settings.files().to_vec();
        let differences = settings.since(&self.read);
        if differences.is_empty() {
            return self.keep(trigger);
        }
        let running = Arc::clone(&self.config.borrow());
        match config::reload(self.source.role, &running, config, &differences) {
            Ok(reloaded) => self.apply(reloaded, settings),
            Err(problem) => self.refuse(vec![problem]),
        }
    }

    fn publish(&self, status: ConfigStatus) {
        measure(&status);
        self.status.send_replace(Arc::new(status));
    }

    fn apply(&mut self, Reloaded { config, needs_restart, changes }: Reloaded, settings: Settings) {
        let in_force = needs_restart
            .iter()
            .fold(settings.clone(), |settings, key| settings.with_older(key, &self.in_force.borrow()));
        self.read = settings;
        warn(&config);
        count_down(&config, self.source.role);
        keep_tenants(&config, self.source.role);
        self.config.send_replace(Arc::new(config));
        self.in_force.send_replace(Arc::new(in_force));
        let generation = self.status.borrow().generation + 1;
        tracing::info!(generation, "the configuration was reloaded: {changes}");
        if !needs_restart.is_empty() {
            let keys = needs_restart.join(", ");
            tracing::warn!(
                generation,
                keys,
                "the configuration is in force, except for settings that need a restart"
            );
        }
        let loaded_at = Timestamp::now();
        self.publish(ConfigStatus { generation, loaded_at, needs_restart, fault: None });
        counter!("talaria_config_reloads_total", "result" => "applied").increment(1);
    }

    fn keep(&self, trigger: Trigger) {
        let before = ConfigStatus::clone(&self.status.borrow());
        let generation = before.generation;
        if before.fault.is_some() {
            tracing::info!(generation, "the configuration is valid again, and is the one that is in force");
        } else if trigger == Trigger::Signal {
            tracing::info!(generation, "the configuration has not changed");
        }
        self.publish(ConfigStatus { fault: None, ..before });
    }

    fn refuse(&self, problems: Vec<Problem>) {
        let before = ConfigStatus::clone(&self.status.borrow());
        let (path, generation) = (self.source.path.display(), before.generation);
        for problem in &problems {
            tracing::error!(
                path = %path, line = problem.line, column = problem.column, help = problem.help, generation,
                "the configuration was not reloaded, and the last valid one stays in force: {}", problem.what
            );
        }
        let fault = Some(Fault { at: Timestamp::now(), problems });
        self.publish(ConfigStatus { fault, ..before });
        counter!("talaria_config_reloads_total", "result" => "refused").increment(1);
    }
}

/// Logs the warnings about a valid configuration.
pub(crate) fn warn(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!(line = warning.line, column = warning.column, help = warning.help, "{}", warning.what);
    }
}

/// Counts the tenants that are down, in a process with an ingress.
pub(crate) fn count_down(config: &Config, role: Role) {
    if role.has_ingress() {
        let down = config.tenants.values().filter(|tenant| tenant.down().is_some()).count();
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        gauge!("talaria_tenants_down").set(down as f64);
    }
}

/// Exports the configuration's status as metrics.
pub(crate) fn measure(status: &ConfigStatus) {
    let is = |so: bool| if so { 1.0 } else { 0.0 };
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!("talaria_config_generation").set(status.generation as f64);
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!("talaria_config_loaded_timestamp_seconds").set(status.loaded_at.as_second() as f64);
    gauge!("talaria_config_valid").set(is(status.fault.is_none()));
    gauge!("talaria_config_restart_needed").set(is(!status.needs_restart.is_empty()));
}
