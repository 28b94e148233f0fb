//! What must hold for stock whatever happens to it, in whatever order: laws over random histories.

mod stock_support;

use std::collections::BTreeMap;

use lockstep_core::stock::record::{CountBasis, MovementKind, ReservationState};
use lockstep_core::stock::{
    Answer, Availability, Command, Count, Item, Limits, Movement, PolicyOf, Question, Reserve, Stock, StockRefusal,
    Unavailable, decide, publish,
};
use proptest::collection::vec;
use proptest::prelude::*;
use stock_support::{MINUTE, Shop};

const SKUS: [&str; 2] = ["A", "B"];
const PLACES: [&str; 2] = ["a", "b"];
const CHANNELS: [&str; 2] = ["shop", "web"];

/// What may happen in a history.
#[derive(Clone, Copy)]
struct Kinds {
    places: usize,
    backorders: bool,
    /// Commands that have another effect when they are given again.
    unrepeatable: bool,
}

const ALL: Kinds = Kinds { places: 2, backorders: true, unrepeatable: true };

/// A command as a random history has it: its times are relative to when it comes.
#[derive(Clone, Debug)]
struct Step {
    minutes: i64,
    number: usize,
    command: Command,
}

fn name(of: &'static [&'static str], count: usize) -> impl Strategy<Value = &'static str> + Clone {
    (0..count).prop_map(move |at| of[at])
}

