//! `lockstep leakage`: what it costs to tell systems of a sale only now and then.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::demo::text;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Style, Table};
use crate::remote::{Remote, RemoteArgs};

/// The seconds of a day.
const DAY_S: f64 = 86_400.0;
/// The metric with the hub's lag: from a delivery's receipt to its acknowledged delivery at a destination.
const LAG_METRIC: &str = "lockstep_end_to_end_seconds";

/// Say what selling the same item twice costs a day where stock is synchronized at an interval, and what with the lag of
/// this hub.
#[derive(Debug, Args)]
pub struct LeakageArgs {
    /// Orders a day.
    #[arg(long, value_name = "COUNT", default_value_t = 500.0, value_parser = amount)]
    orders_per_day: f64,
    /// How often stock is synchronized today, such as 15m.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = text::duration)]
    interval: Duration,
    /// What an order is worth, in any currency.
    #[arg(long, value_name = "AMOUNT", default_value_t = 1_500.0, value_parser = amount)]
    order_value: f64,
    /// Which part of the orders is oversold at that interval, such as 2%.
    #[arg(long, value_name = "SHARE", default_value = "2%", value_parser = share)]
    oversell_rate: f64,
    /// What a customer is worth over the years, in the same currency.
    #[arg(long, value_name = "AMOUNT", default_value_t = 8_000.0, value_parser = amount)]
    lifetime_value: f64,
    /// Which part of the customers whose order is cancelled so does not come back, such as 30%.
    #[arg(long, value_name = "SHARE", default_value = "30%", value_parser = share)]
    churn: f64,
    /// The lag to compare with, such as 50ms; without it the one that the hub has measured.
    #[arg(long, value_name = "DURATION", value_parser = text::duration)]
    lag: Option<Duration>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// What oversold orders cost a day.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Cost {
    orders: f64,
    oversold: f64,
    leakage: f64,
}

