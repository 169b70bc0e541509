//! `outspan convert`: span files from one format to another.

mod encode;
mod output;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outspan::Compression;
use outspan::file::Record;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::timeout;

use self::encode::Encoder;
use self::output::Output;
use self::output::Target;
use crate::arguments::ConvertArguments;
use crate::arguments::FileFormat;
use crate::destination::BROKEN_PIPE;
use crate::screen::Screen;
use crate::screen::Tone;
use crate::screen::start_log;
use crate::send::Input;
use crate::send::Inputs;
use crate::send::Outcome;
use crate::send::Tally;
use crate::signals::Signal;
use crate::signals::Signals;
use crate::units::show_counted;
use crate::units::show_duration;

/// The exit status for wrong usage.
const USAGE: u8 = 2;

/// How long a conversion that is interrupted may take to notice it. One that waits for its input never does.
const NOTICE_LIMIT: Duration = Duration::from_millis(500);

/// Runs the command.
pub(crate) fn run(arguments: ConvertArguments) -> ExitCode {
    let screen = Screen::new(arguments.color, arguments.quiet);
    start_log(&screen, 0);
    let status = Plan::new(&arguments).and_then(|plan| plan.carry_out(&screen));
    ExitCode::from(status.unwrap_or_else(|message| {
        screen.tell(Tone::Error, message);
        USAGE
    }))
}

/// Everything that can be wrong was checked, and nothing was written.
struct Plan {
    input: Input,
    from_format: Option<FileFormat>,
    target: Target,
    encoder: Encoder,
    is_strict: bool,
}

impl Plan {
    fn new(arguments: &ConvertArguments) -> Result<Self, String> {
        let inputs = Inputs::check(std::slice::from_ref(&arguments.input))?;
        let is_stdout = arguments.output.as_os_str() == "-";
        let (format, compression) = match is_stdout {
            true => (None, Compression::None),
            false => FileFormat::of_name(&name_of(&arguments.output)),
        };
        let format = arguments.to_format.or(format).ok_or_else(|| {
            format!(
                "{} does not tell the format: add --to-format",
                match is_stdout {
                    true => "standard output".to_owned(),
                    false => format!("the name {}", arguments.output.display()),
                }
            )
        })?;
        let target = match is_stdout {
            true => Target::Stdout,
            false => Target::file(&arguments.output, arguments.force)?,
        };
        if inputs.contains(&arguments.output) {
            return Err(format!(
                "{} is read and written at the same time",
                arguments.output.display()
            ));
        }
        let input = inputs.inputs.into_iter().next();
        Ok(Self {
            input: input.ok_or("there is nothing to read")?,
            from_format: arguments.from_format,
            target: target.compressed(compression),
            encoder: Encoder::new(format, arguments.dialect),
            is_strict: arguments.strict,
        })
    }

    fn carry_out(self, screen: &Screen) -> Result<u8, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("cannot start: {e}"))?;
        let from = self.input.to_string();
        let to = self.target.to_string();
        let status = runtime.block_on(async {
            let mut signals = Signals::listen().map_err(|e| format!("cannot start: {e}"))?;
            let output = Output::open(self.target)?;
            let cleaner = output.cleaner();
            let stop = Arc::new(AtomicBool::new(false));
            let conversion = Conversion {
                input: self.input,
                from_format: self.from_format,
                encoder: self.encoder,
                output,
                is_strict: self.is_strict,
                stop: Arc::clone(&stop),
                tally: Tally::default(),
            };
            let mut ended = conversion.start()?;
            let interrupted = tokio::select! {
                ended = &mut ended => return Ok(report(screen, &from, &to, ended)),
                signal = signals.next() => signal,
            };
            stop.store(true, Ordering::Relaxed);
            let ended = timeout(NOTICE_LIMIT, ended).await;
            if let Ok(Ok(ended)) = ended
                && ended.end == End::Complete
            {
                // It was over before it noticed.
                return Ok(report(screen, &from, &to, Ok(ended)));
            }
            cleaner.clean();
            Ok(report_interrupted(screen, &to, interrupted))
        });
        // A thread that waits for its input is not waited for.
        runtime.shutdown_background();
        status
    }
}

/// One conversion, on a thread of its own.
struct Conversion {
    input: Input,
    from_format: Option<FileFormat>,
    encoder: Encoder,
    output: Output,
    is_strict: bool,
    stop: Arc<AtomicBool>,
    tally: Tally,
}

/// What a conversion left behind.
struct Ended {
    end: End,
    tally: Tally,
    /// What was read, such as Zipkin JSON.
    format: Option<String>,
    took: Duration,
}

