//! Opening a hub: lock the folder, open the state, fold the journal's tail, start the threads.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use lockstep_connect::destination::Destination;
use lockstep_core::decide::{self, Gate, PREFERENCE_KIND};
use lockstep_core::record::{Body, Record};
use lockstep_core::stock::record::StockBody;
use lockstep_core::{Entity, Facts, Position, Rules, fold, stock};
use lockstep_journal::{Batch, Journal, Reader, SqliteJournal, SqliteOptions};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::delivery::{Controls, DeliveryOptions, spawn_runner, spawn_scheduled};
use crate::failure::OpenError;
use crate::flush::{Flushed, Flusher, ToFlusher};
use crate::handle::HubHandle;
use crate::journaler::{Journaler, ToJournal};
use crate::looper::{Clock, Looper, Message, Mode};
use crate::options::HubOptions;
use crate::oversight::{self, Oversight, OversightOptions};
use crate::state::State;
use crate::state::file::StateFile;
use crate::stats::{Stats, now_us};
use crate::stock::invariants::Watch;
use crate::stock::retries::Retries;
use crate::tail::Tail;
use crate::time::Time;

/// How much of the journal recovery decodes at a time.
const RECOVER_BYTES: usize = 4 * 1024 * 1024;
/// How many preferences are read at a time.
const PREFERENCES_STEP: usize = 1_000;

/// A running hub. Dropping it without [`Hub::shutdown`] is like a crash: nothing acknowledged is lost.
pub struct Hub {
    handle: HubHandle,
    threads: Vec<JoinHandle<()>>,
    abandon: Arc<AtomicBool>,
    /// Watches the hub's own figures.
    overseer: Mutex<Option<AbortHandle>>,
    /// Given back when the threads have ended: until then the folder is theirs.
    _lock: File,
}

impl Hub {
    /// Opens the hub in its data folder, with its journal there.
    pub fn open(options: HubOptions) -> Result<Self, OpenError> {
        let lock = lock(&options.data_dir)?;
        let segments = SqliteOptions { segment_bytes_max: options.segment_bytes_max, ..SqliteOptions::default() };
        let journal = SqliteJournal::open(&options.data_dir.join("journal"), segments)?;
        Self::start(options, Box::new(journal), lock)
    }

    /// Opens the hub with another journal; the state file stays in the data folder.
    pub fn open_with(options: HubOptions, journal: Box<dyn Journal>) -> Result<Self, OpenError> {
        let lock = lock(&options.data_dir)?;
        Self::start(options, journal, lock)
    }

    fn start(options: HubOptions, journal: Box<dyn Journal>, lock: File) -> Result<Self, OpenError> {
        let Parts { handle, looper, journaler, flusher, journal_work, flush_work, flush_done } =
            Parts::open(options, journal, Time::Real, 1)?;
        let wake = handle.inbox.clone();
        let abandon = looper.abandon.clone();
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(OpenError::Thread)
        };
        let threads = vec![
            spawn("hub-loop", Box::new(move || looper.run()))?,
            spawn("hub-journal", Box::new(move || journaler.run(journal_work)))?,
            spawn("hub-flush", Box::new(move || flusher.run(flush_work, flush_done, wake)))?,
        ];
        Ok(Self { handle, threads, abandon, overseer: Mutex::default(), _lock: lock })
    }

    /// The handle by which everything else talks to the hub.
    pub fn handle(&self) -> HubHandle {
        self.handle.clone()
    }

    /// Starts delivering to a destination, from where it last was. Needs a tokio runtime.
    pub fn add_destination(&self, name: &str, destination: Arc<dyn Destination>, options: DeliveryOptions) {
        let tally = self.handle.stats.tallies().destinations.get(name).cloned();
        spawn_runner(self.handle.clone(), name.to_owned(), destination, options, tally);
        spawn_scheduled(self.handle.clone(), name.to_owned());
    }

    /// Starts watching the hub's own figures. Needs a tokio runtime, and the destinations that are to be watched.
    pub fn oversee(&self, options: OversightOptions) {
        let watching = tokio::spawn(oversight::watch(self.handle.clone(), options)).abort_handle();
        if let Some(before) = self.overseer.lock().unwrap_or_else(PoisonError::into_inner).replace(watching) {
            before.abort();
        }
    }

    fn stop_overseeing(&self) {
        if let Some(watching) = self.overseer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            watching.abort();
        }
    }

    /// Ends in order: what was accepted is decided, synced and answered, the state is flushed.
    pub async fn shutdown(mut self) {
        self.stop_overseeing();
        self.handle.controls.stop().await;
        // The loop may have ended already.
        let _ = self.handle.inbox.send(Message::Shutdown);
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let name = thread.thread().name().unwrap_or("a thread").to_owned();
                if thread.join().is_err() {
                    tracing::error!(name, "a thread of the hub ended in a panic");
                }
            }
        });
        // Only a panic of the closure itself could fail this.
        let _ = joined.await;
    }
}

