//! The names of tags and attributes that have a meaning.
//!
//! Sources: "OpenTelemetry to Zipkin" and "Mapping to non-OTLP formats" of the OpenTelemetry specification, the
//! documentation of the Collector's Zipkin exporter and receiver, and the semantic conventions.

pub(super) const SERVICE_NAME: &str = "service.name";
pub(super) const STATUS_CODE: &str = "otel.status_code";
pub(super) const STATUS_DESCRIPTION: &str = "otel.status_description";
pub(super) const ERROR: &str = "error";
pub(super) const TRACE_STATE: &str = "w3c.tracestate";
pub(super) const SPAN_KIND: &str = "span.kind";
/// The Collector writes the former under the name of the latter, which it had before version 1.21 of the conventions, as well.
pub(super) const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
pub(super) const HTTP_STATUS_CODE: &str = "http.status_code";
pub(super) const SPAN_KIND_INTERNAL: &str = "internal";
pub(super) const SCOPE_NAME: &str = "otel.scope.name";
pub(super) const SCOPE_VERSION: &str = "otel.scope.version";
pub(super) const LIBRARY_NAME: &str = "otel.library.name";
pub(super) const LIBRARY_VERSION: &str = "otel.library.version";
pub(super) const DROPPED_ATTRIBUTES: &str = "otel.dropped_attributes_count";
pub(super) const DROPPED_EVENTS: &str = "otel.dropped_events_count";
pub(super) const DROPPED_LINKS: &str = "otel.dropped_links_count";
/// Before the number of the link.
pub(super) const LINK_PREFIX: &str = "otlp.link.";
/// Before the attributes of a resource that say which SDK made its spans.
pub(super) const SDK_PREFIX: &str = "telemetry.sdk.";
/// Names the resource attribute that the service's name comes from, in the Collector's dialect.
pub(super) const SERVICE_NAME_SOURCE: &str = "otlp.service.name.source";
/// Ours: what the other tags do not say; `marks` has its grammar.
pub(super) const MARKS: &str = "outspan.otlp";

/// Ours: attributes for what OTLP has no field for.
pub(super) const SHARED: &str = "zipkin.shared";
pub(super) const DEBUG: &str = "zipkin.debug";

pub(super) const LOCAL_ADDRESS: &str = "network.local.address";
pub(super) const LOCAL_PORT: &str = "network.local.port";
pub(super) const HOST_PORT: &str = "net.host.port";
pub(super) const SERVICE_PEER_NAME: &str = "service.peer.name";
pub(super) const PEER_SERVICE: &str = "peer.service";
pub(super) const PEER_ADDRESS: &str = "network.peer.address";
pub(super) const PEER_PORT: &str = "network.peer.port";
pub(super) const NET_PEER_PORT: &str = "net.peer.port";

/// What a resource without a name is called, by the specification's default resource.
pub(super) const UNKNOWN_SERVICE: &str = "unknown_service";
/// And by the Collector.
pub(super) const NO_SERVICE_NAME: &str = "OTLPResourceNoServiceName";

/// Where the Collector takes a service's name from, in this order.
pub(super) const SERVICE_NAME_SOURCES: [&str; 4] = [
    SERVICE_NAME,
    "faas.name",
    "k8s.deployment.name",
    "process.executable.name",
];

/// What tells the other side of a call, the best first: where its name or address is, and where its port.
pub(super) const REMOTE_RANKS: [RemoteRank; 11] = [
    RemoteRank::name(PEER_SERVICE),
    RemoteRank::name("server.address"),
    RemoteRank::name("net.peer.name"),
    RemoteRank::address(PEER_ADDRESS, PEER_PORT),
    RemoteRank::name("server.socket.domain"),
    RemoteRank::address("server.socket.address", "server.socket.port"),
    RemoteRank::name("net.sock.peer.name"),
    RemoteRank::address("net.sock.peer.addr", "net.sock.peer.port"),
    RemoteRank::name("peer.hostname"),
    RemoteRank::name("peer.address"),
    RemoteRank::name("db.name"),
];

/// An attribute that tells the other side of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct RemoteRank {
    pub(super) key: &'static str,
    /// The attribute with the port, if the first one is an IP address.
    pub(super) port: Option<&'static str>,
}

impl RemoteRank {
    const fn name(key: &'static str) -> Self {
        Self { key, port: None }
    }

    const fn address(key: &'static str, port: &'static str) -> Self {
        Self {
            key,
            port: Some(port),
        }
    }
}

/// Tells whether a tag of this name is read as something else than an attribute of the span.
#[inline]
pub(super) fn is_read_specially(key: &[u8]) -> bool {
    match key {
        [b'o', b't', b'e' | b'l', ..] => {
            key.starts_with(b"otel.")
                || key.starts_with(LINK_PREFIX.as_bytes())
                || key == SERVICE_NAME_SOURCE.as_bytes()
        }
        [b'e', ..] => key == ERROR.as_bytes(),
        [b'w', b'3', ..] => key == TRACE_STATE.as_bytes(),
        [b's', b'p', ..] => key == SPAN_KIND.as_bytes(),
        [b'z', ..] => key == SHARED.as_bytes() || key == DEBUG.as_bytes(),
        _ => is_about_resource(key),
    }
}

