//! `lockstep serve`: from a configuration to a running hub, and to its end in order.

mod running;
mod signals;

use std::path::{Path, PathBuf};

use clap::Args;
use lockstep_api::ApiOptions;
use lockstep_hub::HubOptions;

use crate::commands::{self, ConfigArgs};
use crate::config::{self, Config, Loaded, Secrets};
use crate::exit::{Exit, Failure};
use crate::logging::{self, LogFormat};
use crate::output::Output;

pub use running::{GrpcParts, Parts, Running};

/// Run the hub.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Listen on this address and port instead of the configuration's.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Listen for gRPC on this address and port instead of the configuration's.
    #[arg(long, value_name = "ADDRESS")]
    grpc_listen: Option<String>,
    /// Use this data folder instead of the configuration's.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// How logs are written, on the error stream. LOCKSTEP_LOG filters them.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
}

/// Where the API keys of a data folder are.
pub fn keys_file(data_dir: &Path) -> PathBuf {
    data_dir.join("keys.json")
}

/// Runs the command until a signal ends it.
pub fn run(args: &ServeArgs, output: &Output) -> Result<Exit, Failure> {
    logging::start(args.log_format)?;
    let parts = parts(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::usage("runtime", format!("the runtime can't be started: {error}")))?;
    let ended = runtime.block_on(until_signal(parts, output));
    // What is still running has nothing left to do, or was told to be cut off.
    runtime.shutdown_background();
    ended
}

fn parts(args: &ServeArgs) -> Result<Parts, Failure> {
    let loaded = match args.config.load()? {
        Some(loaded) => loaded,
        None => {
            tracing::warn!(
                "there is no lockstep.toml in this folder: starting with the defaults, without sources and destinations"
            );
            Loaded::parse(Path::new(config::CONFIG_FILE), String::new())
        }
    };
    let Some(config) = &loaded.config else { return Err(commands::problems(&loaded.problems)) };
    let (resolved, problems) = config::resolve(&loaded, config, Secrets::Needed);
    let Some(resolved) = resolved else { return Err(commands::problems(&problems)) };
    for problem in problems {
        tracing::warn!("{problem}");
    }
    let data_dir = args.data_dir.clone().unwrap_or_else(|| loaded.data_dir(config));
    let mut parts = Parts::new(config, data_dir, resolved);
    if let Some(listen) = &args.listen {
        config::check_listen("--listen", listen).map_err(|message| Failure::usage("listen", message))?;
        parts.listen.clone_from(listen);
    }
    if let Some(listen) = &args.grpc_listen {
        config::check_listen("--grpc-listen", listen).map_err(|message| Failure::usage("listen", message))?;
        // Who says where wants it, whatever the configuration says of whether.
        let options = config.grpc.options();
        parts.grpc = Some(GrpcParts { listen: Some(listen.clone()), options });
    }
    Ok(parts)
}

async fn until_signal(parts: Parts, output: &Output) -> Result<Exit, Failure> {
    // Before anything is opened: a signal during the start must not go unheard.
    let mut signals = signals::Signals::new()?;
    let mut running = tokio::select! {
        started = Running::start(parts) => started?,
        name = signals.next() => {
            tracing::info!(signal = name, "ended while starting");
            return Ok(Exit::Done);
        }
    };
    // A hub whose output nobody reads is a hub all the same.
    if let Err(error) = output.line(&format!("lockstep listens on http://{}", running.address())) {
        tracing::warn!(%error, address = %running.address(), "the first line of output could not be written");
    }
    if let Some(address) = running.grpc_address() {
        tracing::info!(%address, "listening for gRPC");
        // Who reads the first line alone knows what it needs.
        let _ = output.line(&format!("lockstep listens for gRPC on {address}"));
    }
    if running.keys().list().is_ok_and(|keys| keys.is_empty()) {
        tracing::info!("there are no API keys yet: make one with `lockstep key create`");
    }
    tokio::select! {
        name = signals.next() => tracing::info!(signal = name, "ending: what was accepted is answered first"),
        ended = running.ended() => tracing::error!(error = ended, "serving ended by itself"),
    }
    tokio::select! {
        () = running.stop() => {
            tracing::info!("ended");
            Ok(Exit::Done)
        }
        name = signals.next() => {
            tracing::warn!(signal = name, "ended at once by a second signal");
            Ok(Exit::Forced)
        }
    }
}

impl Parts {
    /// The parts of a hub as it is configured.
    pub fn new(config: &Config, data_dir: PathBuf, resolved: config::Resolved) -> Self {
        Self {
            hub: HubOptions {
                stock: config.stock.limits(config.hub.clock_skew_max_s),
                reservation_days: config.stock.reservation_days(config.hub.seen_days),
                ..config.hub.options(data_dir, resolved.rules)
            },
            schemas: resolved.schemas,
            sources: resolved.sources,
            destinations: resolved.destinations,
            api: ApiOptions { hold_s: config.stock.hold_s, ..config.http.options() },
            oversight: config.oversight(),
            hub_source: format!("/hubs/{}", config.hub.name),
            open_metrics: config.http.open_metrics,
            listen: config.http.listen.clone(),
            grpc: config
                .grpc
                .enabled
                .then(|| GrpcParts { listen: config.grpc.listen.clone(), options: config.grpc.options() }),
        }
    }
}
