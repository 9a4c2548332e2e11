//! The brokers a person works with, by name: a file in the XDG place, and which of them a command means. Owns the file's
//! form; must never guess: what names two brokers at once is refused.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use escrow_protocol::ClientId;
use toml_edit::{DocumentMut, Item, Table, value};

use super::error::CliError;

/// Where a broker listens unless configured otherwise.
pub(crate) const URL_DEFAULT: &str = "http://127.0.0.1:7800";
/// Names the broker's address.
pub(crate) const URL_VARIABLE: &str = "ESCROW_URL";
/// Names a context.
pub(crate) const CONTEXT_VARIABLE: &str = "ESCROW_CONTEXT";

const CURRENT: &str = "current";
const CONTEXTS: &str = "contexts";

/// A broker that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    /// Its gRPC address.
    pub(crate) url: String,
    /// Who is asking there, for its records; `None`: as without contexts.
    pub(crate) operator: Option<String>,
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Contexts {
    /// The one that counts when nothing else is said.
    pub(crate) current: Option<String>,
    /// All, by name.
    pub(crate) all: BTreeMap<String, Context>,
}

/// The file: where it is and what it says, with the comments a person may have put into it.
#[derive(Debug)]
pub(crate) struct ContextFile {
    path: PathBuf,
    document: DocumentMut,
    contexts: Contexts,
}

impl ContextFile {
    /// Reads it; one that is not there says nothing.
    ///
    /// # Errors
    /// If it cannot be read or is not what it should be; the words name the file, the fault and the remedy.
    pub(crate) fn read() -> Result<Self, CliError> {
        Self::read_at(place(&|name| std::env::var_os(name).map(PathBuf::from))?)
    }

    fn read_at(path: PathBuf) -> Result<Self, CliError> {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(CliError::failed(format!("{} cannot be read: {error}", path.display())));
            }
        };
        let wrong = |fault: &str| {
            CliError::failed(format!(
                "{}: {fault}; mend the file, or remove it and add the contexts again",
                path.display()
            ))
        };
        let document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
            wrong(error.to_string().lines().next_back().unwrap_or("it is not TOML"))
        })?;
        let contexts = contexts_of(&document).map_err(|fault| wrong(&fault))?;
        Ok(Self { path, document, contexts })
    }

    /// What it says.
    pub(crate) fn contexts(&self) -> &Contexts {
        &self.contexts
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a context, or replaces it.
    pub(crate) fn add(&mut self, name: &str, context: &Context) {
        let mut table = Table::new();
        table["url"] = value(&context.url);
        if let Some(operator) = &context.operator {
            table["as"] = value(operator);
        }
        let all = self.document.entry(CONTEXTS).or_insert_with(|| {
            let mut all = Table::new();
            all.set_implicit(true);
            Item::Table(all)
        });
        all[name] = Item::Table(table);
        self.contexts.all.insert(name.to_owned(), context.clone());
    }

    /// Removes a context; when it was the current one, none is.
    pub(crate) fn remove(&mut self, name: &str) {
        if let Some(all) = self.document.get_mut(CONTEXTS).and_then(Item::as_table_like_mut) {
            all.remove(name);
        }
        self.contexts.all.remove(name);
        if self.contexts.current.as_deref() == Some(name) {
            self.set_current(None);
        }
    }

    /// Makes a context the current one, or none.
    pub(crate) fn set_current(&mut self, name: Option<&str>) {
        match name {
            Some(name) => self.document[CURRENT] = value(name),
            None => drop(self.document.remove(CURRENT)),
        }
        self.contexts.current = name.map(str::to_owned);
    }

    /// Writes it: whole or not at all, and for its owner only.
    ///
    /// # Errors
    /// If the place takes no files.
    pub(crate) fn write(&self) -> Result<(), CliError> {
        let failed = |error: io::Error| {
            CliError::failed(format!("{} cannot be written: {error}", self.path.display()))
        };
        let above = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(above).map_err(failed)?;
        let mut fresh = tempfile::NamedTempFile::new_in(above).map_err(failed)?;
        fresh.write_all(self.document.to_string().as_bytes()).map_err(failed)?;
        fresh.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// `$XDG_CONFIG_HOME/escrow/contexts.toml`, or `~/.config/escrow/contexts.toml`.
fn place(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, CliError> {
    // The XDG specification: a path that is not absolute is passed over.
    let configuration = variable("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let home = || variable("HOME").filter(|path| path.is_absolute()).map(|home| home.join(".config"));
    let above = configuration.or_else(home).ok_or_else(|| {
        CliError::failed("no place for contexts: neither XDG_CONFIG_HOME nor HOME is an absolute path; set one, or say --url")
    })?;
    Ok(above.join("escrow").join("contexts.toml"))
}

fn contexts_of(document: &DocumentMut) -> Result<Contexts, String> {
    let mut contexts = Contexts::default();
    for (key, item) in document.iter() {
        match key {
            CURRENT => {
                let name = item.as_str().ok_or("`current` is not the name of a context")?;
                contexts.current = Some(name.to_owned());
            }
            CONTEXTS => {
                let all = item.as_table_like().ok_or("`contexts` is not a table of contexts")?;
                for (name, item) in all.iter() {
                    contexts.all.insert(name.to_owned(), context_of(name, item)?);
                }
            }
            other => return Err(format!("`{other}` is not known here; there are `current` and `contexts`")),
        }
    }
    Ok(contexts)
}

fn context_of(name: &str, item: &Item) -> Result<Context, String> {
    let table = item.as_table_like().ok_or_else(|| format!("context {name} is not a table"))?;
    let text = |key: &str| match table.get(key) {
        None => Ok(None),
        Some(item) => match item.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(format!("`{key}` of context {name} is not a text")),
        },
    };
    if let Some((other, _)) = table.iter().find(|(key, _)| !["url", "as"].contains(key)) {
        return Err(format!("`{other}` of context {name} is not known here; there are `url` and `as`"));
    }
    let url = text("url")?.ok_or_else(|| format!("context {name} has no `url`"))?;
    Ok(Context { url, operator: text("as")? })
}

/// Checks the name of a new context: what every name of Escrow may be.
///
/// # Errors
/// The fault and the remedy.
pub(crate) fn context_name(text: &str) -> Result<String, String> {
    match ClientId::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "{text:?} is not a name: begin with a letter or digit, then letters, digits, `_`, `.` and `-`, 127 at most"
        )),
    }
}

