//! A way out, as it is configured.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lockstep_core::delivery::RetryPolicy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::SecretRef;

/// A way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DestinationConfig {
    /// Signed webhooks (Standard Webhooks).
    Webhook(WebhookDestination),
}
