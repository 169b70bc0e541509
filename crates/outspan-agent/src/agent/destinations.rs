//! From arguments to settings, and from those to destinations.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use outspan::Exporter;
use outspan::Retry;
use outspan::Runtime;
use outspan::engine::AckLevel;
use outspan::engine::BatchLimits;
use outspan::engine::MemoryQueue;
use outspan::engine::MemoryQueueBuilder;

use crate::arguments::AckArgument;
use crate::arguments::AgentArguments;
use crate::arguments::DestinationArguments;
use crate::arguments::Given;
use crate::arguments::ReceivingArguments;
use crate::destination;
use crate::destination::ReaderGone;
use crate::destination::exporter;
use crate::destination::exporter::DestinationFiles;
use crate::destination::exporter::Look;
use crate::pipeline::Causes;
use crate::pipeline::Pipeline;
use crate::receivers;
use crate::receivers::ACK_TIMEOUT;
use crate::receivers::AckSettings;
use crate::receivers::Listen;
use crate::receivers::TlsFiles;
use crate::receivers::Tokens;
#[cfg(feature = "kafka")]
use crate::receivers::kafka::Subscription;
use crate::units::show_bytes;

use super::MEMORY_MIN;
use super::Settings;
use super::memory::Division;

/// How many destinations there may be. Each has its share of memory, which has to be of use.
const DESTINATIONS_MAX: usize = 64;

/// Where an agent listens unless told: where programs send to unless told.
const LISTEN: [&str; 2] = ["grpc://localhost:4317", "http://localhost:4318"];

/// The first wait before trying again: a backend that restarts is back soon, and only one export at a time tries.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How much of the bound of memory trees take that wait for the rest of their spans: of the quarter for everything else.
const TREES_SHARE: usize = 16;

/// Of the time that an answer waits, how much a tree may wait for the rest of its spans.
const TREES_WAIT_SHARE: u32 = 2;

/// Holds an exporter and how it is to be used.
#[derive(Debug)]
pub(crate) struct Target {
    /// The address as it may be shown.
    pub(crate) name: String,
    pub(crate) exporter: Exporter,
    /// Where the exporter and its queue run.
    pub(crate) runtime: Runtime,
    /// How many batches may be on the way.
    pub(crate) concurrent_exports: usize,
    /// How long an attempt may take.
    pub(crate) attempt_timeout: Option<Duration>,
    /// How long a batch is tried.
    pub(crate) export_limit: Option<Duration>,
    /// The waits between attempts.
    pub(crate) retry: Retry,
    /// The files that hold its certificates and tokens.
    pub(crate) files: Option<DestinationFiles>,
}

impl Target {
    /// Describes the reader of the queue that serves it, which may hold `bytes`. The causes of what it loses are known besides.
    fn reader(self, bytes: usize) -> (MemoryQueueBuilder, Causes) {
        let causes = Causes::default();
        let noted = causes.clone();
        let reader = MemoryQueue::builder(causes.around(self.exporter))
            .on_drop(move |event| noted.note(event))
            .name(self.name)
            .bytes(bytes)
            .concurrent_exports(self.concurrent_exports)
            .attempt_timeout(self.attempt_timeout)
            .export_limit(self.export_limit)
            .retry(self.retry)
            .take_turns()
            .runtime(self.runtime);
        (reader, causes)
    }
}

/// Starts the queue of a pipeline. Each of its readers may hold `bytes`.
///
/// # Errors
///
/// Words for the user.
pub(super) fn start_pipeline(
    targets: Vec<Target>,
    bytes: usize,
    batches: BatchLimits,
) -> Result<Pipeline, String> {
    let (readers, causes): (Vec<_>, Vec<_>) =
        targets.into_iter().map(|to| to.reader(bytes)).unzip();
    let readers = readers.into_iter().reduce(MemoryQueueBuilder::with_reader);
    let builder = readers.ok_or("there is no destination: give --to")?;
    let queue = builder.batches(batches).start();
    let queue = queue.map_err(|e| format!("cannot start: {}", e.chain()))?;
    Ok(Pipeline::new(queue).with_causes(causes))
}

