//! `cloudpose completions` and `cloudpose man`: what shells and `man` know of the command line.

use std::{
    fs,
    io::{self, Write as _},
};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;

use crate::cli::{Cli, Completions, Man};

/// Prints the completions of a shell.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn completions(asked: &Completions) -> Result<()> {
    // Written at once: clap_complete panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(asked.shell, &mut Cli::command(), "cloudpose", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

/// Prints the manual page, or writes those of all commands into a folder.
///
/// # Errors
/// Nothing can be written there.
pub(crate) fn man(asked: &Man) -> Result<()> {
    match &asked.folder {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            Ok(io::stdout().write_all(&page)?)
        }
        Some(folder) => {
            let told = || format!("cannot write manual pages into {}", folder.display());
            fs::create_dir_all(folder).with_context(told)?;
            clap_mangen::generate_to(Cli::command(), folder).with_context(told)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        man(&Man { folder: Some(folder.path().to_owned()) }).unwrap();
        let command = Cli::command();
        let names: Vec<&str> = command.get_subcommands().map(|command| command.get_name()).collect();
        assert!(names.contains(&"serve") && names.contains(&"doctor"), "{names:?}");
        for name in &names {
            let page = fs::read_to_string(folder.path().join(format!("cloudpose-{name}.1"))).unwrap();
            assert!(page.contains(".SH NAME"), "{name}");
        }
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "cloudpose", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(names.iter().all(|name| script.contains(name)), "{shell}");
        }
    }
}