/// What a command was told about its broker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    /// `--url`.
    pub(crate) url: Option<String>,
    /// `ESCROW_URL`.
    pub(crate) url_variable: Option<String>,
    /// `--context`.
    pub(crate) context: Option<String>,
    /// `ESCROW_CONTEXT`.
    pub(crate) context_variable: Option<String>,
}

/// The broker a command means, and why that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its gRPC address.
    pub(crate) url: String,
    /// What chose it.
    pub(crate) because: &'static str,
    /// The context, if one did.
    pub(crate) context: Option<String>,
    /// Who is asking, if the context says so.
    pub(crate) operator: Option<String>,
}

impl Said {
    /// Which broker that is. The file is read only when it matters, so that one that is broken does not stop a command
    /// that names its broker.
    ///
    /// # Errors
    /// If two brokers are named at once, a context is not known, or the file cannot be read.
    pub(crate) fn target(
        &self,
        read: impl FnOnce() -> Result<Contexts, CliError>,
    ) -> Result<Target, CliError> {
        if let Some(context) = &self.context {
            let other = match (&self.url, &self.url_variable) {
                (Some(_), _) => Some("--url"),
                (None, Some(_)) => Some(URL_VARIABLE),
                (None, None) => None,
            };
            if let Some(other) = other {
                return Err(CliError::usage(format!(
                    "--context {context} and {other} both name a broker; say only one of them"
                )));
            }
        }
        let named =
            |url: &String, because| Target { url: url.clone(), because, context: None, operator: None };
        if let Some(url) = &self.url {
            return Ok(named(url, "--url"));
        }
        if let Some(url) = &self.url_variable {
            return Ok(named(url, URL_VARIABLE));
        }
        let contexts = read()?;
        let chosen = [
            (self.context.as_ref(), "--context"),
            (self.context_variable.as_ref(), CONTEXT_VARIABLE),
            (contexts.current.as_ref(), "the current context"),
        ];
        match chosen.into_iter().find_map(|(name, because)| Some((name?, because))) {
            Some((name, because)) => contexts.get(name, because),
            None => Ok(named(&URL_DEFAULT.to_owned(), "the default")),
        }
    }
}

impl Contexts {
    fn get(&self, name: &str, because: &'static str) -> Result<Target, CliError> {
        let context = self.known(name, because)?;
        Ok(Target {
            url: context.url.clone(),
            because,
            context: Some(name.to_owned()),
            operator: context.operator.clone(),
        })
    }