/// Tells whether an attribute of this name describes a resource, by the semantic conventions.
#[inline]
pub(super) fn is_about_resource(key: &[u8]) -> bool {
    let may_be = match key.first() {
        Some(b'a') => key.starts_with(b"aws."),
        Some(b'c') => key.starts_with(b"cloud.") || key.starts_with(b"container."),
        Some(b'd') => key.starts_with(b"deployment.") || key.starts_with(b"device."),
        Some(b'f') => key.starts_with(b"faas."),
        Some(b'h') => key.starts_with(b"host."),
        Some(b'k') => key.starts_with(b"k8s."),
        Some(b'o') => key.starts_with(b"os."),
        Some(b'p') => key.starts_with(b"process."),
        Some(b's') => key.starts_with(b"service."),
        Some(b't') => key.starts_with(b"telemetry."),
        Some(b'w') => key.starts_with(b"webengine."),
        _ => false,
    };
    let search = |known: &&str| known.as_bytes().cmp(key);
    may_be && RESOURCE_KEYS.binary_search_by(search).is_ok()
}

/// Invariant: sorted.
const RESOURCE_KEYS: &[&str] = &[
    "aws.ecs.cluster.arn",
    "aws.ecs.container.arn",
    "aws.ecs.launchtype",
    "aws.ecs.task.arn",
    "aws.ecs.task.family",
    "aws.ecs.task.id",
    "aws.ecs.task.revision",
    "aws.eks.cluster.arn",
    "aws.log.group.arns",
    "aws.log.group.names",
    "aws.log.stream.arns",
    "aws.log.stream.names",
    "cloud.account.id",
    "cloud.availability_zone",
    "cloud.platform",
    "cloud.provider",
    "cloud.region",
    "cloud.resource_id",
    "container.id",
    "container.image.id",
    "container.image.name",
    "container.image.tag",
    "container.image.tags",
    "container.name",
    "container.runtime",
    "deployment.environment",
    "deployment.environment.name",
    "device.id",
    "device.manufacturer",
    "device.model.identifier",
    "device.model.name",
    "faas.id",
    "faas.instance",
    "faas.max_memory",
    "faas.name",
    "faas.version",
    "host.arch",
    "host.id",
    "host.image.id",
    "host.image.name",
    "host.image.version",
    "host.ip",
    "host.mac",
    "host.name",
    "host.type",
    "k8s.cluster.name",
    "k8s.cluster.uid",
    "k8s.container.name",
    "k8s.container.restart_count",
    "k8s.cronjob.name",
    "k8s.cronjob.uid",
    "k8s.daemonset.name",
    "k8s.daemonset.uid",
    "k8s.deployment.name",
    "k8s.deployment.uid",
    "k8s.job.name",
    "k8s.job.uid",
    "k8s.namespace.name",
    "k8s.node.name",
    "k8s.node.uid",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.replicaset.name",
    "k8s.replicaset.uid",
    "k8s.statefulset.name",
    "k8s.statefulset.uid",
    "os.build_id",
    "os.description",
    "os.name",
    "os.type",
    "os.version",
    "process.command",
    "process.command_args",
    "process.command_line",
    "process.executable.name",
    "process.executable.path",
    "process.owner",
    "process.parent_pid",
    "process.pid",
    "process.runtime.description",
    "process.runtime.name",
    "process.runtime.version",
    "service.instance.id",
    "service.name",
    "service.namespace",
    "service.version",
    "telemetry.auto.version",
    "telemetry.distro.name",
    "telemetry.distro.version",
    "telemetry.sdk.language",
    "telemetry.sdk.name",
    "telemetry.sdk.version",
    "webengine.description",
    "webengine.name",
    "webengine.version",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_resource_attributes_are_sorted_and_all_found() {
        assert!(RESOURCE_KEYS.is_sorted());
        for key in RESOURCE_KEYS {
            assert!(is_about_resource(key.as_bytes()), "{key}");
        }
        for key in [
            "http.request.method",
            "process.pi",
            "host",
            "",
            "os.",
            "service.peer.name",
        ] {
            assert!(!is_about_resource(key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn every_tag_with_a_meaning_is_known_to_have_one() {
        for key in [
            STATUS_CODE,
            STATUS_DESCRIPTION,
            ERROR,
            TRACE_STATE,
            SPAN_KIND,
            SCOPE_NAME,
            SCOPE_VERSION,
            LIBRARY_NAME,
            LIBRARY_VERSION,
            DROPPED_ATTRIBUTES,
            DROPPED_EVENTS,
            DROPPED_LINKS,
            "otlp.link.0",
            SERVICE_NAME_SOURCE,
            SHARED,
            DEBUG,
            "host.name",
        ] {
            assert!(is_read_specially(key.as_bytes()), "{key}");
        }
        for key in [
            "http.route",
            "errors",
            "otl",
            "",
            "zipkin",
            "service.peer.name",
        ] {
            assert!(!is_read_specially(key.as_bytes()), "{key}");
        }
    }
}
