//! The defaults as a TOML file with comments: a file to start from, which reads back to the defaults.

use std::fmt::Write;

use super::keys::{KEYS, Key, SECTIONS};
use super::section::Config;

/// Comment lines are wrapped here.
const COLUMN_MAX: usize = 100;

/// The text of the file.
pub fn print_defaults() -> String {
    let defaults = Config::default();
    let mut text = String::from(
        "# The configuration of Escrow: every key with its default. Keep only what you change.\n\
         # Each key can also be given as ESCROW_SECTION__KEY in the environment, or as --set section.key=value;\n\
         # flags win over the environment, the environment over this file.\n",
    );
    print_keys("", &defaults, &mut text);
    for (section, about) in SECTIONS {
        text.push('\n');
        comment(about, &mut text);
        let _ = writeln!(text, "[{section}]");
        print_keys(section, &defaults, &mut text);
    }
    text
}

fn print_keys(section: &str, defaults: &Config, text: &mut String) {
    for key in KEYS.iter().filter(|key| key.section() == section) {
        text.push('\n');
        comment(&format!("{} ({})", key.doc, key.shape.bounds()), text);
        let _ = writeln!(text, "{}", assignment(key, defaults));
    }
}

fn assignment(key: &Key, config: &Config) -> String {
    format!("{} = {}", key.short_name(), key.shape.write(&(key.get)(config)))
}

fn comment(words: &str, text: &mut String) {
    let mut line = String::from("#");
    for word in words.split(' ') {
        if line.len() + 1 + word.len() > COLUMN_MAX {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(text, "{line}");
}
