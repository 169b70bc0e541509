//! The command lines of `outspan completions` and `outspan man`.

use clap::Args;
use clap_complete::Shell;

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  outspan completions bash > /usr/share/bash-completion/completions/outspan
  outspan completions zsh > /usr/share/zsh/site-functions/_outspan
  outspan completions fish > ~/.config/fish/completions/outspan.fish
  source <(outspan completions bash)            for this bash only";

const MAN_EXAMPLES: &str = "\
Examples:
  outspan man > /usr/share/man/man1/outspan.1
  outspan man agent > /usr/share/man/man1/outspan-agent.1
  outspan man agent | man -l -                  read it at once";

/// Writes the completions of a shell to standard output.
#[derive(Args, Debug)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct CompletionsArguments {
    /// Shell to write them for
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// Writes a page of the manual to standard output.
#[derive(Args, Debug)]
#[command(after_help = MAN_EXAMPLES)]
pub(crate) struct ManArguments {
    /// Command that the page is about [default: outspan itself]
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Option<String>,
}