/// Says how a conversion ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Everything was read; what could be written is.
    Complete,
    /// It was told to stop, or should stop at what is bad. Nothing is left of it.
    Stopped,
    /// Whoever read standard output has gone.
    ReaderGone,
    /// The output does not take any more, in words.
    Failed(String),
}

impl Conversion {
    fn start(self) -> Result<oneshot::Receiver<Ended>, String> {
        let (sender, receiver) = oneshot::channel();
        let thread = std::thread::Builder::new().name("outspan-convert".into());
        thread
            .spawn(move || {
                // Nobody waits any more if the program was interrupted.
                drop(sender.send(self.run()));
            })
            .map_err(|e| format!("cannot start: {e}"))?;
        Ok(receiver)
    }

    fn run(mut self) -> Ended {
        let began = Instant::now();
        let mut format = None;
        let end = match self.convert(&mut format) {
            Ok(true) => self.finish(),
            Ok(false) => End::Stopped,
            Err(error) => end_of(&error),
        };
        if end != End::Complete {
            self.output.cleaner().clean();
        }
        Ended {
            end,
            tally: self.tally,
            format,
            took: began.elapsed(),
        }
    }

    /// Converts record by record; says whether it got to the end.
    fn convert(&mut self, format: &mut Option<String>) -> io::Result<bool> {
        let file = self.input.open(self.from_format.map(FileFormat::to_read));
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                self.tally.bad_record(&error.chain().to_string());
                return Ok(!self.is_strict);
            }
        };
        *format = Some(file.format().to_string());
        for record in file {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            match record {
                Ok(record) => self.write(&record)?,
                Err(error) => {
                    self.tally.bad_record(&error.chain().to_string());
                    if self.is_strict {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        let checked = &record.checked;
        let valid = checked.batch.spans() as u64;
        let invalid = checked.refused as u64;
        self.tally.record(valid, invalid, checked.reason.as_deref());
        let written = self.encoder.write(&checked.batch, &mut self.output)?;
        self.tally.delivered += written.spans;
        if let Some(reason) = written.first_left_out {
            self.tally.fail(valid - written.spans, &reason);
        }
        Ok(())
    }

    fn finish(&mut self) -> End {
        let finished = self
            .encoder
            .finish(&mut self.output)
            .and_then(|()| self.output.finish());
        match finished {
            Ok(()) => End::Complete,
            Err(error) => end_of(&error),
        }
    }
}

fn end_of(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::BrokenPipe => End::ReaderGone,
        _ => End::Failed(error.to_string()),
    }
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Says what became of everything, and returns the exit status.
fn report(
    screen: &Screen,
    from: &str,
    to: &str,
    ended: Result<Ended, oneshot::error::RecvError>,
) -> u8 {
    let Ok(ended) = ended else {
        screen.tell(
            Tone::Error,
            "the conversion broke down, please report this bug",
        );
        return 1;
    };
    let tally = &ended.tally;
    let is_complete = tally.is_complete();
    match &ended.end {
        End::ReaderGone => return BROKEN_PIPE,
        End::Complete if is_complete => {
            let records = show_counted(tally.records, "record");
            screen.say(format_args!(
                "converted {} from {from} ({}, {records}) to {to} in {}",
                show_counted(tally.delivered, "span"),
                ended.format.as_deref().unwrap_or("nothing"),
                show_duration(ended.took)
            ));
            return 0;
        }
        End::Complete => screen.tell(
            Tone::Error,
            format_args!("not everything was converted from {from} to {to}"),
        ),
        End::Stopped => screen.tell(
            Tone::Error,
            format_args!("stopped at a bad record of {from}: {to} was not written"),
        ),
        End::Failed(why) => {
            screen.tell(Tone::Error, format_args!("cannot write {to}: {why}"));
        }
    }
    screen.write(format_args!("{}", show_outcomes(tally, &ended.end)));
    1
}

fn report_interrupted(screen: &Screen, to: &str, signal: Signal) -> u8 {
    screen.tell(Tone::Error, format_args!("{signal}: {to} was not written"));
    signal.exit_status()
}

/// What was read and what became of it, a line each, with the reasons below.
fn show_outcomes(tally: &Tally, end: &End) -> String {
    let written = match end {
        End::Complete => tally.delivered,
        _ => 0,
    };
    let mut out = format!(
        "  {} read\n  {} written\n",
        show_counted(tally.read, "span"),
        show_counted(written, "span")
    );
    for (count, noun, what, outcome) in [
        (tally.failed, "span", "left out", Outcome::Failed),
        (tally.invalid, "span", "invalid, left out", Outcome::Invalid),
        (tally.bad_records, "record", "bad, left out", Outcome::Bad),
    ] {
        if count > 0 {
            out += &format!("  {} {what}\n", show_counted(count, noun));
            tally.reasons.write(&mut out, outcome);
        }
    }
    out
}
