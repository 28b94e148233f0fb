//! One run: say it all, wait until all is acknowledged and delivered, show it on the way.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use super::DemoArgs;
use super::measure::{Counter, Counters};
use super::operator::Operator;
use super::orders::file::Survey;
use super::orders::say::say;
use super::orders::totals::Totals;
use super::party::Party;
use super::screen::{Due, Screen};
use super::settle::{self, Progress};
use super::stock::{self, FRONTS, Opening, Sellers};
use super::systems::sender::Lane;
use super::text::{grouped, signed};
use super::traffic::{self, Assortment, Erp, Marketplace, Pace, Shop, Wms};
use super::view::{self, Doings, Headline, Moment, Rates};
use super::world::World;

/// How often it is looked how things stand.
const LOOK: Duration = Duration::from_millis(50);
/// Over how long rates are shown.
const RATE_OVER: Duration = Duration::from_secs(1);
/// How often the operator looks at the dead letters.
const OPERATOR_EVERY: Duration = Duration::from_secs(1);
/// The longest wait for the end, whatever moves.
const END_MAX: Duration = Duration::from_secs(600);

/// A run under way.
pub(crate) struct Session {
    pub(crate) world: World,
    pub(crate) screen: Screen,
    pub(crate) run: String,
    pub(crate) began: Instant,
    /// How long was sent.
    pub(crate) sending: Duration,
    pub(crate) retried: Arc<Counter>,
    history: VecDeque<Moment>,
    /// Set when nothing new is to be said any more.
    stop: Arc<AtomicBool>,
    /// The warehouse ships every order that it hears of, and is done only then.
    ships_all: bool,
    shipping: Option<AbortHandle>,
    /// The sale of scarce articles, while it goes on.
    selling: Option<JoinHandle<()>>,
}

/// What was waited for did not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stuck(pub(crate) Vec<String>);

impl Session {
    pub(crate) fn new(world: World, screen: Screen, run: String) -> Self {
        Self {
            world,
            screen,
            run,
            began: Instant::now(),
            sending: Duration::ZERO,
            retried: Arc::default(),
            history: VecDeque::new(),
            stop: Arc::default(),
            ships_all: false,
            shipping: None,
            selling: None,
        }
    }

    pub(crate) fn systems(&self) -> impl Iterator<Item = (Party, &Counters)> + Clone {
        self.world.systems.iter().map(|system| (system.party, &*system.counters))
    }

    pub(crate) fn moment(&self) -> Moment {
        let hub = self.world.hub();
        let sale = self.world.sale.as_ref().map(|sale| sale.tally().sums());
        Moment::of(self.systems(), hub.stats().tallies(), &hub.stats().commit, sale)
    }

    pub(crate) fn doings(&self) -> Doings {
        Doings { retried: self.retried.get() }
    }

    /// Says everything, made up or from the file, and waits until it has arrived everywhere.
    pub(crate) async fn run(&mut self, args: &DemoArgs, survey: Option<Survey>) -> anyhow::Result<Result<(), Stuck>> {
        self.began = Instant::now();
        let operator = args.faults.then(|| self.operate());
        let mut tasks = JoinSet::new();
        let mut lanes = Vec::new();
        let phase: Box<Phase> = match survey {
            Some(survey) => {
                let Totals { invoices, stock_codes, customers, .. } = survey.totals;
                let webhooks = invoices + stock_codes + customers;
                self.say_file(args, survey, &mut tasks, &mut lanes)?;
                Box::new(move |since, session| {
                    let said = session.world.systems[Party::Shop.index()].counters.finished.get();
                    format!("{} s, {} of {} webhooks", since.as_secs(), grouped(said), grouped(webhooks))
                })
            }
            None => {
                self.make_up(args, &mut tasks, &mut lanes).await?;
                let whole = args.duration.as_secs_f64();
                Box::new(move |since, _| format!("{} s of {whole} s", since.as_secs()))
            }
        };
        let sending = async {
            while let Some(task) = tasks.join_next().await {
                task.context("a system ended in a panic")??;
            }
            anyhow::Ok(())
        };
        if let Some(sent) = self.watch(&*phase, None, sending).await? {
            sent?;
        }
        drop(tasks);
        self.sending = self.began.elapsed();
        for system in &self.world.systems {
            if let Some(faults) = &system.faults {
                faults.end_outages();
            }
        }
        let stuck = self.settle(args.faults).await?;
        self.world.give_up();
        if let Some(shipping) = self.shipping.take() {
            // It would wait for further orders, and its connections with it.
            shipping.abort();
        }
        for lane in lanes {
            lane.drain().await;
        }
        if let Some(operator) = operator {
            operator.abort();
        }
        Ok(match stuck {
            Some(stuck) => Err(stuck),
            None => Ok(()),
        })
    }

