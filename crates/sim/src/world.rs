//! The world around one hub: its disk, its clock, the network and the sources. Everything in it happens on one
//! thread, one step at a time, so that a seed is a history.

use std::sync::Arc;
use std::time::Duration;

use lockstep_hub::stepped::{Stepped, VirtualTime};
use lockstep_hub::{HubHandle, HubOptions, OpenError, QuarantineFilter};
use lockstep_journal::Error as JournalError;

use crate::counts::Counts;
use crate::disk::{Disk, Fate};
use crate::files::Files;
use crate::generate::{START_US, Setup};
use crate::ledger::{Ledger, Release, Status};
use crate::network::Network;
use crate::op::{Content, Op, Said};
use crate::replies::{Asker, Reply, Waiting};
use crate::rules::{FIELDS, KEYS, LIST, hub_rules};
use crate::violation::{Violation, violated};

/// See the module.
pub struct World {
    setup: Setup,
    pub(crate) time: Arc<VirtualTime>,
    pub(crate) disk: Disk,
    pub(crate) files: Files,
    /// Whether the state file's disk is to fail, and whether it does: not in the middle of a round.
    state_failing: bool,
    state_fails: bool,
    pub(crate) hub: Option<Stepped>,
    pub(crate) network: Network,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) ledger: Ledger,
    pub(crate) counts: Counts,
    /// How often a message that proposes nothing was submitted: nothing but a sum keeps it.
    pub(crate) empty_submitted: u64,
}

impl World {
    /// A world with an empty hub.
    ///
    /// # Errors
    /// Where the hub does not open.
    pub fn new(setup: Setup) -> Result<Self, Violation> {
        let files = Files::new().map_err(|e| Violation { code: "simulation", detail: e.to_string() })?;
        let mut world = Self {
            time: Arc::new(VirtualTime::new(START_US)),
            disk: Disk::new(setup.segment_bytes_max),
            setup,
            files,
            state_failing: false,
            state_fails: false,
            hub: None,
            network: Network::default(),
            waiting: Vec::new(),
            ledger: Ledger::default(),
            counts: Counts::default(),
            empty_submitted: 0,
        };
        world.open()?;
        Ok(world)
    }

    /// Lets one thing happen.
    ///
    /// # Errors
    /// Where a promise is broken.
    pub fn apply(&mut self, op: &Op) -> Result<(), Violation> {
        self.counts.steps += 1;
        match op {
            Op::Say(message) => {
                let number = self.ledger.say((**message).clone());
                self.network.send(number);
                self.counts.inputs += 1;
                self.counts.stock_commands += u64::from(message.is_stock());
                let is_list = |said: &&Said| said.fields.iter().any(|(name, _)| *name == LIST);
                self.counts.deletions += message.said().iter().filter(|said| said.deletes).count() as u64;
                self.counts.lists += message.said().iter().filter(is_list).count() as u64;
            }
            Op::Arrive { pick, count } => self.arrive(*pick, *count)?,
            Op::Duplicate { pick } => {
                // A client that expects a version sends its request once.
                let copied = self.network.look(*pick).filter(|n| !self.ledger.entries[*n].message.is_conditional());
                copied.into_iter().for_each(|number| self.network.send(number));
                self.counts.duplicates += u64::from(copied.is_some());
            }
            Op::Lose { pick } => self.counts.losses += u64::from(self.network.take(*pick).is_some()),
            Op::LoseAnswer { pick } => self.lose_answer(*pick),
            Op::SendAgain => self.send_again(),
            Op::Loop => {
                self.hub.as_mut().map(Stepped::step_loop);
            }
            Op::Journal => {
                self.hub.as_mut().map(Stepped::step_journal);
            }
            Op::Flush => {
                self.step_flush()?;
            }
            Op::Pass { ms } => self.pass(*ms),
            Op::Read { pick } => {
                let kind = FIELDS[pick % FIELDS.len()].kind;
                self.read(kind, KEYS[pick % KEYS.len()])?;
            }
            Op::Release { pick } => {
                let broken = |e: &&mut crate::ledger::Entry| matches!(e.message.content, Content::Broken(_));
                let count = self.ledger.entries.iter_mut().filter(broken).count();
                let picked =
                    pick.checked_rem(count).and_then(|at| self.ledger.entries.iter_mut().filter(broken).nth(at));
                if let Some(entry) = picked.filter(|e| e.release == Release::None) {
                    entry.release = Release::Wanted;
                }
                self.release()?;
            }
            Op::WriteBack => self.on_files(Files::write_back)?,
            Op::Crash { power, writing } => self.crash(*power, *writing)?,
            Op::Restart => self.restart()?,
            Op::Full => {
                self.disk.set_full(true);
                self.counts.disk_full += 1;
            }
            Op::Space => {
                self.disk.set_full(false);
                self.reopen_closed()?;
            }
            Op::SyncFails(fate) => self.disk.fail_next_sync(Some(*fate)),
            Op::StateFails => {
                self.set_state_failing(true)?;
                self.counts.state_failed += 1;
            }
            Op::StateHeals => {
                self.set_state_failing(false)?;
                self.reopen_closed()?;
            }
        }
        self.take_replies()
    }

