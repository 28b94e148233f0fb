//! The configuration file of the demo's hub, and the filters beside it.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use lockstep_core::stock::AVAILABILITY_KIND;

use super::party::Party;
use super::stock::FRONTS;
use super::world::{Plan, System};
use super::{orders, traffic};

/// The configuration of the demo's hub.
pub(crate) fn configuration(systems: &[System], plan: &Plan) -> String {
    let (pack, currency, schema) = if plan.orders_of_file {
        let schema = format!("\n[domains.order]\nschema = \"{}\"\n", orders::pack::SCHEMA);
        (orders::pack::NAME, orders::shop::CURRENCY, schema)
    } else {
        ("shopify", traffic::CURRENCY, String::new())
    };
    let mut text = format!(
        r#"# The hub of `lockstep demo`.

[hub]
name = "demo"
data_dir = "data"

[http]
listen = "127.0.0.1:0"
# An invoice of a file may have a thousand lines.
webhook_bytes_max = 8388608

[stock]
# A count of a shelf may come late, after very many movements.
movements_max = 1024

[domains.price]
policy = "owner"
owner = ["erp"]

[domains.stock]
policy = "owner"
owner = ["wms"]
{schema}
[sources.shop]
system = "shop"
pack = "{pack}"
secrets = ["file:secrets/from-shop"]
channel = "shop"
currency = "{currency}"
"#
    );
    for system in systems {
        let name = system.party.name();
        let shows = plan.sells && FRONTS.contains(&system.party);
        let kinds = system.party.kinds().iter().copied().chain(shows.then_some(AVAILABILITY_KIND));
        let kinds: Vec<_> = kinds.map(|kind| format!("\"{kind}\"")).collect();
        // A copy is made of what it is told alone. Writing to a string can't fail.
        let _ = write!(
            text,
            r#"
[destinations.{name}]
kind = "webhook"
system = "{name}"
url = "{}"
secrets = ["file:secrets/to-{name}"]
allow_private_addresses = true
echo_own = true
filter.kinds = [{}]
"#,
            system.url,
            kinds.join(", "),
        );
        if shows {
            let _ = writeln!(text, "filter.when = \"{}\"", filter_file(system.party));
        }
        if plan.faults.is_some() && system.party == Party::Marketplace {
            // An outage of this one makes dead letters; with the others, deliveries wait until it is over.
            text.push_str("breaker.failing_keys = 0\n");
        }
    }
    text
}

fn filter_file(front: Party) -> String {
    format!("filters/{}.vrl", front.name())
}

/// What the fronts are told, beside the kinds.
pub(crate) fn filters(folder: &Path) -> anyhow::Result<()> {
    for front in FRONTS {
        let path = folder.join(filter_file(front));
        let text = format!(
            r#"# Documents, and what this channel may sell. What happens to the scarce articles on their shelf, of which the ledger
# of stock tells, is no document: it names its SKU.
kind = .data.kind
if kind == "availability" {{
  .data.document.channel == "{}"
}} else {{
  kind != "stock" || !exists(.data.document.sku)
}}
"#,
            front.name()
        );
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
        written.with_context(|| format!("{} can't be written", path.display()))?;
    }
    Ok(())
}
