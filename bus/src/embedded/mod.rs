//! Stub.
#![allow(missing_docs, unused_variables, clippy::todo)]
pub(crate) mod backup { #[derive(Debug)] pub struct Backup { pub events: u64, pub commits: u64, pub bytes: u64 } #[derive(Debug, thiserror::Error)] pub enum BackupError { #[error("stub")] Stub } pub fn backup(directory: &std::path::Path, file: &std::path::Path) -> Result<Backup, BackupError> { todo!() } }
use crate::{AppendError, Bounds, Committed, Error, Floors, Identity, Stored};
use std::{path::Path, sync::Arc};
use talaria_proto::v1::{Commit, Event, QuarantinedCallback};
pub(crate) const LARGEST_COMMIT: usize = 4 << 20;
#[derive(Clone)]
pub struct Embedded;
impl Embedded {
    pub(crate) async fn open(directory: &Path) -> Result<Self, Error> { todo!() }
    pub(crate) async fn publish(&self, event: Arc<Event>) -> Result<(), Error> { todo!() }
    pub(crate) async fn quarantine(&self, callback: QuarantinedCallback) -> Result<(), Error> { todo!() }
    pub(crate) fn identity(&self) -> &Identity { todo!() }
    pub(crate) async fn read(&self, after: u64, max: usize) -> Result<Vec<Committed>, Error> { todo!() }
    pub(crate) async fn event(&self, seq: u64) -> Result<Option<Arc<Event>>, Error> { todo!() }
    pub(crate) async fn commit(&self, seq: u64) -> Result<Option<Commit>, Error> { todo!() }
    pub(crate) async fn bounds(&self) -> Result<Bounds, Error> { todo!() }
    pub(crate) async fn trim(&self, floors: Floors) -> Result<(u64, u64), Error> { todo!() }
    pub(crate) async fn check(&self) -> Result<(), Error> { todo!() }
}
pub struct Journal;
impl Journal {
    pub(crate) fn new(bus: &Embedded, last: u64) -> Self { todo!() }
    pub(crate) async fn append(&mut self, commit: &Commit) -> Result<u64, AppendError> { todo!() }
}
pub struct Events;
impl Events {
    pub(crate) fn new(bus: &Embedded, after: u64) -> Self { todo!() }
    pub(crate) async fn next(&mut self, max: usize) -> Result<Vec<Stored>, Error> { todo!() }
}
pub struct Following;
impl Following {
    pub(crate) fn new(bus: &Embedded, after: u64) -> Self { todo!() }
    pub(crate) async fn next(&mut self, max: usize) -> Result<Vec<Committed>, Error> { todo!() }
}
