//! The demo as a person runs it: the real binary, real HTTP, and what it says at the end.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn lockstep(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lockstep")).args(arguments).output().expect("the binary runs")
}

/// Runs the demo to its end and gives its document.
fn demo(arguments: &[&str]) -> Value {
    let mut all = vec!["demo", "--json"];
    all.extend(arguments);
    let output = lockstep(&all);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let document: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{errors}"));
    assert_eq!(document["verdict"]["equal"], true, "{:#}", document["verdict"]);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    document
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// What holds for every run.
fn is_whole(document: &Value) {
    assert_eq!(document["verdict"]["differences"], 0);
    assert_eq!(document["conservation"]["holds"], true);
    assert_eq!(document["quarantined"], 0);
    assert_eq!(document["dead_letters"]["open"], 0);
    let published = number(&document["hub"]["events"]);
    for name in ["shop", "marketplace", "erp", "wms"] {
        let system = &document["systems"][name];
        assert_eq!(system["offered"], system["sent"], "{name} said everything");
        assert_eq!(system["refused"], 0, "{name}");
        assert_eq!(system["wrong_signatures"], 0, "{name}");
        assert_eq!(system["malformed"], 0, "{name}");
        assert!(number(&system["received"]) > 0 && system["received"] == system["verified"], "{name}");

        let source = &document["conservation"]["sources"][name];
        let recorded = ["applied", "superseded", "quarantined"].iter().map(|part| number(&source[part])).sum::<u64>();
        let sent = number(&system["sent"]);
        // What came too late for its order was refused, and perhaps asked again where the answer was lost.
        let refused = number(&source["refused"]);
        assert!(recorded <= sent && sent <= recorded + refused, "each change of {name} is recorded once");
        assert!(refused == 0 || name == "marketplace", "{name}: {refused}");
        assert_eq!(number(&source["received"]), recorded + number(&source["duplicate"]) + number(&source["refused"]));

        let out = &document["conservation"]["destinations"][name];
        assert_eq!(out["pending"], 0, "{name}");
        let settled: u64 = ["delivered", "filtered", "superseded"].iter().map(|part| number(&out[part])).sum();
        assert_eq!(settled, published, "each event is accounted for at {name}");
        assert!(number(&out["delivered"]) > 0, "{name}");
    }
    let compared = number(&document["verdict"]["compared"]);
    let held: u64 =
        ["shop", "marketplace", "erp", "wms"].iter().map(|n| number(&document["systems"][n]["entities"])).sum();
    assert_eq!(compared, held, "every entity of every copy was compared");
}

/// What holds for every sale.
fn nothing_is_oversold(document: &Value, carts: u64) {
    let stock = &document["stock"];
    assert_eq!((&stock["oversold"], &stock["wrong"]), (&Value::from(0), &Value::from(0)), "{stock:#}");
    assert_eq!(number(&stock["carts"]), carts);
    assert_eq!(carts, number(&stock["reserved"]) + number(&stock["refused"]), "{stock:#}");
    assert_eq!(stock["units_sold"], stock["units_shipped"], "all that is paid and kept has left");
    assert!(number(&stock["units_sold"]) <= number(&stock["units_there"]), "{stock:#}");
    for what in ["refused", "units_sold"] {
        assert!(number(&stock[what]) > 0, "{what}: {stock:#}");
    }
    let over = number(&stock["reserved"]);
    assert_eq!(number(&stock["reservations_looked_at"]), over, "each reservation is there once, and has ended");
    // The fronts were told of every article, and show what the hub lets them sell.
    for source in ["shop-stock", "marketplace-stock", "wms-stock"] {
        let tally = &document["conservation"]["sources"][source];
        assert!(number(&tally["applied"]) > 0, "{source}: {tally}");
    }
}

#[test]
fn four_systems_end_up_equal() {
    let document = demo(&["--duration", "3s", "--rate", "300", "--entities", "100"]);
    is_whole(&document);
    nothing_is_oversold(&document, 3 * 40);
    let systems = &document["systems"];
    let sent: u64 = ["shop", "marketplace", "erp", "wms"].iter().map(|n| number(&systems[n]["sent"])).sum();
    // 300 a second for 3 seconds at most: a busy machine may not come to that, but it never offers more.
    assert!((1..=900).contains(&sent), "{sent}");
    assert_eq!(document["hub"]["changes"], sent);
    for kind in ["customer", "order", "price", "product", "stock"] {
        assert!(number(&document["hub"]["entities"][kind]) > 0, "{kind}");
    }
    assert!(number(&document["hub"]["received_to_delivered"]["count"]) > 0);
    assert_eq!(document["dead_letters"]["retried"], 0);
}

#[test]
fn they_end_up_equal_whatever_goes_wrong() {
    let document = demo(&["--duration", "4s", "--rate", "300", "--entities", "100", "--faults", "--seed", "7"]);
    is_whole(&document);
    nothing_is_oversold(&document, 4 * 40);
    assert!(number(&document["stock"]["repeated"]) > 0, "some requests were sent again with the same key");
    for name in ["shop", "marketplace", "erp", "wms"] {
        let system = &document["systems"][name];
        assert!(number(&system["faults"]) > 0, "{name}");
        assert!(number(&system["repeated"]) + number(&system["duplicates"]) > 0, "{name}");
    }
    assert!(number(&document["systems"]["shop"]["retried"]) > 0);
    assert!(number(&document["dead_letters"]["retried"]) > 0, "an outage makes dead letters");
}

/// A file's sums, computed by other code than the demo's: in thousandths, line by line.
#[derive(Debug, Default, PartialEq)]
struct Sums {
    invoices: HashSet<String>,
    lines: u64,
    units: i64,
    gross_thousandths: i64,
    customers: HashSet<String>,
    stock_codes: HashSet<String>,
}

impl Sums {
    fn of(text: impl std::io::Read) -> Self {
        let mut sums = Self::default();
        for row in csv::Reader::from_reader(text).into_records() {
            let row = row.expect("a row");
            let units: i64 = row[3].parse().expect("a quantity");
            let (whole, fraction) = row[5].split_once('.').expect("a price with a point");
            let magnitude: i64 = format!("{}{fraction:0<3}", whole.trim_start_matches('-')).parse().expect("a price");
            let price = if whole.starts_with('-') { -magnitude } else { magnitude };
            sums.invoices.insert(row[0].to_owned());
            sums.lines += 1;
            sums.units += units;
            sums.gross_thousandths += units * price;
            if !row[6].is_empty() {
                sums.customers.insert(row[6].to_owned());
            }
            sums.stock_codes.insert(row[1].to_owned());
        }
        sums
    }

    fn check(&self, totals: &Value) {
        assert_eq!(number(&totals["invoices"]), self.invoices.len() as u64);
        let cancelled = self.invoices.iter().filter(|number| number.starts_with('C')).count();
        assert_eq!(number(&totals["cancellations"]), cancelled as u64);
        assert_eq!(number(&totals["lines"]), self.lines);
        assert_eq!(totals["units"].as_i64(), Some(self.units));
        let gross = totals["gross"].as_str().expect("the gross amount is text");
        let (whole, fraction) = gross.split_once('.').expect("a point");
        let magnitude: i64 = format!("{}{fraction:0<3}", whole.trim_start_matches('-')).parse().expect("digits");
        assert_eq!(if gross.starts_with('-') { -magnitude } else { magnitude }, self.gross_thousandths);
        assert_eq!(number(&totals["customers"]), self.customers.len() as u64);
        assert_eq!(number(&totals["stock_codes"]), self.stock_codes.len() as u64);
    }
}

fn small_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/orders.csv")
}

