//! The same work on PostgreSQL, in the best forms that people use: prepared statements, rows that update in place,
//! no index that the work does not need. What the hub does besides is left out: no idempotency beyond the primary key,
//! no expiry, no events. Whoever runs it decides by the URL whether it goes over TCP or over a unix socket, and the
//! figures say which: the hub's clients go over TCP.

use anyhow::{Context, Result, bail};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};

use super::calls::HOLD_S;
use super::work::{CHANNEL, Case, ON_HAND, Seller, Told, sku};

/// Half of each page is left free, so that an update needs no entry in the index (a heap-only tuple).
const TABLES: &str = "
    DROP TABLE IF EXISTS lockstep_bench_line, lockstep_bench_reservation, lockstep_bench_stock;
    CREATE TABLE lockstep_bench_stock (
        sku text PRIMARY KEY, on_hand bigint NOT NULL, held bigint NOT NULL
    ) WITH (fillfactor = 50);
    CREATE TABLE lockstep_bench_reservation (
        id text PRIMARY KEY, owner text NOT NULL, channel text NOT NULL, expires_at timestamptz NOT NULL,
        sku text, quantity bigint
    );
    CREATE TABLE lockstep_bench_line (
        reservation text, line bigint, sku text NOT NULL, quantity bigint NOT NULL, PRIMARY KEY (reservation, line)
    );";

/// One line: one row of stock, one row of reservations.
const ONE_STATEMENT: &str = "
    WITH taken AS (
        UPDATE lockstep_bench_stock SET held = held + 1 WHERE sku = $2::text AND on_hand - held >= 1 RETURNING sku
    )
    INSERT INTO lockstep_bench_reservation
    SELECT $1::text, $1::text, $3::text, now() + $4::float8 * interval '1 second', sku, 1 FROM taken";

/// Several lines, all or nothing: locked in one order, so that two orders never wait for each other.
const ORDER_STATEMENT: &str = "
    WITH locked AS MATERIALIZED (
        SELECT sku, on_hand - held AS free FROM lockstep_bench_stock WHERE sku = ANY($2::text[]) ORDER BY sku FOR UPDATE
    ), enough AS (
        SELECT count(*) = cardinality($2::text[]) AS yes FROM locked WHERE free >= 1
    ), taken AS (
        UPDATE lockstep_bench_stock AS stock SET held = held + 1 FROM enough
        WHERE enough.yes AND stock.sku = ANY($2::text[]) RETURNING stock.sku
    ), kept AS (
        INSERT INTO lockstep_bench_reservation
        SELECT $1::text, $1::text, $3::text, now() + $4::float8 * interval '1 second' FROM enough WHERE yes
    )
    INSERT INTO lockstep_bench_line SELECT $1::text, row_number() OVER (), sku, 1 FROM taken";

const LOCK: &str =
    "SELECT on_hand - held FROM lockstep_bench_stock WHERE sku = ANY($1::text[]) ORDER BY sku FOR UPDATE";
const TAKE: &str = "UPDATE lockstep_bench_stock SET held = held + 1 WHERE sku = ANY($1::text[])";
const KEEP_ONE: &str = "
    INSERT INTO lockstep_bench_reservation SELECT $1::text, $1::text, $3::text, now() + $4::float8 * interval '1 second', ($2::text[])[1], 1";
const KEEP_ORDER: &str = "
    WITH kept AS (
        INSERT INTO lockstep_bench_reservation SELECT $1::text, $1::text, $3::text, now() + $4::float8 * interval '1 second'
    )
    INSERT INTO lockstep_bench_line SELECT $1::text, line, sku, 1 FROM unnest($2::text[]) WITH ORDINALITY AS of (sku, line)";

/// How it is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// One statement.
    Statement,
    /// A transaction with `SELECT ... FOR UPDATE`, in two round trips.
    ForUpdate,
}

impl Way {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Statement, Self::ForUpdate];
}

/// A connection that reserves.
pub(super) struct Connection {
    client: Client,
    lane: u64,
    number: u64,
    case: Case,
    how: How,
}

enum How {
    Statement(Statement),
    ForUpdate { lock: Statement, take: Statement, keep: Statement },
}

/// What is said of the server.
const SETTINGS: [&str; 8] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "plan_cache_mode",
];
/// Without these an answer is not durable: a crash may take it back, or tear the page that it is on.
const DURABLE: [&str; 3] = ["fsync", "synchronous_commit", "full_page_writes"];

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("can't connect to PostgreSQL")?;
    // It ends with its client; what breaks it is the error of the statement under way.
    tokio::spawn(connection);
    Ok(client)
}

/// What the server says it is, with what decides how safe and how fast it is, and how it is spoken to.
pub(super) async fn server(url: &str) -> Result<String> {
    let client = connect(url).await?;
    let mut of = Vec::new();
    for name in SETTINGS {
        let value: String = client.query_one("SELECT current_setting($1)", &[&name]).await?.get(0);
        if DURABLE.contains(&name) && value == "off" {
            bail!("`{name}` is off: what it answers would not be durable, as the hub's is");
        }
        of.push(format!("{name} {value}"));
    }
    let over_tcp: bool = client.query_one("SELECT inet_server_addr() IS NOT NULL", &[]).await?.get(0);
    of.push(if over_tcp { "over TCP" } else { "over a unix socket" }.to_owned());
    Ok(of.join(", "))
}

