//! From what is configured to what runs: names looked up, mappings and schemas compiled, secrets read. Every
//! problem is reported with its place; what comes out is whole or not at all.

mod destinations;
mod domains;
mod flows;
mod oversight;
mod sources;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use lockstep_api::WebhookSource;
use lockstep_connect::destination::Destination;
use lockstep_connect::schema::Schemas;
use lockstep_connect::signature::Secret;
use lockstep_connect::source::Source;
use lockstep_core::Rules;
use lockstep_hub::delivery::DeliveryOptions;
use lockstep_mapping::Program;

use super::problem::{Problem, suggestion};
use super::secret::{SecretError, SecretRef};
use super::types::Config;
use super::{Loaded, packs};

/// What to make of a secret that is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// The hub is about to start: it is an error.
    Needed,
    /// The configuration is only checked, perhaps on another machine: it is a warning.
    MayBeMissing,
}

/// What the hub runs with.
pub struct Resolved {
    /// Who decides which field.
    pub rules: Rules,
    /// The schemas of all kinds.
    pub schemas: Arc<Schemas>,
    /// The ways in.
    pub sources: Vec<WebhookSource>,
    /// The ways out.
    pub destinations: Vec<ResolvedDestination>,
}

/// A way out, ready to run.
pub struct ResolvedDestination {
    /// Its name.
    pub name: String,
    /// What filters, maps and sends.
    pub destination: Arc<dyn Destination>,
    /// How the hub delivers to it.
    pub options: DeliveryOptions,
}

/// What came of a configuration.
pub struct Resolution {
    /// What the hub runs with; there when no problem is an error and every secret is there.
    pub resolved: Option<Resolved>,
    /// The schemas of all kinds, as far as they could be read.
    pub schemas: Arc<Schemas>,
    /// Who decides which field, as far as it could be made out.
    pub rules: Rules,
    /// What understands the deliveries of the ways in, also where a secret is not here.
    pub translations: Vec<Source>,
    /// All problems.
    pub problems: Vec<Problem>,
}

/// Looks everything up. The first value is there when no problem is an error and every secret is there.
pub fn resolve(loaded: &Loaded, config: &Config, secrets: Secrets) -> (Option<Resolved>, Vec<Problem>) {
    let resolution = examine(loaded, config, secrets);
    (resolution.resolved, resolution.problems)
}

/// The same, with all that could be made also where something else is wrong.
pub fn examine(loaded: &Loaded, config: &Config, secrets: Secrets) -> Resolution {
    let mut resolver = Resolver::new(loaded, config, secrets);
    resolver.names();
    resolver.listen();
    resolver.reservations();
    let (rules, schemas) = resolver.domains();
    let schemas = Arc::new(schemas);
    resolver.oversight(&schemas);
    let sources = resolver.sources(&schemas);
    let destinations = resolver.destinations(&schemas);
    let whole = resolver.problems.iter().all(|problem| !problem.is_error());
    let resolved = match (sources, destinations) {
        (Some(sources), Some(destinations)) if whole => {
            Some(Resolved { rules: rules.clone(), schemas: schemas.clone(), sources, destinations })
        }
        _ => None,
    };
    Resolution { resolved, schemas, rules, translations: resolver.translations, problems: resolver.problems }
}

struct Resolver<'a> {
    loaded: &'a Loaded,
    config: &'a Config,
    secrets: Secrets,
    /// All systems that are declared or that a source or destination speaks for.
    systems: BTreeSet<&'a str>,
    packs: packs::Packs,
    translations: Vec<Source>,
    problems: Vec<Problem>,
}

impl<'a> Resolver<'a> {
    fn new(loaded: &'a Loaded, config: &'a Config, secrets: Secrets) -> Self {
        let declared = config.systems.keys();
        let spoken = config.sources.values().map(|source| &source.system);
        let led_to = config.destinations.values().map(|destination| &destination.delivery.system);
        let systems = declared.chain(spoken).chain(led_to).map(String::as_str).collect();
        let packs = packs::Packs::of(loaded);
        Self { loaded, config, secrets, systems, packs, translations: Vec::new(), problems: Vec::new() }
    }

    fn report(&mut self, path: &[&str], message: impl Into<String>) {
        self.problems.push(self.loaded.document.problem(path, message));
    }

    fn warn(&mut self, path: &[&str], message: impl Into<String>) {
        self.problems.push(self.loaded.document.problem(path, message).warning());
    }

