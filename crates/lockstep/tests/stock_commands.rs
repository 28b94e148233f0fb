//! The commands about stock, with the real binary and a real hub.

mod common;

use common::{Hub, folder, run};

fn cells(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn stock_is_counted_reserved_explained_and_given_back() {
    let folder = folder("[hub]\nname = \"stock\"\n");
    let hub = Hub::start(folder.path());
    hub.ask(&["stock", "show", "MUG", "berlin"]).expect(1);
    let none = hub.ask(&["atp", "MUG", "--channel", "web"]).expect(1).out;
    assert_eq!(cells(none.lines().nth(1).unwrap()), ["MUG", "0", "0", "never", "-", "no"]);

    let count = ["stock", "count", "MUG", "berlin", "10", "--idempotency-key", "c-1"];
    let counted = hub.ask(&count).expect(0).out;
    assert_eq!(counted, "MUG@berlin: applied; 10 on hand, 10 to fulfil\n");
    let again = hub.ask(&[&count[..], &["--json"]].concat()).expect(0).json();
    assert_eq!(again["outcome"], "duplicate");
    let old = ["stock", "count", "MUG", "berlin", "3", "--as-of", "2020-01-01T00:00:00Z"];
    let ignored = hub.ask(&old).expect(0).out;
    assert!(ignored.starts_with("MUG@berlin: ignored: there is a newer count"), "{ignored}");
    hub.ask(&["stock", "count", "MUG", "berlin", "many"]).expect(2);
    hub.ask(&["stock", "count", "MUG", "berlin", "3", "--as-of", "yesterday"]).expect(2);
    hub.ask(&["stock", "move", "MUG", "hamburg", "receipt", "4"]).expect(0);
    let less = hub.ask(&["stock", "move", "MUG", "hamburg", "adjust", "-1", "--json"]).expect(0).json();
    assert_eq!(less["outcome"], "applied");

    // Held by a cart, with everything that a script needs.
    let wanted = ["reserve", "MUG=4@berlin", "--channel", "web", "--expires", "15m", "--id", "cart-7"];
    let wanted = [&wanted[..], &["--idempotency-key", "k-7"]].concat();
    let held = hub.ask(&wanted).expect(0).out;
    let rows: Vec<&str> = held.lines().collect();
    assert!(rows[0].starts_with("cart-7 of cart-7: held until 20"), "{held}");
    assert_eq!(cells(rows[2]), ["0", "MUG", "berlin", "4", "4", "0", "0", "0"]);
    assert!(rows[3].ends_with(": fresh"), "{held}");
    let again = hub.ask(&[&wanted[..], &["--json"]].concat()).expect(0).json();
    assert_eq!((&again["repeated"], &again["state"]), (&true.into(), &"held".into()));

    // What falls short is a table, and an answer: not an error. What nobody has told of is a mistake in writing.
    let unknown = hub.ask(&["reserve", "TEE=3", "--channel", "web"]).expect(1);
    assert!(unknown.err.contains("`items.sku` must be") && unknown.err.contains("not `TEE`"), "{unknown:?}");
    hub.ask(&["stock", "count", "TEE", "berlin", "0"]).expect(0);
    let short = hub.ask(&["reserve", "MUG=2", "TEE=3", "MUG=9", "--channel", "web", "--id", "cart-8"]).expect(1);
    let rows: Vec<Vec<&str>> = short.out.lines().skip(1).map(cells).collect();
    assert_eq!(rows[0], ["item", "sku", "requested", "available", "missing"], "{}", short.out);
    assert_eq!(rows[1], ["1", "TEE", "3", "0", "3"]);
    assert_eq!((rows[2][1], rows[2][2], rows.len()), ("MUG", "9", 3), "{}", short.out);
    assert_eq!(short.err, "");
    let json = hub.ask(&["reserve", "TEE=3", "--channel", "web", "--json"]).expect(1).json();
    assert_eq!((&json["code"], &json["shortfalls"][0]["available"]), (&"stock-short".into(), &0.into()));
    hub.ask(&["reserve", "MUG", "--channel", "web"]).expect(2);
    let part =
        hub.ask(&["reserve", "TEE=1", "MUG=1", "--channel", "web", "--allow-partial", "--json"]).expect(0).json();
    assert_eq!(part["shortfalls"][0]["sku"], "TEE");
    hub.ask(&["release", part["id"].as_str().unwrap()]).expect(0);

    let explained = hub.ask(&["atp", "MUG", "--channel", "web", "--explain"]).expect(0).out;
    let rows: Vec<&str> = explained.lines().collect();
    assert_eq!(rows[0], "MUG for channel web: 9 available", "{explained}");
    assert_eq!(rows[1], "available 9 = 6 berlin + 3 hamburg, less 0 buffer, at least 0");
    assert_eq!(cells(rows[4])[..10], ["berlin", "6", "6", "10", "0", "0", "0", "0", "4", "0"]);
    let holder = rows.iter().find(|row| row.starts_with("cart-7")).unwrap();
    assert_eq!(cells(holder)[..5], ["cart-7", "cart-7", "web", "berlin", "4"]);
    let both = hub.ask(&["atp", "MUG", "TEE", "--json"]).expect(1).json_lines();
    assert_eq!((&both[0]["available"], &both[1]["available"]), (&9.into(), &0.into()));
    hub.ask(&["atp", "MUG", "--at", "tomorrow"]).expect(2);

    let part = hub.ask(&["release", "cart-7", "--line", "0=1"]).expect(0).out;
    assert_eq!(cells(part.lines().nth(2).unwrap())[3..], ["4", "3", "0", "1", "0"]);
    assert!(hub.ask(&["commit", "cart-7"]).expect(0).out.starts_with("cart-7 of cart-7: committed\n"));
    hub.ask(&["stock", "move", "MUG", "berlin", "ship", "2", "--reservation", "cart-7"]).expect(0);
    let shown = hub.ask(&["stock", "show", "MUG", "berlin"]).expect(0).out;
    assert_eq!(cells(shown.lines().nth(1).unwrap())[..10], ["berlin", "7", "7", "8", "0", "0", "0", "0", "0", "1"]);
    assert!(shown.lines().any(|row| row.starts_with("cart-7") && row.ends_with("committed")), "{shown}");
    hub.ask(&["release", "cart-7"]).expect(0);
    let late = hub.ask(&["commit", "cart-7"]).expect(1);
    assert!(late.out.contains("released: it can't be committed") && late.err.is_empty(), "{late:?}");
    hub.ask(&["commit", "cart-9"]).expect(1);
    let read = run(folder.path(), &["key", "create", "--name", "r", "--scopes", "read"]).expect(0).out;
    hub.ask_with(read.trim(), &["commit", "cart-7"]).expect(4);

    let ledger = hub.ask(&["stock", "ledger", "MUG", "berlin"]).expect(0).out;
    let what: Vec<&str> = ledger.lines().filter(|row| !row.starts_with(' ')).map(|row| cells(row)[2]).collect();
    let happened = ["stock.counted", "reservation.held", "reservation.released", "reservation.committed"];
    let mut rest = what.iter();
    assert!(happened.iter().all(|one| rest.any(|other| other == one)), "{ledger}");
    assert!(ledger.contains("    cart-7 committed: line 0 of 4: 3 open, 1 released\n"), "{ledger}");
    let first = hub.ask(&["stock", "ledger", "MUG", "berlin", "--limit", "1", "--json"]).expect(0).json_lines();
    assert_eq!((first.len(), &first[0]["document"]["on_hand"]), (1, &10.into()));
}
