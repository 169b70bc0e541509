//! The promises hold for what keeps them: a plain child, and an exporter that tonic made.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::fmt;
use std::future::Future;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan_testkit::Collector;
use outspan_testkit::decode;
use outspan_testkit::promises::CollectorRig;
use outspan_testkit::promises::ScriptedRig;
use tokio::runtime::Runtime;
use tonic::Code;
use tonic::Request;
use tonic::Status;
use tonic::transport::Channel;
use tracing::subscriber::NoSubscriber;
use tracing::subscriber::set_default;

/// The child itself, as combinators get it.
mod a_scripted_exporter {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| child),
        exempt: {
            debug_shows_no_secret: "it is given no secret",
        }
    );
}

/// An exporter of which the interesting half is others' work.
mod an_exporter_on_tonic {
    use super::*;

    outspan_testkit::promises!(
        CollectorRig::new(Collector::grpc(), on_tonic).secret("Bearer hunter2")
    );
}

fn on_tonic(collector: &Collector) -> Exporter {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        // HTTP/2 connections trace themselves; on their own thread nobody listens.
        .on_thread_start(|| std::mem::forget(set_default(NoSubscriber::new())))
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let channel = Channel::from_shared(collector.endpoint()).unwrap();
    Exporter::new(OnTonic {
        channel: channel.connect_lazy(),
        runtime: Some(runtime),
    })
}

struct OnTonic {
    channel: Channel,
    runtime: Option<Runtime>,
}

impl Export for OnTonic {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        if batch.is_empty() {
            return Ok(Delivery::default());
        }
        let mut request = Request::new(decode(&batch));
        let token = "Bearer hunter2".parse().unwrap();
        request.metadata_mut().insert("authorization", token);
        let mut client = TraceServiceClient::new(self.channel.clone());
        let calling = self.spawn(async move { client.export(request).await });
        match until.run(calling).await {
            None => Err(Error::timeout("no answer", until)),
            Some(Ok(_accepted)) => Ok(Delivery::of(&batch)),
            Some(Err(status)) => Err(error_of(&status)),
        }
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

impl OnTonic {
    fn spawn<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> {
        let task = self.runtime.as_ref().unwrap().spawn(call);
        let abort = AbortOnDrop(task.abort_handle());
        async move {
            let _abort = abort;
            task.await.unwrap()
        }
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn error_of(status: &Status) -> Error {
    let kind = match status.code() {
        // Tonic calls a broken connection unknown.
        Code::Unavailable | Code::Unknown => ErrorKind::Unavailable,
        _ => ErrorKind::Refused,
    };
    Error::new(kind, format!("{:?}: {}", status.code(), status.message()))
}

impl fmt::Debug for OnTonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnTonic")
    }
}

impl Drop for OnTonic {
    /// A runtime may not be dropped where a runtime runs.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