impl Settings {
    /// Reads the command line; everything that can be wrong is found here. `reader` is told when whoever reads standard
    /// output goes away. Exporters and queues will run on `runtime`.
    ///
    /// # Errors
    ///
    /// Words for the user.
    pub(crate) fn new(
        arguments: &AgentArguments,
        reader: &ReaderGone,
        runtime: &Runtime,
    ) -> Result<Self, String> {
        if arguments.memory < MEMORY_MIN {
            return Err(format!(
                "--memory {} is too small to work with: {} at least",
                show_bytes(arguments.memory as u64),
                show_bytes(MEMORY_MIN as u64)
            ));
        }
        let (kafka, others) = apart(&arguments.receiving.listen);
        let listen = match arguments.receiving.listen.is_empty() {
            true => listen(&LISTEN)?,
            false => listen(&others)?,
        };
        #[cfg(not(feature = "kafka"))]
        check_kafka(&kafka)?;
        let receiving = receiving(arguments, &listen)?;
        let is_waited_for = receiving.acks.level == AckLevel::Delivered;
        let look = Look {
            colours: arguments.color,
            trees_bytes: Some(arguments.memory / TREES_SHARE),
            trees_max_wait: is_waited_for.then(|| receiving.acks.timeout / TREES_WAIT_SHARE),
        };
        if is_waited_for && receiving.acks.timeout <= arguments.batches.batch_delay {
            tracing::warn!(
                target: "outspan",
                "an answer waits no longer (--ack-timeout) than spans wait for others to go with (--batch-delay): \
                 senders are told to send again although the spans are delivered"
            );
        }
        Ok(Self {
            receiving,
            listen,
            #[cfg(feature = "kafka")]
            subscriptions: subscriptions(&kafka)?,
            targets: targets(&arguments.to.targets, look, reader, runtime)?,
            batches: BatchLimits {
                spans: arguments.batches.batch_spans as usize,
                bytes: arguments.batches.batch_bytes,
                delay: arguments.batches.batch_delay,
            },
            memory: arguments.memory,
        })
    }
}

/// What of the values of `--listen` is of Kafka, and the others.
fn apart(given: &[String]) -> (Vec<&str>, Vec<&str>) {
    let is_kafka = |text: &&str| text.to_ascii_lowercase().starts_with("kafka:");
    given.iter().map(String::as_str).partition(is_kafka)
}

fn listen(given: &[&str]) -> Result<Vec<Listen>, String> {
    let parse = |text: &&str| Listen::parse(text).map_err(|e| format!("--listen: {e}"));
    given.iter().map(parse).collect()
}

#[cfg(not(feature = "kafka"))]
fn check_kafka(kafka: &[&str]) -> Result<(), String> {
    match kafka {
        [] => Ok(()),
        _ => Err(format!("--listen: {}", destination::WITHOUT_KAFKA)),
    }
}

#[cfg(feature = "kafka")]
fn subscriptions(kafka: &[&str]) -> Result<Vec<Subscription>, String> {
    let rests = kafka
        .iter()
        .map(|text| text.split_once(':').map_or("", |(_, rest)| rest));
    rests
        .map(|rest| Subscription::parse(rest).map_err(|e| format!("--listen: {e}")))
        .collect()
}

fn receiving(arguments: &AgentArguments, listen: &[Listen]) -> Result<receivers::Settings, String> {
    let acks = acks(
        &arguments.receiving,
        arguments.memory,
        arguments.to.targets.len(),
    )?;
    let arguments = &arguments.receiving;
    Ok(receivers::Settings {
        max_request_bytes: arguments.max_request_size,
        request_timeout: arguments.request_timeout,
        max_connections: arguments.max_connections.unwrap_or(u32::MAX) as usize,
        max_connection_age: arguments.max_connection_age,
        cors_origins: arguments.cors_origin.clone(),
        tokens: Tokens::parse(&arguments.listen_token)
            .map_err(|e| format!("--listen-token: {e}"))?,
        tls: tls(arguments, listen)?,
        acks,
    })
}

/// When senders get their answers.
fn acks(
    arguments: &ReceivingArguments,
    memory: usize,
    destinations: usize,
) -> Result<AckSettings, String> {
    let is_delivered = arguments.ack == AckArgument::Delivered;
    let without_meaning = [
        ("--ack-timeout", arguments.ack_timeout.is_some()),
        (
            "--max-waiting-answers",
            arguments.max_waiting_answers.is_some(),
        ),
    ];
    if let Some((option, _)) = without_meaning.iter().find(|(_, is_given)| *is_given)
        && !is_delivered
    {
        return Err(format!(
            "{option} has no meaning here: it needs --ack delivered"
        ));
    }
    let division = Division::of(memory, destinations);
    let given = arguments.max_waiting_answers.map(|given| given as usize);
    Ok(AckSettings {
        level: match arguments.ack {
            AckArgument::Queued => AckLevel::Queued,
            AckArgument::Delivered => AckLevel::Delivered,
        },
        timeout: arguments.ack_timeout.unwrap_or(ACK_TIMEOUT),
        max_waiting: given.unwrap_or(division.waiting_answers),
        max_bytes: division.queue,
    })
}