fn step(kinds: Kinds) -> impl Strategy<Value = Step> {
    let place = move || name(&PLACES, kinds.places);
    let sku = || name(&SKUS, 2);
    let id = || (0..8_u32).prop_map(|n| compact_str::format_compact!("r{n}"));
    let item = (prop_oneof![8 => sku(), 2 => Just("K")], 1..6_i64, proptest::option::weighted(0.2, place()));
    let item = item.prop_map(|(sku, quantity, location)| Item {
        sku: sku.into(),
        quantity,
        location: location.map(Into::into),
    });
    let reserve = (
        id(),
        name(&CHANNELS, 2),
        vec(item, 1..3),
        1..15_i64,
        any::<[bool; 3]>(),
        proptest::option::weighted(0.2, id()),
    );
    let reserve = reserve.prop_map(move |(id, channel, items, minutes, flags, replaces)| {
        Command::Reserve(Reserve {
            owner: id.clone(),
            id,
            channel: channel.into(),
            expires_at_us: minutes * MINUTE,
            items,
            allow_partial: flags[0],
            allow_split: flags[1],
            backorder_until_us: (flags[2] && kinds.backorders).then_some(i64::MAX),
            replaces,
            is_order: false,
        })
    });
    let basis = prop_oneof![Just(CountBasis::OnHand), Just(CountBasis::Available)];
    let count = (sku(), place(), basis, 0..12_i64, -6..7_i64).prop_map(|(sku, location, basis, quantity, at)| {
        let (source, as_of_us) = ("wms".into(), at * MINUTE);
        Command::Count(Count {
            source,
            sku: sku.into(),
            location: location.into(),
            basis,
            quantity,
            as_of_us,
            ..Count::default()
        })
    });
    let kind = prop_oneof![
        Just(MovementKind::Receipt),
        Just(MovementKind::Adjust),
        Just(MovementKind::ReturnDamaged),
        Just(MovementKind::ReturnRestock)
    ];
    let goods = (kind, sku(), place(), 1..8_i64, -6..1_i64, any::<bool>()).prop_map(
        |(kind, sku, location, quantity, at, down)| {
            let quantity = if kind == MovementKind::Adjust && down { -quantity } else { quantity };
            let supply = (kind == MovementKind::Receipt).then(|| "po".into());
            let occurred_at_us = at * MINUTE;
            Command::Move(Movement {
                source: "wms".into(),
                id: "".into(),
                sku: sku.into(),
                location: location.into(),
                kind,
                quantity,
                occurred_at_us,
                supply,
                ..Movement::default()
            })
        },
    );
    let ship = (id(), sku(), place(), 1..6_i64, -6..1_i64).prop_map(|(id, sku, location, quantity, at)| {
        Command::Move(Movement {
            source: "wms".into(),
            id: "".into(),
            sku: sku.into(),
            location: location.into(),
            kind: MovementKind::Ship,
            quantity,
            occurred_at_us: at * MINUTE,
            reservation: Some(id),
            ..Movement::default()
        })
    });
    let unavailable =
        (sku(), place(), -6..1_i64, 0..3_i64, 0..3_i64).prop_map(|(sku, location, at, damaged, blocked)| {
            let as_of_us = at * MINUTE;
            Command::Unavailable(Unavailable {
                sku: sku.into(),
                location: location.into(),
                as_of_us,
                damaged,
                quality_control: 0,
                blocked,
            })
        });
    let some = |max| proptest::option::weighted(0.5, 0..max);
    let policy = (
        name(&CHANNELS, 2),
        0..3_u32,
        sku(),
        place(),
        some(6_i64),
        some(12_i64),
        some(3_i64),
        some(9_i64),
        any::<bool>(),
    );
    let policy = policy.prop_map(move |(channel, level, sku, place, fence, cap, buffer, backorder_limit, only)| {
        let cap = cap.map(|cap| (cap, 10 * MINUTE));
        let locations = (only && kinds.places > 1).then(|| vec![place.into()]);
        let channel = channel.into();
        match level {
            0 => Command::Policy(PolicyOf {
                channel,
                fence,
                cap,
                buffer,
                backorder_limit,
                locations,
                priority: Some(level as i32),
                ..PolicyOf::default()
            }),
            1 => Command::Policy(PolicyOf {
                channel,
                sku: sku.into(),
                fence,
                cap,
                backorder_limit,
                ..PolicyOf::default()
            }),
            _ => Command::Policy(PolicyOf {
                channel,
                sku: sku.into(),
                location: place.into(),
                fence,
                removed: fence.is_none(),
                ..PolicyOf::default()
            }),
        }
    });
    let safety = (sku(), place(), 0..4_i64).prop_map(|(sku, location, quantity)| Command::Safety {
        sku: sku.into(),
        location: location.into(),
        quantity,
    });
    let supply = (sku(), place(), 0..15_i64, 0..50_i64).prop_map(|(sku, location, open, at)| Command::Supply {
        supply: "po".into(),
        sku: sku.into(),
        location: location.into(),
        open,
        eta_us: at * MINUTE,
    });
    let again = move |command: Command| match &command {
        Command::Release { id, .. } | Command::Transfer { id, .. } if !kinds.unrepeatable => {
            Command::Commit { id: id.clone() }
        }
        _ => command,
    };
    let command = prop_oneof![
        10 => reserve,
        4 => id().prop_map(|id| Command::Commit { id }),
        3 => id().prop_map(|id| Command::Release { id, lines: Vec::new() }),
        1 => (id(), 0..3_u32, 1..4_i64)
            .prop_map(move |(id, line, quantity)| again(Command::Release { id, lines: vec![(line, quantity)] })),
        2 => (id(), 1..20_i64).prop_map(|(id, minutes)| Command::Extend { id, expires_at_us: minutes * MINUTE }),
        2 => (id(), 0..3_u32, place(), 1..4_i64).prop_map(move |(id, line, location, quantity)| {
            again(Command::Transfer { id, line, location: location.into(), quantity })
        }),
        2 => (id(), -6..1_i64).prop_map(|(id, at)| Command::Acknowledge { id, location: "".into(), at_us: at * MINUTE }),
        5 => count,
        6 => goods,
        5 => ship,
        2 => unavailable,
        2 => policy,
        1 => safety,
        2 => supply,
        1 => Just(Command::Sku { sku: "K".into(), scale: 0, components: vec![("A".into(), 2), ("B".into(), 1)] }),
    ];
    (0..5_i64, command).prop_map(|(minutes, command)| Step { minutes, number: 0, command })
}

fn history(kinds: Kinds, steps: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(step(kinds), 1..steps).prop_map(|mut steps| {
        (0..).zip(&mut steps).for_each(|(number, step)| step.number = number);
        steps
    })
}

impl Step {
    /// The command at its time, with ids that are its own.
    fn at(&self, now: i64) -> Command {
        let mut command = self.command.clone();
        match &mut command {
            Command::Reserve(reserve) => reserve.expires_at_us += now,
            Command::Extend { expires_at_us, .. } => *expires_at_us += now,
            Command::Acknowledge { at_us, .. } => *at_us += now,
            Command::Count(count) => count.as_of_us += now,
            Command::Unavailable(unavailable) => unavailable.as_of_us += now,
            Command::Supply { eta_us, .. } => *eta_us += now,
            Command::Move(movement) => {
                movement.occurred_at_us += now;
                movement.id = compact_str::format_compact!("m{}", self.number);
            }
            _ => {}
        }
        command
    }
}

