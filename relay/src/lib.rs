//! The way out.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
mod decisions;
mod delivery;
mod hands;
mod partition;
mod view;
#[cfg(test)]
mod testing;
mod view {
    use talaria_proto::v1::*;
    #[derive(Clone)] pub(crate) struct View;
    impl View { pub(crate) async fn carried(&self, _seq: u64) -> Option<EventCarried> { None } }
    pub(crate) mod projector {
        #[derive(Clone)] pub(crate) struct Feed;
        impl Feed { pub(crate) fn send(&self, _fed: Fed) {} }
        pub(crate) enum Fed { Owned { partition: talaria_bus::Partition, last: u64 }, Committed { partition: talaria_bus::Partition, previous: u64, seq: u64, commit: std::sync::Arc<talaria_proto::v1::Commit> }, Lost { partition: talaria_bus::Partition } }
    }
}
#[cfg(test)]
mod simulation;
