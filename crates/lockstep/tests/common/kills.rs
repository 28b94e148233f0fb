//! The real process under writers, killed again and again.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use super::{Hub, until};

/// What writers share with whoever kills the hub.
#[derive(Clone, Default)]
pub struct Load {
    address: Arc<RwLock<Option<(SocketAddr, String)>>>,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Where the hub is now and its key, if it is.
    pub fn address(&self) -> Option<(SocketAddr, String)> {
        self.address.read().unwrap().clone()
    }

    /// The hub is there from now on, or gone.
    pub fn is_at(&self, hub: Option<&Hub>) {
        *self.address.write().unwrap() = hub.map(|hub| (hub.address, hub.key.clone()));
    }

    /// A writer has one more acknowledgement. Whether it is to go on.
    pub fn goes_on(&self) -> bool {
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
        !self.stop.load(Ordering::SeqCst)
    }

    /// Runs writers and kills the hub, each time after so many more acknowledgements. The hub that is left, when all writers
    /// have had their last answer.
    pub fn kill(
        &self,
        folder: &Path,
        (kills, between): (u64, Range<u64>),
        writers: u64,
        writer: impl Fn(u64, &Self) + Clone + Send + 'static,
    ) -> Hub {
        let start = |number| {
            let (load, writer) = (self.clone(), writer.clone());
            std::thread::spawn(move || writer(number, &load))
        };
        let writers: Vec<_> = (0..writers).map(start).collect();
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..kills {
            let hub = Hub::start(folder);
            self.is_at(Some(&hub));
            let enough = self.acknowledged.load(Ordering::SeqCst) + random.u64(between.clone());
            until("some more were acknowledged", || (self.acknowledged.load(Ordering::SeqCst) >= enough).then_some(()));
            self.is_at(None);
            // SIGKILL.
            drop(hub);
        }
        let hub = Hub::start(folder);
        self.is_at(Some(&hub));
        self.stop.store(true, Ordering::SeqCst);
        for writer in writers {
            writer.join().expect("a writer ended well");
        }
        hub
    }
}
