//! A configuration that changes while the process runs.
//!
//! ```text
//! file, secrets ──▶ watcher: look? ──▶ read, check ──┬─▶ valid: compare, publish ──▶ ingress, relay
//! SIGHUP ───────────────┘                            └─▶ invalid: the last valid one stays, and everybody is told
//! ```
//!
//! The decision what becomes of a new one is [`talaria_core::config::reload`].
//!
//! - [`source`]: how this process reads its configuration.
//! - [`watcher`]: when to look.
//! - [`shown`]: what is shown of it at the admin port, without a value.

mod shown;
mod source;
mod watcher;

pub(crate) use shown::{Shown, name, problems};
pub use source::{Overrides, Source};

use jiff::Timestamp;
use metrics::{counter, gauge};
use std::{path::PathBuf, sync::Arc};
use talaria_core::config::{self, Config, ConfigStatus, Fault, Problem, Reading, Reloaded, Role, Settings};
use tokio::{signal::unix::Signal, sync::watch};
use tokio_util::sync::CancellationToken;
use watcher::{Told, Watcher};

/// The configuration of this process as it is now, and how it stands. Clones see the same.
#[derive(Clone)]
pub struct Live {
    /// What everything is done by.
    pub config: watch::Receiver<Arc<Config>>,
    /// Whether what is in the file is in force.
    pub standing: watch::Receiver<Arc<ConfigStatus>>,
    /// What was written that is in force.
    settings: watch::Receiver<Arc<Settings>>,
    /// What the process does.
    pub role: Role,
    overridden: Vec<&'static str>,
}

/// Keeps it as the file is.
pub struct Reloader {
    source: Source,
    /// What was written that was last read and valid.
    read: Settings,
    /// What is to be looked at beside the file.
    files: Vec<PathBuf>,
    config: watch::Sender<Arc<Config>>,
    standing: watch::Sender<Arc<ConfigStatus>>,
    /// The same as `read`, but for what needs a restart.
    in_force: watch::Sender<Arc<Settings>>,
}

impl Reloader {
    /// Reads the configuration for the first time.
    pub fn start(source: Source) -> Result<(Self, Live), config::Error> {
        let Reading { settings, config } = source.read();
        let config = watch::Sender::new(Arc::new(config?));
        let standing = watch::Sender::new(Arc::new(ConfigStatus::first(Timestamp::now())));
        let in_force = watch::Sender::new(Arc::new(settings.clone()));
        let live = Live {
            config: config.subscribe(),
            standing: standing.subscribe(),
            settings: in_force.subscribe(),
            role: source.role,
            overridden: source.overrides.keys(),
        };
        let files = settings.files().to_vec();
        Ok((Self { source, read: settings, files, config, standing, in_force }, live))
    }

    /// Reads it again whenever it may have changed and whenever it is asked to, until it is told to stop.
    pub async fn run(mut self, hangup: Signal, stop: CancellationToken) {
        let mut watcher = Watcher::new(hangup);
        let mut seen = None;
        let work = async {
            let mut told = Told::MayHaveChanged;
            loop {
                if let Some(contents) = self.source.contents(&self.files).await {
                    if told == Told::ToReload || seen.as_ref() != Some(&contents) {
                        let source = self.source.clone();
                        let reading = tokio::task::spawn_blocking(move || source.read()).await;
                        match reading {
                            Ok(reading) => self.take(reading, told),
                            Err(error) => tracing::error!(%error, "the configuration was not read"),
                        }
                    }
                    seen = Some(contents);
                }
                told = watcher.look_again(&self.source.path, &self.files).await;
            }
        };
        tokio::select! { () = stop.cancelled() => {}, () = work => {} }
    }

    /// What was read comes into force, if it can.
    fn take(&mut self, Reading { settings, config }: Reading, told: Told) {
        self.files = self.read.files().iter().chain(settings.files()).cloned().collect();
        let config = match config {
            Ok(config) => config,
            Err(error) => return self.refuse(error.into_problems()),
        };
        self.files = settings.files().to_vec();
        let differences = settings.since(&self.read);
        if differences.is_empty() {
            return self.keep(told);
        }
        let running = Arc::clone(&self.config.borrow());
        match config::reload(self.source.role, &running, config, &differences) {
            Ok(reloaded) => self.apply(reloaded, settings),
            Err(problem) => self.refuse(vec![problem]),
        }
    }

    fn stands(&self, standing: ConfigStatus) {
        measure(&standing);
        self.standing.send_replace(Arc::new(standing));
    }

    fn apply(&mut self, Reloaded { config, needs_restart, changes }: Reloaded, settings: Settings) {
        let in_force = needs_restart
            .iter()
            .fold(settings.clone(), |settings, key| settings.with_older(key, &self.in_force.borrow()));
        self.read = settings;
        warn(&config);
        count_down(&config, self.source.role);
        self.config.send_replace(Arc::new(config));
        self.in_force.send_replace(Arc::new(in_force));
        let generation = self.standing.borrow().generation + 1;
        tracing::info!(generation, "the configuration was reloaded: {changes}");
        if !needs_restart.is_empty() {
            let keys = needs_restart.join(", ");
            tracing::warn!(generation, "the configuration is in force but for what needs a restart: {keys}");
        }
        let loaded_at = Timestamp::now();
        self.stands(ConfigStatus { generation, loaded_at, needs_restart, fault: None });
        counter!("talaria_config_reloads_total", "result" => "applied").increment(1);
    }

    fn keep(&self, told: Told) {
        let before = ConfigStatus::clone(&self.standing.borrow());
        let generation = before.generation;
        if before.fault.is_some() {
            tracing::info!(generation, "the configuration is valid again, and is the one that is in force");
        } else if told == Told::ToReload {
            tracing::info!(generation, "the configuration has not changed");
        }
        self.stands(ConfigStatus { fault: None, ..before });
    }

    fn refuse(&self, problems: Vec<Problem>) {
        let before = ConfigStatus::clone(&self.standing.borrow());
        let (path, generation) = (self.source.path.display(), before.generation);
        for problem in &problems {
            tracing::error!(
                path = %path, line = problem.line, column = problem.column, help = problem.help, generation,
                "the configuration was not reloaded, and the last valid one stays in force: {}", problem.what
            );
        }
        let fault = Some(Fault { at: Timestamp::now(), problems });
        self.stands(ConfigStatus { fault, ..before });
        counter!("talaria_config_reloads_total", "result" => "refused").increment(1);
    }
}

/// Says what is allowed and yet looks wrong.
pub(crate) fn warn(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!(line = warning.line, column = warning.column, help = warning.help, "{}", warning.what);
    }
}

/// Counts the tenants that are down, where callbacks come in.
pub(crate) fn count_down(config: &Config, role: Role) {
    if role.has_ingress() {
        let down = config.tenants.values().filter(|tenant| tenant.down().is_some()).count();
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        gauge!("talaria_tenants_down").set(down as f64);
    }
}

/// Exports the configuration's status as metrics.
pub(crate) fn measure(standing: &ConfigStatus) {
    let is = |so: bool| if so { 1.0 } else { 0.0 };
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!("talaria_config_generation").set(standing.generation as f64);
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!("talaria_config_loaded_timestamp_seconds").set(standing.loaded_at.as_second() as f64);
    gauge!("talaria_config_valid").set(is(standing.fault.is_none()));
    gauge!("talaria_config_restart_needed").set(is(!standing.needs_restart.is_empty()));
}
