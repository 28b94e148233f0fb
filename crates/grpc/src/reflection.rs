//! What is here, told to those who ask: reflection, version 1 and, for older tools, 1alpha.

use lockstep_proto::DESCRIPTORS;
use prost::Message;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tonic::service::Routes;
use tonic_reflection::pb;
use tonic_reflection::server::{Builder, Error};

/// The descriptors of everything that is served.
pub(crate) const DESCRIPTOR_SETS: [&[u8]; 4] =
    [DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET, pb::v1::FILE_DESCRIPTOR_SET, pb::v1alpha::FILE_DESCRIPTOR_SET];

/// All calls that there are, `<service>/<method>`.
pub(crate) fn methods() -> impl Iterator<Item = (String, MethodDescriptorProto)> {
    let sets = DESCRIPTOR_SETS.iter().filter_map(|set| FileDescriptorSet::decode(*set).ok());
    let services = sets.flat_map(|set| set.file).flat_map(|mut file| {
        let services = std::mem::take(&mut file.service);
        services.into_iter().map(move |service| (format!("{}.{}", file.package(), service.name()), service.method))
    });
    services.flat_map(|(service, methods)| {
        methods.into_iter().map(move |method| (format!("{service}/{}", method.name()), method))
    })
}

fn builder() -> Builder<'static> {
    // Both versions tell of both: each would otherwise add itself alone.
    let builder = Builder::configure().include_reflection_service(false);
    DESCRIPTOR_SETS.into_iter().fold(builder, Builder::register_encoded_file_descriptor_set)
}

/// Adds both services.
pub(crate) fn add(routes: Routes) -> Result<Routes, Error> {
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}
