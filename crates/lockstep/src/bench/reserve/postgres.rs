//! The same work on PostgreSQL, in the best forms that people use: prepared statements, rows that update in place,
//! no index that the work does not need. What the hub does besides is left out: no idempotency beyond the primary key,
//! no expiry, no events.

use anyhow::{Context, Result, bail};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};

use super::calls::HOLD_S;
use super::work::{CHANNEL, Case, ON_HAND, Seller, sku};

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
    /// A transaction with `SELECT ... FOR UPDATE`.
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

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("can't connect to PostgreSQL")?;
    // It ends with its client; what breaks it is the error of the statement under way.
    tokio::spawn(connection);
    Ok(client)
}

/// What the server says it is, with what decides how safe and how fast it is.
pub(super) async fn server(url: &str) -> Result<String> {
    let client = connect(url).await?;
    let mut of = Vec::new();
    for name in ["server_version", "synchronous_commit", "fsync", "wal_sync_method", "shared_buffers"] {
        let value: String = client.query_one("SELECT current_setting($1)", &[&name]).await?.get(0);
        if ["fsync", "synchronous_commit"].contains(&name) && value == "off" {
            bail!("`{name}` is off: what it answers would not be durable, as the hub's is");
        }
        of.push(format!("{name} {value}"));
    }
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
    client.batch_execute("VACUUM ANALYZE lockstep_bench_stock; CHECKPOINT").await?;
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

/// Whether what was taken is what was reserved: a benchmark of something wrong would say nothing.
pub(super) async fn check(url: &str) -> Result<()> {
    let client = connect(url).await?;
    let sums = "SELECT (SELECT coalesce(sum(held), 0)::bigint FROM lockstep_bench_stock),
        (SELECT count(*) FROM lockstep_bench_reservation WHERE sku IS NOT NULL)
            + (SELECT count(*) FROM lockstep_bench_line)";
    let row = client.query_one(sums, &[]).await?;
    let (held, reserved): (i64, i64) = (row.get(0), row.get(1));
    if held != reserved || held == 0 {
        bail!("PostgreSQL holds {held} for {reserved} lines: the statements are wrong");
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
                let transaction = self.client.transaction().await?;
                let free = transaction.query(lock, &[&skus]).await?;
                if free.len() as u64 != lines || free.iter().any(|row| row.get::<_, i64>(0) < 1) {
                    bail!("there is not enough");
                }
                // Both on their way before either is answered.
                let taking: [&(dyn ToSql + Sync); 1] = [&skus];
                let keeping: [&(dyn ToSql + Sync); 4] = [&id, &skus, &CHANNEL, &hold_s];
                let (taking, keeping) = (transaction.execute(take, &taking), transaction.execute(keep, &keeping));
                let (_, written) = tokio::try_join!(taking, keeping)?;
                transaction.commit().await?;
                written
            }
        };
        if written != lines {
            bail!("{written} of {lines} lines were reserved");
        }
        Ok(())
    }
}
