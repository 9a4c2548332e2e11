//! The command line of the real binary, run to its end within a time: what an error message tells a person to type.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::process::binary;

/// What a command said, and how it ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The exit status; `None`: it was ended by a signal.
    pub status: Option<i32>,
    /// Its output.
    pub stdout: String,
    /// Its errors.
    pub stderr: String,
}

impl Ran {
    /// Whether it succeeded.
    pub fn is_ok(&self) -> bool {
        self.status == Some(0)
    }

    /// Everything it said.
    pub fn words(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs `escrow` with these words.
///
/// # Errors
/// If it does not end within `limit` (it is killed then), or not by itself.
pub fn escrow(words: &[&str], limit: Duration) -> Result<Ran, String> {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ESCROW_") {
            command.env_remove(name);
        }
    }
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("escrow does not start: {error}"))?;
    let pid = Pid::from_child(&child);
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(pipe) = &mut stderr {
            let _ = pipe.read_to_end(&mut text);
        }
        text
    });
    let (sender, ended) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(pipe) = &mut stdout {
            let _ = pipe.read_to_end(&mut text);
        }
        let _ = sender.send((child.wait(), text));
    });
    let Ok((status, stdout)) = ended.recv_timeout(limit) else {
        let _ = kill_process(pid, Signal::KILL);
        return Err(format!("escrow {} did not end within {} s", words.join(" "), limit.as_secs()));
    };
    let status = status.map_err(|error| error.to_string())?.code();
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    let stderr = String::from_utf8_lossy(&errors.join().unwrap_or_default()).into_owned();
    match status {
        // 101: a panic reached the end of the process.
        None | Some(101) => Err(format!("escrow {} ended with {status:?}: {stderr}", words.join(" "))),
        status => Ok(Ran { status, stdout, stderr }),
    }
}

/// The commands that a message names, between backquotes, without the name of the binary. What stands for something of
/// the reader's is replaced: `<backup>` and `<empty directory>`.
pub fn commands_in(message: &str, backup: &str, empty: &str) -> Vec<Vec<String>> {
    let quoted = message.split('`').skip(1).step_by(2);
    let mut commands = Vec::new();
    for command in quoted.filter_map(|command| command.strip_prefix("escrow ")) {
        let filled = command.replace("<backup>", "\u{1}").replace("<empty directory>", "\u{2}");
        let words = filled.split_whitespace().map(|word| match word {
            "\u{1}" => backup.to_owned(),
            "\u{2}" => empty.to_owned(),
            word => word.to_owned(),
        });
        let words: Vec<_> = words.collect();
        if !commands.contains(&words) {
            commands.push(words);
        }
    }
    commands
}

/// A place in `parent` that does not exist.
pub fn fresh(parent: &std::path::Path, name: &str) -> PathBuf {
    let path = parent.join(name);
    let _ = std::fs::remove_dir_all(&path);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_from_a_message_as_they_stand() {
        let message = "damaged; restore with `escrow store restore <backup> --data-dir <empty directory>`, or use \
                       `escrow store repair --data-dir /d`; see `data_dir`";
        let commands = commands_in(message, "/b", "/e");
        assert_eq!(
            commands,
            [vec!["store", "restore", "/b", "--data-dir", "/e"], vec!["store", "repair", "--data-dir", "/d"]]
        );
    }
}
