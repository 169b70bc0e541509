//! The OpenTelemetry Protocol: `ExportTraceServiceRequest` in protobuf and JSON.
