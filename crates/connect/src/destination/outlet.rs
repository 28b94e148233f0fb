//! From an event to a request: filter, then mapping.

use std::collections::BTreeMap;

use bytes::Bytes;
use lockstep_core::Event;
use lockstep_mapping::{Program, Value};

use super::{Filter, PrepareError, Prepared};
use crate::cloudevents::{STRUCTURED, to_structured};

/// The media type of what a mapping makes.
const MAPPED: &str = "application/json";

/// How events become requests for one destination: what all kinds of destinations share.
///
/// Without a mapping, what is sent is the CloudEvent. With one, the mapping finds that CloudEvent at `.`, and what it
/// comes to is sent as JSON; a mapping that comes to `null` keeps the event back.
#[derive(Debug)]
pub struct Outlet {
    hub_source: String,
    filter: Filter,
    /// The system whose own words are kept back.
    silent_to: Option<String>,
    /// Without which fields entities of a kind are kept back.
    required: BTreeMap<String, Vec<String>>,
    condition: Option<Program>,
    mapping: Option<Program>,
}

impl Outlet {
    /// An outlet without programs. `hub_source` is the `source` of the CloudEvents.
    pub fn new(hub_source: impl Into<String>, filter: Filter) -> Self {
        Self {
            hub_source: hub_source.into(),
            filter,
            silent_to: None,
            required: BTreeMap::new(),
            condition: None,
            mapping: None,
        }
    }

    /// Which keeps back what the system that it leads to has just said itself.
    pub fn without_words_of(mut self, system: impl Into<String>) -> Self {
        self.silent_to = Some(system.into());
        self
    }

    /// Which keeps back entities of these kinds as long as one of these fields has no value. What tells that one is deleted is
    /// not kept back: it may have been there.
    pub fn with_required(mut self, kinds: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        self.required.extend(kinds);
        self
    }

    /// Whether an event is kept back because a field that is required here has no value.
    pub fn is_incomplete(&self, event: &Event) -> bool {
        let required = self.required.get(&event.fact.kind).filter(|_| !event.fact.deleted);
        required.is_some_and(|fields| fields.iter().any(|path| event.value_at(path).is_none()))
    }

    /// With the program that [`Filter::when`] names.
    pub fn with_condition(mut self, condition: Program) -> Self {
        self.condition = Some(condition);
        self
    }

    /// With a mapping.
    pub fn with_mapping(mut self, mapping: Program) -> Self {
        self.mapping = Some(mapping);
        self
    }

    /// Whether an event is kept back because its own system has just said the same.
    pub fn keeps_own_word(&self, event: &Event) -> bool {
        self.silent_to.as_ref().is_some_and(|system| event.is_word_of(system))
    }

    /// Makes the request for an event, or `None` where it is kept back.
    pub fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        if self.keeps_own_word(event) || !self.filter.lets_through(event) || self.is_incomplete(event) {
            return Ok(None);
        }
        let structured = to_structured(event, &self.hub_source);
        if let Some(condition) = &self.condition {
            match run(condition, &structured)? {
                Value::Boolean(true) => {}
                Value::Boolean(false) => return Ok(None),
                _ => {
                    let message = "the condition must come to true or false".to_owned();
                    return Err(PrepareError { message, at: Some(condition.name().to_owned()) });
                }
            }
        }
        let (body, content_type) = match &self.mapping {
            None => (structured, STRUCTURED),
            Some(mapping) => match run(mapping, &structured)? {
                Value::Null => return Ok(None),
                value => {
                    let mut body = Vec::with_capacity(structured.len());
                    lockstep_mapping::write_json(&value, &mut body);
                    (Bytes::from(body), MAPPED)
                }
            },
        };
        let trace = Some(&event.fact.trace).filter(|trace| !trace.is_empty()).cloned();
        let replay = event.replay.map(|replay| replay.to_string());
        Ok(Some(Prepared { id: event.position.to_string(), body, content_type, trace, replay }))
    }
}

