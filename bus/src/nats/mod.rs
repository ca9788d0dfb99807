//! Stub.
#![allow(missing_docs, unused_variables, clippy::todo)]
use crate::{AppendError, Bounds, Committed, Error, Floors, Identity, Partition, Question, Stored};
use bytes::Bytes;
use std::{path::Path, sync::Arc};
use talaria_core::config::Nats as Config;
use talaria_proto::v1::{Commit, Event, QuarantinedCallback};
pub struct Publisher;
impl Publisher {
    pub(crate) async fn open(config: &Config) -> Result<Self, Error> { todo!() }
    pub(crate) async fn publish(&self, event: Arc<Event>) -> Result<(), Error> { todo!() }
    pub(crate) async fn quarantine(&self, callback: QuarantinedCallback) -> Result<(), Error> { todo!() }
    pub(crate) async fn check(&self) -> Result<(), Error> { todo!() }
}
#[derive(Clone)]
pub struct Nats;
impl Nats {
    pub(crate) async fn open(config: &Config, directory: &Path) -> Result<Self, Error> { todo!() }
    pub(crate) fn publisher(&self) -> Arc<Publisher> { todo!() }
    pub(crate) fn identity(&self) -> &Identity { todo!() }
    pub(crate) fn largest_commit(&self) -> usize { todo!() }
    pub(crate) async fn read(&self, partition: Partition, after: u64, max: usize) -> Result<Vec<Committed>, Error> { todo!() }
    pub(crate) async fn event(&self, seq: u64) -> Result<Option<Arc<Event>>, Error> { todo!() }
    pub(crate) async fn commit(&self, seq: u64) -> Result<Option<Commit>, Error> { todo!() }
    pub(crate) async fn bounds(&self) -> Result<Bounds, Error> { todo!() }
    pub(crate) async fn trim(&self, floors: Floors) -> Result<(u64, u64), Error> { todo!() }
    pub(crate) async fn announce(&self, announcement: Bytes) -> Result<(), Error> { todo!() }
    pub(crate) async fn announcements(&self) -> Result<crate::Announcements, Error> { todo!() }
    pub(crate) async fn ask(&self, relay: &str, question: Bytes) -> Result<Bytes, Error> { todo!() }
    pub(crate) async fn questions(&self) -> Result<crate::Questions, Error> { todo!() }
    pub(crate) async fn check(&self) -> Result<(), Error> { todo!() }
}
pub struct Journal;
impl Journal {
    pub(crate) fn new(bus: &Nats, partition: Partition, last: u64) -> Self { todo!() }
    pub(crate) async fn append(&mut self, commit: &Commit) -> Result<u64, AppendError> { todo!() }
}
pub struct Events;
impl Events {
    pub(crate) async fn open(bus: &Nats, partition: Partition, after: u64) -> Result<Self, Error> { todo!() }
    pub(crate) async fn next(&mut self, max: usize) -> Result<Vec<Stored>, Error> { todo!() }
}
pub struct Following;
impl Following {
    pub(crate) async fn open(bus: &Nats, after: u64) -> Result<Self, Error> { todo!() }
    pub(crate) async fn next(&mut self, max: usize) -> Result<Vec<Committed>, Error> { todo!() }
}
pub struct Announcements;
impl Announcements { pub(crate) async fn next(&mut self) -> Result<(String, Bytes), Error> { todo!() } }
pub struct Questions;
impl Questions { pub(crate) async fn next(&mut self) -> Result<Question, Error> { todo!() } }
pub struct Reply;
impl Reply { pub(crate) async fn send(self, answer: Bytes) -> Result<(), Error> { todo!() } }
