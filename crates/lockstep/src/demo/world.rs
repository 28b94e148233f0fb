//! The hub of the demo and what is around it, wired as `lockstep serve` wires it: from a configuration file in the
//! demo's folder. Only the clock around the destinations is the demo's own.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use lockstep_api::{Keys, Scope};
use lockstep_connect::signature::{Scheme, Secret, Verifier};
use lockstep_connectors::{HttpClient, HttpOptions};
use lockstep_hub::HubHandle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::api::ApiClient;
use super::faults::Faults;
use super::measure::{Counters, Measured};
use super::orders;
use super::party::Party;
use super::stock::desk::Desk;
use super::stock::{self, Sale};
use super::systems::copy::Copy;
use super::systems::receiver::Receiver;
use super::systems::sender::{Lane, Proof, Sender};
use super::wiring;
use crate::config::{CONFIG_FILE, Loaded, Secrets, resolve};
use crate::exit::Failure;
use crate::serve::{Parts, Running};

/// How many orders a warehouse can remember to ship.
const TO_SHIP_MAX: usize = 65_536;
/// How many requests a system has under way at once.
const CONCURRENCY: usize = 64;

/// How the world is made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Whether the shop sends the orders of a file.
    pub(crate) orders_of_file: bool,
    /// The seed of the faults, where there are to be any.
    pub(crate) faults: Option<u64>,
    /// Whether scarce articles are sold.
    pub(crate) sells: bool,
}

/// One system as the demo sees it.
pub(crate) struct System {
    pub(crate) party: Party,
    pub(crate) counters: Arc<Counters>,
    pub(crate) copy: Arc<Copy>,
    pub(crate) faults: Option<Arc<Faults>>,
    /// Where it listens.
    pub(crate) url: String,
    to_hub: Secret,
    receiving: JoinHandle<()>,
}

/// The hub and the four systems.
pub(crate) struct World {
    pub(crate) systems: Vec<System>,
    /// The operator's and the auditor's way to the hub.
    pub(crate) api: ApiClient,
    /// Orders that the warehouse has heard of.
    pub(crate) to_ship: Option<mpsc::Receiver<String>>,
    /// The sale of scarce articles, where there is one.
    pub(crate) sale: Option<Arc<Sale>>,
    running: Running,
    client: HttpClient,
    give_up: Arc<AtomicBool>,
}

impl World {
    /// Starts everything in a folder that is empty.
    pub(crate) async fn start(folder: &Path, plan: &Plan) -> anyhow::Result<Self> {
        let (ship, to_ship) = mpsc::channel(TO_SHIP_MAX);
        let mut systems = Vec::new();
        for party in Party::ALL {
            let ship = (party == Party::Wms).then(|| ship.clone());
            systems.push(System::start(folder, party, plan, ship).await?);
        }
        drop(ship);

        if plan.orders_of_file {
            orders::pack::write(folder)?;
        }
        if plan.sells {
            wiring::filters(folder)?;
        }
        let file = folder.join(CONFIG_FILE);
        let text = wiring::configuration(&systems, plan);
        std::fs::write(&file, &text).with_context(|| format!("{} can't be written", file.display()))?;
        let loaded = Loaded::parse(&file, text);
        let Some(config) = &loaded.config else { bail!(crate::commands::problems(&loaded.problems)) };
        let (resolved, problems) = resolve(&loaded, config, Secrets::Needed);
        let Some(mut resolved) = resolved else { bail!(crate::commands::problems(&problems)) };
        for way_out in &mut resolved.destinations {
            let Some(system) = systems.iter().find(|s| s.party.name() == way_out.name) else { continue };
            let attempts_max = way_out.options.retry.retries_max + 1;
            let measured = Measured::new(way_out.destination.clone(), system.counters.clone(), attempts_max);
            way_out.destination = Arc::new(measured);
        }
        let parts = Parts::new(config, loaded.data_dir(config), resolved);
        let running = Running::start(parts).await?;

        let options = HttpOptions { allow_private_addresses: true, ..HttpOptions::default() };
        let client = HttpClient::new(options).context("the HTTP client can't be made")?;
        let operator = key(running.keys(), "operator", &[Scope::Operate], None)?;
        let api = ApiClient::new(client.clone(), format!("http://{}", running.address()), operator);
        let give_up = Arc::new(AtomicBool::new(false));
        let sale = plan.sells.then(|| Arc::new(Sale::new()));
        Ok(Self { systems, api, to_ship: Some(to_ship), sale, running, client, give_up })
    }

    /// The hub itself, for its figures.
    pub(crate) fn hub(&self) -> HubHandle {
        self.running.handle()
    }