/// The lag, and where it is from.
#[derive(Clone, Debug, Serialize)]
struct Lag {
    mean_s: f64,
    /// 99 of 100 deliveries took no longer; unknown where it was given.
    p99_max_s: Option<f64>,
    deliveries: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Answer {
    interval_s: f64,
    intervals_per_day: f64,
    cost_of_one: f64,
    at_the_interval: Cost,
    whole_orders_per_interval: Cost,
    lag: Option<Lag>,
    at_the_lag: Option<Cost>,
    /// Why there is no lag.
    without_lag: Option<String>,
}

/// Runs the command.
pub async fn run(args: &LeakageArgs, output: &Output) -> Result<Exit, Failure> {
    if args.interval.is_zero() {
        return Err(Failure::usage("interval", "--interval must be longer than 0, such as 15m"));
    }
    let (lag, without_lag) = match args.lag {
        Some(lag) => (Some(Lag { mean_s: lag.as_secs_f64(), p99_max_s: None, deliveries: None }), None),
        None => match measured(&args.remote).await {
            Ok(Some(lag)) => (Some(lag), None),
            Ok(None) => (None, Some(format!("the hub at {} has delivered nothing yet", args.remote.url))),
            // Without a hub the interval's cost is still of use.
            Err(failure) if failure.exit == Exit::Unreachable => (None, Some(failure.message)),
            Err(failure) => return Err(failure),
        },
    };
    let answer = args.answer(lag, without_lag);
    if output.is_json() {
        output.json(&answer)?
    } else {
        print(args, &answer, output)?
    }
    Ok(Exit::Done)
}

impl LeakageArgs {
    fn answer(&self, lag: Option<Lag>, without_lag: Option<String>) -> Answer {
        let interval_s = self.interval.as_secs_f64();
        let intervals_per_day = DAY_S / interval_s;
        let cost_of_one = self.order_value + self.churn * self.lifetime_value;
        let cost = |orders: f64, rate: f64| {
            let oversold = orders * rate;
            Cost { orders, oversold, leakage: oversold * cost_of_one }
        };
        let whole = (self.orders_per_day / intervals_per_day).floor() * intervals_per_day;
        // Nothing is sold more than always.
        let rate = |lag: &Lag| (self.oversell_rate * lag.mean_s / interval_s).min(1.0);
        Answer {
            interval_s,
            intervals_per_day,
            cost_of_one,
            at_the_interval: cost(self.orders_per_day, self.oversell_rate),
            whole_orders_per_interval: cost(whole, self.oversell_rate),
            at_the_lag: lag.as_ref().map(|lag| cost(self.orders_per_day, rate(lag))),
            lag,
            without_lag,
        }
    }
}

fn print(args: &LeakageArgs, answer: &Answer, output: &Output) -> Result<(), Failure> {
    let mut table = Table::new(&["stock is told", "orders/day", "oversold/day", "leakage/day"]);
    let mut row = |style, name: String, cost: &Cost| {
        table.styled_row(style, [name, number(cost.orders), number(cost.oversold), number(cost.leakage)]);
    };
    let interval = humantime(answer.interval_s);
    row(None, format!("every {interval}"), &answer.at_the_interval);
    row(Some(Style::Dim), "  only whole orders per interval".to_owned(), &answer.whole_orders_per_interval);
    if let (Some(lag), Some(cost)) = (&answer.lag, &answer.at_the_lag) {
        row(Some(Style::Green), format!("after {}", humantime(lag.mean_s)), cost);
    }
    output.text(&table.render(output))?;
    let say = |text: String| output.line(&text);
    say(String::new())?;
    say("leakage a day = orders a day x oversell rate x (order value + churn x lifetime value)".to_owned())?;
    say(format!(
        "              = {} x {} x ({} + {} x {}) = {}",
        number(args.orders_per_day),
        percent(args.oversell_rate),
        number(args.order_value),
        percent(args.churn),
        number(args.lifetime_value),
        number(answer.at_the_interval.leakage),
    ))?;
    say(String::new())?;
    say("It assumes that:".to_owned())?;
    say(format!("- the oversell rate is that of an interval of {interval};"))?;
    say("- an oversold order is cancelled: its whole value is lost, and nothing of it is sold again;".to_owned())?;
    say("- the customers who leave for it lose their lifetime value at once and whole;".to_owned())?;
    say("- orders come evenly over 24 hours.".to_owned())?;
    say(format!(
        "The second line counts whole orders of an interval only: {} a day fall into {} intervals, {} of them in each,\n\
         and the fraction is dropped. A figure that is lower than the first line was reckoned so.",
        number(args.orders_per_day),
        number(answer.intervals_per_day),
        number((args.orders_per_day / answer.intervals_per_day).floor()),
    ))?;
    match (&answer.lag, &answer.without_lag) {
        (Some(lag), _) => {
            let whence = match (lag.deliveries, lag.p99_max_s) {
                (Some(count), Some(p99)) if p99.is_finite() => {
                    format!("the mean of {count} deliveries of this hub; 99 of 100 took {} at most", humantime(p99))
                }
                (Some(count), _) => format!("the mean of {count} deliveries of this hub"),
                _ => "as given".to_owned(),
            };
            say(format!(
                "A lag of {} ({whence}) leaves the rate in proportion: who buys while a sale is not known elsewhere\n\
                 may get what is sold. Orders that are promised by reservation are not oversold at any lag.",
                humantime(lag.mean_s)
            ))?;
        }
        (None, Some(why)) => say(format!("No lag to compare with: {why}. Start a hub, or give --lag."))?,
        (None, None) => {}
    }
    Ok(())
}

/// The lag that a hub has measured; `None` where it has delivered nothing yet.
async fn measured(remote: &RemoteArgs) -> Result<Option<Lag>, Failure> {
    let text = Remote::new(remote)?.get_text("/metrics").await?;
    Ok(lag_of(&text))
}

/// The lag in a text of metrics.
fn lag_of(text: &str) -> Option<Lag> {
    let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
    let of = |suffix: &str| {
        let name = format!("{LAG_METRIC}{suffix}");
        text.lines().find(|line| line.strip_prefix(&name).is_some_and(|rest| rest.starts_with(' '))).and_then(value)
    };
    let (sum_s, count) = (of("_sum")?, of("_count")?);
    if count == 0.0 {
        return None;
    }
    let bucket = |line: &str| {
        let rest = line.strip_prefix(LAG_METRIC)?.strip_prefix("_bucket{le=\"")?;
        let (to, below) = rest.split_once("\"} ")?;
        Some((to.parse::<f64>().unwrap_or(f64::INFINITY), below.parse::<f64>().ok()?))
    };
    let p99 = text.lines().filter_map(bucket).find(|(_, below)| *below >= count * 0.99).map(|(to, _)| to);
    Some(Lag { mean_s: sum_s / count, p99_max_s: p99, deliveries: Some(count as u64) })
}

fn amount(text: &str) -> Result<f64, String> {
    let plain = text.replace([',', '_'], "");
    let amount: f64 = plain.parse().map_err(|_| "must be a number".to_owned())?;
    if amount.is_finite() && amount >= 0.0 { Ok(amount) } else { Err("must be 0 or more".to_owned()) }
}

/// `2%` or `0.02`.
fn share(text: &str) -> Result<f64, String> {
    let share = match text.trim().strip_suffix('%') {
        Some(percent) => amount(percent.trim())? / 100.0,
        None => amount(text)?,
    };
    if share <= 1.0 { Ok(share) } else { Err("must be at most 100%, such as 2% or 0.02".to_owned()) }
}

/// With separators, and as many decimals as it has, two at most.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if value > 0.0 && text == "0" {
        return "under 0.01".to_owned();
    }
    if decimals.is_empty() { out } else { format!("{out}.{decimals}") }
}

