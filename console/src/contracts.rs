//! The descriptors of the contracts.

use prost_reflect::{DescriptorPool, MethodDescriptor};
use prost_types::method_options::IdempotencyLevel;
use std::sync::LazyLock;
use talaria_proto::FILE_DESCRIPTOR_SET;

/// Empty if the contracts could not be read, which a test excludes.
static CONTRACTS: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap_or_default());

pub(crate) fn contracts() -> &'static DescriptorPool {
    &CONTRACTS
}

/// The method at a path, `/package.Service/Method`.
pub(crate) fn method(path: &str) -> Option<MethodDescriptor> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    contracts().get_service_by_name(service)?.methods().find(|known| known.name() == method)
}

/// Whether a method only reads, by its option in the contract.
pub(crate) fn only_reads(method: &MethodDescriptor) -> bool {
    let options = method.method_descriptor_proto().options.as_ref();
    options.is_some_and(|options| options.idempotency_level() == IdempotencyLevel::NoSideEffects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_found_by_their_path() {
        let mut services: Vec<_> = contracts().services().map(|it| it.name().to_owned()).collect();
        services.sort();
        assert_eq!(services, ["ControlService", "JobService", "StatusService"], "each is for clients");
        let summary = method("/talaria.v1.StatusService/GetSummary").unwrap();
        assert!(only_reads(&summary) && !only_reads(&method("/talaria.v1.ControlService/Pause").unwrap()));
        for path in ["", "/", "/talaria.v1.StatusService", "/talaria.v1.StatusService/Pause", "//GetSummary"]
        {
            assert!(method(path).is_none(), "{path}");
        }
        let streams_requests = |method: MethodDescriptor| method.is_client_streaming();
        assert!(!contracts().services().any(|service| service.methods().any(streams_requests)));
    }
}