    /// Connects a system's sending half.
    pub(crate) fn lane(&self, party: Party) -> anyhow::Result<Lane> {
        let system = &self.systems[party.index()];
        let base = format!("http://{}", self.running.address());
        let (url, proof) = match party {
            Party::Shop => {
                let signer = verifier("shopify", &system.to_hub)?;
                (format!("{base}/v1/webhooks/{}", party.name()), Proof::Shopify(signer))
            }
            Party::Marketplace | Party::Erp | Party::Wms => {
                let name = party.name();
                let proof = key(self.running.keys(), name, &[Scope::Write], Some((name, name)))?;
                (format!("{base}/v1/events"), Proof::Key(proof))
            }
        };
        let sender = Sender {
            client: self.client.clone(),
            url,
            proof,
            counters: system.counters.clone(),
            faults: system.faults.clone(),
            give_up: self.give_up.clone(),
        };
        Ok(Lane::start(sender, CONCURRENCY))
    }

    /// A party's way to the hub's stock.
    pub(crate) fn desk(&self, party: Party, sale: &Arc<Sale>) -> anyhow::Result<Arc<Desk>> {
        let system = &self.systems[party.index()];
        let source = stock::source(party);
        Ok(Arc::new(Desk {
            client: self.client.clone(),
            base: format!("http://{}", self.running.address()),
            key: key(self.running.keys(), &source, &[Scope::Write], Some((party.name(), &source)))?,
            counters: system.counters.clone(),
            faults: system.faults.clone(),
            sale: sale.clone(),
            give_up: self.give_up.clone(),
        }))
    }

    /// The copies of all systems.
    pub(crate) fn copies(&self) -> Vec<(Party, Arc<Copy>)> {
        self.systems.iter().map(|system| (system.party, system.copy.clone())).collect()
    }

    /// Nothing that is not acknowledged is sent again from now on.
    pub(crate) fn give_up(&self) {
        self.give_up.store(true, Ordering::Relaxed);
    }

    /// Ends everything in order.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.running.stop().await;
        for system in self.systems {
            system.receiving.abort();
            system.copy.commit().context("a system's copy can't be written")?;
        }
        Ok(())
    }
}

impl System {
    async fn start(
        folder: &Path,
        party: Party,
        plan: &Plan,
        to_ship: Option<mpsc::Sender<String>>,
    ) -> anyhow::Result<Self> {
        let name = party.name();
        let from_hub = secret();
        let to_hub = secret();
        keep_secret(folder, &format!("to-{name}"), &from_hub)?;
        if party == Party::Shop {
            keep_secret(folder, &format!("from-{name}"), &to_hub)?;
        }
        let copies = folder.join("copies");
        std::fs::create_dir_all(&copies).with_context(|| format!("{} can't be made", copies.display()))?;
        let path = copies.join(format!("{name}.sqlite"));
        let copy = Arc::new(Copy::create(&path).with_context(|| format!("{} can't be made", path.display()))?);
        let counters = Arc::new(Counters::default());
        let faults = plan.faults.map(|seed| Arc::new(Faults::new(party, seed)));
        let receiver = Receiver {
            verifier: verifier("standard-webhooks", &from_hub)?,
            copy: copy.clone(),
            counters: counters.clone(),
            faults: faults.clone(),
            to_ship,
        };
        let (address, receiving) =
            receiver.listen().await.with_context(|| format!("the system {name} can't listen on 127.0.0.1"))?;
        Ok(Self { party, counters, copy, faults, url: format!("http://{address}/lockstep"), to_hub, receiving })
    }
}

fn verifier(scheme: &str, secret: &Secret) -> anyhow::Result<Verifier> {
    let scheme = Scheme::named(scheme).with_context(|| format!("there is no signature scheme `{scheme}`"))?;
    Ok(Verifier::new(scheme, vec![secret.clone()])?)
}

/// A secret for as long as the demo runs, from the randomness that the standard library takes from the system for
/// its hash tables.
fn secret() -> Secret {
    let random = || RandomState::new().hash_one(std::time::Instant::now());
    let bytes: Vec<u8> = (0..4).flat_map(|_| random().to_le_bytes()).collect();
    Secret::new(format!("whsec_{}", STANDARD.encode(bytes)))
}

fn keep_secret(folder: &Path, name: &str, secret: &Secret) -> anyhow::Result<()> {
    let folder = folder.join("secrets");
    std::fs::create_dir_all(&folder).with_context(|| format!("{} can't be made", folder.display()))?;
    let path = folder.join(name);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file =
        options.open(&path).and_then(|mut file| std::io::Write::write_all(&mut file, secret.expose().as_bytes()));
    file.with_context(|| format!("{} can't be written", path.display()))
}

/// A new key; one that writes speaks for a system, by a way in.
fn key(keys: &Keys, name: &str, scopes: &[Scope], of: Option<(&str, &str)>) -> anyhow::Result<HeaderValue> {
    let (system, source) = of.unzip();
    let key = keys
        .create(name, scopes, system, source)
        .map_err(|error| Failure::usage("keys", crate::exit::chain(&error)))?;
    let mut value = HeaderValue::from_str(&format!("Bearer {key}")).context("a key can't stand in a header")?;
    value.set_sensitive(true);
    Ok(value)
}