    pub(crate) fn on_files(
        &mut self,
        work: impl FnOnce(&mut Files) -> Result<(), crate::files::FilesError>,
    ) -> Result<(), Violation> {
        work(&mut self.files).map_err(|e| Violation { code: "simulation", detail: format!("{e}: {e:?}") })
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.time.advance(Duration::from_millis(ms));
    }

    pub(crate) fn handle(&self) -> Option<HubHandle> {
        self.hub.as_ref().map(Stepped::handle)
    }

    fn options(&self) -> HubOptions {
        HubOptions {
            batch_inputs_max: self.setup.batch_inputs_max,
            flush_records_max: self.setup.flush_records_max,
            flush_interval_ms: self.setup.flush_interval_ms,
            cache_bytes_max: self.setup.cache_bytes_max,
            queue_bytes_max: self.setup.queue_bytes_max,
            ..HubOptions::new(self.files.dir(), hub_rules())
        }
    }

    /// Opens the hub with what is durable. It stays closed while a disk does not take what it has to write.
    pub(crate) fn open(&mut self) -> Result<(), Violation> {
        self.fail_state()?;
        self.disk.fail_next_sync(None);
        let torn = self.disk.torn();
        let opened = self.disk.open().map_err(OpenError::from);
        self.counts.torn_tails += self.disk.torn() - torn;
        let time = self.time.clone();
        match opened.and_then(|journal| Stepped::open(self.options(), Box::new(journal), time)) {
            Ok(hub) => self.hub = Some(hub),
            Err(OpenError::Journal(JournalError::Full { .. })) => {}
            Err(OpenError::State(_)) if self.state_failing => {}
            Err(error) => return violated("open", format!("the hub does not open: {error}: {error:?}")),
        }
        Ok(())
    }

    /// A hub that could not be opened is tried again.
    fn reopen_closed(&mut self) -> Result<(), Violation> {
        if self.hub.is_some() {
            return Ok(());
        }
        self.open()?;
        self.check().map(drop)
    }

    pub(crate) fn set_state_failing(&mut self, failing: bool) -> Result<(), Violation> {
        self.state_failing = failing;
        self.fail_state()
    }

    /// The fault takes the file's lock, which a round under way has.
    fn fail_state(&mut self) -> Result<(), Violation> {
        let failing = self.state_failing;
        if self.state_fails == failing || self.hub.as_ref().is_some_and(Stepped::is_flushing) {
            return Ok(());
        }
        self.state_fails = failing;
        self.on_files(|files| files.set_failing(failing))
    }

    pub(crate) fn step_flush(&mut self) -> Result<bool, Violation> {
        self.fail_state()?;
        Ok(self.hub.as_mut().is_some_and(Stepped::step_flush))
    }