fn few() -> Limits {
    Limits { recents_max: 6, ..Limits::default() }
}

fn answers(stock: &mut Stock, now: i64) -> Vec<Availability> {
    let all = ["A", "B", "K"].into_iter().flat_map(|sku| CHANNELS.into_iter().chain(["other"]).map(move |c| (sku, c)));
    let ask = |(sku, channel)| Question { sku, channel, until_us: i64::MAX, holders_max: 0 };
    all.map(|pair| stock.availability(&ask(pair), now)).collect()
}

fn promised(answers: &[Availability]) -> Vec<(i64, i64)> {
    answers.iter().map(|of| (of.atp, of.ato)).collect()
}

/// Everything that would be written of it, by name.
fn images(stock: &Stock) -> BTreeMap<String, bytes::Bytes> {
    let skus = ["A", "B", "K"].into_iter().filter_map(|sku| Some((format!("sku/{sku}"), stock.sku_image(sku)?)));
    let channels = CHANNELS.into_iter().filter_map(|c| Some((format!("channel/{c}"), stock.channel_image(c)?)));
    let ids = (0..8).map(|n| format!("r{n}"));
    let reservations = ids.filter_map(|id| Some((format!("reservation/{id}"), stock.reservation_image(&id)?)));
    skus.chain(channels).chain(reservations).collect()
}

fn loaded(images: &BTreeMap<String, bytes::Bytes>, limits: Limits) -> Stock {
    let mut stock = Stock::new(limits);
    let of = |kind: &'static str| images.iter().filter(move |(name, _)| name.starts_with(kind));
    of("channel").for_each(|(_, image)| stock.load_channel(image.clone()).unwrap());
    of("sku").for_each(|(_, image)| stock.load_sku(image.clone()).unwrap());
    of("reservation").for_each(|(_, image)| stock.load_reservation(image.clone()).unwrap());
    stock
}

/// A second, slow reading of the equations: held and committed from the reservations themselves, and from there every
/// term anew. It knows fences only where they fit.
fn audit(shop: &Shop) {
    let mut stock = shop.stock.clone();
    // What has expired goes to backorders, and is written down here to see it there.
    decide(&mut stock, &Command::Expire { limit: usize::MAX }, shop.now).answer.unwrap();
    let views: Vec<_> = (0..8).filter_map(|n| stock.reservation_view(&format!("r{n}"), shop.now)).collect();
    for of in answers(&mut stock, shop.now).iter().filter(|of| of.components.is_empty() && of.as_of_us.is_some()) {
        let mut sum = 0;
        for at in &of.locations {
            let lines = |state| {
                let views = views.iter().filter(move |view| view.state == state);
                let lines = views.flat_map(|view| &view.lines);
                lines.filter(|l| l.sku == of.sku && l.location == at.location).map(|l| l.open).sum::<i64>()
            };
            let (held, committed) = (lines(ReservationState::Held), lines(ReservationState::Committed));
            let unavailable = at.damaged + at.quality_control + at.blocked;
            assert_eq!((at.held, at.committed), (held, committed));
            assert_eq!(at.atf, at.on_hand - unavailable - at.safety - held - committed);
            assert_eq!(at.shortage, (held + committed - (at.on_hand - unavailable)).max(0));
            let fenced: i64 = at.fenced.iter().map(|(_, remaining, _)| remaining).sum();
            if at.is_eligible {
                assert!(at.usable >= (at.atf - fenced).max(0));
            }
            assert!(at.usable <= at.atf.max(0));
            sum += at.usable;
        }
        let capped = of.cap_remaining.map_or(sum, |cap| cap.min(sum));
        assert_eq!(of.atp, (capped - of.buffer).max(0));
        assert!(of.ato >= of.atp);
    }
}

