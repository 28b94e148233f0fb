//! An event of the hub as a CloudEvent.

use bytes::Bytes;
use lockstep_core::Event;
use lockstep_core::event::write_string;
use lockstep_core::path;

use crate::time::write_rfc3339;

/// The content type of what [`to_structured`] writes.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// The event in structured mode. Its id is its position, so that ids are unique and ordered within `hub_source`.
///
/// `dataschema` is `/v1/schemas/<kind>` of this hub, absolute where `hub_source` is the hub's own http(s) address.
/// `position` is a string, since a CloudEvents integer ends at 32 bits.
pub fn to_structured(event: &Event, hub_source: &str) -> Bytes {
    let fact = &event.fact;
    let document = event.document();
    let document_bytes: usize = document.iter().map(|f| f.name.len() + f.json.len() + 4).sum();
    let mut out =
        Vec::with_capacity(512 + document_bytes + 3 * (fact.kind.len() + fact.key.len()) + hub_source.len() * 2);
    let position = event.position.to_string();
    let subject = lockstep_core::entity_id(&fact.kind, &fact.key);

    let put = |out: &mut Vec<u8>, name: &str, text: &str| {
        out.extend_from_slice(name.as_bytes());
        write_string(out, text);
    };
    put(&mut out, r#"{"specversion":"1.0","id":"#, &position);
    put(&mut out, r#","source":"#, hub_source);
    put(&mut out, r#","type":"#, &fact.event_type);
    put(&mut out, r#","subject":"#, &subject);
    out.extend_from_slice(br#","time":""#);
    write_rfc3339(&mut out, event.recorded_at_us);
    out.extend_from_slice(br#"","datacontenttype":"application/json","dataschema":""#);
    if hub_source.starts_with("http://") || hub_source.starts_with("https://") {
        // Within a URL no character needs escaping in JSON, except in one that nobody can call.
        out.extend(hub_source.trim_end_matches('/').bytes().filter(|b| b.is_ascii_graphic() && !b"\"\\".contains(b)));
    }
    out.extend_from_slice(b"/v1/schemas/");
    out.extend_from_slice(fact.kind.as_bytes());
    put(&mut out, r#"","position":"#, &position);
    out.extend_from_slice(br#","occurredat":""#);
    write_rfc3339(&mut out, fact.occurred_at_us);
    put(&mut out, r#"","partitionkey":"#, &subject);
    if let Some(into) = fact.merged.as_ref().filter(|into| !into.is_empty()) {
        put(&mut out, r#","mergedinto":"#, into);
    }
    if !fact.trace.is_empty() {
        put(&mut out, r#","traceparent":"#, &fact.trace);
    }
    if let Some(replay) = event.replay {
        put(&mut out, r#","replay":"#, &replay.to_string());
    }
    put(&mut out, r#","data":{"kind":"#, &fact.kind);
    put(&mut out, r#","key":"#, &fact.key);
    out.extend_from_slice(br#","version":"#);
    out.extend_from_slice(fact.version.to_string().as_bytes());
    put(&mut out, r#","system":"#, &fact.system);
    out.extend_from_slice(br#","changed":["#);
    for (at, name) in event.changed().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(&mut out, name);
    }
    out.extend_from_slice(br#"],"document":"#);
    path::assemble(&mut out, &document);
    if fact.deleted {
        out.extend_from_slice(br#","deleted":true"#);
    }
    out.extend_from_slice(b"}}");
    out.into()
}