    /// Names stand in addresses, metrics and logs.
    fn names(&mut self) {
        let config = self.config;
        let tables = [
            ("sources", config.sources.keys().collect::<Vec<_>>()),
            ("destinations", config.destinations.keys().collect()),
        ];
        for (table, names) in tables {
            for name in names {
                if !is_name(name) {
                    self.report(&[table, name], name_rule(name));
                }
            }
        }
        let declared = config.systems.keys().map(|name| (vec!["systems", name], name));
        let spoken = config.sources.iter().map(|(name, source)| (vec!["sources", name, "system"], &source.system));
        let led_to = config
            .destinations
            .iter()
            .map(|(name, destination)| (vec!["destinations", name, "system"], &destination.delivery.system));
        for (path, system) in declared.chain(spoken).chain(led_to) {
            if !lockstep_api::is_system_name(system) {
                let message =
                    format!("a system's name must be 1 to 64 characters of a-z, 0-9, ., _ and -, not `{system}`");
                self.report(&path, message);
            }
        }
        if !is_name(&config.hub.name) {
            self.report(&["hub", "name"], name_rule(&config.hub.name));
        }
    }

    fn listen(&mut self) {
        if let Err(message) = check_listen("listen", &self.config.http.listen) {
            self.report(&["http", "listen"], message);
        }
        if let Some(listen) = &self.config.grpc.listen
            && let Err(message) = check_listen("listen", listen)
        {
            self.report(&["grpc", "listen"], message);
        }
    }

    /// Who repeats a request must find what it was about.
    fn reservations(&mut self) {
        let seen = self.config.hub.seen_days;
        if let Some(kept) = self.config.stock.reservation_days.filter(|kept| *kept < seen) {
            let message = format!(
                "`reservation_days` must be at least the {seen} `seen_days` of [hub], not {kept}: a request that is repeated within them asks for its reservation"
            );
            self.report(&["stock", "reservation_days"], message);
        }
    }

    fn system(&mut self, path: &[&str], system: &str) {
        if !self.systems.contains(system) {
            let near = suggestion(system, self.systems.iter().copied());
            let message = format!(
                "no source, destination or [systems] entry names the system `{system}`{near} (A system that only writes with an API key is declared as [systems.{system}].)"
            );
            self.report(path, message);
        }
    }

    fn no_twins(&mut self, path: &[&str], list: &[String]) {
        for (at, entry) in list.iter().enumerate() {
            if list[..at].contains(entry) {
                let number = at.to_string();
                let path: Vec<&str> = path.iter().copied().chain([number.as_str()]).collect();
                self.report(&path, format!("`{entry}` is in this list twice"));
            }
        }
    }

    /// The secrets; `None` where one of them is not here.
    fn secret_list(&mut self, path: &[&str], references: &[SecretRef]) -> Option<Vec<Secret>> {
        let mut secrets = Vec::with_capacity(references.len());
        for (at, reference) in references.iter().enumerate() {
            let number = at.to_string();
            let path: Vec<&str> = path.iter().copied().chain([number.as_str()]).collect();
            secrets.extend(self.secret(&path, reference));
        }
        (secrets.len() == references.len()).then_some(secrets)
    }

    fn secret(&mut self, path: &[&str], reference: &SecretRef) -> Option<Secret> {
        match reference.resolve(&self.loaded.folder) {
            Ok(secret) => Some(secret),
            Err(error @ (SecretError::Literal | SecretError::Nameless(_))) => {
                self.report(path, error.to_string());
                None
            }
            Err(error) if self.secrets == Secrets::Needed => {
                self.report(path, error.to_string());
                None
            }
            Err(error) => {
                self.warn(path, format!("{error} here; the hub does not start without it"));
                None
            }
        }
    }

    /// Reads a file that the configuration names.
    fn read(&mut self, path: &[&str], file: &Path) -> Option<String> {
        let whole = self.loaded.path(file);
        match std::fs::read_to_string(&whole) {
            Ok(text) => Some(text),
            Err(error) => {
                self.report(path, format!("{} can't be read: {error}", whole.display()));
                None
            }
        }
    }

    /// Compiles a program that the configuration names.
    fn program(&mut self, path: &[&str], file: &Path) -> Option<Program> {
        let source = self.read(path, file)?;
        match Program::compile(&file.display().to_string(), &source) {
            Ok(program) => Some(program),
            Err(error) => {
                self.problems.push(Problem::new(self.loaded.path(file), error.line, error.column, error.message));
                None
            }
        }
    }
}

/// Refuses what is not an address to listen on, of the field or option with this name.
pub fn check_listen(name: &str, listen: &str) -> Result<(), String> {
    let port = listen.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok())?);
    match port {
        Some(_) => Ok(()),
        None => Err(format!("`{name}` must be an address and a port such as 127.0.0.1:7070, not \"{listen}\"")),
    }
}

fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=64).contains(&name.len()) && !name.starts_with(['-', '_']) && name.bytes().all(inner)
}

fn name_rule(name: &str) -> String {
    format!("`{name}` must be 1 to 64 characters of a-z, 0-9, - and _, beginning with a letter or digit")
}