    /// The context of this name; `because`: who named it.
    ///
    /// # Errors
    /// If there is none; the words list those there are.
    pub(crate) fn known(&self, name: &str, because: &str) -> Result<&Context, CliError> {
        self.all.get(name).ok_or_else(|| {
            let names: Vec<_> = self.all.keys().map(String::as_str).collect();
            let there_are = match names.is_empty() {
                true => "there is none yet: `escrow context add NAME URL` makes one".to_owned(),
                false => format!("there are {}", names.join(", ")),
            };
            CliError::usage(format!("{because} names {name:?}, which is no context; {there_are}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts() -> Contexts {
        let context = |url: &str, operator: Option<&str>| Context {
            url: url.to_owned(),
            operator: operator.map(str::to_owned),
        };
        let all =
            [("prod", context("http://prod:7800", Some("ann"))), ("test", context("http://test:7800", None))];
        let all = all.into_iter().map(|(name, context)| (name.to_owned(), context)).collect();
        Contexts { current: Some("test".to_owned()), all }
    }

    fn said(url: &str, url_variable: &str, context: &str, context_variable: &str) -> Said {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Said {
            url: text(url),
            url_variable: text(url_variable),
            context: text(context),
            context_variable: text(context_variable),
        }
    }

    #[test]
    fn an_address_wins_over_contexts_and_a_flag_over_a_variable() {
        for (said, url, because) in [
            (said("http://flag:1", "http://env:1", "", "prod"), "http://flag:1", "--url"),
            (said("", "http://env:1", "", "prod"), "http://env:1", "ESCROW_URL"),
            (said("", "", "prod", "test"), "http://prod:7800", "--context"),
            (said("", "", "", "prod"), "http://prod:7800", "ESCROW_CONTEXT"),
            (said("", "", "", ""), "http://test:7800", "the current context"),
        ] {
            let target = said.target(|| Ok(contexts())).unwrap();
            assert_eq!((target.url.as_str(), target.because), (url, because), "{said:?}");
        }
        let alone = said("", "", "", "").target(|| Ok(Contexts::default())).unwrap();
        assert_eq!((alone.url.as_str(), alone.because), (URL_DEFAULT, "the default"));
        let ann = said("", "", "prod", "").target(|| Ok(contexts())).unwrap();
        assert_eq!(ann.operator.as_deref(), Some("ann"));
    }

    #[test]
    fn two_brokers_at_once_are_refused() {
        for (said, words) in [
            (said("http://x", "", "prod", ""), "--context prod and --url"),
            (said("", "http://x", "prod", ""), "--context prod and ESCROW_URL"),
        ] {
            let error = said.target(|| Ok(contexts())).unwrap_err();
            assert!(error.to_string().contains(words) && error.status() == 2, "{error}");
        }
    }

    #[test]
    fn an_unknown_context_is_named_with_those_there_are() {
        let error = said("", "", "", "pord").target(|| Ok(contexts())).unwrap_err().to_string();
        assert!(error.contains("ESCROW_CONTEXT names \"pord\"") && error.contains("prod, test"), "{error}");
        let none = said("", "", "x", "").target(|| Ok(Contexts::default())).unwrap_err().to_string();
        assert!(none.contains("escrow context add"), "{none}");
    }

    #[test]
    fn a_broken_file_does_not_stop_who_needs_none() {
        let broken = || Err(CliError::failed("broken"));
        assert!(said("http://x", "", "", "").target(broken).is_ok());
        assert!(said("", "", "", "").target(|| Err(CliError::failed("broken"))).is_err());
    }

    #[test]
    fn what_is_written_reads_back_and_keeps_comments() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("escrow").join("contexts.toml");
        let mut file = ContextFile::read_at(path.clone()).unwrap();
        for (name, context) in &contexts().all {
            file.add(name, context);
        }
        file.set_current(Some("test"));
        file.write().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("# mine\n{text}")).unwrap();

        let mut file = ContextFile::read_at(path.clone()).unwrap();
        assert_eq!(file.contexts(), &contexts());
        file.remove("test");
        file.write().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# mine\n") || !text.contains("current"), "{text}");
        let left = ContextFile::read_at(path).unwrap().contexts;
        assert_eq!((left.current, left.all.len()), (None, 1));
    }

    #[test]
    fn a_file_that_is_not_what_it_should_be_is_named_with_its_fault() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("contexts.toml");
        for (text, fault) in [
            ("current = 3", "`current` is not the name"),
            ("[contexts.prod]\nurll = \"x\"", "`urll` of context prod"),
            ("[contexts.prod]", "context prod has no `url`"),
            ("[contexts.prod]\nurl = 3", "`url` of context prod is not a text"),
            ("contexts = 1", "`contexts` is not a table"),
            ("more = 1", "`more` is not known"),
            ("[contexts", "contexts.toml"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = ContextFile::read_at(path.clone()).unwrap_err().to_string();
            assert!(error.contains(fault) && error.contains("mend the file"), "{text}: {error}");
        }
    }

    #[test]
    fn the_place_is_that_of_the_xdg_specification() {
        let with = |pairs: &'static [(&str, &str)]| {
            place(&|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, path)| PathBuf::from(path)))
        };
        let text = |path: Result<PathBuf, CliError>| path.unwrap().display().to_string();
        assert_eq!(text(with(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")])), "/x/escrow/contexts.toml");
        assert_eq!(text(with(&[("HOME", "/h")])), "/h/.config/escrow/contexts.toml");
        assert_eq!(
            text(with(&[("XDG_CONFIG_HOME", "x"), ("HOME", "/h")])),
            "/h/.config/escrow/contexts.toml"
        );
        assert!(with(&[]).is_err());
    }
}
