//! Two million decisions about 10,000 SKUs: `cargo build --release -p lockstep-core --example stock_wide`, then
//! `time target/release/examples/stock_wide`.

mod stock_run;

fn main() {
    stock_run::reserve_and_commit(10_000, 1_000_000);
}
