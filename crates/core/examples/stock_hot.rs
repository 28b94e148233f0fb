//! Two million decisions about one SKU: `cargo build --release -p lockstep-core --example stock_hot`, then
//! `time target/release/examples/stock_hot`.

mod stock_run;

fn main() {
    stock_run::reserve_and_commit(1, 1_000_000);
}