fn tls(arguments: &ReceivingArguments, listen: &[Listen]) -> Result<Option<TlsFiles>, String> {
    let is_secure = listen.iter().any(|listen| listen.is_secure);
    let (Some(certificate), Some(key)) = (&arguments.listen_cert, &arguments.listen_key) else {
        return match is_secure {
            true => Err(
                "--listen grpcs://, https:// and the like need --listen-cert and --listen-key"
                    .to_owned(),
            ),
            false => Ok(None),
        };
    };
    if !is_secure {
        return Err(
            "--listen-cert has no meaning here: it needs --listen grpcs:// or https://".to_owned(),
        );
    }
    Ok(Some(TlsFiles {
        certificate: certificate.clone(),
        key: key.clone(),
        client_authorities: arguments.listen_client_ca.clone(),
    }))
}

/// A destination with the options that hold for it.
struct Chosen {
    destination: destination::Destination,
    options: DestinationArguments,
}

fn targets(
    given: &[Given],
    look: Look,
    reader: &ReaderGone,
    runtime: &Runtime,
) -> Result<Vec<Target>, String> {
    if given.len() > DESTINATIONS_MAX {
        return Err(format!(
            "{} destinations are too many: {DESTINATIONS_MAX} at most",
            given.len()
        ));
    }
    let chosen = choose(given)?;
    check_apart(&chosen)?;
    let names = names(&chosen);
    let targets = chosen.iter().zip(names);
    targets
        .map(|(chosen, name)| target(chosen, name, look, reader, runtime))
        .collect()
}

/// Finds out which options hold for which destination; each has to hold for one at least.
fn choose(given: &[Given]) -> Result<Vec<Chosen>, String> {
    let mut chosen = Vec::new();
    // How many destinations have no use for an option that was given for all.
    let mut useless = HashMap::new();
    for given in given {
        let destination =
            destination::Destination::parse(&given.to).map_err(|e| format!("--to: {e}"))?;
        let in_words = |e| format!("{destination}: {e}");
        let all = given.options(|_| false).map_err(in_words)?;
        let meaningless = exporter::meaningless(&destination, &all);
        if let Some(own) = meaningless
            .iter()
            .find(|option| given.has_own(&option.id()))
        {
            return Err(format!("{destination}: {own}"));
        }
        for option in &meaningless {
            *useless.entry(*option).or_insert(0_usize) += 1;
        }
        let left_out: Vec<String> = meaningless.iter().map(|option| option.id()).collect();
        let options = given
            .options(|id| left_out.iter().any(|left_out| left_out == id))
            .map_err(in_words)?;
        chosen.push(Chosen {
            destination,
            options,
        });
    }
    match useless.iter().find(|(_, count)| **count == given.len()) {
        Some((option, _)) => Err(option.to_string()),
        None => Ok(chosen),
    }
}

/// Checks that no two destinations write to the same place.
fn check_apart(chosen: &[Chosen]) -> Result<(), String> {
    let mut has_stdout = false;
    let mut files: Vec<PathBuf> = Vec::new();
    for Chosen { destination, .. } in chosen {
        match destination {
            destination::Destination::Stdout(_) if has_stdout => {
                return Err(
                    "two destinations write to standard output: leave one of them out".into(),
                );
            }
            destination::Destination::Stdout(_) => has_stdout = true,
            destination::Destination::File(file) => {
                // A path that cannot be made absolute cannot be opened either, which says so.
                let path = std::path::absolute(&file.path).unwrap_or_else(|_| file.path.clone());
                if files.contains(&path) {
                    return Err(format!(
                        "two destinations write to {destination}: leave one of them out"
                    ));
                }
                files.push(path);
            }
            // On the network everybody may send to the same place.
            _ => {}
        }
    }
    Ok(())
}

/// Names the destinations by their addresses, with a number where two have the same, as those with other headers do.
fn names(chosen: &[Chosen]) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let names = chosen.iter().map(|chosen| {
        let name = chosen.destination.to_string();
        let number = seen.entry(name.clone()).or_insert(0);
        *number += 1;
        match number {
            1 => name,
            number => format!("{name} ({number})"),
        }
    });
    names.collect()
}

