//! What a question to the loop may look at: what it has folded, whether the file has it or not.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_core::alias::Alias;
use lockstep_core::entity::base_system;
use lockstep_core::{Entity, EntityId, Position, decide};

use crate::failure::Unavailable;
use crate::handle::{IncompleteFilter, Page, QuarantineFilter};
use crate::looper::{Looper, Open, unreadable};
use crate::state::overlay::merge;
use crate::state::rows::{IncompleteEntity, QuarantineRow};

/// What a question may look at.
pub(crate) struct View<'l> {
    pub(crate) looper: &'l mut Looper,
    pub(crate) open: &'l mut Open,
}

/// How many unflushed and closed rows may hide among those of the file.
fn hidden(layers: [&crate::state::overlay::Overlay; 2]) -> usize {
    layers.iter().map(|o| o.quarantine_closed.len()).sum()
}

impl View<'_> {
    pub(crate) fn looper(&mut self) -> &mut Looper {
        self.looper
    }

    pub(crate) fn entity(&mut self, id: &str) -> Result<Option<Arc<Entity>>, Unavailable> {
        self.looper.state.entity(id).map_err(unreadable)
    }

    /// An entity by its key or by what a system calls it; where it is merged, what it is merged into.
    pub(crate) fn find(&mut self, kind: &str, key: &str) -> Result<Option<Arc<Entity>>, Unavailable> {
        let mut found = self.named(kind, key)?;
        while let Some(entity) = found.as_ref().filter(|e| !e.merged_into.is_empty()) {
            found = self.entity(&lockstep_core::entity_id(kind, &entity.merged_into))?;
        }
        Ok(found)
    }

    /// An entity by its key or by what a system calls it, merged or not.
    pub(crate) fn named(&mut self, kind: &str, key: &str) -> Result<Option<Arc<Entity>>, Unavailable> {
        match Alias::parse(key) {
            None => self.entity(&lockstep_core::entity_id(kind, key)),
            Some(alias) => match self.entity(&alias.id())?.as_deref().and_then(decide::holder) {
                Some((known_kind, key)) if known_kind == kind => self.entity(&lockstep_core::entity_id(kind, &key)),
                _ => Ok(None),
            },
        }
    }

    pub(crate) fn policy(&self, kind: &str, field: &str) -> &'static str {
        self.looper.facts.rules.policy(kind, field).name()
    }

    pub(crate) fn entities(&mut self, kind: &str, after: &str, limit: usize) -> Result<Page<Arc<Entity>>, Unavailable> {
        let prefix = format!("{kind}/");
        let after = format!("{prefix}{after}");
        let state = &self.looper.state;
        let mut all: BTreeMap<EntityId, Arc<Entity>> = BTreeMap::new();
        for (id, bytes) in state.file.entities(&prefix, &after, limit + 1).map_err(unreadable)? {
            all.insert(id.into(), Arc::new(Entity::decode(bytes).map_err(unreadable)?));
        }
        // Of what the file does not have, only what sorts before the file's last row belongs to this page, unless
        // the file has no more.
        all.extend(state.unflushed(&prefix, &after));
        let more = all.len() > limit;
        Ok(Page { items: all.into_values().take(limit).collect(), more })
    }

    pub(crate) fn quarantine(&mut self, filter: &QuarantineFilter) -> Result<Page<QuarantineRow>, Unavailable> {
        let state = &self.looper.state;
        let layers = state.overlays();
        let rows = state.file.quarantine(filter, filter.limit + hidden(layers) + 1).map_err(unreadable)?;
        let passes = |position: &Position, row: &QuarantineRow| {
            *position > filter.after && filter.source.as_ref().is_none_or(|s| *s == row.source)
        };
        let layers = layers.map(|o| (&o.quarantine_opened, &o.quarantine_closed));
        let (items, more) = merge(rows, layers, passes, filter.limit);
        Ok(Page { items, more })
    }

    pub(crate) fn incomplete(&mut self, filter: &IncompleteFilter) -> Result<Page<IncompleteEntity>, Unavailable> {
        let (rows, more) = self.looper.state.incomplete(filter).map_err(unreadable)?;
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            let entity = self.entity(&lockstep_core::entity_id(&row.kind, &row.key))?.unwrap_or_default();
            let domain = self.looper.facts.rules.domain(&row.kind);
            let missing = domain.map(|domain| domain.missing(&entity)).unwrap_or_default();
            let mut systems: Vec<&str> = Vec::new();
            for system in entity.systems.iter().map(|name| base_system(name)) {
                if !systems.contains(&system) {
                    systems.push(system);
                }
            }
            items.push(IncompleteEntity {
                row,
                missing: missing.into_iter().map(str::to_owned).collect(),
                systems: systems.into_iter().map(str::to_owned).collect(),
            });
        }
        Ok(Page { items, more })
    }
}