/// Makes the tables anew, and connects.
pub(super) async fn sellers(url: &str, case: Case, way: Way, (skus, clients): (u64, u64)) -> Result<Vec<Connection>> {
    let client = connect(url).await?;
    client.batch_execute(TABLES).await.context("the tables can't be made")?;
    let all: Vec<String> = (0..skus).map(sku).collect();
    let insert = "INSERT INTO lockstep_bench_stock SELECT sku, $2, 0 FROM unnest($1::text[]) AS of (sku)";
    client.execute(insert, &[&all, &ON_HAND]).await.context("the stock can't be counted")?;
    // So that neither the planner nor the disk has what the measured time should not pay for.
    for statement in ["VACUUM ANALYZE lockstep_bench_stock", "CHECKPOINT"] {
        client.batch_execute(statement).await.with_context(|| format!("`{statement}` failed"))?;
    }
    let mut sellers = Vec::new();
    for lane in 0..clients {
        let client = connect(url).await?;
        let how = match (way, case) {
            (Way::Statement, Case::Orders) => How::Statement(client.prepare(ORDER_STATEMENT).await?),
            (Way::Statement, _) => How::Statement(client.prepare(ONE_STATEMENT).await?),
            (Way::ForUpdate, _) => How::ForUpdate {
                lock: client.prepare(LOCK).await?,
                take: client.prepare(TAKE).await?,
                keep: client.prepare(if case == Case::Orders { KEEP_ORDER } else { KEEP_ONE }).await?,
            },
        };
        sellers.push(Connection { client, lane, number: 0, case, how });
    }
    Ok(sellers)
}

/// Whether what it holds is what clients were told, of every SKU: a benchmark of something wrong would say nothing.
pub(super) async fn check(url: &str, told: Told) -> Result<()> {
    let client = connect(url).await?;
    let sums = "
        WITH lines AS (
            SELECT sku, quantity FROM lockstep_bench_reservation WHERE sku IS NOT NULL
            UNION ALL SELECT sku, quantity FROM lockstep_bench_line
        ), reserved AS (SELECT sku, count(*) AS lines, sum(quantity) AS quantity FROM lines GROUP BY sku)
        SELECT coalesce(sum(held), 0)::bigint, coalesce(sum(lines), 0)::bigint,
            (SELECT count(*) FROM lockstep_bench_reservation), count(*) FILTER (WHERE held <> coalesce(quantity, 0))
        FROM lockstep_bench_stock FULL JOIN reserved USING (sku)";
    let row = client.query_one(sums, &[]).await?;
    let (held, lines, reservations, wrong): (i64, i64, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
    let has = [held, lines, reservations].map(|count| u64::try_from(count).unwrap_or(0));
    if has != [told.lines, told.lines, told.reservations] || wrong != 0 || held == 0 {
        bail!(
            "PostgreSQL holds {held} for {lines} lines of {reservations} reservations, {wrong} SKUs wrongly; clients were \
             told of {} lines of {} reservations",
            told.lines,
            told.reservations
        );
    }
    Ok(())
}

impl Seller for Connection {
    async fn reserve(&mut self, skus: &[u64]) -> Result<()> {
        self.number += 1;
        let id = format!("{}-{}-{}", self.case.name(), self.lane, self.number);
        let mut skus: Vec<String> = skus.iter().map(|number| sku(*number)).collect();
        let (lines, hold_s) = (skus.len() as u64, HOLD_S as f64);
        let written = match &self.how {
            How::Statement(statement) if self.case == Case::Orders => {
                self.client.execute(statement, &[&id, &skus, &CHANNEL, &hold_s]).await?
            }
            How::Statement(statement) => self.client.execute(statement, &[&id, &skus[0], &CHANNEL, &hold_s]).await?,
            How::ForUpdate { lock, take, keep } => {
                skus.sort_unstable();
                // Two round trips: what needs no answer before it is sent with what does. While rows are locked the others
                // wait, so each round trip less counts for all.
                let locking: [&(dyn ToSql + Sync); 1] = [&skus];
                let (_, free) =
                    tokio::try_join!(biased; self.client.batch_execute("BEGIN"), self.client.query(lock, &locking))?;
                if free.len() as u64 != lines || free.iter().any(|row| row.get::<_, i64>(0) < 1) {
                    bail!("there is not enough");
                }
                let keeping: [&(dyn ToSql + Sync); 4] = [&id, &skus, &CHANNEL, &hold_s];
                // Where the first fails the others do too, and the commit takes all of it back.
                let (_, written, ()) = tokio::try_join!(biased;
                    self.client.execute(take, &locking),
                    self.client.execute(keep, &keeping),
                    self.client.batch_execute("COMMIT")
                )?;
                written
            }
        };
        if written != lines {
            bail!("{written} of {lines} lines were reserved");
        }
        Ok(())
    }
}