    async fn make_up(&mut self, args: &DemoArgs, tasks: &mut Tasks, lanes: &mut Vec<Lane>) -> anyhow::Result<()> {
        let run = run_id();
        let assortment = Assortment { entities: args.entities, run };
        let to_ship = self.world.to_ship.take();
        let mut sellers = None;
        if let Some(sale) = &self.world.sale {
            let desk = |party| self.world.desk(party, sale);
            let [shop, marketplace] = FRONTS.map(desk);
            let (fronts, shelves) = ([shop?, marketplace?], desk(Party::Wms)?);
            let all = Sellers { fronts, shelves, seed: args.seed, carts_per_s: args.carts };
            all.prepare(run).await;
            sellers = Some(all);
        }
        let began = Instant::now();
        self.began = began;
        if let Some(sellers) = sellers {
            let opening = Opening { began, duration: args.duration, stop: self.stop.clone(), run };
            self.selling = Some(sellers.hold(opening));
        }
        let mut start = |party: Party, traffic: Box<dyn traffic::Traffic>| -> anyhow::Result<()> {
            let lane = self.world.lane(party)?;
            let pace = Pace {
                per_s: f64::from(args.rate) * f64::from(party.share_percent()) / 100.0,
                began,
                duration: args.duration,
                reorder: args.faults.then_some(args.seed ^ party.index() as u64),
                stop: self.stop.clone(),
            };
            let counters = self.world.systems[party.index()].counters.clone();
            let driving = traffic::drive(pace, traffic, lane.input(), counters);
            tasks.spawn(async move {
                driving.await;
                Ok(())
            });
            lanes.push(lane);
            Ok(())
        };
        start(Party::Shop, Box::new(Shop::new(assortment.clone(), args.seed)))?;
        start(Party::Marketplace, Box::new(Marketplace::new(assortment.clone(), args.seed)))?;
        start(Party::Erp, Box::new(Erp::new(assortment.clone(), args.seed)))?;
        let to_ship = to_ship.context("the warehouse hears no orders")?;
        start(Party::Wms, Box::new(Wms::new(assortment, args.seed, to_ship)))
    }

    fn say_file(
        &mut self,
        args: &DemoArgs,
        survey: Survey,
        tasks: &mut Tasks,
        lanes: &mut Vec<Lane>,
    ) -> anyhow::Result<()> {
        let path = args.orders.clone().unwrap_or_default();
        let (shop, wms) = (self.world.lane(Party::Shop)?, self.world.lane(Party::Wms)?);
        let counters = self.world.systems[Party::Shop.index()].counters.clone();
        let (to_shop, stop, run) = (shop.input(), self.stop.clone(), run_id());
        tasks.spawn(async move {
            let saying = tokio::task::spawn_blocking(move || say(&path, survey, run, (&to_shop, &counters), &stop));
            Ok(saying.await.context("reading the orders ended in a panic")??)
        });
        let to_ship = self.world.to_ship.take().context("the warehouse hears no orders")?;
        let counters = self.world.systems[Party::Wms.index()].counters.clone();
        self.shipping = Some(tokio::spawn(traffic::ship(run, to_ship, wms.input(), counters)).abort_handle());
        self.ships_all = true;
        lanes.extend([shop, wms]);
        Ok(())
    }