impl Drop for Hub {
    /// Ends the threads where they are. After [`Hub::shutdown`] there are none.
    fn drop(&mut self) {
        self.stop_overseeing();
        // The loop may have ended already.
        let _ = self.handle.inbox.send(Message::Crash);
        for thread in std::mem::take(&mut self.threads) {
            while !thread.is_finished() {
                // A flush under way is given up, whatever the loop has just said of it.
                self.abandon.store(true, Ordering::Release);
                std::thread::park_timeout(std::time::Duration::from_millis(1));
            }
            // A panic has been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// A hub that is open and does not run yet: what its threads work on, and the channels between them.
pub(crate) struct Parts {
    pub(crate) handle: HubHandle,
    pub(crate) looper: Looper,
    pub(crate) journaler: Journaler,
    pub(crate) flusher: Flusher,
    pub(crate) journal_work: Receiver<ToJournal>,
    pub(crate) flush_work: Receiver<ToFlusher>,
    pub(crate) flush_done: Sender<Flushed>,
}

impl Parts {
    /// Opens a hub whose journal may have `batches_waiting` to take up before the loop has to wait for it.
    pub(crate) fn open(
        options: HubOptions,
        mut journal: Box<dyn Journal>,
        time: Time,
        batches_waiting: usize,
    ) -> Result<Self, OpenError> {
        let began = std::time::Instant::now();
        // Whoever wrote before can't any more.
        let epoch = journal.epoch() + 1;
        journal.fence(epoch)?;
        let writing = StateFile::open(&options.data_dir.join("state.sqlite"))?;
        let retired = crate::state::seen::retired(&writing.connection)?;
        let reader = journal.reader();
        let mut state = State::new(writing.reader()?, options.cache_bytes_max)?;
        let folded_from = state.position;
        let stats = Arc::new(Stats::default());
        let abandon = Arc::new(AtomicBool::new(false));
        let hurry = Arc::new(AtomicBool::new(false));
        let mut flusher = Flusher {
            runs: writing.seen_runs()?,
            file: writing,
            stats: stats.clone(),
            abandon: abandon.clone(),
            hurry: hurry.clone(),
            seen_us: i64::from(options.seen_days) * 86_400_000_000,
            reservations_kept_us: options.reservations_kept_us(),
            retired,
            asked: 0,
        };
        // Rebuilding from a long journal must not take more memory than running does.
        let facts = recover(&mut state, &*reader, options.rules.clone(), options.stock, |state| {
            let behind = state.position - state.flushed;
            if state.dirty_bytes() >= options.flush_bytes_max || behind >= 2 * options.flush_records_max {
                flusher.write_all(state)?;
            }
            Ok(())
        })?;
        stats.decided.store(state.position, Ordering::Relaxed);
        stats.durable.store(state.position, Ordering::Relaxed);
        stats.flushed.store(state.flushed, Ordering::Relaxed);
        stats.loop_alive_us.store(now_us(), Ordering::Relaxed);
        if let Ok(mut tallies) = stats.tallies.lock() {
            tallies.clone_from(&state.tallies);
        }
        tracing::info!(
            records = state.position,
            folded = state.position - folded_from,
            took_ms = began.elapsed().as_millis() as u64,
            "the hub is open"
        );
        let tail = Arc::new(Tail::new(facts.next, options.tail_bytes_max));
        let controls = Controls::default();
        let (to_loop, inbox) = unbounded();
        let (to_journal, journal_work) = mpsc::sync_channel(batches_waiting);
        let (to_flusher, flush_work) = unbounded();
        let (flush_done, flushed) = unbounded();

        let journaler = Journaler {
            journal,
            epoch,
            stats: stats.clone(),
            tail: tail.clone(),
            inbox: to_loop.clone(),
            abandon: abandon.clone(),
            buffer: Batch::default(),
            void: None,
            poisoned: None,
        };
        let room_bytes = u32::try_from(options.queue_bytes_max).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32);
        let handle = HubHandle {
            inbox: to_loop.clone(),
            room: Arc::new(Semaphore::new(room_bytes as usize)),
            room_bytes,
            stats: stats.clone(),
            tail: tail.clone(),
            reader: reader.clone(),
            controls: controls.clone(),
            oversight: Oversight::default(),
        };
        let looper = Looper {
            options,
            inbox,
            to_self: to_loop,
            journal: to_journal,
            flusher: to_flusher,
            flushed,
            abandon,
            hurry,
            state,
            facts,
            reader,
            stats,
            controls,
            clock: Clock::new(time),
            mode: Mode::Normal,
            carried: VecDeque::new(),
            warned: BTreeSet::new(),
            has_merged: false,
            is_gone: false,
            watch: Watch::default(),
            retries: Retries::default(),
            checked: 0,
        };
        Ok(Self { handle, looper, journaler, flusher, journal_work, flush_work, flush_done })
    }
}

/// Channels between the hub's own threads. What may pile up in them is bounded elsewhere: inputs by the room in
/// bytes, reports by the runners' windows, rounds to one at a time.
#[expect(clippy::disallowed_methods, reason = "bounded by the room, the runners' windows and one round at a time")]
fn unbounded<T>() -> (mpsc::Sender<T>, mpsc::Receiver<T>) {
    mpsc::channel()
}

pub(crate) fn lock(dir: &Path) -> Result<File, OpenError> {
    let folder = |source| OpenError::Folder { path: dir.to_owned(), source };
    std::fs::create_dir_all(dir.join("journal")).map_err(folder)?;
    let file = File::options().create(true).truncate(false).write(true).open(dir.join("lock")).map_err(folder)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse(dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(folder(source)),
    }
}

/// Folds the journal's tail into the state as it was last flushed.
pub(crate) fn recover(
    state: &mut State,
    reader: &dyn Reader,
    rules: Rules,
    limits: stock::Limits,
    mut after_part: impl FnMut(&mut State) -> Result<(), OpenError>,
) -> Result<Facts, OpenError> {
    let bounds = reader.bounds();
    let at = state.position;
    if state.reached + 1 > bounds.next {
        return Err(OpenError::JournalBehind { journal_end: bounds.next - 1, state: state.reached });
    }
    if at + 1 < bounds.first {
        return Err(OpenError::JournalAhead { journal_first: bounds.first, state: at });
    }
    let mut facts = Facts::new(rules);
    facts.next = bounds.next;
    facts.stock = state.stock(limits)?;
    // One thread reads and decodes ahead, this one folds: recovery is what a restart waits for.
    std::thread::scope(|scope| {
        let (ahead, chunks) = mpsc::sync_channel(1);
        scope.spawn(move || read_ahead(reader, at + 1, &ahead));
        for chunk in chunks {
            for (position, record) in chunk? {
                fold_again(state, &mut facts, position, &record)?;
            }
            for (id, entity) in facts.entities.drain() {
                state.put(id, entity);
            }
            facts.stock.seen.clear();
            state.stock.collect(&mut facts.stock, true);
            after_part(state)?;
            state.stock.forget(&mut facts.stock, usize::MAX);
        }
        take_preferences(state, &mut facts)?;
        for sku in state.skus_waited_for()? {
            facts.stock.watch_anew(&sku);
        }
        Ok(facts)
    })
}

/// Has in force what persons have decided to prefer always: it is part of the state, not of the configuration.
fn take_preferences(state: &State, facts: &mut Facts) -> Result<(), OpenError> {
    let prefix = format!("{PREFERENCE_KIND}/");
    let mut after = String::new();
    loop {
        let page = state.file.entities(&prefix, &after, PREFERENCES_STEP)?;
        for (_, bytes) in &page {
            let preference = Entity::decode(bytes).map_err(|source| OpenError::Record { position: 0, source })?;
            decide::prefer(&mut facts.rules, &preference);
        }
        match page.last() {
            Some((id, _)) => after.clone_from(id),
            None => break,
        }
    }
    for preference in state.unflushed(&prefix, "").into_values() {
        decide::prefer(&mut facts.rules, &preference);
    }
    Ok(())
}

type Chunk = Result<Vec<(Position, Record)>, OpenError>;

fn read_ahead(reader: &dyn Reader, mut from: Position, ahead: &mpsc::SyncSender<Chunk>) {
    loop {
        let chunk = read_chunk(reader, from);
        let last = match &chunk {
            Ok(records) => match records.last() {
                Some((position, _)) => Some(*position),
                None => return,
            },
            Err(_) => None,
        };
        // Nobody takes it where folding has failed.
        if ahead.send(chunk).is_err() {
            return;
        }
        match last {
            Some(position) => from = position + 1,
            None => return,
        }
    }
}

fn read_chunk(reader: &dyn Reader, from: Position) -> Chunk {
    let decode = |entry: lockstep_journal::Entry| {
        let position = entry.position;
        let record = Record::read(entry.record).map_err(|source| OpenError::Record { position, source })?;
        Ok((position, record))
    };
    reader.read(from, RECOVER_BYTES)?.into_iter().map(decode).collect()
}

fn fold_again(state: &mut State, facts: &mut Facts, position: Position, record: &Record) -> Result<(), OpenError> {
    if let Some(Body::Fact(fact)) = &record.body {
        let id = lockstep_core::entity_id(&fact.kind, &fact.key);
        let entity = match facts.entities.entry(id) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                let known = state.take(new.key()).map_err(state_error)?;
                new.insert(known.unwrap_or_default())
            }
        };
        let gate = if position > entity.position {
            let was_incomplete = entity.incomplete;
            fold::fold(Arc::make_mut(entity), position, record.recorded_at_us, fact);
            Gate::of(was_incomplete, entity)
        } else {
            // The file has the entity as it was later than the list of incomplete ones.
            let was_incomplete = state.is_listed_incomplete(&fact.kind, &fact.key)?;
            Gate::between(was_incomplete, (&fact.kind, &fact.key, fact.incomplete))
        };
        if let Some(gate) = gate {
            state.gate(&gate, record.recorded_at_us);
        }
    }
    if let Some(Body::Stock(fact)) = &record.body {
        // One that was over has left the memory; what follows on it may need it whole.
        if let Some(StockBody::Reservation(of)) = &fact.body
            && !of.fresh
        {
            state.load_reservation(&mut facts.stock, &of.id).map_err(state_error)?;
        }
        stock::fold(&mut facts.stock, record.recorded_at_us, fact);
    }
    state.absorb(position, record, true);
    Ok(())
}

pub(crate) fn state_error(error: crate::state::StateError) -> OpenError {
    match error {
        crate::state::StateError::File(error) => OpenError::State(error),
        crate::state::StateError::Journal(crate::ReadError::Journal(error)) => OpenError::Journal(error),
        crate::state::StateError::Journal(_) => OpenError::State(rusqlite::Error::InvalidQuery),
        crate::state::StateError::Stock(error) => OpenError::Stock(error),
        crate::state::StateError::Entity { source, .. } => OpenError::Record { position: 0, source },
    }
}