fn target(
    chosen: &Chosen,
    name: String,
    look: Look,
    reader: &ReaderGone,
    runtime: &Runtime,
) -> Result<Target, String> {
    let Chosen {
        destination,
        options,
    } = chosen;
    let mut exporter = exporter::build(destination, options, look, runtime)
        .map_err(|e| format!("{destination}: {e}"))?;
    if matches!(destination, destination::Destination::Stdout(_)) {
        exporter = reader.around(exporter);
    }
    Ok(Target {
        files: DestinationFiles::of(&name, destination, options),
        name,
        exporter,
        runtime: runtime.clone(),
        concurrent_exports: exporter::concurrency(destination, options),
        attempt_timeout: exporter::attempt_timeout(destination, options),
        export_limit: options.otlp.max_elapsed,
        retry: Retry::default()
            .initial_interval(FIRST_WAIT)
            .max_retries(options.otlp.retries),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::Arguments;
    use crate::arguments::Command;

    fn settings(line: &str) -> Result<Settings, String> {
        let line = format!("outspan agent {line}");
        let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();
        match arguments.command {
            Command::Agent(agent) => Settings::new(&agent, &ReaderGone::new(), &Runtime::shared()),
            other => panic!("{other:?}"),
        }
    }

    fn error(line: &str) -> String {
        settings(line).map(|_| ()).unwrap_err()
    }

    fn names_of(line: &str) -> Vec<String> {
        let settings = settings(line).unwrap();
        settings.targets.into_iter().map(|to| to.name).collect()
    }

    #[test]
    fn an_agent_listens_where_programs_send_to() {
        let settings = settings("--to grpc://x").unwrap();
        let ports: Vec<_> = settings.listen.iter().map(|listen| listen.port).collect();
        assert_eq!(ports, [4317, 4318]);
        assert!(
            settings
                .listen
                .iter()
                .all(|listen| listen.host == "localhost")
        );
    }

    #[test]
    fn each_destination_is_used_as_its_kind_is() {
        let settings = settings(
            "--concurrency 9 --to grpc://x --to stdout:compact --to http://y --concurrency 2",
        )
        .unwrap();
        let exports: Vec<_> = settings
            .targets
            .iter()
            .map(|to| to.concurrent_exports)
            .collect();
        assert_eq!(exports, [9, 1, 2]);
        let timeouts: Vec<_> = settings
            .targets
            .iter()
            .map(|to| to.attempt_timeout)
            .collect();
        let ten = Some(Duration::from_secs(10));
        assert_eq!(timeouts, [ten, None, ten]);
    }

    #[test]
    fn destinations_of_the_same_address_have_names_of_their_own() {
        let names = names_of("--to grpc://x --header a=1 --to grpc://y --to grpc://x --header a=2");
        assert_eq!(names, ["grpc://x", "grpc://y", "grpc://x (2)"]);
    }

    #[test]
    fn an_option_for_all_holds_for_those_it_has_a_meaning_for() {
        assert_eq!(
            names_of("--header a=b --attributes --to grpc://x --to stdout:").len(),
            2
        );
        let nobody = error("--attributes --to grpc://x --to stdout:json");
        assert_eq!(
            nobody,
            "--attributes has no meaning here: it needs the trees of stdout:"
        );
        let own = error("--to grpc://x --to stdout: --header a=b");
        assert_eq!(
            own,
            "standard output: --header has no meaning here: it needs a destination over gRPC or HTTP"
        );
        let levels = "--compression-level 3 --to grpc://x --to grpc://y --compression gzip";
        assert_eq!(names_of(levels).len(), 2);
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        for (line, text) in [
            ("--to localhost:4317", "did you mean grpc://localhost:4317?"),
            ("--to grpc://x --listen ftp://x", "--listen: "),
            ("--to grpc://x --memory 8MiB", "16.0 MiB at least"),
            ("--to stdout: --to stdout:json", "two destinations"),
            (
                "--to grpc://x --listen grpcs://localhost:0",
                "--listen-cert",
            ),
            (
                "--to grpc://x --listen-cert c --listen-key k",
                "--listen-cert has no meaning",
            ),
            ("--to grpcs://x --cert c.pem", "grpcs://x: "),
            ("--to grpcs://x --ca /no/such.pem", "/no/such.pem"),
            ("--to grpc://x --header s3cret", "NAME=VALUE"),
            ("--to grpc://x --ack-timeout 1s", "it needs --ack delivered"),
            (
                "--to grpc://x --ack queued --max-waiting-answers 3",
                "it needs --ack delivered",
            ),
        ] {
            let error = error(line);
            assert!(error.contains(text), "{line}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        let many = "--to grpc://x ".repeat(65);
        assert!(error(&many).contains("64 at most"));
    }

    #[test]
    fn two_files_of_one_path_are_found_however_they_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.pb");
        let path = path.display();
        let twice = error(&format!("--to file:{path} --to file://{path}"));
        assert!(twice.contains("two destinations write to"), "{twice}");
    }
}