fn percent(share: f64) -> String {
    format!("{} %", number(share * 100.0))
}

fn humantime(seconds: f64) -> String {
    match seconds {
        s if s >= 3_600.0 => format!("{} h", number(s / 3_600.0)),
        s if s >= 60.0 => format!("{} min", number(s / 60.0)),
        s if s >= 1.0 => format!("{} s", number(s)),
        s => format!("{} ms", number(s * 1e3)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> LeakageArgs {
        LeakageArgs {
            orders_per_day: 500.0,
            interval: Duration::from_secs(900),
            order_value: 1_500.0,
            oversell_rate: 0.02,
            lifetime_value: 8_000.0,
            churn: 0.3,
            lag: None,
            remote: RemoteArgs { url: "http://127.0.0.1:1".into(), key: None },
        }
    }

    #[test]
    fn ten_oversold_orders_cost_39_000_and_37_440_drops_the_fraction_of_an_order() {
        let answer = args().answer(None, None);
        assert_eq!(answer.intervals_per_day, 96.0);
        assert_eq!(answer.cost_of_one, 3_900.0);
        assert_eq!((answer.at_the_interval.oversold, answer.at_the_interval.leakage), (10.0, 39_000.0));
        assert_eq!(answer.whole_orders_per_interval.orders, 480.0);
        assert!((answer.whole_orders_per_interval.leakage - 37_440.0).abs() < 1e-6);
    }

    #[test]
    fn the_rate_goes_with_the_lag() {
        let lag = Lag { mean_s: 0.009, p99_max_s: None, deliveries: None };
        let cost = args().answer(Some(lag), None).at_the_lag.unwrap();
        assert!((cost.leakage - 0.39).abs() < 1e-9, "a hundred-thousandth of the interval: {cost:?}");
        let lag = Lag { mean_s: 1e9, p99_max_s: None, deliveries: None };
        assert_eq!(args().answer(Some(lag), None).at_the_lag.unwrap().oversold, 500.0, "no more than all");
    }

    #[test]
    fn the_lag_is_read_from_the_histogram() {
        let text = "# HELP lockstep_end_to_end_seconds x\nlockstep_end_to_end_seconds_bucket{le=\"0.001\"} 10\n\
                    lockstep_end_to_end_seconds_bucket{le=\"0.005\"} 99\nlockstep_end_to_end_seconds_bucket{le=\"+Inf\"} 100\n\
                    lockstep_end_to_end_seconds_sum 0.4\nlockstep_end_to_end_seconds_count 100\n";
        let lag = lag_of(text).unwrap();
        assert_eq!((lag.mean_s, lag.p99_max_s, lag.deliveries), (0.004, Some(0.005), Some(100)));
        assert!(lag_of(&text.replace("count 100", "count 0")).is_none());
        assert!(lag_of("").is_none());
    }

    #[test]
    fn shares_and_amounts_are_read_and_refused() {
        assert_eq!((share("2%"), share("0.02"), share("30 %")), (Ok(0.02), Ok(0.02), Ok(0.3)));
        assert!(share("200%").is_err() && share("-1%").is_err() && share("x").is_err());
        assert_eq!(amount("1,500"), Ok(1_500.0));
        assert!(amount("NaN").is_err() && amount("inf").is_err());
    }

    #[test]
    fn numbers_are_printed_for_people() {
        assert_eq!(number(37_440.0), "37,440");
        assert_eq!(number(9.6), "9.6");
        assert_eq!(number(1_234_567.891), "1,234,567.89");
        assert_eq!(number(0.0004), "under 0.01");
        assert_eq!(humantime(900.0), "15 min");
    }
}