fn orders_arrive(path: &Path, sums: &Sums, more: &[&str]) {
    let path = path.to_str().expect("a path in UTF-8");
    let mut arguments = vec!["--orders", path];
    arguments.extend(more);
    let document = demo(&arguments);
    assert_eq!(document["orders"]["equal"], true);
    assert_eq!(document["stock"], Value::Null, "nothing is known of that shop's stock");
    sums.check(&document["orders"]["file"]);
    sums.check(&document["orders"]["hub"]);
    let entities = &document["hub"]["entities"];
    assert_eq!(number(&entities["order"]), sums.invoices.len() as u64);
    assert_eq!(number(&entities["product"]), sums.stock_codes.len() as u64);
    assert_eq!(number(&entities["customer"]), sums.customers.len() as u64);
    // The warehouse has shipped every order that is not a cancellation, and said so.
    let cancelled = sums.invoices.iter().filter(|number| number.starts_with('C')).count();
    assert_eq!(number(&document["systems"]["wms"]["sent"]), (sums.invoices.len() - cancelled) as u64);
}

#[test]
fn the_orders_of_a_file_arrive_whole() {
    let sums = Sums::of(std::fs::File::open(small_file()).expect("the file"));
    assert_eq!((sums.invoices.len(), sums.lines, sums.gross_thousandths % 1_000), (10, 17, 811));
    orders_arrive(&small_file(), &sums, &[]);
    orders_arrive(&small_file(), &sums, &["--faults"]);
}

