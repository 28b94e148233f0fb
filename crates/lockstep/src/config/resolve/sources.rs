//! Ways in: packs and mappings compiled, signatures made ready.

use std::path::Path;
use std::sync::Arc;

use http::HeaderName;
use lockstep_api::WebhookSource;
use lockstep_connect::pack::{Pack, PackError};
use lockstep_connect::schema::Schemas;
use lockstep_connect::signature::{Scheme, SchemeError, Secret, Verifier};
use lockstep_connect::source::Source;
use lockstep_connect::translate::{Options, Translator};

use super::Resolver;
use crate::config::packs;
use crate::config::problem::{Problem, suggestion};
use crate::config::types::SourceConfig;
use crate::exit::chain;

/// A secret that every scheme takes, to look for problems of a scheme whose own secret is not here.
const PLACEHOLDER: &str = "whsec_cGxhY2Vob2xkZXI=";

impl Resolver<'_> {
    /// `None` where one of them can't be made.
    pub(super) fn sources(&mut self, schemas: &Arc<Schemas>) -> Option<Vec<WebhookSource>> {
        let config = self.config;
        let mut made = Vec::with_capacity(config.sources.len());
        for (name, source) in &config.sources {
            made.extend(self.source(name, source, schemas));
        }
        (made.len() == config.sources.len()).then_some(made)
    }

    fn source(&mut self, name: &str, config: &SourceConfig, schemas: &Arc<Schemas>) -> Option<WebhookSource> {
        self.channel(name, config);
        let pack = match (&config.pack, &config.mapping) {
            (Some(pack), _) => self.pack(name, pack, config),
            (None, Some(file)) => self.mapping(name, file, config),
            (None, None) => {
                self.report(&["sources", name], format!("[sources.{name}] needs `pack`, or `mapping` and `signature`"));
                None
            }
        };
        let secrets = self.secret_list(&["sources", name, "secrets"], &config.secrets);
        let pack = pack?;
        let verifier = self.verifier(name, config, &pack, secrets);
        let options = Options {
            source: name.to_owned(),
            system: config.system.clone(),
            channel: config.channel.clone(),
            currency: config.currency.clone(),
        };
        let translator = match Translator::new(&pack, schemas.clone(), options) {
            Ok(translator) => Arc::new(translator),
            Err(errors) => {
                for error in errors {
                    let file = match &config.pack {
                        Some(pack) => self.packs.file(pack, &error.name),
                        None => self.loaded.path(Path::new(&error.name)),
                    };
                    self.problems.push(Problem::new(file, error.line, error.column, error.message));
                }
                return None;
            }
        };
        let source = Source::new(name, &config.system, translator);
        self.translations.push(source.clone());
        Some(WebhookSource { source, verifier: verifier?, keep_raw: config.keep_raw.unwrap_or(pack.keep_raw()) })
    }

    fn channel(&mut self, name: &str, config: &SourceConfig) {
        if config.channel.as_ref().is_some_and(|channel| channel.is_empty() || channel.contains([':', '/'])) {
            let message = "`channel` is the first part of an order's key: it must not be empty nor have : or /";
            self.report(&["sources", name, "channel"], message);
        }
        if let Some(currency) = &config.currency
            && lockstep_core::money::digits(currency).is_err()
        {
            let message = format!("`currency` must be three letters A-Z (ISO 4217), not `{currency}`");
            self.report(&["sources", name, "currency"], message);
        }
    }

    fn pack(&mut self, name: &str, pack: &str, config: &SourceConfig) -> Option<Pack> {
        let of_mappings = [
            ("mapping", config.mapping.is_some()),
            ("topic_header", config.topic_header.is_some()),
            ("delivery_id_header", config.delivery_id_header.is_some()),
        ];
        for (field, given) in of_mappings {
            if given {
                let message = format!("`{field}` is for a source without `pack`; the pack `{pack}` has its own");
                self.report(&["sources", name, field], message);
            }
        }
        match self.packs.get(pack) {
            Ok(pack) => Some(pack),
            Err(PackError::Unknown { .. }) => {
                let near = suggestion(pack, self.packs.names());
                self.report(&["sources", name, "pack"], format!("there is no pack `{pack}`{near}"));
                None
            }
            Err(error) => {
                match packs::problem(&error) {
                    Some(problem) => self.problems.push(problem),
                    None => self.report(&["sources", name, "pack"], chain(&error)),
                }
                None
            }
        }
    }

    /// A pack of the one mapping that the configuration names.
    fn mapping(&mut self, name: &str, file: &Path, config: &SourceConfig) -> Option<Pack> {
        let topic = self.header(name, "topic_header", config.topic_header.as_deref());
        let delivery_id = self.header(name, "delivery_id_header", config.delivery_id_header.as_deref());
        // Standard Webhooks has a header of its own for it.
        let standard = matches!(&config.signature, Some(Scheme::StandardWebhooks(_)));
        let delivery_id = delivery_id.or(standard.then_some(HeaderName::from_static("webhook-id")));
        let source = self.read(&["sources", name, "mapping"], file)?;
        let pack = Pack::of_mapping(name, topic, &file.display().to_string(), &source);
        Some(match delivery_id {
            Some(header) => pack.with_delivery_id(header),
            None => pack,
        })
    }

    fn header(&mut self, name: &str, field: &str, header: Option<&str>) -> Option<HeaderName> {
        let parsed = header.map(str::parse).transpose();
        if parsed.is_err() {
            self.report(&["sources", name, field], format!("`{field}` must be the name of an HTTP header"));
        }
        parsed.ok().flatten()
    }

    fn verifier(
        &mut self,
        name: &str,
        config: &SourceConfig,
        pack: &Pack,
        secrets: Option<Vec<Secret>>,
    ) -> Option<Verifier> {
        let scheme: &Scheme = match config.signature.as_ref().or_else(|| pack.signature()) {
            Some(scheme) => scheme,
            None => {
                let message = format!("[sources.{name}] needs `signature`: how its deliveries are signed");
                self.report(&["sources", name], message);
                return None;
            }
        };
        let all_here = secrets.is_some();
        match Verifier::new(scheme, secrets.unwrap_or_else(|| vec![Secret::new(PLACEHOLDER)])) {
            Ok(verifier) => all_here.then_some(verifier),
            Err(error) => {
                let field = match error {
                    SchemeError::NoSecret { .. }
                    | SchemeError::EmptySecret { .. }
                    | SchemeError::SecretNotBase64 { .. } => "secrets",
                    _ => "signature",
                };
                self.report(&["sources", name, field], chain(&error));
                None
            }
        }
    }
}