    fn operate(&self) -> JoinHandle<()> {
        let mut operator = Operator::new(self.world.api.clone(), self.retried.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(OPERATOR_EVERY).await;
                if let Err(error) = operator.round().await {
                    tracing::warn!(error = format!("{error:#}"), "the operator's round failed; there will be another");
                }
            }
        })
    }

    /// Waits until everything that was said is acknowledged, and everything published is settled.
    async fn settle(&mut self, operated: bool) -> anyhow::Result<Option<Stuck>> {
        let counters: Vec<_> = self.world.systems.iter().map(|system| system.counters.clone()).collect();
        let ships_all = self.ships_all;
        let hub = self.world.hub();
        let selling = self.selling.take();
        let over = selling.as_ref().map(JoinHandle::abort_handle);
        let (sale, copies, api) = (self.world.sale.clone(), self.world.copies(), self.world.api.clone());
        let settled = async move {
            if let Some(selling) = selling
                && let Err(error) = selling.await
            {
                tracing::error!(%error, "the sale ended in a panic");
            }
            loop {
                let tallies = hub.stats().tallies();
                if settle::is_all(&tallies, &counters, ships_all) {
                    let Some(sale) = &sale else { return true };
                    // A hold that has run out counts no more at once, and is told of a little later.
                    match stock::audit::is_told(&api, sale, &copies).await {
                        // What was published while the fronts were looked at has to arrive, too.
                        Ok(true) => {
                            let now = hub.stats().tallies();
                            if now.published == tallies.published && settle::is_all(&now, &counters, ships_all) {
                                return true;
                            }
                        }
                        Ok(false) => {}
                        Err(error) => tracing::warn!(error = format!("{error:#}"), "the fronts can't be compared"),
                    }
                }
                // Without an operator a dead letter stays one.
                if !operated && tallies.destinations.values().any(|t| t.dead > 0) {
                    return false;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let phase = |_: Duration, session: &Self| {
            let tallies = session.world.hub().stats().tallies();
            let pending: i64 =
                Party::ALL.iter().map(|p| settle::standing(&tallies, *p).pending(tallies.published)).sum();
            format!("settling: {} deliveries pending", signed(pending))
        };
        let settled = self.watch(&phase, Some(END_MAX), settled).await?;
        if let Some(selling) = over {
            // Nobody waits for it any more where it is stuck.
            selling.abort();
        }
        match settled {
            Some(true) => Ok(None),
            Some(false) | None => Ok(Some(Stuck(self.what_is_stuck()))),
        }
    }

    fn what_is_stuck(&self) -> Vec<String> {
        let mut stuck = settle::open(&self.world.hub().stats().tallies());
        for (party, counters) in self.systems() {
            let (offered, finished) = (counters.offered.get(), counters.finished.get());
            if offered != finished {
                stuck.push(format!("{}: {} changes are not acknowledged", party.name(), grouped(offered - finished)));
            }
        }
        stuck.extend(self.world.hub().stats().readiness().stuck);
        stuck
    }

    /// Shows how things go until the work is done. Nothing where it is stuck, takes too long, or was interrupted
    /// twice: the first time only ends the saying of anything new.
    async fn watch<T>(
        &mut self,
        phase: &Phase,
        within: Option<Duration>,
        work: impl Future<Output = T>,
    ) -> anyhow::Result<Option<T>> {
        let mut work = std::pin::pin!(work);
        let mut looks = tokio::time::interval(LOOK);
        let mut progress = Progress::new();
        let since = Instant::now();
        loop {
            tokio::select! {
                done = work.as_mut() => return Ok(Some(done)),
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted.context("signals can't be heard")?;
                    if self.stop.swap(true, Ordering::Relaxed) {
                        return Ok(None);
                    }
                }
                _ = looks.tick() => {
                    let moment = self.show(phase)?;
                    let answered = self.systems().map(|(_, c)| c.finished.get()).sum();
                    let late = within.is_some_and(|within| since.elapsed() > within);
                    if late || progress.is_stuck(moment.tallies(), answered) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn show(&mut self, phase: &Phase) -> anyhow::Result<Moment> {
        let moment = self.moment();
        self.history.push_back(moment.clone());
        // One beyond the time is kept, so that rates are over at least that long.
        while self.history.get(1).is_some_and(|then| moment.at.duration_since(then.at) > RATE_OVER) {
            self.history.pop_front();
        }
        let due = self.screen.due();
        if due == Due::Nothing {
            return Ok(moment);
        }
        let then = self.history.front().unwrap_or(&moment);
        let headline = Headline { run: self.run.clone(), phase: phase(self.began.elapsed(), self) };
        if let Due::Table { colour } = due {
            let rates = Rates::Since(then);
            let lines = view::table(&headline, &moment, rates, self.systems(), self.doings(), colour);
            self.screen.draw(&lines).context("the terminal can't be written")?;
        } else {
            let line = view::line(&headline, &moment, then, self.systems());
            self.screen.say(&[line]).context("the output can't be written")?;
        }
        Ok(moment)
    }
}

/// Says in a few words what is being done.
type Phase = dyn Fn(Duration, &Session) -> String;
type Tasks = JoinSet<anyhow::Result<()>>;

/// What tells the ids of this run from those of any other.
fn run_id() -> u64 {
    lockstep_hub::now_us().unsigned_abs()
}