#[test]
fn the_orders_of_a_real_shop_arrive_whole() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/datasets/online-retail/online-retail.csv.gz");
    if !path.exists() || std::env::var_os("LOCKSTEP_LONG_TESTS").is_none_or(|value| value != "1") {
        println!("skipped: needs the Online Retail data set beside the repository and LOCKSTEP_LONG_TESTS=1");
        return;
    }
    let packed = std::fs::File::open(&path).expect("the file");
    let sums = Sums::of(flate2::read::MultiGzDecoder::new(packed));
    orders_arrive(&path, &sums, &[]);
}

#[test]
fn the_last_line_is_the_verdict() {
    let output = lockstep(&["demo", "--duration", "500ms", "--rate", "200", "--entities", "20"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0), "{text}");
    let last = text.lines().last().expect("a last line");
    let ends = " entities, 0 differences, oversold 0)";
    assert!(last.starts_with("verdict: equal (4 systems, ") && last.ends_with(ends), "{last}");
    assert!(!text.contains('\x1b'), "no control sequences where there is no terminal");
}

#[test]
fn who_would_not_sell_needs_not() {
    let output = lockstep(&["demo", "--duration", "500ms", "--rate", "200", "--entities", "20", "--carts", "0"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.ends_with(" entities, 0 differences)\n") && !text.contains("oversold"), "{text}");
}

#[test]
fn what_is_kept_is_a_hub_like_any_other() {
    let dir = tempfile::tempdir().expect("a folder");
    let keep = dir.path().join("kept");
    let keep = keep.to_str().expect("a path in UTF-8");
    demo(&["--duration", "500ms", "--rate", "200", "--entities", "20", "--keep", keep]);
    let config = format!("{keep}/lockstep.toml");
    let checked = lockstep(&["check", "--config", &config]);
    assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stdout));
    for name in ["shop", "marketplace", "erp", "wms"] {
        let copy = rusqlite::Connection::open(format!("{keep}/copies/{name}.sqlite")).expect("a copy");
        let count: i64 = copy.query_row("SELECT count(*) FROM entity", [], |row| row.get(0)).expect("readable");
        assert!(count > 0, "{name}");
    }
    let again = lockstep(&["demo", "--duration", "1s", "--keep", keep]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert_eq!(again.status.code(), Some(2), "{said}");
    assert!(said.contains("--keep must name a new or an empty folder"), "{said}");
}

#[test]
fn a_file_that_is_no_orders_is_refused_in_one_sentence() {
    let dir = tempfile::tempdir().expect("a folder");
    let check = |name: &str, text: &str, expected: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("room");
        let output = lockstep(&["demo", "--orders", path.to_str().expect("a path in UTF-8")]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
    };
    check("other.csv", "a,b\n1,2\n", "must be InvoiceNo,StockCode,Description");
    let head = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";
    check(
        "half.csv",
        &format!("{head}1,A,x,half,2020-01-01 10:00:00,1.0,,UK\n"),
        "half.csv:2: Quantity must be a whole number",
    );
    check("packed.csv.gz", "this is not packed", "can't be read");
}