/// A reservation that is not of what is on order leaves nothing short where it takes from.
fn is_covered(shop: &mut Shop, answer: &Result<Answer, StockRefusal>) {
    let Ok(Answer::Reservation { lines, repeated: false, .. }) = answer else { return };
    for line in lines.iter().filter(|line| !line.location.is_empty()) {
        let asked = shop.ask(&line.sku, "other");
        let at = asked.locations.iter().find(|at| at.location == line.location).unwrap();
        assert!(at.atf >= 0, "{line:?} leaves {}", at.atf);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_is_ever_oversold_and_every_sum_is_right(history in history(ALL, 60)) {
        let mut shop = Shop::with(few());
        for step in &history {
            shop.now += step.minutes * MINUTE;
            let answer = shop.run(&step.at(shop.now));
            is_covered(&mut shop, &answer);
            audit(&shop);
        }
    }

    #[test]
    fn what_is_recorded_folds_to_what_there_is(history in history(ALL, 60), published in vec(any::<bool>(), 60)) {
        let mut shop = Shop::with(few());
        for (step, published) in history.iter().zip(published) {
            shop.now += step.minutes * MINUTE;
            let _ = shop.run(&step.at(shop.now));
            if published {
                shop.publish();
            }
        }
        let live = images(&shop.stock);
        let mut replayed = shop.replayed(few());
        prop_assert_eq!(&images(&replayed), &live);
        let mut read = loaded(&live, few());
        prop_assert_eq!(&images(&read), &live);
        let expected = answers(&mut shop.stock, shop.now);
        prop_assert_eq!(&answers(&mut replayed, shop.now), &expected);
        let of_read = answers(&mut read, shop.now);
        prop_assert_eq!(promised(&of_read), promised(&expected));
        for stock in [&shop.stock, &replayed, &read] {
            prop_assert_eq!(stock.check(0, |_| false), Vec::new());
        }
        // They go on alike, too.
        let mut later = shop.request("r0", &[("A", 1), ("B", 1)]);
        later.expires_at_us += MINUTE;
        let [a, b, c] = [&mut shop.stock, &mut replayed, &mut read].map(|s| decide(s, &Command::Reserve(later.clone()), shop.now));
        prop_assert_eq!(&a, &b);
        prop_assert_eq!(&a, &c);
    }

    #[test]
    fn it_makes_no_difference_when_expiries_are_written_down(
        (places, history) in prop_oneof![
            history(Kinds { backorders: false, ..ALL }, 60).prop_map(|h| (2, h)),
            history(Kinds { places: 1, ..ALL }, 60).prop_map(|h| (1, h)),
        ],
        sweeps in vec(0..4_usize, 60),
    ) {
        let mut never = Shop::with(few());
        let mut often = Shop::with(few());
        let mut at_times = Shop::with(few());
        for (step, sweep) in history.iter().zip(sweeps) {
            for minute in 0..=step.minutes {
                often.now += if minute == 0 { 0 } else { MINUTE };
                often.run(&Command::Expire { limit: 100 }).unwrap();
            }
            at_times.now = often.now;
            never.now = often.now;
            at_times.run(&Command::Expire { limit: sweep }).unwrap();
            let command = step.at(never.now);
            let expected = never.run(&command);
            prop_assert_eq!(&often.run(&command), &expected, "{:?} of {}", &command, places);
            prop_assert_eq!(&at_times.run(&command), &expected);
            let expected = promised(&answers(&mut never.stock, never.now));
            prop_assert_eq!(&promised(&answers(&mut often.stock, never.now)), &expected);
            prop_assert_eq!(&promised(&answers(&mut at_times.stock, never.now)), &expected);
        }
    }

    #[test]
    fn what_comes_twice_has_one_effect(history in history(Kinds { unrepeatable: false, ..ALL }, 60)) {
        let mut once = Shop::with(few());
        let mut twice = Shop::with(few());
        for step in &history {
            once.now += step.minutes * MINUTE;
            twice.now = once.now;
            let command = step.at(once.now);
            let first = once.run(&command);
            prop_assert_eq!(&twice.run(&command), &first);
            let count = twice.records.len();
            let again = twice.run(&command);
            prop_assert_eq!(again.is_ok(), first.is_ok());
            if let Ok(Answer::Reservation { repeated, .. }) = again {
                prop_assert!(repeated, "{:?}", command);
            }
            // What is older than what is known is recorded each time, without an effect.
            prop_assert!(twice.records.len() == count || first == Ok(Answer::Ignored), "{:?}", command);
        }
        prop_assert_eq!(images(&once.stock), images(&twice.stock));
    }

    #[test]
    fn a_transfer_conserves(history in history(ALL, 40), id in 0..8_u32, line in 0..3_u32, to in 0..2_usize, quantity in 1..4_i64) {
        let mut shop = Shop::with(few());
        for step in &history {
            shop.now += step.minutes * MINUTE;
            let _ = shop.run(&step.at(shop.now));
        }
        // What is due to backorders by now is no effect of the transfer.
        shop.run(&Command::Expire { limit: usize::MAX }).unwrap();
        let id = format!("r{id}");
        let before = (shop.sums("A"), shop.sums("B"));
        let open = |shop: &Shop| {
            let lines = shop.stock.reservation_view(&id, shop.now).map(|view| view.lines).unwrap_or_default();
            lines.iter().map(|line| line.open).sum::<i64>()
        };
        let was_open = open(&shop);
        let transfer = Command::Transfer { id: id.as_str().into(), line, location: PLACES[to].into(), quantity };
        let answer = shop.run(&transfer);
        if shop.told(1.min(shop.records.len())) == ["reservation.transferred"] || answer.is_err() {
            prop_assert_eq!((shop.sums("A"), shop.sums("B")), before);
        }
        prop_assert_eq!(open(&shop), was_open);
    }

    #[test]
    fn counts_and_movements_give_the_same_in_any_order(
        counts in vec((0..40_i64, 0..50_i64), 0..4), moves in vec((0..40_i64, -5..9_i64, 0..3_u32), 0..12),
        damages in vec((0..40_i64, 0..4_i64), 0..3), order in vec(any::<u32>(), 20),
    ) {
        let (sku, location) = (|| "A".into(), || "a".into());
        let now = 1_000 * MINUTE;
        let at = |minute: i64| now - minute * MINUTE;
        let mut commands: Vec<Command> = Vec::new();
        // At most one of each kind at a time: which of two would stand is a person's to say.
        let counts: BTreeMap<i64, i64> = counts.into_iter().collect();
        let damages: BTreeMap<i64, i64> = damages.into_iter().collect();
        commands.extend(counts.iter().map(|(minute, quantity)| {
            let (source, basis, as_of_us) = ("wms".into(), CountBasis::OnHand, at(*minute));
            Command::Count(Count { source, sku: sku(), location: location(), basis, quantity: *quantity, as_of_us, ..Count::default() })
        }));
        commands.extend(damages.iter().map(|(minute, damaged)| {
            Command::Unavailable(Unavailable { sku: sku(), location: location(), as_of_us: at(*minute), damaged: *damaged, quality_control: 0, blocked: 0 })
        }));
        commands.extend((0..).zip(&moves).map(|(n, (minute, quantity, kind))| {
            let kind = [MovementKind::Adjust, MovementKind::ReturnDamaged, MovementKind::Receipt][*kind as usize];
            let quantity = if kind == MovementKind::Adjust { *quantity } else { quantity.abs() + 1 };
            Command::Move(Movement { source: "wms".into(), id: compact_str::format_compact!("m{n}"), sku: sku(), location: location(), kind, quantity, occurred_at_us: at(*minute), ..Movement::default() })
        }));
        let mut other: Vec<_> = order.into_iter().cycle().zip(commands.clone()).collect();
        other.sort_by_key(|(key, _)| *key);
        let run = |commands: &mut dyn Iterator<Item = Command>| {
            let mut shop = Shop::default();
            shop.now = now;
            commands.for_each(|command| { shop.run(&command).unwrap(); });
            shop.ask("A", "web").locations.first().map(|at| (at.on_hand, at.damaged, at.atf))
        };
        // What the equation says: the latest count, and what moved since.
        let since = counts.first_key_value().map_or(i64::MIN, |(minute, _)| at(*minute));
        let moved = |command: &Command| match command {
            Command::Move(m) if m.occurred_at_us > since => m.quantity,
            _ => 0,
        };
        let expected = counts.first_key_value().map_or(0, |(_, quantity)| *quantity) + commands.iter().map(moved).sum::<i64>();
        let first = run(&mut commands.into_iter());
        prop_assert_eq!(first.map_or(0, |(on_hand, ..)| on_hand), expected);
        prop_assert_eq!(run(&mut other.into_iter().map(|(_, command)| command)), first);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..120), history in history(ALL, 12), cut in 0..200_usize) {
        let mut stock = Stock::new(few());
        let _ = stock.load_sku(bytes.clone().into());
        let _ = stock.load_channel(bytes.clone().into());
        let _ = stock.load_reservation(bytes.into());
        let mut shop = Shop::with(few());
        history.iter().for_each(|step| { let _ = shop.run(&step.at(shop.now)); });
        for image in images(&shop.stock).into_values() {
            let part = image.slice(..cut.min(image.len()));
            let _ = stock.load_sku(part.clone());
            let _ = stock.load_channel(part.clone());
            let _ = stock.load_reservation(part);
        }
        // What could be read can be asked.
        answers(&mut stock, shop.now);
        publish(&mut stock, usize::MAX, shop.now);
    }
}