    /// Everything in memory is gone.
    pub(crate) fn close(&mut self) {
        self.waiting.clear();
        self.hub = None;
        for entry in &mut self.ledger.entries {
            if entry.release == Release::Asking {
                entry.release = Release::Wanted;
            }
        }
    }

    fn crash(&mut self, power: bool, writing: Option<Fate>) -> Result<(), Violation> {
        if let (Some(fate), Some(hub)) = (writing, &mut self.hub) {
            if !hub.step_journal() {
                hub.step_loop();
            }
            self.disk.fail_next_sync(Some(fate));
            hub.step_journal();
            self.counts.crashes_writing += u64::from(!self.disk.is_failing());
        }
        self.counts.crashes += 1;
        self.counts.power_cuts += u64::from(power);
        self.close();
        if power {
            self.on_files(|files| files.cut_power())?;
            // What was written back may be of a time when it could be written, or could not.
            self.state_fails = !self.state_failing;
            self.fail_state()?;
        }
        self.open()?;
        self.check().map(drop)
    }

    pub(crate) fn arrive(&mut self, pick: usize, count: usize) -> Result<(), Violation> {
        let mut messages: Vec<usize> = Vec::new();
        for at in 0..count {
            let pick = if at == 0 { pick } else { 0 };
            let Some(next) = self.network.look(pick) else { break };
            // A request with a key is a submission of its own.
            let alone = self.ledger.entries[next].message.request_key.is_some();
            if alone && at > 0 {
                break;
            }
            self.counts.reorderings += self.network.take(pick).map_or(0, |(_, overtook)| u64::from(overtook));
            messages.push(next);
            if alone {
                break;
            }
        }
        self.submit(messages)
    }

    pub(crate) fn submit(&mut self, messages: Vec<usize>) -> Result<(), Violation> {
        // Where nobody listens the message is lost, and sent again.
        let Some(hub) = self.handle().filter(|_| !messages.is_empty()) else { return Ok(()) };
        let now = self.time.now_us();
        let inputs =
            messages.iter().map(|n| self.ledger.entries[*n].message.input(now, None)).collect::<Result<_, _>>();
        let inputs: Vec<_> = inputs.map_err(|e| Violation { code: "simulation", detail: e.to_string() })?;
        self.counts.submitted += inputs.len() as u64;
        self.empty_submitted +=
            messages.iter().filter(|n| self.ledger.entries[**n].message.said().is_empty()).count() as u64;
        let reply = async move { Reply::Answers(hub.submit(inputs).await) };
        self.wait(Asker::Sources { messages, gone: false }, reply);
        self.take_replies()
    }

    pub(crate) fn send_again(&mut self) {
        for number in 0..self.ledger.entries.len() {
            let asked = self
                .waiting
                .iter()
                .any(|w| matches!(&w.asker, Asker::Sources { messages, .. } if messages.contains(&number)));
            if self.ledger.entries[number].status == Status::Open && !asked && !self.network.has(number) {
                self.network.send(number);
                self.counts.resends += 1;
            }
        }
    }

    fn read(&mut self, kind: &'static str, key: &'static str) -> Result<(), Violation> {
        if let Some(hub) = self.handle() {
            let id = String::from(lockstep_core::entity_id(kind, key));
            self.wait(Asker::Reader { id }, async move { Reply::Entity(hub.entity(kind, key).await) });
        }
        self.take_replies()
    }

    /// The operator looks after every delivery that is to be released.
    pub(crate) fn release(&mut self) -> Result<(), Violation> {
        let Some(hub) = self.handle() else { return Ok(()) };
        for message in 0..self.ledger.entries.len() {
            let entry = &mut self.ledger.entries[message];
            let (Release::Wanted, Some(held)) = (entry.release, entry.held) else { continue };
            entry.release = Release::Asking;
            let filter = QuarantineFilter { source: None, after: held - 1, limit: 1 };
            let hub = hub.clone();
            let reply = async move { Reply::Quarantine(hub.quarantine(filter).await) };
            self.wait(Asker::Operator { message, held }, reply);
        }
        self.take_replies()
    }
}