/// Runs a program on the event. It reads of it only what it looks at.
fn run(program: &Program, structured: &[u8]) -> Result<Value, PrepareError> {
    let target = program.parse(structured).map_err(|error| {
        let message = format!("the event is not JSON: {error}");
        PrepareError { message, at: Some(program.name().to_owned()) }
    })?;
    program.run(target).map_err(|error| PrepareError { at: Some(error.at()), message: error.message })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::destination::kit;

    fn outlet() -> Outlet {
        Outlet::new("/hubs/test", Filter { kinds: vec!["order".into()], ..Filter::default() })
    }

    fn program(name: &str, source: &str) -> Program {
        Program::compile(name, source).unwrap_or_else(|error| panic!("{}", error.rendered))
    }

    fn event(total: &str) -> Event {
        kit::event(5, "order", "web:1", &[("number", r##""#1""##), ("total", total)])
    }

    #[test]
    fn what_lacks_a_required_field_is_kept_back_until_it_has_it() {
        let fields = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let kinds = [("order".to_owned(), fields(&["number", "customer.email"]))];
        let outlet = outlet().with_required(kinds);
        let number = ("number", r##""#1""##);
        for (customer, expected) in [
            (None, false),
            (Some("null"), false),
            (Some(r#"{"email": null}"#), false),
            (Some(r#""a""#), false),
            (Some(r#"{"email": "a@example.com"}"#), true),
        ] {
            let all: Vec<_> = customer.map(|json| ("customer", json)).into_iter().chain([number]).collect();
            let mut event = kit::event(5, "order", "web:1", &all);
            assert_eq!(outlet.prepare(&event).unwrap().is_some(), expected, "{customer:?}");
            event.fact.deleted = true;
            assert!(outlet.prepare(&event).unwrap().is_some(), "that it is gone is told");
        }
        let parts = kit::event(5, "order", "web:1", &[("customer.", "{}"), ("customer.email", r#""a""#), number]);
        assert!(outlet.prepare(&parts).unwrap().is_some(), "also where a field is merged by its parts");
        assert!(outlet.prepare(&kit::event(5, "order", "web:1", &[])).unwrap().is_none());
    }

    fn prepare(outlet: &Outlet, event: &Event) -> Result<Option<serde_json::Value>, PrepareError> {
        Ok(outlet.prepare(event)?.map(|prepared| serde_json::from_slice(&prepared.body).unwrap()))
    }

    #[test]
    fn without_programs_the_cloud_event_goes_out() {
        let event = event("1");
        let prepared = outlet().prepare(&event).unwrap().unwrap();
        assert_eq!(prepared.body, to_structured(&event, "/hubs/test"));
        assert_eq!((prepared.id.as_str(), prepared.content_type), ("5", "application/cloudevents+json"));
        assert_eq!(prepared.trace.as_deref(), Some(event.fact.trace.as_str()));
        assert_eq!(outlet().prepare(&kit::event(6, "stock", "a", &[("a", "1")])), Ok(None));
    }

    #[test]
    fn a_mapping_makes_the_body() {
        let mapping = r#"
            total = .data.document.total
            result = null
            if total != 0 { result = { "order": .data.key, "number": .data.document.number, "cents": total } }
            result
        "#;
        let outlet = outlet().with_mapping(program("maps/erp.vrl", mapping));
        let prepared = outlet.prepare(&event("1250")).unwrap().unwrap();
        assert_eq!(prepared.content_type, "application/json");
        assert_eq!(prepared.body, r##"{"cents":1250,"number":"#1","order":"web:1"}"##);
        assert_eq!(outlet.prepare(&event("0")), Ok(None), "null keeps the event back");
    }

    #[test]
    fn a_condition_keeps_events_back() {
        let condition = || program("maps/large.vrl", ".data.document.total == 1250");
        let outlet = || outlet().with_condition(condition());
        assert_eq!(prepare(&outlet(), &event("1250")).unwrap().unwrap()["data"]["document"]["total"], json!(1250));
        assert_eq!(prepare(&outlet(), &event("1249")), Ok(None));
        // Both programs see the event itself, not what the other made of it.
        let both = outlet().with_mapping(program("maps/key.vrl", ".data.key"));
        assert_eq!(prepare(&both, &event("1250")), Ok(Some(json!("web:1"))));
        assert_eq!(prepare(&both, &event("1249")), Ok(None));
    }

    #[test]
    fn a_system_is_not_told_its_own_word_unless_it_lost() {
        let own = outlet().without_words_of("kit");
        let mut event = event("1250");
        assert_eq!(own.prepare(&event), Ok(None));
        assert!(own.keeps_own_word(&event));
        // Another system's value stands in a field that its word has changed: it took its own back.
        event.fact.rest = vec![lockstep_core::Field::new("total", "1300")];
        assert!(own.prepare(&event).unwrap().is_some());
        // It said something else of a field than what stands, as before: it was told then.
        event.fact.changed = vec![0];
        assert_eq!(own.prepare(&event), Ok(None));
        event.fact.system = "@hub".into();
        assert!(own.prepare(&event).unwrap().is_some() && !own.keeps_own_word(&event));
    }

    #[test]
    fn a_failure_names_its_program_and_line() {
        let failing = outlet().with_mapping(program("maps/erp.vrl", "# first line\nto_int!(.data.document.total)"));
        let error = failing.prepare(&event(r#""many""#)).unwrap_err();
        assert_eq!(error.at.as_deref(), Some("maps/erp.vrl:2"), "{error}");
        let vague = outlet().with_condition(program("maps/large.vrl", ".data.key"));
        let error = vague.prepare(&event("1")).unwrap_err();
        assert_eq!(error.at.as_deref(), Some("maps/large.vrl"));
        assert_eq!(
            error.to_string(),
            "the event can't be mapped: the condition must come to true or false (maps/large.vrl)"
        );
    }
}
