//! What became of spans, in the words of the SDK.

use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::error::OTelSdkResult;

use crate::Delivery;
use crate::Drained;
use crate::Error;
use crate::ErrorKind;
use crate::Result;

/// Is true success only if every span was accepted that was not to be filtered.
pub(super) fn delivered(
    spans: usize,
    exported: Result<Delivery>,
    limit: Duration,
) -> OTelSdkResult {
    let delivery = match exported {
        Ok(delivery) if delivery.is_complete() => return Ok(()),
        Ok(delivery) => delivery,
        Err(error) => {
            return Err(sdk_error(
                &error,
                &format!("none of {spans} spans delivered"),
                limit,
            ));
        }
    };
    let mut text = format!("{} of {spans} spans delivered", delivery.accepted);
    if delivery.refused > 0 {
        let why = delivery.message.as_deref().unwrap_or("no reason given");
        text = format!("{text}, {} refused: {why}", delivery.refused);
    }
    if delivery.filtered > 0 {
        text = format!("{text}, {} filtered", delivery.filtered);
    }
    if let Some(part) = delivery.rest.first() {
        text = format!(
            "{text}, {} failed: {}",
            delivery.undelivered(),
            part.error.chain()
        );
    }
    Err(OTelSdkError::InternalFailure(text))
}

/// Is true success only if nothing was lost, refused or left.
pub(super) fn drained(result: Result<Drained>, limit: Duration) -> OTelSdkResult {
    match result {
        Ok(drained) if drained.is_complete() => Ok(()),
        Ok(drained) => Err(OTelSdkError::InternalFailure(drained.to_string())),
        Err(error) => Err(sdk_error(
            &error,
            "not all spans are known to be delivered",
            limit,
        )),
    }
}

fn sdk_error(error: &Error, consequence: &str, limit: Duration) -> OTelSdkError {
    match error.kind() {
        ErrorKind::Timeout => OTelSdkError::Timeout(limit),
        ErrorKind::ShutDown => OTelSdkError::AlreadyShutdown,
        _ => OTelSdkError::InternalFailure(format!("{consequence}: {}", error.chain())),
    }
}
