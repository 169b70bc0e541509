//! `outspan completions` and `outspan man`: the command line, told to shells and to readers of manuals.

use std::io;
use std::io::Write;
use std::process::ExitCode;

use clap::Command;
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::Roff;
use clap_mangen::roff::roman;

use crate::arguments::Arguments;
use crate::arguments::CompletionsArguments;
use crate::arguments::ManArguments;
use crate::arguments::When;
use crate::destination::BROKEN_PIPE;
use crate::screen::Screen;
use crate::screen::Tone;

const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// Writes what a shell wants to know.
pub(crate) fn complete(arguments: &CompletionsArguments) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "outspan",
        &mut script,
    );
    print(&script)
}

/// Writes a page of the manual.
pub(crate) fn describe(arguments: &ManArguments) -> ExitCode {
    match page(arguments.command.as_deref()) {
        Ok(page) => print(&page),
        Err(message) => {
            Screen::new(When::Auto, false).tell(Tone::Error, message);
            ExitCode::from(USAGE)
        }
    }
}

/// The page about a command, or about the program.
fn page(name: Option<&str>) -> Result<Vec<u8>, String> {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    let command = match name {
        None => program,
        Some(name) => named(&program, name)?,
    };
    let mut page = Vec::new();
    render(command, &mut page).expect("writing to memory does not fail");
    Ok(page)
}

/// Writes a page; what the help has below the options keeps its lines, because much of it is tables.
fn render(command: Command, page: &mut Vec<u8>) -> io::Result<()> {
    let below = command.get_after_help().map(ToString::to_string);
    let has_commands = command.has_subcommands();
    let man = Man::new(command)
        .source(concat!("outspan ", env!("CARGO_PKG_VERSION")))
        .manual("Outspan");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if has_commands {
        man.render_subcommands_section(page)?;
    }
    sections(&below.unwrap_or_default()).to_writer(page)
}

/// Turns paragraphs into sections, each under its first line where that ends in a colon.
fn sections(help: &str) -> Roff {
    let mut roff = Roff::new();
    for paragraph in help.split("\n\n").filter(|text| !text.is_empty()) {
        let (title, text) = match paragraph.split_once(":\n") {
            Some((title, text)) if !title.contains('\n') => (title.to_uppercase(), text),
            _ => ("NOTES".to_owned(), paragraph),
        };
        roff.control("SH", [title.as_str()]);
        roff.control("nf", []);
        for line in text.lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    roff
}

/// A command of the program by its name.
fn named(program: &Command, name: &str) -> Result<Command, String> {
    let command = program.find_subcommand(name).cloned();
    command.ok_or_else(|| {
        let names: Vec<&str> = program.get_subcommands().map(Command::get_name).collect();
        format!(
            "there is no command \"{name}\", take one of {}",
            names.join(", ")
        )
    })
}

/// Writes to standard output, and says how that went.
fn print(text: &[u8]) -> ExitCode {
    let mut output = io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(BROKEN_PIPE),
        Err(error) => {
            let message = format!("cannot write to standard output: {error}");
            Screen::new(When::Auto, false).tell(Tone::Error, message);
            ExitCode::from(FAILED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_below_the_help_are_sections_and_keep_their_lines() {
        let help = "Exit status:\n  0  good\n  1  bad\n\nNobody knows.\n.dots stay";
        let text = sections(help).to_roff();
        let expected = ".SH \"EXIT STATUS\"\n.nf\n  0  good\n  1  bad\n.fi\n.SH NOTES\n.nf\nNobody knows.\n\\&.dots stay\n.fi\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn each_command_has_a_page_that_names_it() {
        for command in Arguments::command().get_subcommands() {
            let page = page(Some(command.get_name())).expect("it is a command");
            let page = String::from_utf8(page).expect("a page is text");
            let name = format!("outspan\\-{} \\-", command.get_name());
            assert!(page.contains(&name), "{page}");
            assert!(page.contains(".SH OPTIONS"), "{page}");
        }
    }

    #[test]
    fn what_is_no_command_is_refused_with_those_there_are() {
        let message = page(Some("agnet")).expect_err("there is no such command");
        assert!(message.contains("\"agnet\""), "{message}");
        assert!(message.contains("agent, completions, convert"), "{message}");
    }
}
