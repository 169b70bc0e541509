//! What exporters that write share: errors in words, and deliveries of a part.

use std::io;

use crate::Attempt;
use crate::Batch;
use crate::Delivery;
use crate::Error;
use crate::Result;

/// Puts a failed write into words. `what` names the target, such as `standard output` or a path.
pub(crate) fn write_error(what: &str, error: io::Error) -> Error {
    let (advice, is_temporary) = match error.kind() {
        io::ErrorKind::BrokenPipe => (": whoever read it has gone", false),
        io::ErrorKind::StorageFull => (": the disk is full, make room", true),
        io::ErrorKind::QuotaExceeded => (": the disk quota is used up, make room", true),
        io::ErrorKind::FileTooLarge => (": the file may not grow any more, use another", false),
        io::ErrorKind::ReadOnlyFilesystem => (": the file system is read-only", false),
        io::ErrorKind::PermissionDenied => (": permission denied", false),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => ("", false),
        _ => ("", true),
    };
    Error::unavailable(format!("cannot write spans to {what}{advice}"))
        .with_temporary(is_temporary)
        .with_attempt(Attempt::one())
        .with_source(error)
}

/// Makes the delivery of the first `accepted` spans of `batch`, the others left with their error.
pub(crate) fn delivered_up_to(batch: &Batch, accepted: usize, error: Error) -> Result<Delivery> {
    if accepted == 0 {
        return Err(error);
    }
    let mut delivery = Delivery {
        accepted: accepted as u64,
        ..Delivery::default()
    };
    if accepted >= batch.spans() {
        delivery.attempt.attempts = 1;
        return Ok(delivery);
    }
    delivery.leave(batch.cut(accepted..batch.spans()), error);
    Ok(delivery)
}

#[cfg(test)]
mod tests {
    use io::ErrorKind;

    use super::*;

    #[test]
    fn what_can_pass_is_temporary_and_what_can_be_done_is_said() {
        for (kind, advice, is_temporary) in [
            (ErrorKind::BrokenPipe, "whoever read it has gone", false),
            (ErrorKind::StorageFull, "the disk is full", true),
            (ErrorKind::QuotaExceeded, "the disk quota", true),
            (ErrorKind::FileTooLarge, "use another", false),
            (ErrorKind::ReadOnlyFilesystem, "is read-only", false),
            (ErrorKind::PermissionDenied, "permission denied", false),
            (ErrorKind::InvalidInput, "spans to t.pb", false),
            (ErrorKind::Unsupported, "spans to t.pb", false),
            (ErrorKind::Other, "spans to t.pb", true),
        ] {
            let error = write_error("t.pb", kind.into());
            assert_eq!(error.is_temporary(), is_temporary, "{kind:?}");
            let words = error.to_string();
            assert!(words.contains("cannot write spans to t.pb"), "{words}");
            assert!(words.contains(advice), "{words}");
        }
    }
}
